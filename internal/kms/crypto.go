package kms

import (
	"context"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// symmetricDefault is the algorithm of symmetric encryption keys.
const symmetricDefault = kmsapi.EncryptionAlgorithmSpecSymmetricDefault

// A use is one cryptographic use of one key.
type use struct {
	operation string // whose name errors and key states go by
	action    policy.Action
	algorithm string
	context   map[string]string
	sameKey   *bool
	presented *presented
}

// maxContext is how long an encryption context may be, in bytes of its keys and
// values: AWS's bound is known from older editions only (UNVERIFIED).
const maxContext = 8192

func checkContext(context map[string]string) error {
	n := 0
	for k, v := range context {
		n += len(k) + len(v)
	}
	if n > maxContext {
		return validation("The encryption context is longer than 8192 bytes.")
	}
	return nil
}

// on authorizes the use of a target and checks that the key can serve it.
func (u use) on(tx *store.Tx, call *iam.Call, t target) (*Key, error) {
	if err := checkContext(u.context); err != nil {
		return nil, err
	}
	key, err := authorize(tx, call, u.action, t, &conditions{algorithm: u.algorithm, encryptionContext: u.context, sameKey: u.sameKey,
		presented: u.presented})
	if err != nil {
		return nil, err
	}
	if t.wrong {
		return nil, kmsapi.IncorrectKeyException("The key ID in the request does not identify a CMK that can perform this operation.")
	}
	if err := key.suits(u.operation, u.algorithm); err != nil {
		return nil, err
	}
	return key, key.admits(u.operation)
}

// encrypting finds the key a request encrypts under, and its current material.
func (u use) encrypting(tx *store.Tx, call *iam.Call, identifier string) (*Key, *material.Symmetric, error) {
	t, err := resolve(tx, call, identifier, withAlias)
	if err != nil {
		return nil, nil, err
	}
	key, err := u.on(tx, call, t)
	if err != nil {
		return nil, nil, err
	}
	m, err := key.material(tx, key.MaterialID)
	return key, m, err
}

func (k *Key) owner() material.Owner { return material.Owner{Account: k.Account, KeyID: k.ID} }

func dryRun() error {
	return kmsapi.DryRunOperationException("The request would have succeeded, but the DryRun option is set.")
}

// unsupportedRecipient refuses attestation: answering in the clear what was
// asked for encrypted would be worse than not answering.
func unsupportedRecipient(r *kmsapi.RecipientInfo) error {
	if r != nil {
		return kmsapi.UnsupportedOperationException("Recipient is not supported.")
	}
	return nil
}

// Encrypt makes a ciphertext blob.
func (s *Service) Encrypt(ctx context.Context, call *iam.Call, in *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	presented, err := s.present(in.GrantTokens)
	if err != nil {
		return nil, err
	}
	u := use{operation: "Encrypt", action: actions["Encrypt"], algorithm: model.Or(in.EncryptionAlgorithm, symmetricDefault),
		context: in.EncryptionContext, presented: presented}
	var key *Key
	var m *material.Symmetric
	err = call.View(ctx, s.db, func(tx *store.Tx) (err error) {
		key, m, err = u.encrypting(tx, call, *in.KeyId)
		return err
	})
	if err != nil {
		return nil, err
	}
	if model.Value(in.DryRun) {
		return nil, dryRun()
	}
	s.usage.note(key, call.Now)
	blob, err := m.Encrypt(key.owner(), in.Plaintext, in.EncryptionContext)
	return &kmsapi.EncryptResponse{KeyId: new(key.ARN()), CiphertextBlob: blob, EncryptionAlgorithm: &u.algorithm}, err
}

// Decrypt opens a ciphertext blob.
func (s *Service) Decrypt(ctx context.Context, call *iam.Call, in *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	presented, err := s.present(in.GrantTokens)
	if err != nil {
		return nil, err
	}
	if err := unsupportedRecipient(in.Recipient); err != nil {
		return nil, err
	}
	u := use{operation: "Decrypt", action: actions["Decrypt"], algorithm: model.Or(in.EncryptionAlgorithm, symmetricDefault),
		context: in.EncryptionContext, presented: presented}
	c, err := newCiphertext(in.CiphertextBlob, in.KeyId, u.algorithm, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	var opened *decrypting
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		t, err := c.resolve(tx, call)
		if err != nil {
			return err
		}
		opened, err = c.decrypting(tx, call, u, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	if model.Value(in.DryRun) {
		return nil, dryRun()
	}
	plaintext, err := opened.open(in.EncryptionContext)
	if err != nil {
		return nil, err
	}
	s.usage.note(opened.key, call.Now)
	return &kmsapi.DecryptResponse{KeyId: new(opened.key.ARN()), Plaintext: plaintext, KeyMaterialId: &opened.blob.MaterialID,
		EncryptionAlgorithm: &u.algorithm}, nil
}

// ReEncrypt opens a blob under one key and makes another under a second one,
// without showing the plaintext.
func (s *Service) ReEncrypt(ctx context.Context, call *iam.Call, in *kmsapi.ReEncryptRequest) (*kmsapi.ReEncryptResponse, error) {
	presented, err := s.present(in.GrantTokens)
	if err != nil {
		return nil, err
	}
	from := use{operation: "ReEncrypt", action: actions["ReEncryptFrom"], context: in.SourceEncryptionContext, presented: presented,
		algorithm: model.Or(in.SourceEncryptionAlgorithm, symmetricDefault)}
	to := use{operation: "ReEncrypt", action: actions["ReEncryptTo"], context: in.DestinationEncryptionContext, presented: presented,
		algorithm: model.Or(in.DestinationEncryptionAlgorithm, symmetricDefault)}
	c, err := newCiphertext(in.CiphertextBlob, in.SourceKeyId, from.algorithm, in.DryRun, in.DryRunModifiers)
	if err != nil {
		return nil, err
	}
	var opened *decrypting
	var key *Key
	var m *material.Symmetric
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		source, err := c.resolve(tx, call)
		if err != nil {
			return err
		}
		destination, err := resolve(tx, call, *in.DestinationKeyId, withAlias)
		if err != nil {
			return err
		}
		from.sameKey = new(source.arn == destination.arn)
		to.sameKey = from.sameKey
		presented.keys = []string{source.arn, destination.arn}
		if opened, err = c.decrypting(tx, call, from, source); err != nil {
			return err
		}
		if key, err = to.on(tx, call, destination); err != nil {
			return err
		}
		m, err = key.material(tx, key.MaterialID)
		return err
	})
	if err != nil {
		return nil, err
	}
	if model.Value(in.DryRun) {
		return nil, dryRun()
	}
	plaintext, err := opened.open(in.SourceEncryptionContext)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	s.usage.note(opened.key, call.Now)
	s.usage.note(key, call.Now)
	blob, err := m.Encrypt(key.owner(), plaintext, in.DestinationEncryptionContext)
	return &kmsapi.ReEncryptResponse{
		CiphertextBlob: blob, SourceKeyId: new(opened.key.ARN()), KeyId: new(key.ARN()), SourceEncryptionAlgorithm: &from.algorithm,
		DestinationEncryptionAlgorithm: &to.algorithm, SourceKeyMaterialId: &opened.blob.MaterialID, DestinationKeyMaterialId: &m.ID}, err
}
