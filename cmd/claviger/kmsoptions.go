package main

import (
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/attest"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/throttle"
	"github.com/claviger/claviger/internal/xks"
)

// kmsOptions are the flags of serve that say how the KMS service runs.
type kmsOptions struct {
	requestQuotas    string
	quotas           quotaList
	regions          regionList
	sm2              bool
	proxies          proxyList
	proxyCA          string
	attestationRoots fileList
}

func (o *kmsOptions) register(f *flag.FlagSet) {
	f.StringVar(&o.requestQuotas, "request-quotas", "", "on or off: answer ThrottlingException above AWS's request quotas (default on, with --dev off)")
	f.Var(&o.quotas, "quota", "NAME=N: a quota of each account and Region: Keys, CustomKeyStores, or requests per second of an operation or pool of operations; may be repeated")
	f.Var(&o.regions, "region", "a Region that keys may be in; may be repeated (default any)")
	f.BoolVar(&o.sm2, "enable-sm2", false, "allow the key spec SM2, as in the Regions in China")
	f.Var(&o.proxies, "xks-proxy", "HOST[=ADDRESS:PORT]: an external key store proxy that custom key stores can name; may be repeated")
	f.StringVar(&o.proxyCA, "xks-ca", "", "certificates that verify external key store proxies, PEM (default the system's)")
	f.Var(&o.attestationRoots, "attestation-root", "root certificate of attestation documents besides AWS's, PEM; may be repeated")
}

// A regionList is the flag --region.
type regionList arn.Regions

func (l *regionList) String() string { return "" }

// Set adds a Region.
func (l *regionList) Set(s string) error {
	if !arn.IsRegion(s) || arn.Partition(s) != iam.Partition {
		return errors.New("must be the name of a Region, as eu-central-1")
	}
	*l = append(*l, s)
	return nil
}

// A quotaList is the flag --quota.
type quotaList map[string]float64

func (l *quotaList) String() string { return "" }

// Set adds NAME=N.
func (l *quotaList) Set(s string) error {
	name, text, _ := strings.Cut(s, "=")
	n, err := strconv.ParseFloat(text, 64)
	if err != nil || !(n > 0) || n > 1e9 {
		return errors.New("must be NAME=N with N above 0")
	}
	if *l == nil {
		*l = quotaList{}
	}
	(*l)[name] = n
	return nil
}

// A proxyList is the flag --xks-proxy: host names and where they are.
type proxyList map[string]string

func (l *proxyList) String() string { return "" }

// Set adds HOST or HOST=ADDRESS:PORT.
func (l *proxyList) Set(s string) error {
	host, address, given := strings.Cut(s, "=")
	if !given {
		address = net.JoinHostPort(host, "443")
	}
	if _, _, err := net.SplitHostPort(address); err != nil || host == "" || strings.ContainsAny(host, ":/") {
		return errors.New("must be HOST or HOST=ADDRESS:PORT")
	}
	if *l == nil {
		*l = proxyList{}
	}
	(*l)[strings.ToLower(host)] = address
	return nil
}

// A fileList is a flag that names files.
type fileList []string

func (l *fileList) String() string { return "" }

// Set adds a name.
func (l *fileList) Set(s string) error {
	*l = append(*l, s)
	return nil
}

// configure turns the flags into the configuration of the service.
func (o *kmsOptions) configure(c *kms.Config, dev bool) error {
	rates, requests := kms.RequestQuotas(), 0
	for name, n := range o.quotas {
		switch {
		case (name == "Keys" || name == "CustomKeyStores") && n != float64(int(n)):
			return fmt.Errorf("the quota %s is a whole number", name)
		case name == "Keys":
			c.Quotas.Keys = int(n)
		case name == "CustomKeyStores":
			c.Quotas.KeyStores = int(n)
		case rates[name] > 0:
			rates[name] = n
			requests++
		default:
			return fmt.Errorf("there is no quota %q; there are Keys, CustomKeyStores, %s", name, strings.Join(slices.Sorted(maps.Keys(rates)), ", "))
		}
	}
	switch {
	case o.requestQuotas == "on", o.requestQuotas == "" && !dev:
		c.Limits = throttle.New(rates)
	case o.requestQuotas != "off" && o.requestQuotas != "":
		return errors.New("--request-quotas is on or off")
	}
	if c.Limits == nil && requests > 0 {
		return errors.New("--quota of requests needs --request-quotas on")
	}
	c.SM2, c.Regions = o.sm2, arn.Regions(o.regions)
	if len(o.proxies) == 0 && o.proxyCA != "" {
		return errors.New("--xks-ca goes with --xks-proxy")
	}
	if len(o.proxies) > 0 {
		roots, err := readRoots(nil, o.proxyCA)
		if err != nil {
			return err
		}
		c.Proxies = xks.NewDialer(xks.Config{Addresses: o.proxies, Roots: roots})
	}
	var err error
	c.AttestationRoots = attest.NitroRoot()
	for _, name := range o.attestationRoots {
		if c.AttestationRoots, err = readRoots(c.AttestationRoots, name); err != nil {
			return err
		}
	}
	return nil
}

// readRoots adds the certificates of a file to a pool; nil is a new one. Without a
// name the pool stays what it is.
func readRoots(pool *x509.CertPool, name string) (*x509.CertPool, error) {
	if name == "" {
		return pool, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	if pool == nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s has no certificate in PEM", name)
	}
	return pool, nil
}
