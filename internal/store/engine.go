// Package store is durable state: an Engine keeps one ordered, revisioned key
// space, and DB lays typed, sealed records and transactions over it.
//
// What an error promises: a transaction that failed with anything but
// ErrUnknown left nothing behind.
package store

import (
	"context"
	"errors"
	"iter"
	"time"
)

// A Rev is a place in the one order of commits; it only grows. 0 is before all.
type Rev int64

// An Item is one key with its sealed value.
type Item struct {
	Key string
	Val []byte // nil: absent
	Rev Rev    // the commit that last wrote Key; 0: absent
}

// A Txn is one conditional batch.
type Txn struct {
	If []Item // every Key must still be at Rev (0: must not exist); Val is not looked at
	Do []Item // nil Val deletes; Rev is not looked at

	// Queued, if not nil, is called once, as soon as no later Commit can come
	// before this one.
	Queued func()
}

// Limits of one Txn: conditions, operations, and bytes of keys and values. An
// engine that is configured for less must be configured for these. The largest is
// a change of what the keys of a multi-Region key share, in 41 Regions with the
// longest policies, descriptions and tags.
const (
	MaxTxnOps   = 4096
	MaxTxnBytes = 8 << 20
)

// Errors of engines, and of transactions over them.
var (
	ErrConflict = errors.New("store: a condition no longer holds")                          // nothing happened
	ErrUnknown  = errors.New("store: outcome unknown")                                      // it may have happened
	ErrTooLarge = errors.New("store: transaction too large")                                // nothing happened
	ErrLocked   = errors.New("store: in use by another process")                            // at open
	ErrFormat   = errors.New("store: made by another version of this program")              // at open
	ErrDamaged  = errors.New("store: a record is damaged, or is not where it was")          // never served
	ErrNotFound = errors.New("store: no such record")                                       //
	ErrClosed   = errors.New("store: closed, or stopped after a failed write; reopen it")   // nothing happened
	ErrFull     = errors.New("store: its last space is kept for what takes something away") // nothing happened
	ErrHasty    = errors.New("store: it changed too quickly to be read whole")              // try again
	ErrDoubt    = errors.New("store: this node cannot know what the others have changed")   // nothing is decided
)

// An Engine is an ordered, revisioned key space. Values arrive sealed. All
// methods are safe for concurrent use.
type Engine interface {
	// Get reads all keys at one instant, not earlier than the call, and returns
	// the revision of that instant. Scan likewise, up to n items whose keys
	// begin with prefix and come after the key after.
	Get(ctx context.Context, keys ...string) ([]Item, Rev, error)
	Scan(ctx context.Context, prefix, after string, n int) ([]Item, Rev, error)
	// Commit does all or nothing. nil: durable, and visible to every later read.
	Commit(ctx context.Context, t Txn) (Rev, error)
	// Watch registers fn, which is called with each commit from now on: whole,
	// in order, once, before Commit returns. It must be quick.
	Watch(fn func(Rev, []Item))
	// Head returns the revision of the last commit.
	Head(ctx context.Context) (Rev, error)
	// Snapshot calls fn with everything there is at one instant, in the order of the
	// keys, and the revision of that instant. Commits go on meanwhile.
	Snapshot(ctx context.Context, fn func(head Rev, items iter.Seq[Item]) error) error
	// Protect makes the engine keep a digest of all records from the next commit on. One
	// that has been kept must be there still, unless begin says that there was none.
	Protect(hash Hash, begin bool)
	// Verify reads everything and checks it against the digest. ErrDamaged: it is not
	// what was committed, or cannot be read; then every later call fails with it. ErrHasty:
	// nobody knows.
	Verify(ctx context.Context) error
	// Err is nil while commits are possible.
	Err() error
	// Size is the space the store takes, in bytes.
	Size() int64
	Close() error
}

// join lets a node of a shared store commit.
func join(ctx context.Context, e Engine) error {
	if s, ok := e.(Shared); ok {
		return s.Join(ctx)
	}
	return nil
}

// A Shared engine is one that other nodes commit to as well. What it reads, and what it tells
// its watchers, is the state of an instant that lags behind theirs.
type Shared interface {
	Engine
	// Join takes the node's name. Before it nothing may be committed. Once more does no harm.
	Join(ctx context.Context) error
	// Node is the name of this node; no other that has joined and is running has the same.
	Node() string
	// Reach returns once reads and watchers have everything that was committed, by
	// anybody, before the call.
	Reach(ctx context.Context) error
	// Missed registers fn, which is called instead of Watch's when commits were missed:
	// anything may have changed since. What is read meanwhile is of rev or later. If it
	// fails it is called again.
	Missed(fn func(ctx context.Context, rev Rev) error)
	// NewLease is for how long the nodes of a new store decide by what they were last sure
	// of; 0: not at all.
	NewLease() time.Duration
	// MaxOps is how many conditions, and how many operations, one Txn may have.
	MaxOps() int
	// Full reports whether there is so little space left that nothing should be created.
	Full() bool
	// Lead waits until this node leads all others, and returns a context that ends when it
	// does not any more, or when cancel is called.
	Lead(ctx context.Context) (leading context.Context, cancel context.CancelFunc, err error)
}
