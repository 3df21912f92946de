package kms

import (
	"context"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A dataKey is a fresh data key, in the clear and encrypted.
type dataKey struct {
	tool
	plaintext []byte
	blob      []byte
	public    []byte // of a key pair
}

// dataKeySize is how many bytes were asked for, in one of two ways.
func dataKeySize(spec *string, bytes *int32) (int, error) {
	switch {
	case (spec == nil) == (bytes == nil):
		return 0, validation("Please specify either number of bytes or key spec.")
	case bytes != nil:
		return int(*bytes), nil
	case *spec == kmsapi.DataKeySpecAes128:
		return 16, nil
	default:
		return 32, nil
	}
}

// A dataKeyRequest is what the four operations have in common.
type dataKeyRequest struct {
	keyID     *string
	context   map[string]string
	tokens    []string
	dry       *bool
	recipient *kmsapi.RecipientInfo
	request   []requestKey
}

// dataKey makes a data key with what generate draws.
func (s *Service) dataKey(ctx context.Context, call *iam.Call, operation string, r dataKeyRequest, generate func(d *dataKey) error) (*dataKey, *attested, error) {
	u, err := s.use(call, operation, symmetricDefault, r.tokens, r.recipient)
	if err != nil {
		return nil, nil, err
	}
	u.context, u.request = r.context, r.request
	var d dataKey
	if d.tool, err = s.apply(ctx, call, u, *r.keyID, r.dry); err != nil {
		return nil, nil, err
	}
	if err := generate(&d); err != nil {
		return nil, nil, err
	}
	if d.blob, err = s.encrypt(ctx, call, d.tool, u, d.plaintext); err != nil {
		clear(d.plaintext)
		return nil, nil, err
	}
	s.usage.note(d.key, operation, call)
	return &d, u.attested, nil
}

func randomBytes(n int) func(*dataKey) error {
	return func(d *dataKey) (err error) {
		d.plaintext, err = material.Random(n)
		return err
	}
}

// GenerateDataKey makes a data key and shows it in the clear and encrypted.
func (s *Service) GenerateDataKey(ctx context.Context, call *iam.Call, in *kmsapi.GenerateDataKeyRequest) (*kmsapi.GenerateDataKeyResponse, error) {
	size, err := dataKeySize(in.KeySpec, in.NumberOfBytes)
	if err != nil {
		return nil, s.unkeyed(call, err)
	}
	d, to, err := s.dataKey(ctx, call, "GenerateDataKey", dataKeyRequest{keyID: in.KeyId, context: in.EncryptionContext, tokens: in.GrantTokens,
		dry: in.DryRun, recipient: in.Recipient}, randomBytes(size))
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateDataKeyResponse{KeyId: new(d.key.ARN()), CiphertextBlob: d.blob, KeyMaterialId: d.materialID()}
	out.Plaintext, out.CiphertextForRecipient, err = to.deliver(d.plaintext)
	return out, err
}

// GenerateDataKeyWithoutPlaintext makes a data key and shows it encrypted only.
func (s *Service) GenerateDataKeyWithoutPlaintext(ctx context.Context, call *iam.Call, in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyWithoutPlaintextResponse, error) {
	size, err := dataKeySize(in.KeySpec, in.NumberOfBytes)
	if err != nil {
		return nil, s.unkeyed(call, err)
	}
	d, _, err := s.dataKey(ctx, call, "GenerateDataKeyWithoutPlaintext", dataKeyRequest{keyID: in.KeyId, context: in.EncryptionContext,
		tokens: in.GrantTokens, dry: in.DryRun}, randomBytes(size))
	if err != nil {
		return nil, err
	}
	clear(d.plaintext)
	return &kmsapi.GenerateDataKeyWithoutPlaintextResponse{KeyId: new(d.key.ARN()), CiphertextBlob: d.blob, KeyMaterialId: d.materialID()}, nil
}

// keyPair draws a key pair; what is encrypted of it is the private key in PKCS #8.
func (s *Service) keyPair(ctx context.Context, spec string) func(*dataKey) error {
	return func(d *dataKey) (err error) {
		if d.plaintext, err = s.generateMaterial(ctx, spec); err != nil {
			return err
		}
		pair, err := material.NewPair(spec, material.NewSecret(d.plaintext))
		if err == nil {
			d.public = pair.Public
		}
		return err
	}
}

// pairRequest checks the spec of a key pair and tells it to conditions.
func (s *Service) pairRequest(spec string) ([]requestKey, error) {
	if spec == kmsapi.KeySpecSM2 && !s.config.SM2 {
		return nil, kmsapi.UnsupportedOperationException("KeyPairSpec SM2 is not supported in this Region.")
	}
	return []requestKey{{policy.KeyKMSDataKeyPairSpec, spec}}, approved(spec)
}

// GenerateDataKeyPair makes a key pair and shows the private key in the clear
// and encrypted.
func (s *Service) GenerateDataKeyPair(ctx context.Context, call *iam.Call, in *kmsapi.GenerateDataKeyPairRequest) (*kmsapi.GenerateDataKeyPairResponse, error) {
	request, err := s.pairRequest(*in.KeyPairSpec)
	if err != nil {
		return nil, s.unkeyed(call, err)
	}
	d, to, err := s.dataKey(ctx, call, "GenerateDataKeyPair", dataKeyRequest{keyID: in.KeyId, context: in.EncryptionContext, tokens: in.GrantTokens,
		dry: in.DryRun, recipient: in.Recipient, request: request}, s.keyPair(ctx, *in.KeyPairSpec))
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateDataKeyPairResponse{KeyId: new(d.key.ARN()), PrivateKeyCiphertextBlob: d.blob, PublicKey: d.public,
		KeyPairSpec: in.KeyPairSpec, KeyMaterialId: d.materialID()}
	out.PrivateKeyPlaintext, out.CiphertextForRecipient, err = to.deliver(d.plaintext)
	return out, err
}

// GenerateDataKeyPairWithoutPlaintext makes a key pair and shows the private key
// encrypted only.
func (s *Service) GenerateDataKeyPairWithoutPlaintext(ctx context.Context, call *iam.Call, in *kmsapi.GenerateDataKeyPairWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyPairWithoutPlaintextResponse, error) {
	request, err := s.pairRequest(*in.KeyPairSpec)
	if err != nil {
		return nil, s.unkeyed(call, err)
	}
	d, _, err := s.dataKey(ctx, call, "GenerateDataKeyPairWithoutPlaintext", dataKeyRequest{keyID: in.KeyId, context: in.EncryptionContext,
		tokens: in.GrantTokens, dry: in.DryRun, request: request}, s.keyPair(ctx, *in.KeyPairSpec))
	if err != nil {
		return nil, err
	}
	clear(d.plaintext)
	return &kmsapi.GenerateDataKeyPairWithoutPlaintextResponse{KeyId: new(d.key.ARN()), PrivateKeyCiphertextBlob: d.blob, PublicKey: d.public,
		KeyPairSpec: in.KeyPairSpec, KeyMaterialId: d.materialID()}, nil
}

// GenerateRandom draws random bytes. It involves no key.
func (s *Service) GenerateRandom(ctx context.Context, call *iam.Call, in *kmsapi.GenerateRandomRequest) (*kmsapi.GenerateRandomResponse, error) {
	if in.NumberOfBytes == nil {
		return nil, validation("NumberOfBytes is required.")
	}
	to, err := s.attest(call, in.Recipient)
	if err != nil {
		return nil, err
	}
	err = s.view(ctx, call, func(tx *store.Tx) error {
		if err := allowed(tx, call, actions["GenerateRandom"], "*", &conditions{attested: to}); err != nil || in.CustomKeyStoreId == nil {
			return err
		}
		if _, err := findKeyStore(tx, call, *in.CustomKeyStoreId); err != nil {
			return err
		}
		return kmsapi.UnsupportedOperationException("") // only CloudHSM key stores draw random bytes
	})
	if err != nil {
		return nil, err
	}
	b, err := material.Random(int(*in.NumberOfBytes))
	if err != nil {
		return nil, err
	}
	out := &kmsapi.GenerateRandomResponse{}
	out.Plaintext, out.CiphertextForRecipient, err = to.deliver(b)
	return out, err
}
