package material

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
)

// A nistPair signs (ECDSA, FIPS 186-5; signatures in DER) or agrees (ECDH) on a
// NIST curve.
type nistPair struct {
	key *ecdsa.PrivateKey
	dh  *ecdh.PrivateKey
}

var nistCurves = map[string]struct {
	curve     elliptic.Curve
	algorithm string // of signatures
	id        asn1.ObjectIdentifier
}{
	"ECC_NIST_P256": {elliptic.P256(), "ECDSA_SHA_256", asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}},
	"ECC_NIST_P384": {elliptic.P384(), "ECDSA_SHA_384", asn1.ObjectIdentifier{1, 3, 132, 0, 34}},
	"ECC_NIST_P521": {elliptic.P521(), "ECDSA_SHA_512", asn1.ObjectIdentifier{1, 3, 132, 0, 35}},
}

func generateNIST(spec string) ([]byte, error) {
	c, ok := nistCurves[spec]
	if !ok {
		return nil, ErrSpec
	}
	key, err := ecdsa.GenerateKey(c.curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKCS8PrivateKey(key)
}

func newNIST(spec string, key *ecdsa.PrivateKey) (any, error) {
	if c, ok := nistCurves[spec]; !ok || c.curve != key.Curve {
		return nil, ErrSpec
	}
	dh, err := key.ECDH()
	return nistPair{key, dh}, err
}

func (p nistPair) sign(algorithm, form string, message []byte) ([]byte, error) {
	h := hashOf(algorithm)
	if h == 0 {
		return nil, ErrAlgorithm
	}
	d, err := digest(h, form, message)
	if err != nil {
		return nil, err
	}
	return ecdsa.SignASN1(rand.Reader, p.key, d)
}

func (p nistPair) verify(algorithm, form string, message, signature []byte) error {
	h := hashOf(algorithm)
	if h == 0 {
		return ErrAlgorithm
	}
	d, err := digest(h, form, message)
	if err == nil && !ecdsa.VerifyASN1(&p.key.PublicKey, d, signature) {
		err = ErrSignature
	}
	return err
}

func (p nistPair) agree(peer []byte) ([]byte, error) {
	parsed, err := x509.ParsePKIXPublicKey(peer)
	if err != nil {
		return nil, ErrPeer
	}
	key, ok := parsed.(*ecdsa.PublicKey)
	if !ok || key.Curve != p.key.Curve {
		return nil, ErrPeer
	}
	remote, err := key.ECDH()
	if err != nil {
		return nil, ErrPeer
	}
	return p.dh.ECDH(remote)
}
