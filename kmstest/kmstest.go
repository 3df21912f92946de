// Package kmstest runs Claviger in memory for tests: a KMS with IAM and STS that
// verifies signatures and decides as AWS does, refusals included.
//
//	srv := kmstest.Start(t)
//	client := kms.New(kms.Options{
//		BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), Region: srv.Region,
//		Credentials: credentials.NewStaticCredentialsProvider(srv.AccessKeyID, srv.SecretAccessKey, ""),
//	})
//
// A server starts in milliseconds, so each test can have its own. It also works
// inside a testing/synctest bubble, where waiting periods pass at once.
package kmstest

import (
	"context"
	"crypto/x509"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/throttle"
	"github.com/claviger/claviger/internal/xks"
)

// A Server is a running Claviger. Its fields do not change.
type Server struct {
	URL             string // for requests sent with Client, or by any program after StartLoopback
	Region          string // any other works as well
	Account         string // 12 digits
	AccessKeyID     string // of the account's root user
	SecretAccessKey string

	server *server.Server
	http   *httptest.Server
}

// An Option changes how a server runs.
type Option func(*server.Config)

// GrantDelay makes grants eventually consistent: a new grant serves only those
// who present its token until d has passed. Tests see so whether a program
// passes grant tokens on.
func GrantDelay(d time.Duration) Option { return func(c *server.Config) { c.KMS.GrantDelay = d } }

// Settling makes replicas of multi-Region keys stay in the state Creating, and
// both keys of a changed primary Region in Updating, until d has passed.
func Settling(d time.Duration) Option { return func(c *server.Config) { c.KMS.Settling = d } }

// AttestationRoots are whose attestation documents are accepted in Recipient
// parameters, instead of AWS's root.
func AttestationRoots(roots *x509.CertPool) Option {
	return func(c *server.Config) { c.KMS.AttestationRoots = roots }
}

// Proxies are the external key store proxies that custom key stores can name: the
// address of each host name, and the roots of their certificates. An exchange
// may take up to timeout.
func Proxies(addresses map[string]string, roots *x509.CertPool, timeout time.Duration) Option {
	return func(c *server.Config) {
		c.KMS.Proxies = xks.NewDialer(xks.Config{Addresses: addresses, Roots: roots, Timeout: timeout})
	}
}

// RequestQuotas throttles: requests per second by operation or pool of operations,
// AWS's where rates has none.
func RequestQuotas(rates map[string]float64) Option {
	all := kms.RequestQuotas()
	maps.Copy(all, rates)
	return func(c *server.Config) { c.KMS.Limits = throttle.New(all) }
}

// Quotas bound the customer managed keys and the custom key stores of an account
// and Region. Zero is AWS's default.
func Quotas(keys, keyStores int) Option {
	return func(c *server.Config) { c.KMS.Quotas = kms.Quotas{Keys: keys, KeyStores: keyStores} }
}

// Regions are where keys may be. Without it they may be anywhere.
func Regions(names ...string) Option { return func(c *server.Config) { c.KMS.Regions = names } }

// SM2 allows the key spec SM2, as in the Regions in China.
func SM2() Option { return func(c *server.Config) { c.KMS.SM2 = true } }

// Service lets an AWS service, or what stands in for one, call as its service
// principal and forward requests, with the given access key.
func Service(principal, accessKeyID, secretAccessKey string) Option {
	return func(c *server.Config) {
		c.Services = append(c.Services, iam.ServiceCredential{Service: principal, ID: accessKeyID, Secret: iam.Secret(secretAccessKey)})
	}
}

// Start runs a server on a network in memory until the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := open(t, options)
	s.http = httptest.NewTestServer(t, s.server.Handler())
	s.http.Client() // starts it
	s.URL = s.http.URL
	return s
}

// StartLoopback runs a server on a port of 127.0.0.1 until the test ends, for
// clients in other processes.
func StartLoopback(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := open(t, options)
	s.http = httptest.NewServer(s.server.Handler())
	t.Cleanup(s.http.Close)
	s.URL = s.http.URL
	return s
}

func open(t testing.TB, options []Option) *Server {
	t.Helper()
	s := &Server{Region: "us-east-1", Account: "111122223333", AccessKeyID: "test", SecretAccessKey: "test"}
	c := server.Config{
		Account: s.Account, RootKeys: []server.Credentials{{ID: s.AccessKeyID, Secret: iam.Secret(s.SecretAccessKey)}},
		Logger: slog.New(slog.DiscardHandler)}
	for _, o := range options {
		o(&c)
	}
	var err error
	s.server, err = server.Open(t.Context(), c)
	if err != nil {
		t.Fatal("kmstest:", err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var wg sync.WaitGroup
	wg.Go(func() { s.server.Run(ctx) })
	t.Cleanup(func() {
		stop()
		wg.Wait()
		if err := s.server.Close(); err != nil {
			t.Error("kmstest:", err)
		}
	})
	return s
}

// Client sends requests to the server, whatever host their URL names.
func (s *Server) Client() *http.Client { return s.http.Client() }

// AddAccount creates a further account whose root user has the given access key.
func (s *Server) AddAccount(t testing.TB, account, accessKeyID, secretAccessKey string) {
	t.Helper()
	err := s.server.AddAccount(t.Context(), account, server.Credentials{ID: accessKeyID, Secret: iam.Secret(secretAccessKey)})
	if err != nil {
		t.Fatal("kmstest:", err)
	}
}

// Audit returns the audit log so far, one JSON record a line, oldest first: the
// last 10,000 records.
func (s *Server) Audit() [][]byte { return s.server.Log.Recent() }

// Revision counts the changes made so far. A request that was refused leaves it
// as it was.
func (s *Server) Revision() int64 { return int64(s.server.DB.Head()) }
