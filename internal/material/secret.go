// Package material is key material: how it is generated, encrypts and decrypts,
// and the format of ciphertext blobs. It does no I/O and reads no clock; it
// draws random bytes.
package material

import (
	"errors"
	"fmt"
	"log/slog"
)

// A Secret lends out key material and never shows it: every way to print it
// prints its size.
type Secret struct {
	size int
	lend func(func(material []byte) error) error
}

var errSecret = errors.New("material: a secret does not marshal")

// NewSecret takes over b; the caller must not use it afterwards.
func NewSecret(b []byte) Secret {
	return Secret{len(b), func(f func([]byte) error) error { return f(b) }}
}

// Use calls f with the material, which f must neither change nor keep.
func (s Secret) Use(f func(material []byte) error) error {
	if s.lend == nil {
		return errors.New("material: no secret")
	}
	return s.lend(f)
}

// Format prints the size whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "secret(%d bytes)", s.size) }

// LogValue shows the size.
func (s Secret) LogValue() slog.Value { return slog.StringValue(fmt.Sprint(s)) }

// MarshalText refuses.
func (s Secret) MarshalText() ([]byte, error) { return nil, errSecret }
