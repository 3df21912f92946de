// Package xkstest is an external key store proxy for tests: it speaks the XKS
// Proxy API over TLS, verifies signatures and keeps AES keys in memory.
package xkstest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/json/v2"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/sigv4"
)

// Host is the host name of the proxy, which its certificate is for.
const Host = "example.com"

// Path is where the proxy is.
const Path = "/tests/kms/xks/v1"

// A Proxy is a running proxy. Set its fields with Change.
type Proxy struct {
	AccessKeyID, Secret string
	server              *httptest.Server

	mu       sync.Mutex // guards what follows
	keys     map[string]*Key
	answer   func(w http.ResponseWriter, path string) bool
	requests []Request
}

// A Key is an external key.
type Key struct {
	Spec, Status string
	Usage        []string
	gcm          cipher.AEAD
}

// A Request is what the proxy was asked.
type Request struct {
	Path     string
	Metadata map[string]string
	AAD      []byte
}

// Start runs a proxy with the enabled keys of these names until the test ends.
func Start(t testing.TB, keys ...string) *Proxy {
	t.Helper()
	p := &Proxy{AccessKeyID: "ABCDEFGHIJKLMNOPQRST", Secret: strings.Repeat("secret+/", 6), keys: map[string]*Key{}}
	for _, name := range keys {
		block, err := aes.NewCipher([]byte(strings.Repeat(name, 32)[:32]))
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		p.keys[name] = &Key{"AES_256", "ENABLED", []string{"ENCRYPT", "DECRYPT"}, gcm}
	}
	p.server = httptest.NewTLSServer(p)
	t.Cleanup(p.server.Close)
	return p
}

// Addresses say where Host is.
func (p *Proxy) Addresses() map[string]string {
	return map[string]string{Host: p.server.Listener.Addr().String()}
}

// Roots verify the proxy's certificate.
func (p *Proxy) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.server.Certificate())
	return pool
}

// Answer replaces the proxy's answers by what f writes, unless f returns false.
// Nil ends that.
func (p *Proxy) Answer(f func(w http.ResponseWriter, path string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

// Change edits a key.
func (p *Proxy) Change(name string, f func(*Key)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p.keys[name])
}

// Requests are what the proxy was asked so far.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]Request(nil), p.requests...)
}

type body struct {
	Metadata   map[string]string `json:"requestMetadata"`
	Plaintext  []byte            `json:"plaintext,omitzero"`
	Algorithm  string            `json:"encryptionAlgorithm,omitzero"`
	AAD        []byte            `json:"additionalAuthenticatedData,omitzero"`
	Ciphertext []byte            `json:"ciphertext,omitzero"`
	IV         []byte            `json:"initializationVector,omitzero"`
	Tag        []byte            `json:"authenticationTag,omitzero"`
	Extra      []byte            `json:"ciphertextMetadata,omitzero"`
}

// Refuse writes an error of the API.
func Refuse(w http.ResponseWriter, status int, name string) {
	w.WriteHeader(status)
	_ = json.MarshalWrite(w, map[string]string{"errorName": name, "errorMessage": "secret words of the proxy"})
}

// ServeHTTP answers one request.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	text, err := io.ReadAll(r.Body)
	if err != nil {
		Refuse(w, 500, "InternalException")
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	path, ok := strings.CutPrefix(r.URL.Path, Path)
	var in body
	bad := json.Unmarshal(text, &in)
	p.requests = append(p.requests, Request{path, in.Metadata, in.AAD})
	switch {
	case p.answer != nil && p.answer(w, path):
	case r.Method != http.MethodPost:
		Refuse(w, http.StatusMethodNotAllowed, "ValidationException")
	case !ok:
		Refuse(w, 404, "InvalidUriPathException")
	case !p.signed(r, text):
		Refuse(w, 401, "AuthenticationFailedException")
	case bad != nil || in.Metadata["kmsRequestId"] == "" || in.Metadata["kmsOperation"] == "":
		Refuse(w, 400, "ValidationException")
	case path == "/health":
		_ = json.MarshalWrite(w, map[string]any{"xksProxyFleetSize": 1, "xksProxyVendor": "Tests", "xksProxyModel": "1", "ekmVendor": "Tests",
			"ekmFleetDetails": []map[string]string{{"id": "one", "model": "1", "healthStatus": "ACTIVE"}}})
	default:
		p.serveKey(w, strings.Split(strings.TrimPrefix(path, "/keys/"), "/"), in)
	}
}

func (p *Proxy) signed(r *http.Request, body []byte) bool {
	signed := &sigv4.Request{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header, Body: body}
	s, err := sigv4.Parse(signed)
	return err == nil && s.AccessKeyID == p.AccessKeyID && s.Service == "kms-xks-proxy" && s.CheckTime(time.Now()) == nil &&
		s.Verify(signed, sigv4.DeriveKey(p.Secret, s.Date, s.Region, s.Service)) == nil
}

func (p *Proxy) serveKey(w http.ResponseWriter, path []string, in body) {
	key := p.keys[path[0]]
	switch {
	case len(path) != 2:
		Refuse(w, 404, "InvalidUriPathException")
	case key == nil:
		Refuse(w, 404, "KeyNotFoundException")
	case path[1] == "metadata":
		_ = json.MarshalWrite(w, map[string]any{"keySpec": key.Spec, "keyUsage": key.Usage, "keyStatus": key.Status})
	case key.Status != "ENABLED":
		Refuse(w, 400, "InvalidStateException")
	case in.Algorithm != "AES_GCM":
		Refuse(w, 400, "ValidationException")
	case path[1] == "encrypt":
		iv, extra := make([]byte, 12), []byte("version 1")
		_, _ = rand.Read(iv)
		sealed := key.gcm.Seal(nil, iv, in.Plaintext, withMetadata(in.AAD, extra))
		n := len(sealed) - 16
		_ = json.MarshalWrite(w, body{Ciphertext: sealed[:n], Tag: sealed[n:], IV: iv, Extra: extra})
	case path[1] == "decrypt":
		opened, err := key.gcm.Open(nil, in.IV, append(in.Ciphertext, in.Tag...), withMetadata(in.AAD, in.Extra))
		if err != nil {
			Refuse(w, 400, "InvalidCiphertextException")
			return
		}
		_ = json.MarshalWrite(w, body{Plaintext: opened})
	default:
		Refuse(w, 404, "InvalidUriPathException")
	}
}

// withMetadata is the associated data of a ciphertext with metadata.
func withMetadata(aad, metadata []byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(len(aad)))
	out = append(append(out, aad...), byte(len(metadata)))
	return append(out, metadata...)
}
