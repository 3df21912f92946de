//go:build pkcs11

package seal

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/miekg/pkcs11"
)

// A PKCS11 is a seal whose root key is an AES-256 key in an HSM, which it never
// leaves. Each Wrap and Unwrap starts and ends its own use of the HSM, so one
// that went away is noticed and one that came back works.
type PKCS11 struct {
	module, token, key string

	// Under inHSM.
	pin       []byte
	forgotten bool
	lib       *pkcs11.Ctx // nil until it is needed; some do not survive being unloaded
}

// inHSM lets one operation at a time into PKCS#11 libraries, whose state belongs
// to the process.
var inHSM sync.Mutex

const (
	pkcs11Version = 1
	gcmNonceSize  = 12
	gcmTagSize    = 16
	// maxPKCS11 bounds what Unwrap hands to the HSM.
	maxPKCS11 = 1024
)

// NewPKCS11 checks c and takes over the PIN. It does not touch the HSM.
func NewPKCS11(c PKCS11Config) (*PKCS11, error) {
	switch {
	case c.Module == "":
		return nil, errors.New("seal: say which PKCS#11 library the HSM has")
	case c.Token == "":
		return nil, errors.New("seal: say which token of the HSM holds the root key, by its label")
	case c.Key == "":
		return nil, errors.New("seal: say which key of the token is the root key, by its label")
	case len(c.PIN) == 0:
		return nil, errors.New("seal: the token needs a PIN")
	}
	return &PKCS11{module: c.Module, token: c.Token, key: c.Key, pin: c.PIN}, nil
}

// Kind names the seal in the store's header.
func (p *PKCS11) Kind() string { return "pkcs11" }

// Forget clears the PIN, after which the seal is of no use. Copies that were made
// for the library, which takes a string, are left to the garbage collector.
func (p *PKCS11) Forget() {
	inHSM.Lock()
	defer inHSM.Unlock()
	clear(p.pin)
	p.forgotten = true
}

// Wrap encrypts secret under the root key, which it makes if there is none.
func (p *PKCS11) Wrap(secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > maxPKCS11/2 {
		return nil, fmt.Errorf("seal: an HSM wraps 1 to %d bytes, not %d", maxPKCS11/2, len(secret))
	}
	var wrapped []byte
	err := p.use(func(s *hsmSession) error {
		key, err := s.findKey(p.key)
		if errors.Is(err, errNoKey) {
			if err := s.makeKey(p.key); err != nil {
				return err
			}
			// Found again, so that two who made one at once notice, and what
			// the HSM made of the attributes is checked.
			key, err = s.findKey(p.key)
		}
		if err != nil {
			return err
		}
		nonce, sealed, err := s.encrypt(key, secret)
		if err != nil {
			return err
		}
		wrapped = append(append([]byte{pkcs11Version}, nonce...), sealed...)
		return nil
	})
	return wrapped, err
}

// Unwrap opens what Wrap made. ErrWrongKey: another key, or damage.
func (p *PKCS11) Unwrap(wrapped []byte) ([]byte, error) {
	const head = 1 + gcmNonceSize
	if len(wrapped) <= head+gcmTagSize || len(wrapped) > maxPKCS11 || wrapped[0] != pkcs11Version {
		return nil, fmt.Errorf("seal: this was not wrapped by an HSM, or it was damaged: %w", ErrWrongKey)
	}
	var secret []byte
	err := p.use(func(s *hsmSession) error {
		key, err := s.findKey(p.key)
		if err != nil {
			return err
		}
		secret, err = s.decrypt(key, wrapped[1:head], wrapped[head:])
		return err
	})
	return secret, err
}

