package material

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/subtle"
	"encoding/asn1"
	"errors"
	"math/big"

	"github.com/emmansun/gmsm/sm2"
	"github.com/emmansun/gmsm/sm3"
	"github.com/emmansun/gmsm/smx509"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
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

func parseSM2(text []byte) (any, []byte, error) {
	parsed, err := smx509.ParsePKCS8PrivateKey(text)
	if err != nil {
		return nil, nil, ErrSpec
	}
	key, ok := parsed.(*sm2.PrivateKey)
	if !ok {
		return nil, nil, ErrSpec
	}
	if key, err = sm2.NewPrivateKeyFromInt(key.D); err != nil { // the parser takes n-1 too
		return nil, nil, ErrSpec
	}
	public, err := smx509.MarshalPKIXPublicKey(&key.PublicKey)
	if err == nil {
		err = checkECPrivate(text, oidSM2, public, sm2Size)
	}
	return sm2Pair{key}, public, err
}

var oidSM2 = asn1.ObjectIdentifier{1, 2, 156, 10197, 1, 301}

const (
	sm3Size = 32 // bytes of an SM3 digest
	sm2Size = 32 // bytes of a coordinate
)

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
	if len(plaintext) == 0 || len(plaintext) > maxSM2Plaintext {
		return nil, ErrTooLong // the standard has no empty messages
	}
	for range 16 {
		ciphertext, err := sm2.EncryptASN1(rand.Reader, &p.key.PublicKey, plaintext)
		if err != nil {
			return nil, err
		}
		// The library encrypts some short plaintexts for another point (v0.41.1, when
		// it has to draw again).
		if again, err := p.open(ciphertext); err == nil && bytes.Equal(again, plaintext) {
			return ciphertext, nil
		}
	}
	return nil, errors.New("material: the SM2 library encrypts wrongly")
}

func (p sm2Pair) decrypt(algorithm string, ciphertext []byte) ([]byte, error) {
	if algorithm != "SM2PKE" {
		return nil, ErrAlgorithm
	}
	return p.open(ciphertext)
}

// open decrypts an ASN.1 ciphertext (GB/T 32918.4, 7.1). The library's Decrypt
// takes other encodings besides, and refuses ciphertexts whose C2 is zero, which
// short plaintexts have now and then.
func (p sm2Pair) open(ciphertext []byte) ([]byte, error) {
	var inner, c2, c3 cryptobyte.String
	x, y := new(big.Int), new(big.Int)
	input := cryptobyte.String(ciphertext)
	if !input.ReadASN1(&inner, der.SEQUENCE) || !input.Empty() || !inner.ReadASN1Integer(x) || !inner.ReadASN1Integer(y) ||
		!inner.ReadASN1(&c3, der.OCTET_STRING) || !inner.ReadASN1(&c2, der.OCTET_STRING) || !inner.Empty() || len(c2) == 0 {
		return nil, ErrOpen
	}
	field := p.key.Params().P
	if x.Sign() < 0 || y.Sign() < 0 || x.Cmp(field) >= 0 || y.Cmp(field) >= 0 || !p.key.IsOnCurve(x, y) {
		return nil, ErrOpen
	}
	x, y = p.key.ScalarMult(x, y, p.key.D.FillBytes(make([]byte, sm2Size)))
	shared := append(x.FillBytes(make([]byte, sm2Size)), y.FillBytes(make([]byte, sm2Size))...)
	defer clear(shared)
	t := sm3.Kdf(shared, len(c2))
	if subtle.ConstantTimeCompare(t, make([]byte, len(t))) == 1 {
		return nil, ErrOpen
	}
	subtle.XORBytes(t, t, c2)
	h := sm3.New()
	h.Write(shared[:sm2Size])
	h.Write(t)
	h.Write(shared[sm2Size:])
	if subtle.ConstantTimeCompare(h.Sum(nil), c3) != 1 {
		return nil, ErrOpen
	}
	return t, nil
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
