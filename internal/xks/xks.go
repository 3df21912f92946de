// Package xks is a client of external key store proxies: the service that stands
// between a KMS and a key manager that keeps its own keys (XKS Proxy API
// Specification, version 1).
package xks

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/sigv4"
)

// Errors of a proxy. Its own words are never passed on.
var (
	ErrUnreachable     = errors.New("xks: the proxy cannot be reached")
	ErrTimeout         = errors.New("xks: the proxy did not answer in time")
	ErrTLS             = errors.New("xks: the proxy's certificate is not accepted")
	ErrCredential      = errors.New("xks: the proxy refuses the credential")
	ErrConfiguration   = errors.New("xks: there is no proxy at this path")
	ErrInvalidResponse = errors.New("xks: the proxy's answer makes no sense")
	ErrKeyNotFound     = errors.New("xks: no such external key")
	ErrCiphertext      = errors.New("xks: the external key does not open this ciphertext")
	ErrRefused         = errors.New("xks: the proxy refuses or cannot do it now")
)

// A Dialer reaches the proxies that the operator allows. It is safe for
// concurrent use. A nil Dialer reaches none.
type Dialer struct {
	addresses map[string]string // host name to where it is
	client    *http.Client
}

// A Config says which proxies there are.
type Config struct {
	// Addresses maps the host name of each proxy, in lower case, to its address,
	// HOST:PORT.
	Addresses map[string]string
	// Roots verify the proxies' certificates. Nil means the system's.
	Roots *x509.CertPool
	// Timeout bounds one exchange. Zero means 250 ms, as KMS has it.
	Timeout time.Duration
}

// NewDialer makes a Dialer.
func NewDialer(c Config) *Dialer {
	d := &Dialer{addresses: c.Addresses}
	if c.Timeout == 0 {
		c.Timeout = 250 * time.Millisecond
	}
	network := &net.Dialer{}
	d.client = &http.Client{
		Timeout:       c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, proto, address string) (net.Conn, error) {
				host, _, err := net.SplitHostPort(address)
				if err != nil {
					return nil, err
				}
				return network.DialContext(ctx, proto, d.addresses[strings.ToLower(host)])
			},
			TLSClientConfig:     &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:   true,
			MaxIdleConnsPerHost: 16,
			IdleConnTimeout:     time.Minute,
		},
	}
	return d
}

// Close closes idle connections.
func (d *Dialer) Close() {
	if d != nil {
		d.client.CloseIdleConnections()
	}
}

// A Proxy is where one external key store is, and how to sign for it.
type Proxy struct {
	Endpoint    string // https://HOST
	Path        string // ends with /kms/xks/v1
	Region      string
	AccessKeyID string
	Secret      string
}

// A Metadata tells the proxy on whose behalf it is asked.
type Metadata struct {
	PrincipalARN string `json:"awsPrincipalArn,omitzero"`
	SourceVPC    string `json:"awsSourceVpc,omitzero"`
	SourceVPCE   string `json:"awsSourceVpce,omitzero"`
	KeyARN       string `json:"kmsKeyArn,omitzero"`
	Operation    string `json:"kmsOperation"`
	RequestID    string `json:"kmsRequestId"`
	ViaService   string `json:"kmsViaService,omitzero"`
}

// maxAnswer is how long an answer may be, in bytes.
const maxAnswer = 64 << 10

// post sends one request and reads the answer into out.
func (d *Dialer) post(ctx context.Context, p Proxy, path string, in, out any) error {
	if strings.Contains(path, "/./") || strings.Contains(path, "/../") {
		return ErrKeyNotFound // an external key's id that is a step in a path
	}
	u, err := url.Parse(p.Endpoint)
	if err != nil || u.Scheme != "https" || d == nil || d.addresses[strings.ToLower(u.Host)] == "" {
		return fmt.Errorf("%w: %s is not among the proxies that this server may call", ErrUnreachable, p.Endpoint)
	}
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, p.Endpoint+p.Path+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrConfiguration, err)
	}
	r.Header.Set("Content-Type", "application/json")
	sigv4.Sign(r, body, p.AccessKeyID, p.Secret, "", p.Region, "kms-xks-proxy", time.Now())
	answer, err := d.client.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", transport(err), err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", transport(err), err)
	case len(text) > maxAnswer:
		return ErrInvalidResponse
	case answer.StatusCode != http.StatusOK:
		return refusal(answer.StatusCode, text)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidResponse, err)
	}
	return nil
}

// transport tells apart why there was no answer.
func transport(err error) error {
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	var record tls.RecordHeaderError
	var alert tls.AlertError
	var timeout net.Error
	switch {
	case errors.As(err, &unknown), errors.As(err, &host), errors.As(err, &invalid), errors.As(err, &record), errors.As(err, &alert):
		return ErrTLS
	case errors.As(err, &timeout) && timeout.Timeout():
		return ErrTimeout
	default:
		return ErrUnreachable
	}
}

