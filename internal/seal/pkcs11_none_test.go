//go:build !pkcs11

package seal

import (
	"strings"
	"testing"
)

func TestNoPKCS11(t *testing.T) {
	t.Parallel()
	s, err := NewPKCS11(PKCS11Config{Module: "m", Token: "t", Key: "k", PIN: []byte("1234")})
	if s != nil || err == nil || !strings.Contains(err.Error(), "build it with -tags pkcs11") {
		t.Errorf("NewPKCS11 = %v, %v", s, err)
	}
}
