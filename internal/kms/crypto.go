package kms

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A use is one cryptographic use of one key.
type use struct {
	operation string // whose name errors and key states go by
	action    policy.Action
	algorithm string
	context   map[string]string
	sameKey   *bool
	presented *presented
	request   []requestKey
	attested  *attested // nil without a Recipient
	plaintext int       // bytes that the caller brings to be encrypted
}

// use begins a use by the operation of that name, with the grant tokens and the
// recipient of the request.
func (s *Service) use(call *iam.Call, operation, algorithm string, tokens []string, to *kmsapi.RecipientInfo) (use, error) {
	u := use{operation: operation, action: actions[operation], algorithm: algorithm}
	var err error
	if u.presented, err = s.present(tokens); err == nil {
		u.attested, err = s.attest(call, to)
	}
	if err != nil {
		err = s.unkeyed(call, err)
	}
	return u, err
}

// maxContext is how long an encryption context may be, in bytes of its keys and
// values: AWS's bound is known from older editions only (UNVERIFIED).
const maxContext = 8192

func (u use) checkContext() error {
	n := 0
	for k, v := range u.context {
		n += len(k) + len(v)
	}
	switch {
	case n > maxContext:
		return validation("The encryption context is longer than 8192 bytes.")
	case len(u.context) > 0 && u.algorithm != symmetricDefault:
		return validation("An encryption context cannot be used with an asymmetric encryption algorithm.") // UNVERIFIED text
	default:
		return nil
	}
}

// on authorizes the use of a target and checks that the key can serve it.
func (u use) on(tx *store.Tx, call *iam.Call, t target) (*Key, error) {
	if err := u.checkContext(); err != nil {
		return nil, err
	}
	c := &conditions{encryptionContext: u.context, sameKey: u.sameKey, presented: u.presented, request: u.request, attested: u.attested}
	if operationUsage(u.operation) == encryptDecrypt {
		c.algorithm = u.algorithm
	}
	key, err := authorize(tx, call, u.action, t, c)
	if err != nil {
		return nil, err
	}
	if t.wrong {
		return nil, incorrectKey()
	}
	if err := key.suits(u.operation, u.algorithm); err != nil {
		return nil, err
	}
	return key, key.admits(tx, call.Now, u.operation)
}

// A tool is a key with what it takes to use it: one of its materials and, for a
// key in an external key store, the store.
type tool struct {
	key      *Key
	material *Material
	outside  *outside
}

// equip reads what a use of the key takes.
func (k *Key) equip(tx *store.Tx, materialID string) (t tool, err error) {
	t.key = k
	t.material, err = k.material(tx, materialID)
	if err != nil || k.StoreID == "" {
		return t, err
	}
	found, err := store.Get(tx, keyStoreKind, keyStoreKey(k.Region, k.Account, k.StoreID))
	if err != nil {
		return t, err
	}
	o, err := found.outside(tx)
	t.outside = &o
	return t, err
}

// current finds the key that a request names and equips it with its current
// material.
func (u use) current(tx *store.Tx, call *iam.Call, identifier string) (tool, error) {
	t, err := resolve(tx, call, identifier, withAlias)
	if err != nil {
		return tool{}, err
	}
	return u.currentOf(tx, call, t)
}

func (u use) currentOf(tx *store.Tx, call *iam.Call, t target) (tool, error) {
	key, err := u.on(tx, call, t)
	if err != nil {
		return tool{}, err
	}
	return key.equip(tx, key.MaterialID)
}

// apply finds and equips the key for a use, and ends a dry run.
func (s *Service) apply(ctx context.Context, call *iam.Call, u use, identifier string, dry *bool) (t tool, err error) {
	err = s.view(ctx, call, func(tx *store.Tx) (err error) {
		if t, err = u.current(tx, call, identifier); err == nil {
			err = u.fits(t)
		}
		if err == nil && model.Value(dry) {
			err = dryRun() // here, so that it brings no AWS managed key about
		}
		return err
	})
	if throttled := s.charge(call, u, t.key); throttled != nil {
		return t, throttled
	}
	return t, err
}

// fits checks that the key takes a plaintext as long as the request's.
func (u use) fits(t tool) error {
	if u.plaintext > 0 && t.material.pair != nil && u.plaintext > material.MaxPlaintext(t.key.Spec, u.algorithm) {
		return tooLong(t.key, u.algorithm)
	}
	return nil
}

func tooLong(k *Key, algorithm string) error {
	return validation(fmt.Sprintf("Algorithm %s and key spec %s cannot encrypt data larger than %d bytes.",
		algorithm, k.Spec, material.MaxPlaintext(k.Spec, algorithm)))
}

func (k *Key) owner() material.Owner { return material.Owner{Account: k.Account, KeyID: k.ID} }

func dryRun() error {
	return kmsapi.DryRunOperationException("The request would have succeeded, but the DryRun option is set.")
}

// encrypt makes a ciphertext under the tool's material.
func (s *Service) encrypt(ctx context.Context, call *iam.Call, t tool, u use, plaintext []byte) ([]byte, error) {
	switch {
	case t.material.pair != nil:
		c, err := t.material.pair.Encrypt(u.algorithm, plaintext)
		if errors.Is(err, material.ErrTooLong) {
			err = tooLong(t.key, u.algorithm)
		}
		return c, err
	case t.outside != nil:
		return s.encryptOutside(ctx, call, t, u, plaintext)
	default:
		return t.material.symmetric.Encrypt(t.key.owner(), plaintext, u.context)
	}
}

