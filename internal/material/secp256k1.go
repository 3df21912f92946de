package material

import (
	"crypto/rand"
	"encoding/asn1"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"golang.org/x/crypto/cryptobyte"
	der "golang.org/x/crypto/cryptobyte/asn1"
)

// A secpPair signs with ECDSA on secp256k1 (SEC 2). The library parses and
// verifies; where it meets a secret its time depends on it, so signing is ours.
type secpPair struct {
	d      secp256k1.ModNScalar
	public *secp256k1.PublicKey
}

var (
	oidECPublicKey = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidSecp256k1   = asn1.ObjectIdentifier{1, 3, 132, 0, 10}
)

func secpIdentifier() (algorithmIdentifier, error) {
	parameters, err := asn1.Marshal(oidSecp256k1)
	return algorithmIdentifier{oidECPublicKey, asn1.RawValue{FullBytes: parameters}}, err
}

func generateSecp256k1() ([]byte, error) {
	key, err := secp256k1.GeneratePrivateKeyFromRand(rand.Reader)
	if err != nil {
		return nil, err
	}
	defer key.Zero()
	public := secpPublic(&key.Key)
	inner, err := asn1.Marshal(ecPrivateKey{Version: 1, PrivateKey: key.Serialize(),
		PublicKey: asn1.BitString{Bytes: public.SerializeUncompressed(), BitLength: 8 * 65}})
	if err != nil {
		return nil, err
	}
	id, err := secpIdentifier()
	if err != nil {
		return nil, err
	}
	return marshalPKCS8(id, inner)
}

func parseSecp256k1(text []byte) (any, []byte, error) {
	id, private, err := parsePKCS8(text)
	if err != nil || !id.Algorithm.Equal(oidECPublicKey) {
		return nil, nil, ErrSpec
	}
	var curve asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(id.Parameters.FullBytes, &curve); err != nil || len(rest) > 0 || !curve.Equal(oidSecp256k1) {
		return nil, nil, ErrSpec
	}
	var inner ecPrivateKey
	if rest, err := asn1.Unmarshal(private, &inner); err != nil || len(rest) > 0 {
		return nil, nil, errNotEC
	}
	var p secpPair
	if overflow := p.d.SetByteSlice(inner.PrivateKey); overflow || p.d.IsZero() {
		return nil, nil, ErrSpec
	}
	p.public = secpPublic(&p.d)
	if id, err = secpIdentifier(); err != nil {
		return nil, nil, err
	}
	public, err := marshalPublic(id, p.public.SerializeUncompressed())
	if err == nil {
		err = checkECPrivate(text, oidSecp256k1, public, 32)
	}
	return p, public, err
}

func (p secpPair) sign(algorithm, form string, message []byte) ([]byte, error) {
	if algorithm != "ECDSA_SHA_256" {
		return nil, ErrAlgorithm
	}
	d, err := digest(hashOf(algorithm), form, message)
	if err != nil {
		return nil, err
	}
	var extra [32]byte // hedges the nonce of RFC 6979
	if _, err := rand.Read(extra[:]); err != nil {
		return nil, err
	}
	r, s := p.signDigest(d, extra[:])
	var b cryptobyte.Builder
	b.AddASN1(der.SEQUENCE, func(b *cryptobyte.Builder) {
		addInteger(b, r)
		addInteger(b, s)
	})
	return b.Bytes()
}

// signDigest signs a digest with the nonce of RFC 6979, to which extra adds.
func (p secpPair) signDigest(digest, extra []byte) (r, s secp256k1.ModNScalar) {
	private := p.d.Bytes()
	defer clear(private[:])
	for i := uint32(0); ; i++ {
		k := secp256k1.NonceRFC6979(private[:], digest, extra, nil, i)
		x := secpMultiplyBase(k).affineX()
		r.SetBytes(x.Normalize().Bytes())
		var e secp256k1.ModNScalar
		e.SetByteSlice(digest)
		s.Mul2(&p.d, &r).Add(&e)
		inverse := invertScalar(k)
		s.Mul(&inverse)
		k.Zero()
		inverse.Zero()
		if !r.IsZero() && !s.IsZero() {
			return r, s
		}
	}
}

func addInteger(b *cryptobyte.Builder, s secp256k1.ModNScalar) {
	text := s.Bytes()
	n := 0
	for n < len(text)-1 && text[n] == 0 {
		n++
	}
	b.AddASN1(der.INTEGER, func(b *cryptobyte.Builder) {
		if text[n]&0x80 != 0 {
			b.AddUint8(0)
		}
		b.AddBytes(text[n:])
	})
}

func (p secpPair) verify(algorithm, form string, message, signature []byte) error {
	if algorithm != "ECDSA_SHA_256" {
		return ErrAlgorithm
	}
	d, err := digest(hashOf(algorithm), form, message)
	if err != nil {
		return err
	}
	r, s, ok := readSignature(signature)
	if !ok || !ecdsa.NewSignature(&r, &s).Verify(d, p.public) {
		return ErrSignature
	}
	return nil
}

// readSignature reads DER strictly: no other form of a signature is one.
func readSignature(signature []byte) (r, s secp256k1.ModNScalar, ok bool) {
	var inner cryptobyte.String
	input := cryptobyte.String(signature)
	if !input.ReadASN1(&inner, der.SEQUENCE) || !input.Empty() || !readInteger(&inner, &r) || !readInteger(&inner, &s) || !inner.Empty() {
		return r, s, false
	}
	return r, s, true
}

func readInteger(from *cryptobyte.String, into *secp256k1.ModNScalar) bool {
	var text []byte
	if !from.ReadASN1Integer(&text) || len(text) > 32 {
		return false
	}
	overflow := into.SetByteSlice(text)
	return !overflow && !into.IsZero()
}
