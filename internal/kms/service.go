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
	"errors"
	"log/slog"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/store"
)

// A Config says how to run a Service.
type Config struct {
	// DeletionSweep is how often keys past their waiting period are removed.
	// Such keys do not exist for any caller, swept or not. Zero means every
	// minute.
	DeletionSweep time.Duration
	// GrantDelay is how long a new grant serves only those who present its token.
	// Zero: it serves at once.
	GrantDelay time.Duration
	// Log records what the sweep removes. It must be set for Run.
	Log *audit.Log
	// Logger is told what the sweep does. Nil means slog.Default.
	Logger *slog.Logger
}

// A Service is the KMS API. It is safe for concurrent use.
type Service struct {
	db     *store.DB
	config Config
	usage  usage
}

// New makes the KMS API over db.
func New(db *store.DB, c Config) *Service {
	if c.DeletionSweep == 0 {
		c.DeletionSweep = time.Minute
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return &Service{db: db, config: c, usage: usage{since: time.Now()}}
}

// Run removes keys whose waiting period is over until ctx ends.
func (s *Service) Run(ctx context.Context) {
	tick := time.NewTicker(s.config.DeletionSweep)
	defer tick.Stop()
	for {
		if err := s.sweep(ctx, time.Now()); err != nil && !errors.Is(err, context.Canceled) {
			s.config.Logger.Error("remove keys past their waiting period", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// A Material is the record of one key material.
type Material struct {
	ID    string
	Bytes []byte

	symmetric *material.Symmetric
}

func (m *Material) prepare() (err error) {
	m.symmetric, err = material.NewSymmetric(m.ID, material.NewSecret(m.Bytes))
	clear(m.Bytes)
	m.Bytes = nil // from here on it is in the cipher alone
	return err
}

var materialKind = store.Kind[Material]{Tag: 31, Name: "key material", Prepare: (*Material).prepare}

func materialKey(k *Key, id string) string {
	return "k/" + k.Region + "/" + k.Account + "/material/" + k.ID + "/" + id
}

// material returns the key's material with the given id, ready for use.
func (k *Key) material(tx *store.Tx, id string) (*material.Symmetric, error) {
	m, err := store.Get(tx, materialKind, materialKey(k, id))
	if err != nil {
		return nil, err
	}
	return m.symmetric, nil
}
