package store

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// errStale stops a transaction that has met a record newer than its instant.
var errStale = errors.New("store: overtaken by a write")

// attempts is how often a transaction is tried side by side with writers before
// it runs alone.
const attempts = 16

// A Tx sees the store as of one instant and, in Update, gathers changes. It
// belongs to the function it was given to and to one goroutine.
type Tx struct {
	ctx   context.Context
	db    *DB
	at    Rev // the instant
	stale bool

	confirmed bool // the view has all that was committed before the transaction
	unproved  bool // the view may be of before the lease
	fenced    bool // it has met a fence
	listed    bool // it has read what its commit does not depend on
	unfenced  bool // nobody can decide by what it takes away
	creates   bool // it can wait until there is more space

	rev      Rev // at which it was committed
	writable bool
	alone    bool              // holds the gate already
	read     map[string]Rev    // what the commit depends on
	write    map[string][]byte // sealed; nil deletes
	own      map[string]any    // this transaction's own values, as Get returns them
	before   func() error
	last     func() error
}

// View calls fn with a snapshot, again if writers overtake it. Everything fn
// reads is of one instant. The error is fn's, or ErrDoubt.
func (db *DB) View(ctx context.Context, fn func(*Tx) error) error {
	confirmed, err := db.admit(ctx)
	if err != nil {
		return err
	}
	for n := range db.attempts() {
		tx := &Tx{ctx: ctx, db: db, at: db.Head(), confirmed: confirmed}
		err := fn(tx)
		switch {
		case tx.stale:
			if err := db.overtaken(ctx, n, tx.at); err != nil {
				return err
			}
		case tx.doubtful(err):
			if err := db.fresh.confirm(ctx); err != nil {
				return err
			}
			confirmed = true
		default:
			return err
		}
	}
	if db.shared != nil {
		return fmt.Errorf("%w: others are quicker", ErrDoubt)
	}
	db.gate.Lock() // alone: nothing commits meanwhile
	defer db.gate.Unlock()
	return fn(&Tx{ctx: ctx, db: db, at: db.Head(), confirmed: true})
}

// attempts is how often a transaction is tried beside writers. Those of a shared store cannot
// be kept out.
func (db *DB) attempts() int {
	if db.shared != nil {
		return 64 * attempts
	}
	return attempts
}

// overtaken waits, before a transaction that was overtaken is run again, until there is
// something newer to see: the view may have been told of a change whose place is not yet taken.
func (db *DB) overtaken(ctx context.Context, n int, at Rev) error {
	if db.shared != nil && (n > attempts || db.Head() == at) {
		return pause(ctx, time.Millisecond)
	}
	return ctx.Err()
}

// Update calls fn and commits what it wrote, on the condition that nothing it
// read has changed; otherwise fn runs again. An error means nothing happened,
// unless it is ErrUnknown.
func (db *DB) Update(ctx context.Context, fn func(*Tx) error) error {
	u := update{db: db, fn: fn, fence: fenceAround{db: db}}
	return u.run(ctx)
}

// An update is a transaction through its attempts.
type update struct {
	db        *DB
	fn        func(*Tx) error
	fence     fenceAround
	confirmed bool
	bare      bool // it is what learns the lease
}

