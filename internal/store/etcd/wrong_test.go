package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

// A doctored engine is one whose cache is wrong.
type doctored struct {
	*Engine
	reach   func(context.Context, *Engine) error // nil: the right one
	noFence bool
}

func (d doctored) Reach(ctx context.Context) error {
	if d.reach != nil {
		return d.reach(ctx, d.Engine)
	}
	return d.Engine.Reach(ctx)
}

func (d doctored) Commit(ctx context.Context, t store.Txn) (store.Rev, error) {
	if d.noFence {
		fence := func(i store.Item) bool { return strings.HasPrefix(i.Key, "!fence/") }
		t.If, t.Do = slices.DeleteFunc(t.If, fence), slices.DeleteFunc(t.Do, fence)
		if len(t.Do) == 0 {
			return 1, nil
		}
	}
	return d.Engine.Commit(ctx, t)
}

type register struct{ N int }

var registerKind = store.Kind[register]{Tag: 100, Name: "register"}

// plainSeal wraps nothing.
type plainSeal struct{}

func (plainSeal) Kind() string                    { return "plain" }
func (plainSeal) Wrap(b []byte) ([]byte, error)   { return slices.Clone(b), nil }
func (plainSeal) Unwrap(b []byte) ([]byte, error) { return slices.Clone(b), nil }

// TestCaches: on a cluster whose hosts are cut off in turn, the caches that one would write
// first serve what is not true any more, and this one does not. Each node knows the member
// of its own host alone.
func TestCaches(t *testing.T) {
	tests := []struct {
		name  string
		wrong doctored
		right bool
	}{
		{"as it is", doctored{}, true},
		{"trusts its watch", doctored{reach: func(context.Context, *Engine) error { return nil }}, false},
		{"trusts the progress of the member it watches", doctored{reach: func(ctx context.Context, e *Engine) error {
			r, err := e.client.Get(ctx, e.prefix+headKey, clientv3.WithSerializable()) // which needs no majority
			if err == nil && len(r.Kvs) > 0 {
				err = e.view.wait(ctx, store.Rev(r.Kvs[0].ModRevision))
			}
			return err
		}}, false},
		{"puts up no fence", doctored{noFence: true}, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			limit := 10 * time.Second
			if !test.right {
				limit = time.Minute // it ends with the first stale answer
			}
			reads, stale := watchRegisters(t, test.wrong, limit)
			t.Logf("%d reads, %d stale %s", reads, len(stale), strings.Join(slices.Concat(stale, []string{""})[:1], ""))
			if test.right != (len(stale) == 0) || test.right && reads < 100 {
				t.Error("that is not as it should be")
			}
		})
	}
}

func watchRegisters(t *testing.T, wrong doctored, limit time.Duration) (reads int64, stale []string) {
	h := etcdtest.StartHosts(t, 3)
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	var nodes []*store.DB
	for i := range 3 {
		e, err := Open(t.Context(), Config{Endpoints: h.Endpoints(i)[:1], Prefix: "/p/", Node: fmt.Sprint(i), Instance: fmt.Sprint(i), Lease: 200 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		d := wrong
		d.Engine = e
		db, err := store.Open(t.Context(), d, plainSeal{})
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		nodes = append(nodes, db)
	}
	var mu sync.Mutex // guards known and stale
	known := 0
	learn := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		known = max(known, n)
	}
	var count atomic.Int64
	var wg sync.WaitGroup
	for i, db := range nodes {
		wg.Go(func() { db.Run(ctx, slog.New(slog.DiscardHandler)) })
		wg.Go(func() {
			for ctx.Err() == nil {
				var n int
				err := db.Update(ctx, func(tx *store.Tx) error {
					r, err := store.Get(tx, registerKind, "r")
					if errors.Is(err, store.ErrNotFound) {
						r, err = &register{}, nil
					}
					if err != nil {
						return err
					}
					n = r.N + 1
					return store.Put(tx, registerKind, "r", &register{n})
				})
				if err == nil {
					learn(n)
				}
				time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
			}
		})
		wg.Go(func() {
			for ctx.Err() == nil {
				mu.Lock()
				want := known
				mu.Unlock()
				n := 0
				err := db.View(ctx, func(tx *store.Tx) error {
					r, err := store.Get(tx, registerKind, "r")
					if err == nil {
						n = r.N
					}
					return err
				})
				if err == nil {
					count.Add(1)
					if n < want {
						mu.Lock()
						stale = append(stale, fmt.Sprintf("node %d reads %d, and %d was known", i, n, want))
						mu.Unlock()
						stop()
					}
					learn(n)
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	grows := func() { // an election may have to come first
		mu.Lock()
		before := known
		mu.Unlock()
		for begin := time.Now(); ctx.Err() == nil && time.Since(begin) < 5*time.Second; wait(ctx, 10*time.Millisecond) {
			mu.Lock()
			now := known
			mu.Unlock()
			if now > before+1 {
				return
			}
		}
	}
	for i := 0; ctx.Err() == nil; i = (i + 1) % 3 {
		h.Cut(i)
		wait(ctx, time.Duration(rand.IntN(1500))*time.Millisecond)
		grows()
		h.Mend(i)
		grows()
	}
	wg.Wait()
	return count.Load(), stale
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