// refusal reads an error answer.
func refusal(status int, text []byte) error {
	var answer struct {
		Name string `json:"errorName"`
	}
	if err := json.Unmarshal(text, &answer); err != nil && status == http.StatusNotFound {
		return ErrConfiguration // not a proxy
	} else if err != nil {
		return ErrInvalidResponse
	}
	switch answer.Name {
	case "AuthenticationFailedException", "AccessDeniedException":
		return ErrCredential
	case "KeyNotFoundException":
		return ErrKeyNotFound
	case "InvalidUriPathException":
		return ErrConfiguration
	case "InvalidCiphertextException":
		return ErrCiphertext
	case "":
		return ErrInvalidResponse
	default:
		return fmt.Errorf("%w: %d", ErrRefused, status)
	}
}

// Health asks whether the proxy serves.
func (d *Dialer) Health(ctx context.Context, p Proxy, m Metadata) error {
	in := struct {
		Metadata Metadata `json:"requestMetadata"`
	}{Metadata{Operation: m.Operation, RequestID: m.RequestID}}
	var out struct {
		FleetSize int      `json:"xksProxyFleetSize"`
		Vendor    string   `json:"xksProxyVendor"`
		Model     string   `json:"xksProxyModel"`
		EKMVendor string   `json:"ekmVendor"`
		EKMFleet  []member `json:"ekmFleetDetails"`
	}
	if err := d.post(ctx, p, "/health", in, &out); err != nil {
		return err
	}
	unavailable := !slices.ContainsFunc(out.EKMFleet, func(m member) bool { return m.Status != "UNAVAILABLE" })
	switch {
	case out.FleetSize < 1 || out.Vendor == "" || out.Model == "" || out.EKMVendor == "" || len(out.EKMFleet) == 0 || len(out.EKMFleet) > 10:
		return ErrInvalidResponse
	case unavailable:
		return ErrRefused
	default:
		return nil
	}
}

// A member is one of the key manager's machines.
type member struct {
	ID     string `json:"id"`
	Model  string `json:"model"`
	Status string `json:"healthStatus"`
}

// A KeyMetadata is what a proxy tells of an external key.
type KeyMetadata struct {
	Spec   string   `json:"keySpec"`
	Usage  []string `json:"keyUsage"`
	Status string   `json:"keyStatus"`
}

// KeyMetadata describes an external key.
func (d *Dialer) KeyMetadata(ctx context.Context, p Proxy, keyID string, m Metadata) (k KeyMetadata, err error) {
	in := struct {
		Metadata Metadata `json:"requestMetadata"`
	}{m}
	if err = d.post(ctx, p, keyPath(keyID, "metadata"), in, &k); err == nil && (k.Spec == "" || k.Status == "" || len(k.Usage) == 0) {
		err = ErrInvalidResponse
	}
	return k, err
}

func keyPath(keyID, what string) string { return "/keys/" + keyID + "/" + what }

// A Ciphertext is what an external key made of a plaintext. Its members are
// base64 on the wire.
type Ciphertext struct {
	Ciphertext []byte `json:"ciphertext"`
	IV         []byte `json:"initializationVector"`
	Tag        []byte `json:"authenticationTag"`
	Metadata   []byte `json:"ciphertextMetadata,omitzero"`
}

// wellFormed holds the sizes of the specification, for a plaintext of n bytes.
func (c *Ciphertext) wellFormed(n int) bool {
	return len(c.Ciphertext) == n && (len(c.IV) == 12 || len(c.IV) == 16) && len(c.Tag) == 16 && len(c.Metadata) <= 20
}

const algorithm = "AES_GCM"

// Encrypt encrypts at most 4,300 bytes under an external key. additional is
// authenticated; it may be empty.
func (d *Dialer) Encrypt(ctx context.Context, p Proxy, keyID string, m Metadata, plaintext, additional []byte) (c Ciphertext, err error) {
	in := struct {
		Metadata   Metadata `json:"requestMetadata"`
		Plaintext  []byte   `json:"plaintext"`
		Algorithm  string   `json:"encryptionAlgorithm"`
		Additional []byte   `json:"additionalAuthenticatedData,omitempty"`
	}{m, plaintext, algorithm, additional}
	if err = d.post(ctx, p, keyPath(keyID, "encrypt"), in, &c); err == nil && !c.wellFormed(len(plaintext)) {
		err = ErrInvalidResponse
	}
	return c, err
}

// Decrypt opens what Encrypt made.
func (d *Dialer) Decrypt(ctx context.Context, p Proxy, keyID string, m Metadata, c Ciphertext, additional []byte) ([]byte, error) {
	in := struct {
		Metadata  Metadata `json:"requestMetadata"`
		Algorithm string   `json:"encryptionAlgorithm"`
		Ciphertext
		Additional []byte `json:"additionalAuthenticatedData,omitempty"`
	}{m, algorithm, c, additional}
	var out struct {
		Plaintext []byte `json:"plaintext"`
	}
	if err := d.post(ctx, p, keyPath(keyID, "decrypt"), in, &out); err != nil {
		return nil, err
	}
	if len(out.Plaintext) == 0 {
		return nil, ErrInvalidResponse
	}
	return out.Plaintext, nil
}
