package seal

import "crypto/rand"

// An Ephemeral is a seal whose root key lives as long as the process: for stores
// that do too.
type Ephemeral struct{ key []byte }

// NewEphemeral draws a root key.
func NewEphemeral() *Ephemeral {
	key := make([]byte, rootKeySize)
	_, _ = rand.Read(key) // never fails
	return &Ephemeral{key}
}

// Kind names the seal in the store's header.
func (e *Ephemeral) Kind() string { return "ephemeral" }

// Wrap seals secret under the root key.
func (e *Ephemeral) Wrap(secret []byte) ([]byte, error) { return wrap(e.key, secret) }

// Unwrap opens what Wrap made.
func (e *Ephemeral) Unwrap(wrapped []byte) ([]byte, error) { return unwrap(e.key, wrapped) }
