package kms

import (
	"context"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// A dataKey is a fresh data key, in the clear and encrypted.
type dataKey struct {
	key        *Key
	materialID string
	plaintext  []byte
	blob       []byte
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

func (s *Service) dataKey(ctx context.Context, call *iam.Call, operation, keyID string, encryptionContext map[string]string, tokens []string, size int, dry *bool) (*dataKey, error) {
	presented, err := s.present(tokens)
	if err != nil {
		return nil, err
	}
	u := use{operation: operation, action: actions[operation], algorithm: symmetricDefault, context: encryptionContext, presented: presented}
	var d dataKey
	var m *material.Symmetric
	err = call.View(ctx, s.db, func(tx *store.Tx) (err error) {
		d.key, m, err = u.encrypting(tx, call, keyID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if model.Value(dry) {
		return nil, dryRun()
	}
	if d.plaintext, err = material.Random(size); err != nil {
		return nil, err
	}
	s.usage.note(d.key, call.Now)
	d.materialID = m.ID
	d.blob, err = m.Encrypt(d.key.owner(), d.plaintext, encryptionContext)
	return &d, err
}

// GenerateDataKey makes a data key and shows it in the clear and encrypted.
func (s *Service) GenerateDataKey(ctx context.Context, call *iam.Call, in *kmsapi.GenerateDataKeyRequest) (*kmsapi.GenerateDataKeyResponse, error) {
	size, err := dataKeySize(in.KeySpec, in.NumberOfBytes)
	if err == nil {
		err = unsupportedRecipient(in.Recipient)
	}
	if err != nil {
		return nil, err
	}
	d, err := s.dataKey(ctx, call, "GenerateDataKey", *in.KeyId, in.EncryptionContext, in.GrantTokens, size, in.DryRun)
	if err != nil {
		return nil, err
	}
	return &kmsapi.GenerateDataKeyResponse{KeyId: new(d.key.ARN()), Plaintext: d.plaintext, CiphertextBlob: d.blob, KeyMaterialId: &d.materialID}, nil
}

// GenerateDataKeyWithoutPlaintext makes a data key and shows it encrypted only.
func (s *Service) GenerateDataKeyWithoutPlaintext(ctx context.Context, call *iam.Call, in *kmsapi.GenerateDataKeyWithoutPlaintextRequest) (*kmsapi.GenerateDataKeyWithoutPlaintextResponse, error) {
	size, err := dataKeySize(in.KeySpec, in.NumberOfBytes)
	if err != nil {
		return nil, err
	}
	d, err := s.dataKey(ctx, call, "GenerateDataKeyWithoutPlaintext", *in.KeyId, in.EncryptionContext, in.GrantTokens, size, in.DryRun)
	if err != nil {
		return nil, err
	}
	clear(d.plaintext)
	return &kmsapi.GenerateDataKeyWithoutPlaintextResponse{KeyId: new(d.key.ARN()), CiphertextBlob: d.blob, KeyMaterialId: &d.materialID}, nil
}

// GenerateRandom draws random bytes. It involves no key.
func (s *Service) GenerateRandom(ctx context.Context, call *iam.Call, in *kmsapi.GenerateRandomRequest) (*kmsapi.GenerateRandomResponse, error) {
	switch {
	case in.NumberOfBytes == nil:
		return nil, validation("NumberOfBytes is required.")
	case in.CustomKeyStoreId != nil:
		return nil, kmsapi.UnsupportedOperationException("Custom key stores are not supported.")
	}
	if err := unsupportedRecipient(in.Recipient); err != nil {
		return nil, err
	}
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		return allowed(tx, call, actions["GenerateRandom"], "*", &conditions{})
	})
	if err != nil {
		return nil, err
	}
	b, err := material.Random(int(*in.NumberOfBytes))
	return &kmsapi.GenerateRandomResponse{Plaintext: b}, err
}
