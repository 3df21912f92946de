package store

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"uuid"
)

// A fence says that records are about to change in a way that takes something away. Whoever
// meets one makes sure that its view is current before it decides by such a record. The key
// is fencePrefix and a random id, the value a JSON list of the records' keys; it is not
// sealed, since all it can do is to make nodes more careful.
const (
	fencePrefix = "!fence/"
	maxFences   = 100_000
	// fenceAge is how old a fence gets whose owner does not remove it: more than twice as
	// old as the longest wait behind one.
	fenceAge = 3 * time.Minute
)

// fences are those that are up. The zero value has none and is ready.
type fences struct {
	up atomic.Int64 // how many

	mu    sync.RWMutex // guards the rest
	byID  map[string][]string
	byKey map[string]int
	since []Item // what was put since loading began; nil: nothing is being loaded
}

// cover reports whether a fence is around the record at key.
func (f *fences) cover(key string) bool {
	if f.up.Load() == 0 {
		return false
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.byKey[key] > 0
}

// coverAny reports whether a fence is around any record whose key has the prefix.
func (f *fences) coverAny(prefix string) bool {
	if f.up.Load() == 0 {
		return false
	}
	f.mu.RLock()
	defer f.mu.RUnlock()
	for key := range f.byKey {
		if strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

// put puts up or, without a value, takes away the fence at key.
func (f *fences) put(key string, val []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.since != nil {
		f.since = append(f.since, Item{Key: key, Val: val})
	}
	f.set(key, val)
}

func (f *fences) set(key string, val []byte) {
	for _, k := range f.byID[key] {
		if f.byKey[k]--; f.byKey[k] == 0 {
			delete(f.byKey, k)
		}
	}
	delete(f.byID, key)
	if val != nil {
		var keys []string
		if err := json.Unmarshal(val, &keys); err != nil {
			keys = nil // not ours: it covers nothing
		}
		if f.byID == nil {
			f.byID, f.byKey = map[string][]string{}, map[string]int{}
		}
		f.byID[key] = keys
		for _, k := range keys {
			f.byKey[k]++
		}
	}
	f.up.Store(int64(len(f.byKey)))
}

// load replaces what there is by what read returns, and by what is put meanwhile.
func (f *fences) load(read func() ([]Item, error)) error {
	f.mu.Lock()
	f.since = []Item{}
	f.mu.Unlock()
	items, err := read()
	f.mu.Lock()
	defer f.mu.Unlock()
	since := f.since
	f.since = nil
	if err != nil {
		return err
	}
	f.byID, f.byKey = nil, nil
	for _, i := range append(items, since...) {
		f.set(i.Key, i.Val)
	}
	f.up.Store(int64(len(f.byKey)))
	return nil
}

// A fenceAround is the fence of one transaction, through all its attempts.
type fenceAround struct {
	db     *DB
	agreed *agreed // about leases, when it was put up
	items  []Item  // the fences, each at its revision
	keys   []string
}

// standing forgets the fence if a part of it is not there any more: it is to be put up, and
// waited for, again.
func (a *fenceAround) standing(ctx context.Context) error {
	var keys []string
	for _, i := range a.items {
		keys = append(keys, i.Key)
	}
	if len(keys) == 0 {
		return nil
	}
	there, _, err := a.db.engine.Get(ctx, keys...)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(there, func(i Item) bool { return i.Val == nil }) {
		a.drop(ctx)
	}
	return nil
}

// lacks returns which of the keys the fence is not around. Records that do not exist, and
// whose keys are other ones in every attempt, nobody can have looked for: after a second
// attempt they need no fence.
func (a *fenceAround) lacks(ctx context.Context, keys []string) ([]string, error) {
	keys = slices.DeleteFunc(keys, func(k string) bool { return slices.Contains(a.keys, k) })
	if len(a.items) < 2 || len(keys) == 0 {
		return keys, nil
	}
	items, _, err := a.db.engine.Get(ctx, keys...)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, i := range items {
		if i.Val != nil {
			out = append(out, i.Key)
		}
	}
	return out, nil
}

// raise puts a fence around the records at keys and waits until every node has seen it, or
// refuses to decide.
func (a *fenceAround) raise(ctx context.Context, keys []string) error {
	text, err := json.Marshal(keys)
	if err != nil {
		return err
	}
	key := fencePrefix + uuid.New().String()
	rev, err := a.db.engine.Commit(ctx, Txn{If: []Item{{Key: key}, {Key: coherenceKey, Rev: a.agreed.rev}}, Do: []Item{{Key: key, Val: text}}})
	if errors.Is(err, ErrConflict) { // the lease was changed
		return a.db.fresh.confirm(ctx)
	}
	if err != nil {
		return err
	}
	a.items = append(a.items, Item{Key: key, Rev: rev})
	a.keys = append(a.keys, keys...)
	return a.db.sleep(ctx, a.agreed.wait)
}

// pause waits for d.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// within makes a transaction take the fence away, on the condition that it is still there:
// it may have been taken for forgotten.
func (a *fenceAround) within(t *Txn) {
	for _, i := range a.items {
		t.If = append(t.If, i)
		t.Do = append(t.Do, Item{Key: i.Key})
	}
}

// drop takes away a fence that was not needed after all.
func (a *fenceAround) drop(ctx context.Context) {
	if len(a.items) == 0 {
		return
	}
	var t Txn
	a.within(&t)
	t.If = nil                                               // some may be gone
	_, _ = a.db.engine.Commit(context.WithoutCancel(ctx), t) // else it is swept
	a.items, a.keys = nil, nil
}

// loadFences reads which fences are up.
func (db *DB) loadFences(ctx context.Context) error {
	return db.fences.load(func() ([]Item, error) {
		items, _, err := db.engine.Scan(ctx, fencePrefix, "", maxFences)
		return items, err
	})
}

// sweepFences takes away the fences that have been up since they were seen last time, and
// returns those that are up now.
func (db *DB) sweepFences(ctx context.Context, seen map[string]Rev) (map[string]Rev, error) {
	items, _, err := db.engine.Scan(ctx, fencePrefix, "", maxFences)
	if err != nil {
		return seen, err
	}
	up := map[string]Rev{}
	for _, i := range items {
		if seen[i.Key] != i.Rev {
			up[i.Key] = i.Rev
			continue
		}
		_, failed := db.engine.Commit(ctx, Txn{If: []Item{{Key: i.Key, Rev: i.Rev}}, Do: []Item{{Key: i.Key}}})
		if failed != nil && !errors.Is(failed, ErrConflict) {
			err = errors.Join(err, fmt.Errorf("take a fence away: %w", failed))
		}
	}
	return up, err
}
