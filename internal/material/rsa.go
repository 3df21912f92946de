package material

import (
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// An rsaPair signs or encrypts (RFC 8017; FIPS 186-5; NIST SP 800-56B).
type rsaPair struct{ key *rsa.PrivateKey }

func rsaBits(spec string) int {
	n, _ := strconv.Atoi(strings.TrimPrefix(spec, "RSA_")) // 0 is no size
	return n
}

func generateRSA(spec string) ([]byte, error) {
	switch rsaBits(spec) {
	case 2048, 3072, 4096:
	default:
		return nil, ErrSpec
	}
	key, err := rsa.GenerateKey(rand.Reader, rsaBits(spec))
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func newRSA(spec string, key *rsa.PrivateKey) (any, error) {
	if key.N.BitLen() != rsaBits(spec) || len(key.Primes) != 2 {
		return nil, fmt.Errorf("an RSA key of %d bits and %d primes", key.N.BitLen(), len(key.Primes))
	}
	return rsaPair{key}, nil
}

// exponentAllowed reports whether the public exponent may be used: in FIPS mode it is greater
// than 65,536 (FIPS 186-5, A.1.1).
func (p rsaPair) exponentAllowed() bool { return !fips140.Enabled() || p.key.E > 1<<16 }

// sound reports whether the factors are of equal length, apart from each other
// (FIPS 186-5, A.1.1) and prime; parsing a key does not show that.
func (p rsaPair) sound() bool {
	if !p.exponentAllowed() {
		return false
	}
	half := p.key.N.BitLen() / 2
	if slices.ContainsFunc(p.key.Primes, func(f *big.Int) bool { return f.BitLen() != half }) {
		return false
	}
	if new(big.Int).Sub(p.key.Primes[0], p.key.Primes[1]).BitLen() <= half-100 {
		return false
	}
	return !slices.ContainsFunc(p.key.Primes, func(f *big.Int) bool { return !f.ProbablyPrime(8) })
}

func isPSS(algorithm string) bool   { return strings.HasPrefix(algorithm, "RSASSA_PSS_") }
func isPKCS1(algorithm string) bool { return strings.HasPrefix(algorithm, "RSASSA_PKCS1_V1_5_") }

// The salt is as long as the hash (crypto.md §1).
var saltAsHash = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}

func (p rsaPair) sign(algorithm, form string, message []byte) ([]byte, error) {
	h := hashOf(algorithm)
	if h == 0 {
		return nil, ErrAlgorithm
	}
	d, err := digest(h, form, message)
	switch {
	case err != nil:
		return nil, err
	case isPSS(algorithm):
		return rsa.SignPSS(rand.Reader, p.key, h, d, saltAsHash)
	case isPKCS1(algorithm):
		return rsa.SignPKCS1v15(nil, p.key, h, d)
	default:
		return nil, ErrAlgorithm
	}
}

func (p rsaPair) verify(algorithm, form string, message, signature []byte) error {
	h := hashOf(algorithm)
	if h == 0 || !isPSS(algorithm) && !isPKCS1(algorithm) {
		return ErrAlgorithm
	}
	d, err := digest(h, form, message)
	if err != nil {
		return err
	}
	if isPSS(algorithm) {
		err = rsa.VerifyPSS(&p.key.PublicKey, h, d, signature, saltAsHash)
	} else {
		err = rsa.VerifyPKCS1v15(&p.key.PublicKey, h, d, signature)
	}
	if err != nil {
		return ErrSignature
	}
	return nil
}

func (p rsaPair) encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	h := hashOf(algorithm)
	if h == 0 || !strings.HasPrefix(algorithm, "RSAES_OAEP_") {
		return nil, ErrAlgorithm
	}
	if len(plaintext) > p.key.Size()-2*h.Size()-2 {
		return nil, ErrTooLong
	}
	return rsa.EncryptOAEP(h.New(), rand.Reader, &p.key.PublicKey, plaintext, nil)
}

func (p rsaPair) decrypt(algorithm string, ciphertext []byte) ([]byte, error) {
	h := hashOf(algorithm)
	if h == 0 || !strings.HasPrefix(algorithm, "RSAES_OAEP_") {
		return nil, ErrAlgorithm
	}
	if len(ciphertext) != p.key.Size() { // RFC 8017, 7.1.2
		return nil, ErrOpen
	}
	plaintext, err := rsa.DecryptOAEP(h.New(), nil, p.key, ciphertext, nil)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

// MaxPlaintext is how many bytes an asymmetric encryption algorithm takes at
// most under a key of the spec.
func MaxPlaintext(spec, algorithm string) int {
	if spec == "SM2" {
		return maxSM2Plaintext
	}
	return rsaBits(spec)/8 - 2*hashOf(algorithm).Size() - 2
}