func (u *update) run(ctx context.Context) error {
	defer u.fence.drop(ctx)
	for n := range u.db.attempts() {
		again, err := u.try(ctx, n, false)
		if !again {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if u.db.shared != nil {
		return ErrConflict
	}
	u.db.gate.Lock() // alone: nothing else commits meanwhile
	defer u.db.gate.Unlock()
	again, err := u.try(ctx, 0, true)
	if again && err == nil {
		err = ErrConflict
	}
	return err
}

// try runs fn and commits. again: a writer came between, or it was run in doubt.
func (u *update) try(ctx context.Context, n int, alone bool) (again bool, err error) {
	unproved, err := u.admit(ctx)
	if err != nil {
		return false, err
	}
	tx := &Tx{ctx: ctx, db: u.db, at: u.db.Head(), confirmed: u.confirmed, unproved: unproved, writable: true, alone: alone,
		read: map[string]Rev{}, write: map[string][]byte{}, own: map[string]any{}}
	err = u.fn(tx)
	switch {
	case tx.stale:
		if err := u.db.overtaken(ctx, n, tx.at); err != nil {
			return false, err
		}
		return true, nil
	case tx.doubtful(err):
		u.confirmed = true
		err := u.db.fresh.confirm(ctx)
		return err == nil, err
	case err != nil:
		return false, err
	}
	if tx.creates && len(tx.write) > 0 && u.db.shared != nil && u.db.shared.Full() {
		return false, ErrFull
	}
	if fenced, err := u.fenceIn(ctx, tx); fenced || err != nil {
		return err == nil, err
	}
	if err = tx.commit(&u.fence); !errors.Is(err, ErrConflict) {
		return false, err
	}
	if u.db.shared != nil { // what was in the way must be seen before it is tried again
		if err := u.fence.standing(ctx); err != nil {
			return false, err
		}
		if err := u.db.fresh.confirm(ctx); err != nil {
			return false, err
		}
		u.confirmed = true
	}
	return true, err
}

// admit returns when an attempt may begin, and the node knows what was agreed about leases.
// unproved: without a lease, on whatever the view has, since the commit proves it.
func (u *update) admit(ctx context.Context) (unproved bool, err error) {
	if u.db.shared != nil && !u.bare && !u.db.leaseKnown.Load() {
		if err := u.db.loadLease(ctx); err != nil {
			return false, err
		}
	}
	switch {
	case u.confirmed:
	case u.db.fresh != nil && !current(ctx) && u.db.fresh.optimistic():
		unproved = true
	default:
		u.confirmed, err = u.db.admit(ctx)
	}
	return unproved, err
}

// fenceIn puts a fence around what the transaction writes, if it takes something away and
// other nodes may decide by what they know. fenced: it was put there, and has been seen;
// the transaction is to be run again on what there is by now.
func (u *update) fenceIn(ctx context.Context, tx *Tx) (fenced bool, err error) {
	if u.db.fresh == nil || tx.unfenced || len(tx.write) == 0 {
		return false, nil
	}
	agreed := u.db.agreed.Load()
	tx.read[coherenceKey] = agreed.rev // whoever changes the lease makes this wait anew
	if agreed.wait == 0 {
		return false, nil
	}
	if u.fence.agreed != agreed {
		u.fence.drop(ctx)
		u.fence.agreed = agreed
	}
	keys, err := u.fence.lacks(ctx, slices.Sorted(maps.Keys(tx.write)))
	if err != nil || len(keys) == 0 {
		return false, err
	}
	u.confirmed = false
	return true, u.fence.raise(ctx, keys)
}

// BeforeCommit sets what must succeed after fn and before its changes take
// effect: writing the intent to the audit log.
func (tx *Tx) BeforeCommit(f func() error) { tx.before = f }

// AtCommit sets what writes last, at the moment at which the transaction gets
// its place among all others: what f writes in transaction after transaction is
// in the order of the commits. It must be quick.
func (tx *Tx) AtCommit(f func() error) { tx.last = f }

func (tx *Tx) commit(fence *fenceAround) error {
	if len(tx.write) == 0 {
		return nil
	}
	if tx.before != nil {
		if err := tx.before(); err != nil {
			return err
		}
	}
	if !tx.alone {
		tx.db.gate.RLock()
		defer tx.db.gate.RUnlock()
	}
	var t Txn
	var settled []string
	if tx.last != nil {
		tx.db.orderMu.Lock()
		// Before last, which says how far the audit log reaches: a mark that is gone has its
		// outcome there.
		settled = tx.db.takeSettled(settledAtOnce)
		if err := tx.last(); err != nil {
			tx.db.orderMu.Unlock()
			tx.db.settle(settled...)
			return err
		}
		t.Queued = tx.db.orderMu.Unlock
	}
	for _, k := range slices.Sorted(maps.Keys(tx.read)) {
		t.If = append(t.If, Item{Key: k, Rev: tx.read[k]})
	}
	for _, k := range slices.Sorted(maps.Keys(tx.write)) {
		t.Do = append(t.Do, Item{Key: k, Val: tx.write[k]})
	}
	for _, k := range settled {
		t.Do = append(t.Do, Item{Key: k})
	}
	fence.within(&t)
	var err error
	if tx.rev, err = tx.db.engine.Commit(tx.ctx, t); err != nil {
		tx.db.settle(settled...) // not removed; another transaction will
		return err
	}
	fence.items = nil
	return nil
}

// Get returns the record at key, which is shared and must not be changed.
// ErrNotFound: there is none.
func Get[T any](tx *Tx, k Kind[T], key string) (*T, error) {
	if v, ok := tx.own[key]; ok {
		return typed[T](v, key)
	}
	if tx.db.fences.cover(key) { // asked before the memo: a fence goes after its record is forgotten
		tx.fenced = true
	}
	e, ok := tx.db.memo.get(key)
	if !ok {
		var err error
		if e, err = load1(tx, k, key); err != nil {
			return nil, err
		}
	}
	if e.rev > tx.at {
		tx.stale = true
		return nil, errStale
	}
	if tx.writable {
		tx.read[key] = e.rev
		if e.value == nil {
			tx.read[key] = 0
		}
	}
	return typed[T](e.value, key)
}

func typed[T any](v any, key string) (*T, error) {
	if v == nil {
		return nil, ErrNotFound
	}
	t, ok := v.(*T)
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, ErrDamaged) // another kind of record has its place
	}
	return t, nil
}

