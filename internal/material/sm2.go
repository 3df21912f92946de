package material

import (
	"crypto/ecdsa"
	"crypto/rand"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/smx509"
)

// An sm2Pair signs, encrypts or agrees on the SM2 curve (GB/T 32918), with the
// default distinguishing identifier and ASN.1 ciphertexts.
type sm2Pair struct{ key *sm2.PrivateKey }

const maxSM2Plaintext = 1024

func generateSM2() ([]byte, error) {
	key, err := sm2.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return smx509.MarshalPKCS8PrivateKey(key)
}

func parseSM2(der []byte) (any, []byte, error) {
	parsed, err := smx509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, nil, ErrSpec
	}
	key, ok := parsed.(*sm2.PrivateKey)
	if !ok {
		return nil, nil, ErrSpec
	}
	public, err := smx509.MarshalPKIXPublicKey(&key.PublicKey)
	return sm2Pair{key}, public, err
}

// sm3Size is the length of an SM3 digest in bytes.
const sm3Size = 32

func checkSM2(form string, message []byte) error {
	switch {
	case form != Raw && form != Digest:
		return ErrForm
	case form == Digest && len(message) != sm3Size:
		return ErrDigest
	default:
		return nil
	}
}

func (p sm2Pair) sign(algorithm, form string, message []byte) ([]byte, error) {
	if algorithm != "SM2DSA" {
		return nil, ErrAlgorithm
	}
	if err := checkSM2(form, message); err != nil {
		return nil, err
	}
	if form == Raw {
		return p.key.SignWithSM2(rand.Reader, nil, message)
	}
	return sm2.SignASN1(rand.Reader, p.key, message, nil)
}

func (p sm2Pair) verify(algorithm, form string, message, signature []byte) error {
	if algorithm != "SM2DSA" {
		return ErrAlgorithm
	}
	err := checkSM2(form, message)
	valid := false
	switch {
	case err != nil:
		return err
	case form == Raw:
		valid = sm2.VerifyASN1WithSM2(&p.key.PublicKey, nil, message, signature)
	default:
		valid = sm2.VerifyASN1(&p.key.PublicKey, message, signature)
	}
	if !valid {
		return ErrSignature
	}
	return nil
}

func (p sm2Pair) encrypt(algorithm string, plaintext []byte) ([]byte, error) {
	if algorithm != "SM2PKE" {
		return nil, ErrAlgorithm
	}
	if len(plaintext) > maxSM2Plaintext {
		return nil, ErrTooLong
	}
	return sm2.EncryptASN1(rand.Reader, &p.key.PublicKey, plaintext)
}

func (p sm2Pair) decrypt(algorithm string, ciphertext []byte) ([]byte, error) {
	if algorithm != "SM2PKE" {
		return nil, ErrAlgorithm
	}
	plaintext, err := sm2.Decrypt(p.key, ciphertext)
	if err != nil {
		return nil, ErrOpen
	}
	return plaintext, nil
}

func (p sm2Pair) agree(peer []byte) ([]byte, error) {
	parsed, err := smx509.ParsePKIXPublicKey(peer)
	if err != nil {
		return nil, ErrPeer
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || !sm2.IsSM2PublicKey(key) {
		return nil, ErrPeer
	}
	remote, err := sm2.PublicKeyToECDH(key)
	if err != nil {
		return nil, ErrPeer
	}
	own, err := p.key.ECDH()
	if err != nil {
		return nil, err
	}
	return own.ECDH(remote)
}
