//go:build !pkcs11

package seal

import "errors"

var errNoPKCS11 = errors.New("seal: this program was built without PKCS#11; build it with -tags pkcs11")

// A PKCS11 is a seal whose root key is in an HSM. This program was built without it.
type PKCS11 struct{}

// NewPKCS11 refuses.
func NewPKCS11(PKCS11Config) (*PKCS11, error) { return nil, errNoPKCS11 }

// Kind names the seal in the store's header.
func (*PKCS11) Kind() string { return "pkcs11" }

// Wrap refuses.
func (*PKCS11) Wrap([]byte) ([]byte, error) { return nil, errNoPKCS11 }

// Unwrap refuses.
func (*PKCS11) Unwrap([]byte) ([]byte, error) { return nil, errNoPKCS11 }

// Forget has nothing to forget.
func (*PKCS11) Forget() {}
