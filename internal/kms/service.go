// Package kms is the key management service: KMS keys, their policies, aliases
// and tags, and what is done with them. It takes and returns the wire types and
// knows neither HTTP nor JSON.
//
// Every operation finds its key, authorizes the caller by the key's policy, and
// only then looks at anything else about the key, so that a caller without
// permission learns nothing.
package kms

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/throttle"
	"github.com/claviger/claviger/internal/xks"
)

// A Config says how to run a Service.
type Config struct {
	// Sweep is how often at least it is looked for what is due: deletions,
	// rotations, expiries. What was planned before that is done in time. Deletions and
	// expiries count at once, swept or not. Zero means every hour.
	Sweep time.Duration
	// GrantDelay is how long a new grant serves only those who present its token.
	// Zero: it serves at once.
	GrantDelay time.Duration
	// Settling is how long a replica is Creating, and the keys of a changed primary
	// Region are Updating. Zero: only the answer says so.
	Settling time.Duration
	// Regions are where keys may be. Empty: anywhere.
	Regions arn.Regions
	// SM2 allows the key spec SM2.
	SM2 bool
	// Proxies are the external key store proxies that there are. Nil: none.
	Proxies *xks.Dialer
	// AttestationRoots are the roots of attestation documents. Nil: no document is
	// accepted.
	AttestationRoots *x509.CertPool
	// Limits are the request quotas. Nil: there are none.
	Limits *throttle.Limits
	// Quotas are the resource quotas. Members that are zero are AWS's defaults.
	Quotas Quotas
	// Log records what the service does by itself. It must be set.
	Log *audit.Log
	// Logger is told what the sweep does. Nil means slog.Default.
	Logger *slog.Logger
}

// A Service is the KMS API. It is safe for concurrent use.
type Service struct {
	db       *store.DB
	config   Config
	usage    usage
	counting countTurns    // in the numbers of keys
	slow     chan struct{} // one place for each key that may be generated slowly at once

	clockHeld atomic.Bool
	accepted  chan struct{} // that the clock was accepted
}

// New makes the KMS API over db.
func New(db *store.DB, c Config) *Service {
	if c.Sweep == 0 {
		c.Sweep = time.Hour
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Quotas = c.Quotas.orDefaults()
	return &Service{db: db, config: c, slow: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), accepted: make(chan struct{}, 1)}
}

// Run does what is due until ctx ends: it removes keys whose waiting period is
// over, rotates key material and forgets expired material, on one node for all; and it
// stores last uses.
func (s *Service) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.saveUses(ctx) })
	for {
		leading, cancel, err := s.db.Lead(ctx)
		if err == nil {
			s.doDue(leading)
		}
		cancel()
		if err != nil { // ctx has ended, or the store is closed
			return
		}
	}
}

// doDue does what is due until ctx ends.
func (s *Service) doDue(ctx context.Context) {
	looked := time.Now()
	for {
		var next time.Time
		now := time.Now()
		right, err := s.watchClock(ctx, now, now.Sub(looked))
		looked = now
		if right {
			next, err = s.sweep(ctx, now)
		}
		if err != nil && ctx.Err() == nil {
			s.config.Logger.Error("do what is due", "err", err)
		}
		wait := s.config.Sweep
		if !next.IsZero() {
			wait = max(time.Second, min(wait, time.Until(next)))
		}
		if err != nil {
			wait = min(wait, time.Minute)
		}
		select {
		case <-time.After(wait):
		case <-s.accepted:
		case <-ctx.Done():
			return
		}
	}
}

// saveUses stores the last uses of keys until ctx ends, and then all of them.
func (s *Service) saveUses(ctx context.Context) {
	for {
		age := saveUse
		select {
		case <-time.After(s.config.Sweep):
		case <-ctx.Done():
			age = 0
		}
		if err := s.usage.save(context.WithoutCancel(ctx), s.db, age); err != nil {
			s.config.Logger.Error("store the last uses of keys", "err", err)
		}
		if age == 0 {
			return
		}
	}
}

// view runs a read for a call. If it asks for an AWS managed key that is not there
// yet, the key is made first.
func (s *Service) view(ctx context.Context, call *iam.Call, fn func(*store.Tx) error) error {
	err := call.View(ctx, s.db, fn)
	var missing *unmadeKey
	var services []string
	for errors.As(err, &missing) && !slices.Contains(services, missing.service) {
		services = append(services, missing.service)
		err = s.makeManaged(ctx, call, services, fn)
	}
	return err
}
