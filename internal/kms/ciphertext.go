package kms

import (
	"context"
	"errors"
	"slices"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// A ciphertext is what a request wants opened: a blob that names its key, the
// output of an asymmetric algorithm, or in a dry run nothing.
type ciphertext struct {
	bytes   []byte
	blob    *material.Blob // nil for an asymmetric algorithm, and if it is no blob
	bad     error          // why it is no blob
	keyID   *string
	ignored bool
}

// newCiphertext checks what a request brings. The bytes may be missing only in a
// dry run with IGNORE_CIPHERTEXT, and then the key must be named. Bytes that are no
// blob are not an error yet, if a key is named: who may not use it is told so.
func newCiphertext(bytes []byte, keyID *string, algorithm string, dry *bool, modifiers []string) (ciphertext, error) {
	c := ciphertext{bytes: bytes, keyID: keyID}
	if slices.Contains(modifiers, kmsapi.DryRunModifierTypeIgnoreCiphertext) {
		switch {
		case !model.Value(dry):
			return c, validation("DryRunModifiers can be specified only with DryRun.")
		case keyID == nil:
			return c, validation("A key ID is required when the ciphertext is ignored.")
		}
		c.ignored = true
		return c, nil
	}
	if bytes == nil {
		var v model.Violations
		v.Missing("ciphertextBlob")
		return c, validation(v.Message())
	}
	if algorithm != symmetricDefault {
		if keyID == nil {
			return c, validation("A key ID is required to decrypt with an asymmetric key.")
		}
		return c, nil
	}
	c.blob, c.bad = material.ParseBlob(bytes)
	if c.bad != nil && keyID == nil {
		return c, invalidCiphertext(c.bad)
	}
	return c, nil
}

func invalidCiphertext(cause error) error {
	return kmsapi.InvalidCiphertextException("").Because(cause)
}

// resolve finds the key. A bare key id may be of the blob's account.
func (c ciphertext) resolve(tx *store.Tx, call *iam.Call) (target, error) {
	if c.keyID == nil {
		t, err := find(tx, call, c.blob.Account, c.blob.KeyID)
		t.cipher = true
		return t, err
	}
	if c.blob != nil && *c.keyID == c.blob.KeyID {
		return find(tx, call, c.blob.Account, c.blob.KeyID)
	}
	t, err := resolve(tx, call, *c.keyID, withAlias)
	if err != nil {
		return t, err
	}
	if c.blob != nil && t.id != "" && (t.id != c.blob.KeyID || t.account != c.blob.Account) {
		t.wrong = true // only who may use the key is told
	}
	return t, nil
}

// tool equips the key with the material that can open the ciphertext.
func (c ciphertext) tool(tx *store.Tx, call *iam.Call, u use, t target) (tool, error) {
	key, err := u.on(tx, call, t)
	switch {
	case err != nil:
		return tool{}, err
	case c.ignored:
		return tool{key: key}, nil
	case u.algorithm != symmetricDefault:
		return key.equip(tx, key.MaterialID)
	case c.bad != nil:
		return tool{}, invalidCiphertext(c.bad)
	}
	opener, err := key.equip(tx, c.blob.MaterialID)
	if errors.Is(err, store.ErrNotFound) {
		err = invalidCiphertext(err)
	}
	return opener, err
}

// open decrypts. A wrong key, a wrong encryption context and damage are one fault.
func (s *Service) open(ctx context.Context, call *iam.Call, t tool, u use, c ciphertext) ([]byte, error) {
	var plaintext []byte
	var err error
	switch {
	case t.material.pair != nil:
		plaintext, err = t.material.pair.Decrypt(u.algorithm, c.bytes)
	case (c.blob.Outside() != nil) != (t.outside != nil):
		err = material.ErrOpen
	case t.outside != nil:
		plaintext, err = s.openOutside(ctx, call, t, u, c.blob)
	default:
		plaintext, err = t.material.symmetric.Decrypt(c.blob, u.context)
	}
	if errors.Is(err, material.ErrOpen) {
		err = invalidCiphertext(err)
	}
	return plaintext, err
}
