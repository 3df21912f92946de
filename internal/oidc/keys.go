package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// keys are the keys of one provider.
type keys struct {
	provider Provider
	logger   *slog.Logger
	client   *http.Client

	mu       sync.Mutex // guards what follows
	set      []jose.JSONWebKey
	fetched  time.Time     // when set was had
	tried    time.Time     // when it was last asked for
	failed   error         // of that
	fetching chan struct{} // closed when the fetch under way is over; nil without one
}

// find returns the keys that a token with a key id may be signed with, all if it
// names none. Keys that are known are returned at once; otherwise the set is
// fetched again, but not too often: strangers may send any id, and hang up.
func (k *keys) find(ctx context.Context, id string, now time.Time) ([]jose.JSONWebKey, error) {
	for {
		k.mu.Lock()
		found := k.known(id, now)
		if found == nil && k.fetching == nil && now.Sub(k.tried) >= minInterval {
			k.tried, k.fetching = now, make(chan struct{})
			go k.refresh(now)
		}
		wait, failed := k.fetching, k.failed
		k.mu.Unlock()
		switch {
		case found != nil:
			return found, nil
		case wait == nil && failed != nil:
			return nil, failed
		case wait == nil:
			return nil, ErrKeys
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrKeys, ctx.Err())
		}
	}
}

// known are the keys with an id in the set, if it is not too old.
func (k *keys) known(id string, now time.Time) (found []jose.JSONWebKey) {
	if now.Sub(k.fetched) >= maxAge {
		return nil
	}
	for _, key := range k.set {
		if id == "" || key.KeyID == id {
			found = append(found, key)
		}
	}
	return found
}

// refresh fetches the set, for all that wait and whoever began.
func (k *keys) refresh(now time.Time) {
	set, err := k.fetch()
	if err != nil {
		k.logger.Warn("keys of an OpenID Connect provider cannot be had", "provider", k.provider.URL, "err", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.failed = err
	if err == nil {
		k.set, k.fetched = set, now
	}
	close(k.fetching)
	k.fetching = nil
}

// fetch gets the provider's key set by discovery.
func (k *keys) fetch() ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*fetchTimeout)
	defer cancel()
	var discovery struct {
		Issuer string `json:"issuer"`
		Keys   string `json:"jwks_uri"`
	}
	base := strings.TrimSuffix(k.provider.URL, "/")
	if err := k.get(ctx, base+"/.well-known/openid-configuration", &discovery); err != nil {
		return nil, err
	}
	if strings.TrimSuffix(discovery.Issuer, "/") != base || !strings.HasPrefix(discovery.Keys, "https://") {
		return nil, fmt.Errorf("%w: the discovery document is of another issuer, or has no https key set", ErrKeys)
	}
	var set struct {
		Keys []jsontext.Value `json:"keys"`
	}
	if err := k.get(ctx, discovery.Keys, &set); err != nil {
		return nil, err
	}
	return usable(set.Keys), nil
}

// How long RSA keys are that are used, in bits: shorter ones are not safe, longer ones cost
// too much for what a stranger may ask.
const (
	minRSA = 1024
	maxRSA = 8192
)

// usable are the public RSA and ECDSA keys for signatures in a set; what else is
// in it does not matter.
func usable(set []jsontext.Value) (out []jose.JSONWebKey) {
	for _, text := range set {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) != nil || key.Use != "" && key.Use != "sig" || len(out) == maxKeys {
			continue
		}
		switch public := key.Key.(type) {
		case *rsa.PublicKey:
			if bits := public.N.BitLen(); bits >= minRSA && bits <= maxRSA && public.E > 1 {
				out = append(out, key)
			}
		case *ecdsa.PublicKey:
			out = append(out, key)
		}
	}
	return out
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
		return err
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
