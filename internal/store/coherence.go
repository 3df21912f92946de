package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// DefaultLease is a lease that is longer than a cluster needs to elect a leader, so that no
// caller notices when one is lost.
const DefaultLease = time.Second

// maxLease bounds what may be said.
const maxLease = time.Minute

// A coherence is what all nodes must agree on: how long they decide by what they know, and
// how long a change waits for that. They differ only while the lease is being changed.
type coherence struct {
	Lease nanoseconds
	Wait  nanoseconds // the lease for which changes wait
}

// nanoseconds are a time.Duration that JSON knows.
type nanoseconds int64

var coherenceKind = Kind[coherence]{Tag: 5, Name: "coherence"}

const coherenceKey = "sys/coherence"

// An agreed is what this node knows to be agreed, as of the revision of its record.
type agreed struct {
	rev         Rev
	lease, wait time.Duration
}

// share prepares a DB for an engine that others commit to, before it watches.
func (db *DB) share(e Shared) {
	db.shared, db.sleep = e, pause
	db.fresh = newFreshness(e, bootClock)
	e.Missed(func(ctx context.Context, rev Rev) error {
		// Records before fences, as in observe: whoever does not meet a fence any more must
		// not find what was before it.
		db.forgetLease()
		db.memo.forgetAll(rev)
		if err := db.loadFences(ctx); err != nil {
			return err
		}
		db.moveHead(rev)
		return nil
	})
}

// forgetLease makes the node prove every decision until it knows again what was agreed.
func (db *DB) forgetLease() {
	db.leaseMu.Lock()
	defer db.leaseMu.Unlock()
	db.leaseChanges++
	db.leaseKnown.Store(false)
	db.fresh.lease.Store(0)
}

// learnLease takes up what was agreed, unless that has changed since there were so many changes.
func (db *DB) learnLease(a *agreed, changes int) bool {
	db.leaseMu.Lock()
	defer db.leaseMu.Unlock()
	if db.leaseChanges != changes {
		return false
	}
	db.agreed.Store(a)
	db.leaseKnown.Store(true)
	db.fresh.lease.Store(int64(usableLease(a.lease)))
	return true
}

// knownChanges is how many changes of what was agreed this node has met.
func (db *DB) knownChanges() int {
	db.leaseMu.Lock()
	defer db.leaseMu.Unlock()
	return db.leaseChanges
}

