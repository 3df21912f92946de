package oidc

import (
	"crypto/sha1" //nolint:gosec // thumbprints of IAM OIDC providers are SHA-1 by definition
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
)

// newClient makes a client that trusts servers whose certificate the system
// trusts, or one in whose chain a certificate with one of the thumbprints is the
// root. It follows no redirect: keys come from where discovery says.
func newClient(thumbprints []string) *http.Client {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // verified by VerifyConnection
	c.VerifyConnection = func(s tls.ConnectionState) error { return verify(s, thumbprints) }
	return &http.Client{
		Timeout:       fetchTimeout,
		Transport:     &http.Transport{TLSClientConfig: c, DisableKeepAlives: true, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func verify(s tls.ConnectionState, thumbprints []string) error {
	options := x509.VerifyOptions{DNSName: s.ServerName, Intermediates: x509.NewCertPool()}
	for _, c := range s.PeerCertificates[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := s.PeerCertificates[0].Verify(options)
	if err == nil {
		return nil
	}
	options.Roots = x509.NewCertPool()
	found := false
	for _, c := range s.PeerCertificates {
		sum := sha1.Sum(c.Raw)
		if slices.ContainsFunc(thumbprints, func(t string) bool { return strings.EqualFold(t, hex.EncodeToString(sum[:])) }) {
			options.Roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return ErrThumbprint
	}
	_, err = s.PeerCertificates[0].Verify(options)
	return err
}
