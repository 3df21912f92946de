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
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
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

func (c Claims) time(name string) (time.Time, bool) {
	n, ok := c[name].(float64)
	return time.Unix(int64(n), 0), ok
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
	mu        sync.Mutex // guards providers
	providers map[string]*keys
}

// NewVerifier makes a Verifier.
func NewVerifier() *Verifier { return &Verifier{providers: map[string]*keys{}} }

// Verify checks that the provider signed the token and that it is in force at
// now, and returns its claims. It must have iss, sub, aud, iat and exp.
func (v *Verifier) Verify(ctx context.Context, p Provider, token string, now time.Time) (Claims, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil || len(parsed.Headers) != 1 {
		return nil, ErrToken
	}
	key, err := v.of(p).find(ctx, parsed.Headers[0].KeyID, now)
	if err != nil {
		return nil, err
	}
	c := Claims{}
	if err := parsed.Claims(key, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return c, c.check(p.URL, now)
}

func (c Claims) check(issuer string, now time.Time) error {
	expires, ok := c.time("exp")
	issued, issuedOK := c.time("iat")
	from, _ := c.time("nbf")
	switch {
	case !ok || !issuedOK || c.Text("sub") == "" || len(c.List("aud")) == 0 || strings.TrimSuffix(c.Text("iss"), "/") != strings.TrimSuffix(issuer, "/"):
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
	id := p.URL + " " + strings.Join(p.Thumbprints, " ")
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.providers[id]
	if k == nil {
		if len(v.providers) >= maxProviders {
			clear(v.providers)
		}
		k = &keys{provider: p, client: newClient(p.Thumbprints)}
		v.providers[id] = k
	}
	return k
}

// keys are the keys of one provider.
type keys struct {
	provider Provider
	client   *http.Client

	mu      sync.Mutex // guards what follows; held while fetching, so that one fetch serves all that wait
	set     jose.JSONWebKeySet
	fetched time.Time // when set was had
	tried   time.Time // when it was last asked for
	failed  error     // of that
}

// find returns the key with an id, fetching the set again if it is old or does
// not have it, but not too often: strangers may send any id.
func (k *keys) find(ctx context.Context, id string, now time.Time) (*jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := k.set.Key(id)
	if old := now.Sub(k.fetched) >= maxAge; (len(found) == 0 || old) && now.Sub(k.tried) >= minInterval {
		k.tried = now
		set, err := k.fetch(ctx)
		k.failed = err
		if err == nil {
			k.set, k.fetched = set, now
		}
		found = k.set.Key(id)
	}
	switch {
	case len(found) > 0 && now.Sub(k.fetched) < maxAge && found[0].Valid():
		return &found[0], nil
	case k.failed != nil:
		return nil, k.failed
	default:
		return nil, ErrKeys
	}
}

// fetch gets the provider's key set by discovery.
func (k *keys) fetch(ctx context.Context) (set jose.JSONWebKeySet, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*fetchTimeout)
	defer cancel()
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	base := strings.TrimSuffix(k.provider.URL, "/")
	if err := k.get(ctx, base+"/.well-known/openid-configuration", &discovery); err != nil {
		return set, err
	}
	if strings.TrimSuffix(discovery.Issuer, "/") != base || !strings.HasPrefix(discovery.Keys, "https://") {
		return set, fmt.Errorf("%w: the discovery document is of another issuer, or has no https key set", ErrKeys)
	}
	return set, k.get(ctx, discovery.Keys, &set)
}

func (k *keys) get(ctx context.Context, url string, into any) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	r.Header.Set("Accept", "application/json")
	answer, err := k.client.Do(r)
	switch {
	case errors.Is(err, ErrThumbprint):
		return ErrThumbprint
	case err != nil:
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxDocument+1))
	if err == nil && (answer.StatusCode != http.StatusOK || len(text) > maxDocument) {
		err = fmt.Errorf("status %d, %d bytes", answer.StatusCode, len(text))
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	return nil
}
