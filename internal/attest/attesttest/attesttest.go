// Package attesttest makes attestation documents for tests, under a root of its
// own.
package attesttest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// A Root vouches for documents.
type Root struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// A Payload is what a document says. Changes to it before signing make good and
// bad documents.
type Payload map[string]any

// NewRoot makes a root that is valid from an hour before now for a day.
func NewRoot(t testing.TB, now time.Time) *Root {
	t.Helper()
	r := &Root{t: t}
	r.key, r.cert = r.issue("test root", nil, nil, now.Add(-time.Hour), now.Add(24*time.Hour))
	return r
}

func (r *Root) issue(name string, parent *x509.Certificate, by *ecdsa.PrivateKey, from, to time.Time) (*ecdsa.PrivateKey, *x509.Certificate) {
	r.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		r.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to,
		IsCA: name != "module", BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		r.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		r.t.Fatal(err)
	}
	return key, cert
}

// Pool has the root alone.
func (r *Root) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(r.cert)
	return p
}

// PEM is the root's certificate.
func (r *Root) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.cert.Raw})
}

// A Module signs documents, which its root vouches for.
type Module struct {
	key    *ecdsa.PrivateKey
	leaf   []byte
	bundle [][]byte
}

// Module makes a module whose certificates are valid now and for three hours.
func (r *Root) Module(now time.Time) *Module {
	r.t.Helper()
	between, betweenCert := r.issue("between", r.cert, r.key, now.Add(-time.Minute), now.Add(12*time.Hour))
	key, leaf := r.issue("module", betweenCert, between, now.Add(-time.Second), now.Add(3*time.Hour))
	return &Module{key, leaf.Raw, [][]byte{r.cert.Raw, betweenCert.Raw}}
}

// Payload is what the module says of itself now, with a public key as SPKI and
// registers PCR0 and PCR1.
func (m *Module) Payload(now time.Time, spki []byte) Payload {
	zero, one := make([]byte, 48), make([]byte, 48)
	one[0] = 0xab
	return Payload{"module_id": "i-1234567890abcdef0-enc0123456789abcdef", "timestamp": uint64(now.UnixMilli()), "digest": "SHA384",
		"pcrs": map[int][]byte{0: one, 1: zero}, "certificate": m.leaf, "cabundle": m.bundle, "public_key": spki,
		"user_data": nil, "nonce": nil}
}

// Document makes a document for a public key, made now and valid for three hours,
// with registers PCR0 and PCR1. change may be nil.
func (r *Root) Document(now time.Time, public *rsa.PublicKey, change func(Payload)) []byte {
	r.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		r.t.Fatal(err)
	}
	m := r.Module(now)
	p := m.Payload(now, spki)
	if change != nil {
		change(p)
	}
	text, err := cbor.Marshal(p)
	if err != nil {
		r.t.Fatal(err)
	}
	document, err := m.Sign(text)
	if err != nil {
		r.t.Fatal(err)
	}
	return document
}

// Sign makes a document of a payload, whatever it is.
func (m *Module) Sign(payload []byte) ([]byte, error) {
	protected, err := cbor.Marshal(map[int]int{1: -35})
	if err != nil {
		return nil, err
	}
	signed, err := cbor.Marshal([]any{"Signature1", protected, []byte{}, payload})
	if err != nil {
		return nil, err
	}
	digest := sha512.Sum384(signed)
	a, b, err := ecdsa.Sign(rand.Reader, m.key, digest[:])
	if err != nil {
		return nil, err
	}
	signature := make([]byte, 96)
	a.FillBytes(signature[:48])
	b.FillBytes(signature[48:])
	return cbor.Marshal([]any{protected, map[int]int{}, payload, signature})
}
