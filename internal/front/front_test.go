package front_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/leakcheck"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Run(m)) }

// served answers on loopback until the test ends, through wrap if that is not nil.
func served(t *testing.T, all *front.Connections, wrap func(net.Listener) net.Listener, h http.HandlerFunc) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l = all.Listen(l)
	if wrap != nil {
		l = wrap(l)
	}
	ctx, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := front.Serve(ctx, []net.Listener{l}, []http.Handler{h}); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		stop()
		wg.Wait()
	})
	return address
}

// prove makes everybody prove who they are who asks for /known.
func prove(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/known" {
		front.Prove(r)
	}
	if front.Proven(r) {
		w.WriteHeader(http.StatusAccepted)
	}
}

// Strangers who open connections and say nothing lose them to those who come after,
// the oldest first; who has proved who they are keeps theirs, until all have.
func TestConnections(t *testing.T) {
	all := front.NewConnections(3)
	address := served(t, all, nil, prove)
	known := &http.Client{Transport: &http.Transport{}}
	defer known.CloseIdleConnections()
	get := func(c *http.Client, path string) (int, error) {
		answer, err := c.Get("http://" + address + path)
		if err != nil {
			return 0, err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return answer.StatusCode, err
	}
	if status, err := get(known, "/known"); err != nil || status != http.StatusAccepted {
		t.Fatal(status, err)
	}
	var silent []net.Conn
	for range 20 {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	for _, c := range silent[:18] { // closed to make room
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Fatal("a silent stranger is answered")
		} else if err, ok := err.(net.Error); ok && err.Timeout() {
			t.Fatal("a silent stranger keeps a connection that others want")
		}
	}
	if status, err := get(known, "/"); err != nil || status != http.StatusAccepted {
		t.Errorf("who is known has lost the connection: %d, %v", status, err)
	}
	if all.Open() != 3 || all.Refused() < 18 {
		t.Errorf("%d connections, %d refused", all.Open(), all.Refused())
	}
	for range 2 {
		c := &http.Client{Transport: &http.Transport{}}
		defer c.CloseIdleConnections()
		if status, err := get(c, "/known"); err != nil || status != http.StatusAccepted {
			t.Fatal(status, err)
		}
	}
	if _, err := get(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "/"); err == nil {
		t.Error("there is room when all that are there are known")
	}
}

// A certificate made for 127.0.0.1, in files.
type certificate struct {
	cert, key string
	pool      *x509.CertPool
	pair      tls.Certificate
}

func newCertificate(t *testing.T, dir string) certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	c := certificate{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem"), pool: x509.NewCertPool()}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
	if err := os.WriteFile(c.cert, certPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.key, keyPEM, 0o600); err != nil {
		t.Fatal(err)
	}
	c.pool.AppendCertsFromPEM(certPEM)
	if c.pair, err = tls.X509KeyPair(certPEM, keyPEM); err != nil {
		t.Fatal(err)
	}
	return c
}

func overTLS(t *testing.T, c front.TLSConfig) (address string) {
	t.Helper()
	c.Logger = slog.New(slog.DiscardHandler)
	config, err := front.NewTLS(c)
	if err != nil {
		t.Fatal(err)
	}
	return served(t, front.NewConnections(100), func(l net.Listener) net.Listener { return tls.NewListener(l, config) }, func(w http.ResponseWriter, r *http.Request) {
		prove(w, r)
		io.WriteString(w, r.Proto)
	})
}

// ask returns the protocol of a request and the version of TLS.
func ask(address string, c *tls.Config) (proto string, version uint16, err error) {
	transport := &http.Transport{TLSClientConfig: c, ForceAttemptHTTP2: c.NextProtos == nil}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get("https://" + address + "/known")
	if err != nil {
		return "", 0, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusAccepted {
		return "", 0, io.ErrUnexpectedEOF // the connection is not known behind TLS
	}
	return string(text), answer.TLS.Version, err
}

func TestTLS(t *testing.T) {
	server, client := newCertificate(t, t.TempDir()), newCertificate(t, t.TempDir())
	address := overTLS(t, front.TLSConfig{Cert: server.cert, Key: server.key})
	if proto, version, err := ask(address, &tls.Config{RootCAs: server.pool}); err != nil || proto != "HTTP/2.0" || version != tls.VersionTLS13 {
		t.Errorf("%s, TLS %x, %v", proto, version, err)
	}
	if proto, _, err := ask(address, &tls.Config{RootCAs: server.pool, NextProtos: []string{"http/1.1"}}); err != nil || proto != "HTTP/1.1" {
		t.Errorf("%s, %v", proto, err)
	}
	if _, _, err := ask(address, &tls.Config{RootCAs: server.pool, MaxVersion: tls.VersionTLS12}); err == nil {
		t.Error("TLS 1.2 is served, and was not allowed")
	}
	address = overTLS(t, front.TLSConfig{Cert: server.cert, Key: server.key, Min12: true})
	if proto, version, err := ask(address, &tls.Config{RootCAs: server.pool, MaxVersion: tls.VersionTLS12}); err != nil || proto != "HTTP/2.0" || version != tls.VersionTLS12 {
		t.Errorf("%s, TLS %x, %v", proto, version, err)
	}
	if _, _, err := ask(address, &tls.Config{RootCAs: server.pool, MaxVersion: tls.VersionTLS11}); err == nil {
		t.Error("TLS 1.1 is served")
	}
	address = overTLS(t, front.TLSConfig{Cert: server.cert, Key: server.key, ClientCA: client.cert})
	if _, _, err := ask(address, &tls.Config{RootCAs: server.pool}); err == nil {
		t.Error("a client without a certificate is served")
	}
	if _, _, err := ask(address, &tls.Config{RootCAs: server.pool, Certificates: []tls.Certificate{server.pair}}); err == nil {
		t.Error("a client with another's certificate is served")
	}
	if _, _, err := ask(address, &tls.Config{RootCAs: server.pool, Certificates: []tls.Certificate{client.pair}}); err != nil {
		t.Errorf("a client with its certificate: %v", err)
	}
	for _, c := range []front.TLSConfig{{Cert: "none", Key: server.key}, {Cert: server.cert, Key: client.key}, {Cert: server.cert, Key: server.key, ClientCA: server.key}, {Cert: server.cert, Key: server.key, ClientCA: "none"}} {
		if _, err := front.NewTLS(c); err == nil {
			t.Errorf("%+v is a configuration", c)
		}
	}
}

// Certificates that are replaced count without a restart, and bad ones change
// nothing.
func TestReplacedCertificates(t *testing.T) {
	dir := t.TempDir()
	first := newCertificate(t, dir)
	address := overTLS(t, front.TLSConfig{Cert: first.cert, Key: first.key})
	served := func(c certificate) bool {
		_, _, err := ask(address, &tls.Config{RootCAs: c.pool})
		return err == nil
	}
	if !served(first) {
		t.Fatal("the first certificate is not served")
	}
	if err := os.WriteFile(first.cert, []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	time.Sleep(6 * time.Second)
	if !served(first) {
		t.Error("a bad file has ended what was served")
	}
	second := newCertificate(t, dir)
	for range 100 {
		if served(second) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("the second certificate is not served")
}
