package attest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
)

// What follows writes CMS EnvelopedData (RFC 5652) the way KMS answers with it:
// one recipient by subject key identifier, RSAES-OAEP with SHA-256, AES-256-CBC,
// the outer parts of indefinite length.

var (
	oidData          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEnvelopedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 3}
	oidOAEP          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 7}
	oidMGF1          = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidSHA256        = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 2, 1}
	oidAES256CBC     = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 1, 42}
)

type oaepParameters struct {
	Hash pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
	MGF  pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
}

type recipient struct {
	Version      int
	SubjectKey   []byte `asn1:"tag:0"`
	Algorithm    pkix.AlgorithmIdentifier
	EncryptedKey []byte
}

const cmsVersion = 2

// Encrypt encrypts for the public key of the document.
func (d *Document) Encrypt(plaintext []byte) ([]byte, error) {
	key, iv := make([]byte, 32), make([]byte, aes.BlockSize)
	defer clear(key)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	if _, err := rand.Read(iv); err != nil {
		return nil, err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, d.public, key, nil)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	pad := aes.BlockSize - len(plaintext)%aes.BlockSize
	content := make([]byte, len(plaintext), len(plaintext)+pad)
	copy(content, plaintext)
	for range pad {
		content = append(content, byte(pad))
	}
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(content, content)
	return d.envelope(wrapped, iv, content)
}

func (d *Document) envelope(wrapped, iv, content []byte) ([]byte, error) {
	sha := pkix.AlgorithmIdentifier{Algorithm: oidSHA256, Parameters: asn1.NullRawValue}
	shaText, err := asn1.Marshal(sha)
	if err != nil {
		return nil, err
	}
	parameters, err := asn1.Marshal(oaepParameters{sha, pkix.AlgorithmIdentifier{Algorithm: oidMGF1, Parameters: asn1.RawValue{FullBytes: shaText}}})
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(d.spki)
	recipients, err := asn1.MarshalWithParams([]recipient{{cmsVersion, id[:],
		pkix.AlgorithmIdentifier{Algorithm: oidOAEP, Parameters: asn1.RawValue{FullBytes: parameters}}, wrapped}}, "set")
	if err != nil {
		return nil, err
	}
	ivText, err := asn1.Marshal(iv)
	if err != nil {
		return nil, err
	}
	var parts [5][]byte
	for i, v := range []any{oidEnvelopedData, cmsVersion, oidData,
		pkix.AlgorithmIdentifier{Algorithm: oidAES256CBC, Parameters: asn1.RawValue{FullBytes: ivText}}, content} {
		if parts[i], err = asn1.Marshal(v); err != nil {
			return nil, err
		}
	}
	const sequence, explicit = 0x30, 0xa0
	inner := indefinite(sequence, parts[2], parts[3], indefinite(explicit, parts[4]))
	return indefinite(sequence, parts[0], indefinite(explicit, indefinite(sequence, parts[1], recipients, inner))), nil
}

// indefinite wraps parts in a tag of indefinite length (X.690, 8.1.3.6).
func indefinite(tag byte, parts ...[]byte) []byte {
	out := []byte{tag, 0x80}
	for _, p := range parts {
		out = append(out, p...)
	}
	return append(out, 0, 0)
}
