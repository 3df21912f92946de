package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/etcd"
)

// clusterFlags are the flags that say which etcd cluster has the store.
type clusterFlags struct {
	store, ca, cert, key, node string
	lease                      time.Duration
	insecure                   bool
}

func (o *clusterFlags) register(f *flag.FlagSet) {
	f.StringVar(&o.store, "store", "", "etcd://HOST:PORT[,HOST:PORT…][/PREFIX]: keep the store in this etcd cluster, which other nodes share, and in --data what is this node's own (default in --data)")
	f.StringVar(&o.ca, "etcd-ca", "", "certificates that verify the members of the cluster, PEM (default the system's)")
	f.StringVar(&o.cert, "etcd-cert", "", "certificate that this node shows them, PEM")
	f.StringVar(&o.key, "etcd-key", "", "private key of --etcd-cert, PEM")
	f.BoolVar(&o.insecure, "insecure-plain-etcd", false, "allow etcd without TLS on addresses that are not loopback")
	f.StringVar(&o.node, "node-name", "", "name of this node, another one for each (default the name of the machine, or that of --data)")
	f.DurationVar(&o.lease, "lease", store.DefaultLease, "of a new store: how long nodes decide by what they were last sure of; changes that take something away wait a little longer; 0: not at all")
}

// config is where the cluster is; nil: nothing was said of one.
func (o *clusterFlags) config() (*etcd.Config, error) {
	if o.store == "" {
		if o.ca != "" || o.cert != "" || o.key != "" || o.node != "" {
			return nil, errors.New("--etcd-ca, --etcd-cert, --etcd-key and --node-name go with --store")
		}
		return nil, nil
	}
	where, ok := strings.CutPrefix(o.store, "etcd://")
	hosts, prefix, _ := strings.Cut(where, "/")
	if !ok || hosts == "" || strings.ContainsAny(where, "@?# ") {
		return nil, fmt.Errorf("--store %q is not etcd://HOST:PORT,HOST:PORT/PREFIX", o.store)
	}
	if prefix = strings.Trim(prefix, "/"); prefix == "" {
		prefix = "claviger"
	}
	c := &etcd.Config{Prefix: "/" + prefix + "/", Node: o.node, Lease: o.lease}
	var err error
	if c.TLS, err = o.transport(); err != nil {
		return nil, err
	}
	scheme := "http://"
	if c.TLS != nil {
		scheme = "https://"
	}
	for host := range strings.SplitSeq(hosts, ",") {
		if c.TLS == nil && !o.insecure && !loopback(host) {
			return nil, fmt.Errorf("etcd on %s without TLS: whoever is between could show this node an old policy; give --etcd-ca, or --insecure-plain-etcd", host)
		}
		if _, _, err := net.SplitHostPort(host); err != nil {
			return nil, fmt.Errorf("--store: %w", err)
		}
		c.Endpoints = append(c.Endpoints, scheme+host)
	}
	if o.lease < 0 || o.lease > time.Minute {
		return nil, errors.New("--lease must be 0 to 1m")
	}
	return c, nil
}

// transport is nil without any certificates.
func (o *clusterFlags) transport() (*tls.Config, error) {
	if o.ca == "" && o.cert == "" && o.key == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if (o.cert == "") != (o.key == "") {
		return nil, errors.New("--etcd-cert and --etcd-key go together")
	}
	if o.ca != "" {
		text, err := os.ReadFile(o.ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificates, PEM", o.ca)
		}
	}
	if o.cert != "" {
		// Read for each connection: certificates are renewed.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(o.cert, o.key)
			return &pair, err
		}
		if _, err := c.GetClientCertificate(nil); err != nil {
			return nil, fmt.Errorf("--etcd-cert: %w", err)
		}
	}
	return c, nil
}
