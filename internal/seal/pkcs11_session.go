//go:build pkcs11

package seal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"
)

// An hsmSession is a session with one token of an HSM.
type hsmSession struct {
	lib    *pkcs11.Ctx
	token  string // its label
	slot   uint
	handle pkcs11.SessionHandle
}

// findSlot finds the one token of that label.
func (s *hsmSession) findSlot() (uint, error) {
	slots, err := s.lib.GetSlotList(true)
	if err != nil {
		return 0, hsmError("ask the HSM for its tokens", err)
	}
	var found []uint
	var unread error // why a token, which may be the wanted one, did not tell its label
	for _, slot := range slots {
		info, err := s.lib.GetTokenInfo(slot)
		switch {
		case err != nil:
			unread = err
		case info.Label == s.token:
			found = append(found, slot)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return 0, fmt.Errorf("seal: the HSM has %d tokens labelled %q, and which one holds the root key cannot be told; rename the others", len(found), s.token)
	case unread != nil:
		return 0, hsmError(fmt.Sprintf("look for the token %q", s.token), unread)
	default:
		return 0, fmt.Errorf("seal: the HSM has no token labelled %q; plug it in, start the HSM, or give the right label", s.token)
	}
}

var errNoKey = errors.New("without it the store stays closed; give the label of the key that wrapped it")

// findKey finds the one key of that label and checks that it is fit to be a root key.
func (s *hsmSession) findKey(label string) (pkcs11.ObjectHandle, error) {
	err := s.lib.FindObjectsInit(s.handle, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	})
	if err != nil {
		return 0, hsmError("look for the root key", err)
	}
	keys, _, err := s.lib.FindObjects(s.handle, 2)
	if final := s.lib.FindObjectsFinal(s.handle); err == nil {
		err = final
	}
	switch {
	case err != nil:
		return 0, hsmError("look for the root key", err)
	case len(keys) == 0:
		return 0, fmt.Errorf("seal: the token %q has no key labelled %q: %w", s.token, label, errNoKey)
	case len(keys) > 1:
		return 0, fmt.Errorf("seal: the token %q has more than one key labelled %q, and which one is the root key cannot be told; rename the others", s.token, label)
	}
	return keys[0], s.checkKey(keys[0], label)
}

// checkKey refuses a key that may leave the HSM, or is not AES-256.
func (s *hsmSession) checkKey(key pkcs11.ObjectHandle, label string) error {
	kind := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, rootKeySize)}
	if has, err := s.has(key, kind); err != nil {
		return err
	} else if !has {
		return fmt.Errorf("seal: the key %q of the token %q is not an AES-256 key; give the label of one, or one that is not used and is then made", label, s.token)
	}
	kept := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false)}
	if has, err := s.has(key, kept); err != nil {
		return err
	} else if !has {
		return fmt.Errorf("seal: the key %q of the token %q can be taken out of the HSM; give the label of one that cannot, or one that is not used and is then made", label, s.token)
	}
	return nil
}

// has tells whether the key has all these attributes. One the HSM does not tell
// it does not have.
func (s *hsmSession) has(key pkcs11.ObjectHandle, want []*pkcs11.Attribute) (bool, error) {
	got, err := s.lib.GetAttributeValue(s.handle, key, want)
	if is(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
		return false, nil
	}
	if err != nil {
		return false, hsmError("read what the root key is", err)
	}
	return slices.EqualFunc(got, want, func(a, b *pkcs11.Attribute) bool { return bytes.Equal(a.Value, b.Value) }), nil
}

// makeKey makes a key that stays in the token and does nothing but this.
func (s *hsmSession) makeKey(label string) error {
	session, err := s.lib.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return hsmError("open a session in which to make the root key", err)
	}
	defer s.lib.CloseSession(session)
	attributes := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, rootKeySize),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	}
	for _, yes := range []uint{pkcs11.CKA_TOKEN, pkcs11.CKA_PRIVATE, pkcs11.CKA_SENSITIVE, pkcs11.CKA_ENCRYPT, pkcs11.CKA_DECRYPT} {
		attributes = append(attributes, pkcs11.NewAttribute(yes, true))
	}
	for _, no := range []uint{pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_SIGN, pkcs11.CKA_VERIFY, pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP, pkcs11.CKA_DERIVE} {
		attributes = append(attributes, pkcs11.NewAttribute(no, false))
	}
	_, err = s.lib.GenerateKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, attributes)
	if err != nil {
		return hsmError("make the root key in the HSM", err)
	}
	return nil
}

func (s *hsmSession) loginError(err error) error {
	switch {
	case is(err, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE):
		return fmt.Errorf("seal: the PIN of the token %q is wrong; look it up before trying again, as further tries may lock the token: %w", s.token, err)
	case is(err, pkcs11.CKR_PIN_LOCKED):
		return fmt.Errorf("seal: the PIN of the token %q is locked after too many wrong ones; its security officer can set a new one: %w", s.token, err)
	case is(err, pkcs11.CKR_PIN_EXPIRED):
		return fmt.Errorf("seal: the PIN of the token %q has expired; set a new one: %w", s.token, err)
	case is(err, pkcs11.CKR_USER_PIN_NOT_INITIALIZED):
		return fmt.Errorf("seal: the token %q has no user PIN yet; its security officer can set one: %w", s.token, err)
	}
	return hsmError("log in to the HSM", err)
}

// hsmError says what the HSM was asked to do when it failed, and tells one that
// is gone from one that refuses.
func hsmError(what string, err error) error {
	if is(err, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_DEVICE_ERROR) {
		return fmt.Errorf("seal: %s: the token was removed or the HSM does not answer; plug it in or start it, and try again: %w", what, err)
	}
	if is(err, pkcs11.CKR_MECHANISM_INVALID) {
		return fmt.Errorf("seal: %s: the HSM does not do this with AES; another seal is needed: %w", what, err)
	}
	return fmt.Errorf("seal: %s: %w", what, err)
}

// is tells whether err is one of these return values.
func is(err error, values ...uint) bool {
	var e pkcs11.Error
	return errors.As(err, &e) && slices.Contains(values, uint(e))
}
