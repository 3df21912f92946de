package material

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha512"
	"crypto/x509"
)

// An edPair signs with Ed25519 or Ed25519ph (RFC 8032; FIPS 186-5, 7.6 and 7.8).
type edPair struct{ key ed25519.PrivateKey }

const (
	edPure      = "ED25519_SHA_512"
	edPrehashed = "ED25519_PH_SHA_512"
)

func generateEd25519() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func newEd25519(spec string, key ed25519.PrivateKey) (any, error) {
	if family(spec) != "ED25519" {
		return nil, ErrSpec
	}
	return edPair{key}, nil
}

// prepare returns what is signed and how. Ed25519ph takes a digest of 64 bytes
// and hashes it once more (crypto.md §2).
func (p edPair) prepare(algorithm, form string, message []byte) ([]byte, *ed25519.Options, error) {
	switch {
	case algorithm == edPure && form == Raw:
		return message, &ed25519.Options{}, nil
	case algorithm == edPrehashed && form == Digest && len(message) != sha512.Size:
		return nil, nil, ErrDigest
	case algorithm == edPrehashed && form == Digest:
		return sum(sha512.New(), message), &ed25519.Options{Hash: crypto.SHA512}, nil
	case algorithm == edPure || algorithm == edPrehashed:
		return nil, nil, ErrForm
	default:
		return nil, nil, ErrAlgorithm
	}
}

func (p edPair) sign(algorithm, form string, message []byte) ([]byte, error) {
	m, options, err := p.prepare(algorithm, form, message)
	if err != nil {
		return nil, err
	}
	return p.key.Sign(nil, m, options)
}

func (p edPair) verify(algorithm, form string, message, signature []byte) error {
	m, options, err := p.prepare(algorithm, form, message)
	if err == nil && ed25519.VerifyWithOptions(p.key.Public().(ed25519.PublicKey), m, signature, options) != nil {
		err = ErrSignature
	}
	return err
}
