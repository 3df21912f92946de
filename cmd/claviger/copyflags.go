package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/claviger/claviger/internal/ship"
)

// copyFlags are the flags of serve that say where copies of the audit log go.
type copyFlags struct {
	syslog    string
	webhook   string
	tokenFile string
	ca        string
}

func (o *copyFlags) register(f *flag.FlagSet) {
	f.StringVar(&o.syslog, "audit-syslog", "", "send a copy of each audit record to udp://HOST:PORT, tcp://HOST:PORT or unix:PATH (RFC 5424)")
	f.StringVar(&o.webhook, "audit-webhook", "", "send copies of audit records to this URL, as lines of JSON")
	f.StringVar(&o.tokenFile, "audit-webhook-token-file", "", "file with the bearer token for --audit-webhook")
	f.StringVar(&o.ca, "audit-webhook-ca", "", "certificates that verify --audit-webhook, PEM (default the system's)")
}

func (o *copyFlags) copiers(logger *slog.Logger) (out []*ship.Copier, err error) {
	if o.syslog != "" {
		s, err := ship.NewSyslog(o.syslog)
		if err != nil {
			return nil, fmt.Errorf("--audit-syslog %w", err)
		}
		out = append(out, ship.New("syslog", s, logger))
	}
	if o.webhook == "" {
		return out, nil
	}
	u, err := url.Parse(o.webhook)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback(net.JoinHostPort(u.Hostname(), "80"))) {
		return nil, errors.New("--audit-webhook is an https URL, or http on loopback")
	}
	roots, err := readRoots(nil, o.ca)
	if err != nil {
		return nil, err
	}
	w := &ship.Webhook{URL: o.webhook, Client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}}
	if o.tokenFile != "" {
		token, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return nil, err
		}
		w.Token = strings.TrimSpace(string(token))
	}
	return append(out, ship.New("webhook", w, logger)), nil
}
