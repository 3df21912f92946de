package material

import (
	"crypto"
	"crypto/hmac"
	"strconv"
	"strings"
)

// A MAC is the material of an HMAC key (RFC 2104), ready for use. It is safe for
// concurrent use.
type MAC struct {
	hash crypto.Hash
	key  []byte
}

// MaxMACKey is the longest HMAC key material, in bytes.
const MaxMACKey = 128

// MACSize is the output of a key spec such as HMAC_256, in bytes; 0 if it is none.
func MACSize(spec string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(spec, "HMAC_"))
	switch n {
	case 224, 256, 384, 512:
		return n / 8
	}
	return 0
}

// NewMAC prepares the material of an HMAC key spec: at least as many bytes as
// its output, and MaxMACKey at most. ErrSpec: it is not.
func NewMAC(spec string, s Secret) (*MAC, error) {
	m := &MAC{hash: hashOf(strings.Replace(spec, "HMAC_", "HMAC_SHA_", 1))}
	err := s.Use(func(key []byte) error {
		if n := MACSize(spec); n == 0 || len(key) < n || len(key) > MaxMACKey {
			return ErrSpec
		}
		m.key = append([]byte(nil), key...)
		return nil
	})
	return m, err
}

// Sum is the whole authentication code of a message.
func (m *MAC) Sum(message []byte) []byte { return sum(hmac.New(m.hash.New, m.key), message) }

// Verify reports whether mac is the code of the message, in constant time.
func (m *MAC) Verify(message, mac []byte) bool { return hmac.Equal(m.Sum(message), mac) }