// Encrypt makes a ciphertext blob.
func (s *Service) Encrypt(ctx context.Context, call *iam.Call, in *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	u, err := s.use(call, "Encrypt", model.Or(in.EncryptionAlgorithm, symmetricDefault), in.GrantTokens, nil)
	if err != nil {
		return nil, err
	}
	u.context, u.plaintext = in.EncryptionContext, len(in.Plaintext)
	t, err := s.apply(ctx, call, u, *in.KeyId, in.DryRun)
	if err != nil {
		return nil, err
	}
	blob, err := s.encrypt(ctx, call, t, u, in.Plaintext)
	if err != nil {
		return nil, err
	}
	s.usage.note(t.key, "Encrypt", call)
	return &kmsapi.EncryptResponse{KeyId: new(t.key.ARN()), CiphertextBlob: blob, EncryptionAlgorithm: &u.algorithm}, nil
}

// Decrypt opens a ciphertext.
func (s *Service) Decrypt(ctx context.Context, call *iam.Call, in *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	u, err := s.use(call, "Decrypt", model.Or(in.EncryptionAlgorithm, symmetricDefault), in.GrantTokens, in.Recipient)
	if err != nil {
		return nil, err
	}
	u.context = in.EncryptionContext
	c, err := newCiphertext(in.CiphertextBlob, in.KeyId, u.algorithm, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, s.unkeyed(call, err)
	}
	var t tool
	err = s.view(ctx, call, func(tx *store.Tx) error {
		target, err := c.resolve(tx, call)
		if err != nil {
			return err
		}
		if t, err = c.tool(tx, call, u, target); err == nil && model.Value(in.DryRun) {
			err = dryRun()
		}
		return err
	})
	if throttled := s.charge(call, u, t.key); throttled != nil {
		return nil, throttled
	}
	if err != nil {
		return nil, err
	}
	plaintext, err := s.open(ctx, call, t, u, c)
	if err != nil {
		return nil, err
	}
	s.usage.note(t.key, "Decrypt", call)
	out := &kmsapi.DecryptResponse{KeyId: new(t.key.ARN()), KeyMaterialId: t.materialID(), EncryptionAlgorithm: &u.algorithm}
	out.Plaintext, out.CiphertextForRecipient, err = u.attested.deliver(plaintext)
	return out, err
}

// materialID is shown of keys that can have several materials.
func (t tool) materialID() *string {
	if !t.key.rotates() {
		return nil
	}
	return &t.material.ID
}

// ReEncrypt opens a ciphertext under one key and makes another under a second
// one, without showing the plaintext.
func (s *Service) ReEncrypt(ctx context.Context, call *iam.Call, in *kmsapi.ReEncryptRequest) (*kmsapi.ReEncryptResponse, error) {
	from, err := s.use(call, "ReEncrypt", model.Or(in.SourceEncryptionAlgorithm, symmetricDefault), in.GrantTokens, nil)
	if err != nil {
		return nil, err
	}
	to := from
	from.action, from.context = actions["ReEncryptFrom"], in.SourceEncryptionContext
	to.action, to.context = actions["ReEncryptTo"], in.DestinationEncryptionContext
	to.algorithm = model.Or(in.DestinationEncryptionAlgorithm, symmetricDefault)
	c, err := newCiphertext(in.CiphertextBlob, in.SourceKeyId, from.algorithm, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, s.unkeyed(call, err)
	}
	var source, destination tool
	err = s.view(ctx, call, func(tx *store.Tx) error {
		a, err := c.resolve(tx, call)
		if err != nil {
			return err
		}
		b, err := resolve(tx, call, *in.DestinationKeyId, withAlias)
		if err != nil {
			return err
		}
		from.sameKey = new(a.arn == b.arn)
		to.sameKey = from.sameKey
		from.presented.keys = []string{a.arn, b.arn}
		if source, err = c.tool(tx, call, from, a); err != nil {
			return err
		}
		if destination, err = to.currentOf(tx, call, b); err == nil && model.Value(in.DryRun) {
			err = dryRun()
		}
		return err
	})
	throttled := s.charge(call, from, source.key)
	if throttled == nil && destination.key != nil {
		throttled = s.charge(call, to, destination.key)
	}
	if err := cmp.Or(throttled, err); err != nil {
		return nil, err
	}
	plaintext, err := s.open(ctx, call, source, from, c)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	if len(plaintext) == 0 { // which a stranger with an RSA public key can encrypt, and Encrypt takes from nobody
		return nil, invalidCiphertext(errors.New("empty"))
	}
	blob, err := s.encrypt(ctx, call, destination, to, plaintext)
	if err != nil {
		return nil, err
	}
	s.usage.note(source.key, "ReEncrypt", call)
	s.usage.note(destination.key, "ReEncrypt", call)
	return &kmsapi.ReEncryptResponse{
		CiphertextBlob: blob, SourceKeyId: new(source.key.ARN()), KeyId: new(destination.key.ARN()), SourceEncryptionAlgorithm: &from.algorithm,
		DestinationEncryptionAlgorithm: &to.algorithm, SourceKeyMaterialId: source.materialID(), DestinationKeyMaterialId: destination.materialID()}, nil
}
