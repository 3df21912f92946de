package clients

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"go.step.sm/crypto/kms/apiv1"
	"go.step.sm/crypto/kms/awskms"
)

// A certificate authority of smallstep's keeps its key in KMS: it signs its own
// certificate and one for a server, and Go verifies the chain.
func TestStep(t *testing.T) {
	for name, algorithm := range map[string]apiv1.SignatureAlgorithm{
		"ECDSA": apiv1.ECDSAWithSHA384, "RSA": apiv1.SHA256WithRSA, "PSS": apiv1.SHA512WithRSAPSS,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			manager, err := awskms.New(t.Context(), apiv1.Options{URI: "awskms:region=us-east-1"})
			if err != nil {
				t.Fatal(err)
			}
			created, err := manager.CreateKey(&apiv1.CreateKeyRequest{Name: "awskms:name=step-" + name, SignatureAlgorithm: algorithm, Bits: 2048})
			if err != nil {
				t.Fatal(err)
			}
			signer, err := manager.CreateSigner(&created.CreateSignerRequest)
			if err != nil {
				t.Fatal(err)
			}
			root := certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "root"}, IsCA: true, BasicConstraintsValid: true,
				KeyUsage: x509.KeyUsageCertSign}, nil, created.PublicKey, signer)
			server, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			leaf := certificate(t, &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, DNSNames: []string{"server.internal"}},
				root, server.Public(), signer)
			roots := x509.NewCertPool()
			roots.AddCert(root)
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "server.internal"}); err != nil {
				t.Error(err)
			}
		})
	}
}

// certificate signs one; without a parent it signs itself.
func certificate(t *testing.T, template, parent *x509.Certificate, public crypto.PublicKey, signer crypto.Signer) *x509.Certificate {
	t.Helper()
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}