// loadLease learns what was agreed, which it is a part of to begin with.
func (db *DB) loadLease(ctx context.Context) error {
	a := &agreed{}
	for changes := db.knownChanges(); a.rev == 0 || !db.learnLease(a, changes); changes = db.knownChanges() {
		u := update{db: db, fence: fenceAround{db: db}, bare: true, fn: func(tx *Tx) error {
			tx.OnlyAdds()
			c, err := Get(tx, coherenceKind, coherenceKey)
			if errors.Is(err, ErrNotFound) {
				first := nanoseconds(db.shared.NewLease())
				return Put(tx, coherenceKind, coherenceKey, &coherence{first, first})
			}
			if err == nil {
				*a = agreed{tx.read[coherenceKey], time.Duration(c.Lease), leaseWait(time.Duration(c.Wait))}
			}
			return err
		}}
		if err := u.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Lease is for how long this node decides by what it was last sure of; 0: not at all, or
// the store is not shared.
func (db *DB) Lease() time.Duration {
	if db.fresh == nil {
		return 0
	}
	return time.Duration(db.fresh.lease.Load())
}

// Age is how long ago the view of a shared store was certainly current. ok is false if it never
// was, or the store is not shared.
func (db *DB) Age() (age time.Duration, ok bool) {
	if db.fresh == nil {
		return 0, false
	}
	since := db.fresh.since.Load()
	return db.fresh.clock() - time.Duration(since), since >= 0
}

// SetLease makes all nodes agree on another lease, 0 to a minute. It takes some leases. If
// somebody else does the same meanwhile, one of both fails.
func (db *DB) SetLease(ctx context.Context, lease time.Duration) error {
	if db.fresh == nil || lease < 0 || lease > maxLease {
		return fmt.Errorf("store: a shared store has a lease of 0 to %v", maxLease)
	}
	wanted := nanoseconds(lease)
	step := func(next func(coherence) (coherence, error)) (c coherence, err error) {
		err = db.Update(ctx, func(tx *Tx) error {
			found, err := Get(tx, coherenceKind, coherenceKey)
			if err == nil {
				c, err = next(*found)
			}
			if err != nil {
				return err
			}
			tx.OnlyAdds() // what follows waits for itself
			return Put(tx, coherenceKind, coherenceKey, &c)
		})
		return c, err
	}
	// Changes wait for the longer of both for as long as any node may have either.
	between, err := step(func(old coherence) (coherence, error) {
		return coherence{min(old.Lease, wanted), max(old.Wait, wanted)}, nil
	})
	if err == nil {
		err = db.sleep(ctx, 3*leaseWait(time.Duration(between.Wait)))
	}
	if err == nil {
		_, err = step(func(found coherence) (coherence, error) {
			if found != between {
				return found, errors.New("store: somebody else has changed the lease meanwhile: look what it is, and try again")
			}
			return coherence{wanted, wanted}, nil
		})
	}
	return err
}

// Node is the name of this node; empty if the store is not shared.
func (db *DB) Node() string {
	if db.shared == nil {
		return ""
	}
	return db.shared.Node()
}

// Lead waits until no other node does the work that one does for all, and returns a context
// that ends when this one must not any more.
func (db *DB) Lead(ctx context.Context) (context.Context, context.CancelFunc, error) {
	if db.shared == nil {
		leading, cancel := context.WithCancel(ctx)
		return leading, cancel, ctx.Err()
	}
	return db.shared.Lead(ctx)
}

type currentKey struct{}

// Current returns a context in which every View has everything that was committed before it
// began, also what takes nothing away: for lists and descriptions.
func Current(ctx context.Context) context.Context { return context.WithValue(ctx, currentKey{}, true) }

func current(ctx context.Context) bool { return ctx.Value(currentKey{}) != nil }

// admit returns when a transaction may begin.
func (db *DB) admit(ctx context.Context) (confirmed bool, err error) {
	if db.fresh == nil {
		return true, nil
	}
	if current(ctx) {
		return true, db.fresh.confirm(ctx)
	}
	return false, db.fresh.check(ctx)
}

// doubtful reports whether a transaction that came to its end must be run again on a view
// that is certainly current: one that met a fence, one that was refused something, which
// may have been given since, and one on an unproved view that no commit proves.
func (tx *Tx) doubtful(err error) bool {
	return !tx.confirmed && (tx.fenced || err != nil || tx.unproved && (tx.listed || len(tx.write) == 0))
}

// Outlast returns when no node decides any more by what it knew before the call, unless it has
// asked since.
func (db *DB) Outlast(ctx context.Context) error {
	if db.fresh == nil {
		return nil
	}
	return db.sleep(ctx, db.agreed.Load().wait)
}

// OnlyAdds says that what the transaction writes can take no permission away from anybody,
// nor make a name mean something else: other nodes may learn of it a moment later.
func (tx *Tx) OnlyAdds() { tx.unfenced = true }

// Unserved says that no node decides by the store, whatever the transaction writes: none is
// running but this one, which serves nobody.
func (tx *Tx) Unserved() { tx.unfenced = true }

// OnlyCreates is OnlyAdds for what a caller makes anew, any number of them: it is refused
// while the store has little space left, so that there is some for what takes something away.
func (tx *Tx) OnlyCreates() { tx.unfenced, tx.creates = true, true }

// keepFresh proves again and again that the view is current, until ctx ends, and sweeps
// what nodes that died have left.
func (db *DB) keepFresh(ctx context.Context, logger *slog.Logger) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	seen, swept, told := map[string]Rev{}, time.Now(), false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := db.fresh.confirm(ctx)
		if err == nil && !db.leaseKnown.Load() {
			err = db.loadLease(ctx)
		}
		if err == nil && time.Since(swept) > fenceAge {
			swept = time.Now()
			seen, err = db.sweepFences(ctx, seen)
		}
		if err != nil && !told && ctx.Err() == nil {
			logger.Warn("this node cannot know what the others have changed, and decides nothing", "err", err)
		}
		told = err != nil // once, until it can again: a store that has stopped fails at once
	}
}

// observeShared takes note of fences and of the lease, after the memo has forgotten what
// they are about.
func (db *DB) observeShared(items []Item) {
	for _, i := range items {
		switch {
		case strings.HasPrefix(i.Key, fencePrefix):
			db.fences.put(i.Key, i.Val)
		case i.Key == coherenceKey:
			db.forgetLease()
		}
	}
}
