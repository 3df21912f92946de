// Package oidc verifies ID tokens of OpenID Connect providers: it finds a
// provider's keys by discovery (OpenID Connect Discovery 1.0) and checks the
// signature and the times of a JWT (RFC 7519). Whom a token is meant for, and
// what its claims permit, is for the caller.
//
// It fetches over HTTPS from the URLs that administrators registered, with
// bounds on time, size and how often.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Why a token is refused.
var (
	ErrToken      = errors.New("oidc: not a JWT with an accepted algorithm")
	ErrKeys       = errors.New("oidc: the provider's keys cannot be had, or none is the token's")
	ErrThumbprint = errors.New("oidc: the provider's certificate has none of the thumbprints")
	ErrSignature  = errors.New("oidc: the signature does not verify")
	ErrClaims     = errors.New("oidc: a required claim is missing")
	ErrNotYet     = errors.New("oidc: the token is not valid yet")
)

// An ExpiredError reports a token whose time is over.
type ExpiredError struct{ Now, Expires time.Time }

func (e *ExpiredError) Error() string { return "oidc: the token has expired" }

// Bounds.
const (
	maxDocument  = 1 << 20          // bytes of a discovery document or key set
	fetchTimeout = 5 * time.Second  // for one of them
	maxAge       = 15 * time.Minute // after which keys are fetched again
	minInterval  = 10 * time.Second // between two fetches from one provider
	maxProviders = 1000             // whose keys are remembered
	maxKeys      = 100              // of one provider
	leeway       = time.Minute      // of clocks
)

// algorithms are the accepted ones: those of IAM OIDC providers. None is not.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512}

// A Provider is where tokens come from.
type Provider struct {
	URL         string   // https://…
	Thumbprints []string // SHA-1 of certificates to trust besides the system's, hexadecimal
}

// Claims are what a verified token says. Numbers are float64.
type Claims map[string]any

// Text is a claim that is a string, or empty.
func (c Claims) Text(name string) string {
	s, _ := c[name].(string)
	return s
}

// List is a claim that is a string or a list of strings.
func (c Claims) List(name string) (out []string) {
	switch v := c[name].(type) {
	case string:
		return []string{v}
	case []any:
		for _, e := range v {
			if s, ok := e.(string); ok {
				out = append(out, s)
			}
		}
	}
	return out
}

// time is a claim that is a time: seconds since 1970, before the year 10000.
func (c Claims) time(name string) (t time.Time, ok bool) {
	n, ok := c[name].(float64)
	if !ok || !(n >= 0 && n < 253_402_300_800) {
		return t, false
	}
	return time.Unix(int64(n), 0), true
}

// Issuer returns who a token says it is from, before anything is verified.
// ErrToken: it is not a JWT.
func Issuer(token string) (string, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrToken, err)
	}
	c := Claims{}
	if err := parsed.UnsafeClaimsWithoutVerification(&c); err != nil {
		return "", fmt.Errorf("%w: %w", ErrToken, err)
	}
	return c.Text("iss"), nil
}

// A Verifier verifies tokens and remembers providers' keys for a while. It is
// safe for concurrent use.
type Verifier struct {
	logger *slog.Logger

	mu        sync.Mutex // guards providers
	providers map[string]*keys
}

// NewVerifier makes a Verifier that tells logger why a provider's keys cannot be had.
func NewVerifier(logger *slog.Logger) *Verifier {
	return &Verifier{logger: logger, providers: map[string]*keys{}}
}

// Verify checks that the provider signed the token and that it is in force at
// now, and returns its claims. It must have iss, sub, aud, iat and exp.
func (v *Verifier) Verify(ctx context.Context, p Provider, token string, now time.Time) (Claims, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return nil, ErrToken
	}
	candidates, err := v.of(p).find(ctx, parsed.Headers[0].KeyID, now)
	if err != nil {
		return nil, err
	}
	for _, key := range candidates {
		c := Claims{}
		if parsed.Claims(key, &c) == nil {
			return c, c.check(p.URL, now)
		}
	}
	return nil, ErrSignature
}

func (c Claims) check(issuer string, now time.Time) error {
	expires, ok := c.time("exp")
	issued, issuedOK := c.time("iat")
	from, fromOK := c.time("nbf")
	_, hasFrom := c["nbf"]
	switch {
	case !ok || !issuedOK || hasFrom && !fromOK || c.Text("sub") == "" || len(c.List("aud")) == 0 || strings.TrimSuffix(c.Text("iss"), "/") != strings.TrimSuffix(issuer, "/"):
		return ErrClaims
	case !now.Before(expires):
		return &ExpiredError{now, expires}
	case issued.After(now.Add(leeway)), from.After(now.Add(leeway)):
		return ErrNotYet
	default:
		return nil
	}
}

// of returns the provider's keys. Another list of thumbprints is another provider.
func (v *Verifier) of(p Provider) *keys {
	id := strings.Join(append([]string{p.URL}, p.Thumbprints...), "\n")
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.providers[id]
	if k == nil {
		if len(v.providers) >= maxProviders {
			clear(v.providers)
		}
		k = &keys{provider: p, logger: v.logger, client: newClient(p.Thumbprints)}
		v.providers[id] = k
	}
	return k
}
