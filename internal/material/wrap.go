package material

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"strings"

	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// Unwrap opens imported key material with the private wrapping key, an RSA key
// in PKCS #8, by the wrapping algorithm: RSAES_OAEP_… or RSA_AES_KEY_WRAP_…, where
// RSA wraps an AES key that wraps the material (PKCS #11,
// CKM_RSA_AES_KEY_WRAP; RFC 5649). Every failure of the wrapped text is ErrOpen.
func Unwrap(wrappingKey []byte, algorithm string, wrapped []byte) ([]byte, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(wrappingKey)
	if err != nil {
		return nil, fmt.Errorf("wrapping key: %w", ErrSpec)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("wrapping key: %w", ErrSpec)
	}
	hash, twice := strings.CutPrefix(algorithm, "RSA_AES_KEY_WRAP")
	if !twice {
		return rsaPair{key}.decrypt(algorithm, wrapped)
	}
	if len(wrapped) < key.Size() {
		return nil, ErrOpen
	}
	ephemeral, err := rsaPair{key}.decrypt("RSAES_OAEP"+hash, wrapped[:key.Size()])
	if err != nil {
		return nil, err
	}
	defer clear(ephemeral)
	kwp, err := subtle.NewKWP(ephemeral)
	if err != nil {
		return nil, ErrOpen // not an AES key
	}
	opened, err := kwp.Unwrap(wrapped[key.Size():])
	if err != nil {
		return nil, ErrOpen
	}
	return opened, nil
}
