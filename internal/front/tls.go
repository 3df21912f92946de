package front

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// reloadInterval is how often at most it is looked whether certificates were
// replaced.
const reloadInterval = 5 * time.Second

// A TLSConfig says how connections are protected.
type TLSConfig struct {
	Cert, Key string // files: the certificate chain and its private key, PEM
	ClientCA  string // file: who certifies clients, PEM; empty: clients need no certificate
	Min12     bool   // TLS 1.2 is allowed; otherwise 1.3 alone
	// Logger is told of certificates that were replaced, or could not be read.
	Logger *slog.Logger
}

// A keyring has the present certificates. Files that were replaced count within
// seconds; as long as new ones cannot be read the old ones go on.
type keyring struct {
	config TLSConfig

	mu     sync.Mutex // guards what follows
	looked time.Time
	stamps [3]stamp
	tls    *tls.Config
}

// A stamp tells two states of a file apart.
type stamp struct {
	size int64
	time time.Time
}

// NewTLS reads the certificates and makes the configuration of a server.
func NewTLS(c TLSConfig) (*tls.Config, error) {
	k := &keyring{config: c, stamps: c.stamps(), looked: time.Now()}
	var err error
	if k.tls, err = c.load(); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: k.tls.NextProtos,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return k.present(), nil }}, nil
}

func (c *TLSConfig) load() (*tls.Config, error) {
	certificate, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	t := &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13, NextProtos: []string{"h2", "http/1.1"}}
	if c.Min12 {
		t.MinVersion = tls.VersionTLS12
	}
	if c.ClientCA == "" {
		return t, nil
	}
	text, err := os.ReadFile(c.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	t.ClientCAs, t.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !t.ClientCAs.AppendCertsFromPEM(text) {
		return nil, errors.New("front: " + c.ClientCA + " has no certificate in PEM")
	}
	return t, nil
}

func (c *TLSConfig) stamps() (s [3]stamp) {
	for i, name := range []string{c.Cert, c.Key, c.ClientCA} {
		if info, err := os.Stat(name); err == nil {
			s[i] = stamp{info.Size(), info.ModTime()}
		}
	}
	return s
}

// present is the configuration of the files as they are now.
func (k *keyring) present() *tls.Config {
	k.mu.Lock()
	defer k.mu.Unlock()
	if time.Since(k.looked) < reloadInterval {
		return k.tls
	}
	k.looked = time.Now()
	stamps := k.config.stamps()
	if stamps == k.stamps {
		return k.tls
	}
	t, err := k.config.load()
	if err != nil { // perhaps only half of it is there yet: it is tried again
		k.config.Logger.Error("new certificates cannot be read; the old ones go on", "err", err)
		return k.tls
	}
	k.config.Logger.Info("certificates were replaced")
	k.tls, k.stamps = t, stamps
	return k.tls
}
