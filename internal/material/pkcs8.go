package material

import (
	"bytes"
	"encoding/asn1"
	"errors"
)

// What follows encodes the keys that crypto/x509 does not know: secp256k1 and
// ML-KEM. PKCS #8 is RFC 5958, SubjectPublicKeyInfo RFC 5280.

type algorithmIdentifier struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

type publicKeyInfo struct {
	Algorithm algorithmIdentifier
	PublicKey asn1.BitString
}

func marshalPKCS8(id algorithmIdentifier, private []byte) ([]byte, error) {
	return asn1.Marshal(struct {
		Version    int
		Algorithm  algorithmIdentifier
		PrivateKey []byte
	}{0, id, private})
}

// parsePKCS8 takes a private key apart; attributes and a public key after it are
// passed over.
func parsePKCS8(der []byte) (algorithmIdentifier, []byte, error) {
	var outer asn1.RawValue
	rest, err := asn1.Unmarshal(der, &outer)
	if err != nil || len(rest) > 0 || outer.Class != asn1.ClassUniversal || outer.Tag != asn1.TagSequence || !outer.IsCompound {
		return algorithmIdentifier{}, nil, errors.New("not PKCS #8")
	}
	var version int
	var id algorithmIdentifier
	var private []byte
	rest = outer.Bytes
	for _, into := range []any{&version, &id, &private} {
		if rest, err = asn1.Unmarshal(rest, into); err != nil {
			return algorithmIdentifier{}, nil, errors.New("not PKCS #8")
		}
	}
	for n := 0; len(rest) > 0; n++ { // attributes, then the public key
		var more asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &more); err != nil || n > 1 || more.Class != asn1.ClassContextSpecific || more.Tag > 1 {
			return algorithmIdentifier{}, nil, errors.New("not PKCS #8")
		}
	}
	if version != 0 && version != 1 {
		return algorithmIdentifier{}, nil, errors.New("not PKCS #8")
	}
	return id, private, nil
}

// An ecPrivateKey is the private key of RFC 5915.
type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

var errNotEC = errors.New("not a private key of RFC 5915")

// checkECPrivate insists that what an elliptic-curve key in PKCS #8 says about
// itself besides the private number is true, and that it says nothing else. The
// public key, derived from the number, is the uncompressed point at the end of
// spki; size is the length of a coordinate in bytes.
func checkECPrivate(der []byte, curve asn1.ObjectIdentifier, spki []byte, size int) error {
	_, private, err := parsePKCS8(der)
	if err != nil {
		return err
	}
	var inner ecPrivateKey
	rest, err := asn1.Unmarshal(private, &inner)
	defer clear(inner.PrivateKey)
	if err != nil || len(rest) > 0 || inner.Version != 1 || len(inner.PrivateKey) > size || len(inner.Curve) > 0 && !inner.Curve.Equal(curve) {
		return errNotEC
	}
	point := spki[len(spki)-1-2*size:]
	compressed := append([]byte{2 | point[2*size]&1}, point[1:1+size]...)
	if b := inner.PublicKey.Bytes; len(b) > 0 && !bytes.Equal(b, point) && !bytes.Equal(b, compressed) {
		return errNotEC
	}
	return nil
}

func marshalPublic(id algorithmIdentifier, key []byte) ([]byte, error) {
	return asn1.Marshal(publicKeyInfo{id, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})
}
