package material

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/subtle"
	"errors"
)

// Sizes of XAES-256-GCM in bytes.
const (
	KeySize   = 32
	NonceSize = 24
	Overhead  = 16
)

// ErrOpen reports a ciphertext that was damaged, or made with another key,
// nonce or associated data; it does not say which.
var ErrOpen = errors.New("material: ciphertext does not open")

// An AEAD is XAES-256-GCM (C2SP "XAES-256-GCM"): AES-256-GCM under a key derived
// from a 24-byte nonce, so that random nonces never run out. It is immutable
// and safe for concurrent use.
type AEAD struct {
	block cipher.Block
	k1    [aes.BlockSize]byte // CMAC subkey (NIST SP 800-38B)
}

// NewAEAD prepares a key of KeySize bytes, which it copies.
func NewAEAD(key []byte) (*AEAD, error) {
	if len(key) != KeySize {
		return nil, errors.New("material: an AEAD key has 32 bytes")
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	a := &AEAD{block: block}
	block.Encrypt(a.k1[:], a.k1[:])
	carry := byte(0)
	for i := len(a.k1) - 1; i >= 0; i-- {
		next := a.k1[i] >> 7
		a.k1[i] = a.k1[i]<<1 | carry
		carry = next
	}
	a.k1[len(a.k1)-1] ^= byte(subtle.ConstantTimeSelect(int(carry), 0x87, 0))
	return a, nil
}

// derive makes the AES-256-GCM of one nonce, by its first twelve bytes (NIST SP 800-108r1,
// counter mode with CMAC). It draws and takes the other twelve itself, as FIPS 140-3 wants
// it (SP 800-38D, 8.2.2).
func (a *AEAD) derive(nonce []byte) (cipher.AEAD, error) {
	var key [KeySize]byte
	defer clear(key[:])
	for i := range 2 {
		half := key[i*aes.BlockSize:][:aes.BlockSize]
		copy(half, []byte{0, byte(i + 1), 'X', 0})
		copy(half[4:], nonce[:deriveSize])
		subtle.XORBytes(half, half, a.k1[:])
		a.block.Encrypt(half, half)
	}
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// deriveSize is how much of the nonce derives the key, in bytes.
const deriveSize = 12

// Seal appends a fresh nonce and the sealed plaintext to dst. What dst holds
// before, prefix included, is not authenticated unless ad covers it.
func (a *AEAD) Seal(dst, plaintext, ad []byte) ([]byte, error) {
	var nonce [deriveSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, err
	}
	gcm, err := a.derive(nonce[:])
	if err != nil {
		return nil, err
	}
	return gcm.Seal(append(dst, nonce[:]...), nil, plaintext, ad), nil
}

// Open opens what Seal appended. Every failure is ErrOpen.
func (a *AEAD) Open(sealed, ad []byte) ([]byte, error) {
	if len(sealed) < NonceSize+Overhead {
		return nil, ErrOpen
	}
	gcm, err := a.derive(sealed)
	if err != nil {
		return nil, err
	}
	plaintext, err := gcm.Open(nil, nil, sealed[deriveSize:], ad)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}