// use opens a session with the token, logs in, and hands it to f.
func (p *PKCS11) use(f func(*hsmSession) error) error {
	inHSM.Lock()
	defer inHSM.Unlock()
	if p.forgotten {
		return errors.New("seal: the PIN of the HSM was forgotten; make the seal anew")
	}
	if err := p.load(); err != nil {
		return err
	}
	err := p.lib.Initialize()
	switch {
	case err == nil:
		defer p.lib.Finalize()
	case is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED):
		// Somebody else in this process uses the library and finalises it.
	default:
		return hsmError("start the PKCS#11 library", err)
	}
	s := &hsmSession{lib: p.lib, token: p.token}
	if s.slot, err = s.findSlot(); err != nil {
		return err
	}
	if s.handle, err = p.lib.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return hsmError("open a session with the HSM", err)
	}
	defer p.lib.CloseSession(s.handle)
	err = p.lib.Login(s.handle, pkcs11.CKU_USER, string(p.pin))
	switch {
	case err == nil:
		defer p.lib.Logout(s.handle)
	case is(err, pkcs11.CKR_USER_ALREADY_LOGGED_IN):
	default:
		return s.loginError(err)
	}
	return f(s)
}

// load loads the library; one that was not there may be there later.
func (p *PKCS11) load() error {
	if p.lib != nil {
		return nil
	}
	if _, err := os.Stat(p.module); err != nil {
		return fmt.Errorf("seal: the HSM's PKCS#11 library cannot be read; install it or give its path: %w", err)
	}
	if p.lib = pkcs11.New(p.module); p.lib == nil {
		return fmt.Errorf("seal: %s cannot be loaded as a PKCS#11 library; see whether it is made for this machine and what it needs is installed (ldd)", p.module)
	}
	return nil
}

// encrypt seals secret with AES-GCM. The nonce is ours, or the HSM's if it
// insists on drawing its own: then it wants zeros to put it over.
func (s *hsmSession) encrypt(key pkcs11.ObjectHandle, secret []byte) (nonce, sealed []byte, err error) {
	ours := make([]byte, gcmNonceSize)
	if _, err := rand.Read(ours); err != nil {
		return nil, nil, err
	}
	nonce, sealed, err = s.gcm(key, ours, secret)
	if is(err, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_ARGUMENTS_BAD) {
		nonce, sealed, err = s.gcm(key, make([]byte, gcmNonceSize), secret)
		if err == nil && string(nonce) == string(make([]byte, gcmNonceSize)) {
			return nil, nil, errors.New("seal: the HSM neither takes a nonce nor draws one; it cannot be used with AES-GCM")
		}
	}
	if err != nil {
		return nil, nil, hsmError("encrypt in the HSM", err)
	}
	if len(nonce) != gcmNonceSize || len(sealed) != len(secret)+gcmTagSize {
		return nil, nil, fmt.Errorf("seal: the HSM answers with a nonce of %d bytes and a ciphertext of %d, where 12 and %d belong; it cannot be used with AES-GCM",
			len(nonce), len(sealed), len(secret)+gcmTagSize)
	}
	return nonce, sealed, nil
}

// gcm encrypts under nonce and tells which one the HSM used.
func (s *hsmSession) gcm(key pkcs11.ObjectHandle, nonce, secret []byte) (used, sealed []byte, err error) {
	params := pkcs11.NewGCMParams(nonce, associated, 8*gcmTagSize)
	defer params.Free()
	if err := s.lib.EncryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key); err != nil {
		return nil, nil, err
	}
	if sealed, err = s.lib.Encrypt(s.handle, secret); err != nil {
		return nil, nil, err
	}
	return params.IV(), sealed, nil
}

func (s *hsmSession) decrypt(key pkcs11.ObjectHandle, nonce, sealed []byte) ([]byte, error) {
	params := pkcs11.NewGCMParams(nonce, associated, 8*gcmTagSize)
	defer params.Free()
	if err := s.lib.DecryptInit(s.handle, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}, key); err != nil {
		return nil, hsmError("decrypt in the HSM", err)
	}
	secret, err := s.lib.Decrypt(s.handle, sealed)
	// Libraries do not agree on what a tag that does not match is called.
	if is(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_DATA_INVALID, pkcs11.CKR_DATA_LEN_RANGE,
		pkcs11.CKR_SIGNATURE_INVALID, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, aeadDecryptFailed) {
		return nil, fmt.Errorf("seal: the key in the HSM did not wrap this, or it was damaged (%v): %w", err, ErrWrongKey)
	}
	if err != nil {
		return nil, hsmError("decrypt in the HSM", err)
	}
	return secret, nil
}

// aeadDecryptFailed is CKR_AEAD_DECRYPT_FAILED of PKCS#11 3.0.
const aeadDecryptFailed = 0x35
