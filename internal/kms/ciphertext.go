package kms

import (
	"errors"
	"slices"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// A ciphertext is what a request wants opened: a blob that names its key, a key
// identifier, or both.
type ciphertext struct {
	blob  *material.Blob // nil in a dry run that ignores the ciphertext
	keyID *string
}

// newCiphertext checks what a request brings. The blob may be missing only in a
// dry run with IGNORE_CIPHERTEXT, and then the key must be named.
func newCiphertext(blob []byte, keyID *string, algorithm string, dry *bool, modifiers []string) (ciphertext, error) {
	if slices.Contains(modifiers, kmsapi.DryRunModifierTypeIgnoreCiphertext) {
		switch {
		case !model.Value(dry):
			return ciphertext{}, validation("DryRunModifiers can be specified only with DryRun.")
		case keyID == nil:
			return ciphertext{}, validation("A key ID is required when the ciphertext is ignored.")
		}
		return ciphertext{keyID: keyID}, nil
	}
	if blob == nil {
		var v model.Violations
		v.Missing("ciphertextBlob")
		return ciphertext{}, validation(v.Message())
	}
	if algorithm != symmetricDefault && keyID == nil {
		return ciphertext{}, validation("A key ID is required to decrypt with an asymmetric key.")
	}
	b, err := material.ParseBlob(blob)
	if err != nil {
		return ciphertext{}, kmsapi.InvalidCiphertextException("").Because(err)
	}
	return ciphertext{b, keyID}, nil
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

// A decrypting is a blob with the material that can open it.
type decrypting struct {
	key      *Key
	blob     *material.Blob
	material *material.Symmetric
}

func (c ciphertext) decrypting(tx *store.Tx, call *iam.Call, u use, t target) (*decrypting, error) {
	key, err := u.on(tx, call, t)
	if err != nil {
		return nil, err
	}
	d := &decrypting{key: key, blob: c.blob}
	if c.blob == nil {
		return d, nil
	}
	d.material, err = key.material(tx, c.blob.MaterialID)
	if errors.Is(err, store.ErrNotFound) {
		return nil, kmsapi.InvalidCiphertextException("").Because(err)
	}
	return d, err
}

// open decrypts. A wrong key, a wrong encryption context and damage are one fault.
func (d *decrypting) open(context map[string]string) ([]byte, error) {
	plaintext, err := d.material.Decrypt(d.blob, context)
	if err != nil {
		return nil, kmsapi.InvalidCiphertextException("").Because(err)
	}
	return plaintext, nil
}
