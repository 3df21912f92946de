package store

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"uuid"

	"github.com/claviger/claviger/internal/material"
)

// Format is the version of the layout of keys and records. A store of another
// format is refused.
const Format = 1

// headerKey is the only record that is not sealed.
const headerKey = "!header"

// A keyWrapper is what the store needs from a seal.
type keyWrapper interface {
	Kind() string
	Wrap(key []byte) ([]byte, error)
	Unwrap(wrapped []byte) ([]byte, error)
}

// header says how to open the store.
type header struct {
	Format     int
	Deployment string // random; binds every record to this store
	Seal       string // kind of the seal that wrapped StoreKey
	StoreKey   []byte // wrapped
}

// A DB is the typed, sealed store. Reads see one instant; writes are
// transactions whose conditions are everything they read. It is safe for
// concurrent use.
type DB struct {
	engine     Engine
	deployment string
	aead       *material.AEAD
	head       atomic.Int64 // the last commit whose effect on memo is complete
	memo       memo

	orderMu sync.Mutex // held from AtCommit until the transaction has its place

	gate sync.RWMutex // writers hold it shared, a read that keeps being overtaken alone

	marksMu sync.Mutex // guards settled
	settled []string   // marks to remove with the next transaction
}

// Open opens the store in e, or initialises an empty one, with the root key
// that seal holds. The DB owns e from then on, also when Open fails.
func Open(ctx context.Context, e Engine, seal keyWrapper) (*DB, error) {
	db, err := open(ctx, e, seal)
	if err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return db, nil
}

func open(ctx context.Context, e Engine, seal keyWrapper) (*DB, error) {
	items, rev, err := e.Get(ctx, headerKey)
	if err != nil {
		return nil, err
	}
	var h header
	if items[0].Val == nil {
		if rev != 0 {
			return nil, ErrDamaged // there are records, and no header
		}
		if h, err = initialise(ctx, e, seal); err != nil {
			return nil, err
		}
	} else if err := json.Unmarshal(items[0].Val, &h); err != nil {
		return nil, fmt.Errorf("read header: %w", ErrDamaged)
	}
	if h.Format != Format {
		return nil, fmt.Errorf("format %d, this program reads %d: %w", h.Format, Format, ErrFormat)
	}
	if h.Seal != seal.Kind() {
		return nil, fmt.Errorf("store: sealed by %q, opened with %q", h.Seal, seal.Kind())
	}
	key, err := seal.Unwrap(h.StoreKey)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	aead, err := material.NewAEAD(key)
	if err != nil {
		return nil, err
	}
	db := &DB{engine: e, deployment: h.Deployment, aead: aead}
	db.memo.init()
	e.Watch(db.observe)
	rev, err = e.Head(ctx)
	db.head.Store(int64(rev))
	return db, err
}

func initialise(ctx context.Context, e Engine, seal keyWrapper) (header, error) {
	key, err := material.Generate()
	if err != nil {
		return header{}, err
	}
	defer clear(key)
	wrapped, err := seal.Wrap(key)
	if err != nil {
		return header{}, err
	}
	h := header{Format, uuid.New().String(), seal.Kind(), wrapped}
	text, err := json.Marshal(h)
	if err != nil {
		return header{}, err
	}
	_, err = e.Commit(ctx, Txn{If: []Item{{Key: headerKey}}, Do: []Item{{Key: headerKey, Val: text}}})
	return h, err
}

// observe forgets what a commit changed. The engine calls it before the commit
// is acknowledged, so no memo outlives its record.
func (db *DB) observe(rev Rev, items []Item) {
	for _, i := range items {
		db.memo.forget(i.Key, rev)
	}
	db.head.Store(int64(rev))
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

// Err is nil while changes are possible.
func (db *DB) Err() error { return db.engine.Err() }

// Head is the revision of the last commit.
func (db *DB) Head() Rev { return Rev(db.head.Load()) }

// Size is the space the store takes, in bytes.
func (db *DB) Size() int64 { return db.engine.Size() }

// Memoised is how many decoded records are in memory.
func (db *DB) Memoised() int { return db.memo.len() }

// Backup writes one consistent snapshot, sealed as the store is.
func (db *DB) Backup(ctx context.Context, w io.Writer) (Rev, error) { return db.engine.Backup(ctx, w) }

// Close closes the engine.
func (db *DB) Close() error { return db.engine.Close() }
