package store

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/material"
)

// A DB is the typed, sealed store. Reads see one instant; writes are
// transactions whose conditions are everything they read. It is safe for
// concurrent use.
type DB struct {
	engine     Engine
	deployment string
	epoch      string
	unverified bool            // it was not read whole when it was opened
	key        material.Secret // the store key
	aead       *material.AEAD
	opening    Opening
	head       atomic.Int64 // the last commit whose effect on memo is complete
	memo       memo

	shared     Shared     // nil: nobody else commits to the engine
	fresh      *freshness // of a shared store
	fences     fences
	leaseKnown atomic.Bool
	agreed     atomic.Pointer[agreed] // about leases
	sleep      func(context.Context, time.Duration) error

	leaseMu      sync.Mutex // guards leaseChanges, and what is known of the lease while it changes
	leaseChanges int

	orderMu sync.Mutex // held from AtCommit until the transaction has its place

	gate sync.RWMutex // writers hold it shared, a read that keeps being overtaken alone

	marksMu sync.Mutex // guards settled
	settled []string   // marks to remove with the next transaction
}

// verifyAtOpen is how large a store is checked whole before it is opened, in bytes.
// A larger one is checked by Run.
const verifyAtOpen = 256 << 20

// Open opens the store in e with the first of the seals that can, or initialises an
// empty one with the first. The DB owns e from then on, also when Open fails.
func Open(ctx context.Context, e Engine, seals ...Seal) (*DB, error) {
	db, err := open(ctx, e, seals)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return db, nil
}

func open(ctx context.Context, e Engine, seals []Seal) (*DB, error) {
	h, rev, err := readHeader(ctx, e)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return nil, err
	}
	empty := err != nil
	var key []byte
	by := Opening{Slot: seals[0].Kind(), by: seals[0]}
	if empty {
		h, key, err = newHeader(by.by)
	} else {
		key, by, err = h.unwrap(seals)
	}
	if err != nil {
		return nil, err
	}
	db := &DB{engine: e, deployment: h.Deployment, key: material.NewSecret(key), opening: by}
	if db.aead, err = material.NewAEAD(key); err != nil {
		return nil, err
	}
	if err := join(ctx, e); err != nil {
		return nil, err
	}
	hash, err := newHash(key)
	if err != nil {
		return nil, err
	}
	e.Protect(hash, empty || h.Format < Format)
	switch {
	case empty:
		err = h.write(ctx, e, db.aead, 0)
	case h.Format < Format:
		err = h.migrate(ctx, e, db, by.by, rev)
	default:
		err = h.genuine(db.aead)
	}
	db.epoch = h.Epoch
	if db.unverified = e.Size() > verifyAtOpen; err == nil && !db.unverified {
		err = e.Verify(ctx)
		if db.unverified = errors.Is(err, ErrHasty); db.unverified {
			err = nil
		}
	}
	if err != nil {
		return nil, err
	}
	db.memo.init()
	s, shared := e.(Shared)
	if shared {
		db.share(s)
	}
	e.Watch(db.observe)
	if rev, err = e.Head(ctx); err != nil {
		return nil, err
	}
	db.moveHead(rev)
	if shared {
		if err := db.loadFences(ctx); err != nil {
			return nil, err
		}
		return db, db.loadLease(ctx)
	}
	return db, nil
}

// moveHead moves forward to a revision.
func (db *DB) moveHead(rev Rev) {
	for old := db.head.Load(); old < int64(rev) && !db.head.CompareAndSwap(old, int64(rev)); old = db.head.Load() {
	}
}

// migrate brings a store of format 1, which the seal by has opened, to this one.
func (h *header) migrate(ctx context.Context, e Engine, db *DB, by Seal, rev Rev) error {
	slots, err := db.withSlot(nil, h.Seal, by)
	if err != nil {
		return err
	}
	*h = header{Format: Format, Deployment: h.Deployment, Epoch: uuid.New().String(), Slots: slots}
	return h.write(ctx, e, db.aead, rev)
}

// Verify checks that all records are there, each as it was written, and no others.
// ErrDamaged: they are not, and from then on nothing is served.
func (db *DB) Verify(ctx context.Context) error { return db.engine.Verify(ctx) }

// Run verifies a store once a day, a large one for the first time at once, until ctx
// ends. What it finds stops the store, and Err tells. It keeps the view of a shared store
// current.
func (db *DB) Run(ctx context.Context, logger *slog.Logger) {
	if db.shared != nil {
		var wg sync.WaitGroup
		defer wg.Wait()
		wg.Go(func() { db.keepFresh(ctx, logger) })
	}
	wait := 24 * time.Hour
	if db.unverified {
		wait = 0
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = 24 * time.Hour
		err := db.Verify(ctx)
		if errors.Is(err, ErrHasty) {
			wait = time.Hour
		}
		if err != nil && ctx.Err() == nil {
			logger.Error("verify the store", "err", err)
		}
	}
}

// observe forgets what a commit changed. The engine calls it before the commit
// is acknowledged, so no memo outlives its record.
func (db *DB) observe(rev Rev, items []Item) {
	for _, i := range items {
		db.memo.forget(i.Key, rev)
	}
	if db.shared != nil {
		db.observeShared(items)
	}
	db.moveHead(rev)
}

// Token seals a small secret text under a name, for the caller to hand out and
// to get back: session tokens, pagination markers.
func (db *DB) Token(name string, plaintext []byte) ([]byte, error) {
	return db.aead.Seal(nil, plaintext, db.associated(name, 0))
}

// OpenToken opens what Token made. ErrDamaged: it is not one of ours.
func (db *DB) OpenToken(name string, token []byte) ([]byte, error) {
	text, err := db.aead.Open(token, db.associated(name, 0))
	if err != nil {
		return nil, ErrDamaged
	}
	return text, nil
}

// Err is nil while changes are possible and, in a shared store, anything can be decided.
func (db *DB) Err() error {
	if err := db.engine.Err(); err != nil || db.fresh == nil {
		return err
	}
	return db.fresh.err()
}

// Batch is how many records a transaction may write that could write any number.
func (db *DB) Batch() int { return batchOf(db.engine) }

// Batch is that of the store.
func (tx *Tx) Batch() int { return tx.db.Batch() }

func batchOf(e Engine) int {
	if s, ok := e.(Shared); ok {
		return min(s.MaxOps()/3, maxBatch) // each may have a condition besides
	}
	return maxBatch
}

const maxBatch = MaxTxnOps / 8

// Opening says how the store was opened.
func (db *DB) Opening() Opening { return db.opening }

// Epoch tells this store from those that it was restored or copied from: each begins another
// order of revisions.
func (db *DB) Epoch() string { return db.epoch }

// Head is the revision of the last commit.
func (db *DB) Head() Rev { return Rev(db.head.Load()) }

// Size is the space the store takes, in bytes.
func (db *DB) Size() int64 { return db.engine.Size() }

// Memoised is how many decoded records are in memory.
func (db *DB) Memoised() int { return db.memo.len() }

// Close closes the engine.
func (db *DB) Close() error { return db.engine.Close() }
