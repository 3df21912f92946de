// Package attest reads attestation documents of Nitro Enclaves and NitroTPM: who
// vouches for which measurements of what runs there, and the public key that
// only it can use. It encrypts for that key.
package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// ErrDocument reports a document that does not prove anything. It is ErrNoKey too
// if all that is missing is a public key of the right kind.
var (
	ErrDocument = errors.New("attest: not a valid attestation document")
	ErrNoKey    = errors.New("attest: no RSA public key of 2048 to 4096 bits")
)

// A Document is a verified attestation document.
type Document struct {
	ModuleID string
	// Measurements are platform configuration registers in lower-case hexadecimal,
	// by the names that condition keys have for them: PCR0, ImageSha384,
	// NitroTPMPCR4.
	Measurements map[string]string

	public *rsa.PublicKey
	spki   []byte
}

// message is a COSE_Sign1 (RFC 9052).
type message struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected map[any]any
	Payload     []byte
	Signature   []byte
}

// payload is what the document says ("Verifying the root of trust", Nitro Enclaves
// documentation; the CDDL of NitroTPM).
type payload struct {
	ModuleID    string         `cbor:"module_id"`
	Timestamp   uint64         `cbor:"timestamp"` // milliseconds
	Digest      string         `cbor:"digest"`
	PCRs        map[int][]byte `cbor:"pcrs"`
	TPMPCRs     map[int][]byte `cbor:"nitrotpm_pcrs"`
	Certificate []byte         `cbor:"certificate"`
	CABundle    [][]byte       `cbor:"cabundle"`
	PublicKey   []byte         `cbor:"public_key"`
}

const (
	sign1Tag = 18
	es384    = -35
	maxChain = 10

	maxCertificate = 4096 // bytes

	maxSkew   = 5 * time.Minute
	rsaMin    = 2048 // bits of the public key
	rsaMax    = 4096
	scalarLen = 48 // bytes of half a signature
)

var decoding = func() cbor.DecMode {
	m, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, MaxNestedLevels: 8, MaxArrayElements: 64, MaxMapPairs: 64, TagsMd: cbor.TagsForbidden,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
	}.DecMode()
	if err != nil {
		panic(err) // constants
	}
	return m
}()

// Verify reads a document: a COSE signature by a certificate that leads to one
// of the roots and is valid now. A document without a public key is good for
// nothing here and is refused too.
func Verify(document []byte, roots *x509.CertPool, now time.Time) (*Document, error) {
	d, err := verify(document, roots, now)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDocument, err)
	}
	return d, nil
}

func verify(document []byte, roots *x509.CertPool, now time.Time) (*Document, error) {
	if len(document) > 0 && document[0] == 0xc0|sign1Tag {
		document = document[1:]
	}
	var m message
	if err := decoding.Unmarshal(document, &m); err != nil {
		return nil, err
	}
	var p payload
	if err := decoding.Unmarshal(m.Payload, &p); err != nil {
		return nil, err
	}
	if roots == nil {
		return nil, errors.New("no roots are configured")
	}
	leaf, err := certificate(p.Certificate)
	if err != nil {
		return nil, err
	}
	if err := m.verify(leaf); err != nil {
		return nil, err
	}
	if err := chain(leaf, p.CABundle, roots, now); err != nil {
		return nil, err
	}
	if p.ModuleID == "" || p.Digest != "SHA384" || p.Timestamp > uint64(now.Add(maxSkew).UnixMilli()) {
		return nil, errors.New("module, digest or time is wrong")
	}
	d := &Document{ModuleID: p.ModuleID, Measurements: map[string]string{}, spki: p.PublicKey}
	for prefix, pcrs := range map[string]map[int][]byte{"PCR": p.PCRs, "NitroTPMPCR": p.TPMPCRs} {
		for i, v := range pcrs {
			if i < 0 || i > 31 || len(v) != 32 && len(v) != 48 && len(v) != 64 {
				return nil, errors.New("a register is wrong")
			}
			d.Measurements[prefix+strconv.Itoa(i)] = hex.EncodeToString(v)
		}
	}
	if image, ok := d.Measurements["PCR0"]; ok {
		d.Measurements["ImageSha384"] = image
	}
	return d, d.readKey()
}

// chain verifies that the bundle leads from the leaf to a root. No two of its
// certificates may have one subject, so that each link is tried once.
func chain(leaf *x509.Certificate, bundle [][]byte, roots *x509.CertPool, now time.Time) error {
	if len(bundle) > maxChain {
		return errors.New("too many certificates")
	}
	if leaf.IsCA {
		return errors.New("an authority's certificate attests nothing")
	}
	between := x509.NewCertPool()
	subjects := map[string]bool{}
	for _, der := range bundle {
		c, err := certificate(der)
		if err != nil {
			return err
		}
		if subjects[string(c.RawSubject)] {
			return errors.New("two certificates have one subject")
		}
		subjects[string(c.RawSubject)] = true
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	return err
}

// certificate reads one of the document's certificates. All are of the same kind,
// as AWS's are: a stranger's key of another kind could cost minutes to verify with.
func certificate(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificate {
		return nil, errors.New("a certificate is too long")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if key, ok := c.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P384() || c.SignatureAlgorithm != x509.ECDSAWithSHA384 {
		return nil, errors.New("a certificate is of another kind")
	}
	return c, nil
}

// verify checks the signature: ECDSA with P-384 and SHA-384, the only kind there is.
func (m *message) verify(by *x509.Certificate) error {
	var protected map[int]int
	if err := decoding.Unmarshal(m.Protected, &protected); err != nil {
		return err
	}
	key, ok := by.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() || len(protected) != 1 || protected[1] != es384 || len(m.Signature) != 2*scalarLen {
		return errors.New("the signature is of another kind")
	}
	signed, err := cbor.Marshal([]any{"Signature1", m.Protected, []byte{}, m.Payload})
	if err != nil {
		return err
	}
	digest := sha512.Sum384(signed)
	r, s := new(big.Int).SetBytes(m.Signature[:scalarLen]), new(big.Int).SetBytes(m.Signature[scalarLen:])
	if !ecdsa.Verify(key, digest[:], r, s) {
		return errors.New("the signature does not verify")
	}
	return nil
}

func (d *Document) readKey() error {
	parsed, err := x509.ParsePKIXPublicKey(d.spki)
	key, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok || key.N.BitLen() < rsaMin || key.N.BitLen() > rsaMax || key.N.Bit(0) == 0 || key.E < 3 || key.E%2 == 0 {
		return ErrNoKey
	}
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, d.spki) {
		return ErrNoKey // not DER
	}
	d.public = key
	return nil
}
