package material

import (
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

func marshalPublic(id algorithmIdentifier, key []byte) ([]byte, error) {
	return asn1.Marshal(publicKeyInfo{id, asn1.BitString{Bytes: key, BitLength: 8 * len(key)}})
}
