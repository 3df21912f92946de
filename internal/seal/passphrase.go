package seal

import (
	"crypto/fips140"
	"crypto/rand"
	"encoding/binary"
	"errors"

	"golang.org/x/crypto/argon2"
)

// Argon2id costs (RFC 9106 §4, the second recommended option): three passes
// over 64 MiB with four lanes.
const (
	argonTime   = 3
	argonMemory = 64 * 1024 // KiB
	argonLanes  = 4
	saltSize    = 16
	// maxMemory bounds what a damaged header can make Unwrap use, in KiB.
	maxMemory = 4 * 1024 * 1024
)

// MinPassphrase is the shortest passphrase accepted, in bytes.
const MinPassphrase = 12

// A Passphrase is a seal whose root key is derived from a passphrase with
// Argon2id. Each Wrap draws a salt and stores it and the costs with the result.
type Passphrase struct{ phrase []byte }

// NewPassphrase takes over phrase.
func NewPassphrase(phrase []byte) (*Passphrase, error) {
	if fips140.Enabled() {
		return nil, errors.New("seal: a passphrase needs Argon2id, which FIPS 140-3 mode forbids; use another seal")
	}
	if len(phrase) < MinPassphrase {
		return nil, errors.New("seal: the passphrase has fewer than 12 bytes")
	}
	return &Passphrase{phrase}, nil
}

// Kind names the seal in the store's header.
func (p *Passphrase) Kind() string { return "passphrase" }

// Wrap seals secret under the root key of a fresh salt.
func (p *Passphrase) Wrap(secret []byte) ([]byte, error) {
	head := make([]byte, 9+saltSize)
	binary.BigEndian.PutUint32(head, argonTime)
	binary.BigEndian.PutUint32(head[4:], argonMemory)
	head[8] = argonLanes
	if _, err := rand.Read(head[9:]); err != nil {
		return nil, err
	}
	key := argon2.IDKey(p.phrase, head[9:], argonTime, argonMemory, argonLanes, rootKeySize)
	defer clear(key)
	sealed, err := wrap(key, secret)
	if err != nil {
		return nil, err
	}
	return append(head, sealed...), nil
}

// Unwrap opens what Wrap made. ErrWrongKey: another passphrase, or damage.
func (p *Passphrase) Unwrap(wrapped []byte) ([]byte, error) {
	if len(wrapped) < 9+saltSize {
		return nil, ErrWrongKey
	}
	time, memory, lanes := binary.BigEndian.Uint32(wrapped), binary.BigEndian.Uint32(wrapped[4:]), wrapped[8]
	if time == 0 || time > 64 || memory < 8*uint32(lanes) || memory > maxMemory || lanes == 0 {
		return nil, ErrWrongKey
	}
	key := argon2.IDKey(p.phrase, wrapped[9:9+saltSize], time, memory, lanes, rootKeySize)
	defer clear(key)
	return unwrap(key, wrapped[9+saltSize:])
}