// load1 reads a record from the engine into the memo.
func load1[T any](tx *Tx, k Kind[T], key string) (e memoEntry, err error) {
	var at Rev
	tx.db.memo.begin(key)
	defer func() { tx.db.memo.end(key, e, at, err != nil) }()
	items, at, err := tx.db.engine.Get(tx.ctx, key)
	if err != nil {
		return e, err
	}
	if items[0].Val == nil {
		return memoEntry{rev: at}, nil
	}
	v, err := decode(tx.db, k, key, items[0].Val)
	if err != nil {
		return e, err
	}
	return memoEntry{items[0].Rev, v}, nil
}

// Put writes the record at key. v becomes what later Gets in this transaction
// return, and must not be changed afterwards.
func Put[T any](tx *Tx, k Kind[T], key string, v *T) error {
	sealed, err := encode(tx.db, k, key, v)
	if err != nil {
		return err
	}
	if k.Prepare != nil {
		if err := k.Prepare(v); err != nil {
			return err
		}
	}
	tx.set(key, sealed, v)
	return nil
}

// Delete removes the record at key, if there is one.
func (tx *Tx) Delete(key string) { tx.set(key, nil, nil) }

func (tx *Tx) set(key string, sealed []byte, v any) {
	if !tx.writable {
		panic("store: a View writes")
	}
	tx.write[key], tx.own[key] = sealed, v
}

// Edit returns a copy of the record at key that the caller may change and Put.
// What the kind's Prepare derives is not in it before the Put.
func Edit[T any](tx *Tx, k Kind[T], key string) (*T, error) {
	shared, err := Get(tx, k, key)
	if err != nil {
		return nil, err
	}
	return clone(shared)
}

// clone copies a record through its stored form, so that nothing is shared.
func clone[T any](v *T) (*T, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	out := new(T)
	return out, json.Unmarshal(text, out)
}

// An Entry is one record of a List.
type Entry[T any] struct {
	Key   string
	Value *T
}

// List returns up to n records whose keys begin with prefix and come after the
// key after, in order. It does not see the transaction's own changes, and a
// commit does not depend on it.
func List[T any](tx *Tx, k Kind[T], prefix, after string, n int) ([]Entry[T], error) {
	if tx.db.fences.coverAny(prefix) {
		tx.fenced = true
	}
	tx.listed = true
	items, at, err := tx.db.engine.Scan(tx.ctx, prefix, after, n)
	if err != nil {
		return nil, err
	}
	if at != tx.at && !tx.writable {
		tx.stale = true
		return nil, errStale
	}
	out := make([]Entry[T], 0, len(items))
	for _, i := range items {
		v, err := decode(tx.db, k, i.Key, i.Val)
		if err != nil {
			return nil, err
		}
		out = append(out, Entry[T]{i.Key, v})
	}
	return out, nil
}

// Collect returns up to n records like List, of those that keep holds for.
func Collect[T any](tx *Tx, k Kind[T], prefix, after string, n int, keep func(*T) bool) (found []*T, err error) {
	const batch = 500
	for {
		entries, err := List(tx, k, prefix, after, batch)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			after = e.Key
			if keep(e.Value) {
				found = append(found, e.Value)
			}
			if len(found) == n {
				return found, nil
			}
		}
		if len(entries) < batch {
			return found, nil
		}
	}
}

// Revision is at which the transaction was committed, once it was; 0 if it changed nothing.
func (tx *Tx) Revision() Rev { return tx.rev }

// Changed reports whether the transaction has written anything.
func (tx *Tx) Changed() bool { return len(tx.write) > 0 }
