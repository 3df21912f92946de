package oidc

import (
	"context"
	"crypto/fips140"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"net"
	"net/http"
	"slices"
	"strings"
)

// newClient makes a client that trusts servers whose certificate the system
// trusts, or one in whose chain a certificate with one of the thumbprints is the
// root; either must be for the host of the URL. It follows no redirect, since keys
// come from where discovery says, and uses no proxy.
func newClient(thumbprints []string) *http.Client {
	dial := func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		var d net.Dialer
		raw, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := tls.Client(raw, &tls.Config{
			MinVersion: tls.VersionTLS12, ServerName: host, InsecureSkipVerify: true, // verified here instead
			VerifyConnection: func(s tls.ConnectionState) error { return verify(s.PeerCertificates, host, thumbprints) },
		})
		if err := c.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		return c, nil
	}
	return &http.Client{
		Timeout:       fetchTimeout,
		Transport:     &http.Transport{DialTLSContext: dial, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// verify checks a server's certificates. The host may be an IP address.
func verify(chain []*x509.Certificate, host string, thumbprints []string) error {
	options := x509.VerifyOptions{DNSName: host, Intermediates: x509.NewCertPool()}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	_, err := chain[0].Verify(options)
	if err == nil {
		return nil
	}
	options.Roots = x509.NewCertPool()
	found := false
	for _, c := range chain {
		var sum [sha1.Size]byte
		fips140.WithoutEnforcement(func() { sum = sha1.Sum(c.Raw) }) // IAM's thumbprints are what they are
		if slices.ContainsFunc(thumbprints, func(t string) bool { return strings.EqualFold(t, hex.EncodeToString(sum[:])) }) {
			options.Roots.AddCert(c)
			found = true
		}
	}
	if !found {
		return ErrThumbprint
	}
	_, err = chain[0].Verify(options)
	return err
}
