package attest

import (
	"crypto/x509"
	_ "embed"
)

// The certificate of AWS's root of attestation documents, "aws.nitro-enclaves",
// SHA-256 fingerprint 64:1A:03:21:A3:E2:44:EF:E4:56:46:31:95:D6:06:31:7E:D7:CD:CC:
// 3C:17:56:E0:98:93:F3:C6:8F:79:BB:5B.
//
//go:embed nitro-root.pem
var nitroRoot []byte

// NitroRoot is a pool with AWS's root alone.
func NitroRoot() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(nitroRoot)
	return pool
}
