package store

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	schedules = flag.Int("schedules", 300, "how many schedules of the protocol are tried in each test")
	firstSeed = flag.Uint64("schedule", 1, "the first of them")
)

type register struct{ N int }

var registerKind = Kind[register]{Tag: 100, Name: "register"}

// A wrongCache changes a node so that it may decide by what is not true any more.
type wrongCache func(*DB, *simNode)

// simulate runs nodes that change and read registers, and returns what was read although
// something newer was known before.
func simulate(t *testing.T, seed uint64, lease time.Duration, wrong wrongCache) (stale []string) {
	synctest.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 1))
		c, began := newSimCluster(rng), time.Now()
		c.lease = lease
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		defer time.Sleep(time.Minute) // until whoever still sleeps has seen that all is over
		var nodes []*DB
		for range 3 {
			e := newSimNode(c)
			if err := e.wait(ctx, c.head()); err != nil {
				t.Fatal(err)
			}
			db, err := Open(ctx, e, simSeal{})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			nodes = append(nodes, db)
		}
		c.getRough()
		for _, db := range nodes {
			rate := 0.9 + rng.Float64()/5 // what its clock counts in a second
			db.fresh.clock = func() time.Duration { return time.Duration(float64(time.Since(began)) * rate) }
			db.sleep = func(ctx context.Context, d time.Duration) error { return pause(ctx, time.Duration(float64(d)/rate)) }
			db.fresh.since.Store(math.MinInt64 / 2)
			if wrong != nil {
				wrong(db, db.shared.(*simNode))
			}
		}
		keys := []string{"a", "b"}
		var mu sync.Mutex // guards what follows
		known := map[string]int{}
		learn := func(key string, n int) {
			mu.Lock()
			defer mu.Unlock()
			known[key] = max(known[key], n)
		}
		found := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			stale = append(stale, fmt.Sprintf(format, args...))
		}
		floor := func(key string) int {
			mu.Lock()
			defer mu.Unlock()
			return known[key]
		}
		var wg sync.WaitGroup
		for i := range 2 {
			wg.Go(func() {
				for range 3 {
					db, key := nodes[c.duration(3)], keys[i]
					ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond+c.duration(30*time.Second)) // some die behind their fence
					want, n := floor(key), 0
					err := db.Update(ctx, func(tx *Tx) error {
						r, err := Get(tx, registerKind, key)
						switch {
						case errors.Is(err, ErrNotFound):
							r = &register{}
						case err != nil:
							return err
						}
						n = r.N + 1
						return Put(tx, registerKind, key, &register{n})
					})
					cancel()
					if err == nil {
						if n <= want {
							found("%s becomes %d and was known to be %d", key, n, want)
						}
						learn(key, n)
					}
					time.Sleep(c.duration(time.Second))
				}
			})
		}
		done := make(chan struct{})
		var readers sync.WaitGroup
		for i := range 4 {
			readers.Go(func() {
				for {
					select {
					case <-done:
						return
					default:
					}
					db, key := nodes[c.duration(3)], keys[c.duration(2)]
					want, n := floor(key), 0
					read := func(tx *Tx) error {
						if c.chance(10) { // frozen
							time.Sleep(c.duration(3 * time.Second))
						}
						r, err := Get(tx, registerKind, key)
						if err == nil {
							n = r.N
						}
						return err
					}
					var err error
					switch c.duration(10) {
					default:
						err = db.View(ctx, read)
					case 1:
						err = db.Update(ctx, read)
					case 2: // a commit that depends on it
						err = db.Update(ctx, func(tx *Tx) error {
							tx.OnlyAdds()
							return errors.Join(read(tx), Put(tx, registerKind, fmt.Sprint("found by ", i), &register{n}))
						})
					case 3: // a commit that does not depend on what was read
						err = db.Update(ctx, func(tx *Tx) error {
							tx.OnlyAdds()
							found, err := List(tx, registerKind, key, "", 1)
							if err == nil && len(found) == 1 {
								n = found[0].Value.N
							}
							return errors.Join(err, Put(tx, registerKind, fmt.Sprint("found by ", i), &register{n}))
						})
					}
					switch {
					case errors.Is(err, ErrNotFound), err == nil:
						if n < want {
							found("%s is %d and was known to be %d", key, n, want)
						}
						learn(key, n)
					case !errors.Is(err, ErrDoubt) && !errors.Is(err, ErrUnknown):
						t.Error(err)
					}
					time.Sleep(c.duration(100 * time.Millisecond))
				}
			})
		}
		wg.Wait()
		close(done)
		readers.Wait()
	})
	return stale
}

type simSeal struct{}

func (simSeal) Kind() string                    { return "plain" }
func (simSeal) Wrap(b []byte) ([]byte, error)   { return slices.Clone(b), nil }
func (simSeal) Unwrap(b []byte) ([]byte, error) { return slices.Clone(b), nil }

// Whatever the network, the clocks and dying writers do, nobody reads a value after a later
// one was known to anybody: registers are linearizable.
func TestProtocol(t *testing.T) {
	for name, lease := range map[string]time.Duration{"strict": 0, "50 ms": 50 * time.Millisecond, "1 s": time.Second} {
		t.Run(name, func(t *testing.T) {
			for seed := *firstSeed; seed < *firstSeed+uint64(*schedules); seed++ {
				if stale := simulate(t, seed, lease, nil); len(stale) > 0 {
					t.Fatalf("schedule %d: %v", seed, stale)
				}
			}
		})
	}
}

// The caches that one would write first are found to be wrong.
func TestWrongCaches(t *testing.T) {
	for name, wrong := range map[string]wrongCache{
		"trusts its watch": func(_ *DB, n *simNode) {
			n.reach = func(context.Context) error { return nil }
		},
		"trusts the progress of the member it watches": func(_ *DB, n *simNode) {
			n.reach = func(ctx context.Context) error {
				n.c.latency()
				rev, _ := n.Head(ctx) // of a member that may be cut off
				return n.wait(ctx, rev)
			}
		},
		"trusts revisions in headers": func(_ *DB, n *simNode) {
			n.reach = func(context.Context) error { // they are ahead of the events
				n.c.latency()
				_ = n.c.head()
				n.c.latency()
				return nil
			}
		},
		"reads the clock after the probe": func(db *DB, n *simNode) {
			right := db.fresh.reach
			db.fresh.reach = func(ctx context.Context) error {
				err := right(ctx)
				if err == nil {
					db.fresh.since.Store(int64(db.fresh.clock()))
				}
				return err
			}
		},
		"puts up no fence": func(db *DB, _ *simNode) { db.agreed.Store(&agreed{rev: db.agreed.Load().rev}) },
	} {
		t.Run(name, func(t *testing.T) {
			for n := range uint64(20_000) {
				seed := n % 1000 // goroutines take turns in another order each time
				if stale := simulate(t, seed, 50*time.Millisecond, wrong); len(stale) > 0 {
					t.Logf("schedule %d: %s", seed, stale[0])
					return
				}
			}
			t.Error("no schedule shows it")
		})
	}
}

// contested commits nothing but what the protocol itself needs: somebody else is always
// quicker.
type contested struct{ *simNode }

func (c contested) Commit(ctx context.Context, t Txn) (Rev, error) {
	if slices.ContainsFunc(t.Do, func(i Item) bool { return i.Key == "a" }) {
		return 0, ErrConflict
	}
	return c.simNode.Commit(ctx, t)
}

// A transaction that never gets its turn fails: it does not pass for one that was committed,
// and neither does a view that is always overtaken decide by what it happens to see.
func TestNeverItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSimCluster(rand.New(rand.NewPCG(1, 1)))
		c.lease = time.Second
		db, err := Open(t.Context(), contested{newSimNode(c)}, simSeal{})
		if err != nil {
			t.Fatal(err)
		}
		defer time.Sleep(time.Minute)
		defer db.Close()
		for name, stale := range map[string]bool{"conflicts": false, "overtaken": true} {
			err = db.Update(t.Context(), func(tx *Tx) error {
				tx.stale = stale
				return Put(tx, registerKind, "a", &register{1})
			})
			if !errors.Is(err, ErrConflict) {
				t.Errorf("%s: Update = %v, want ErrConflict", name, err)
			}
		}
		err = db.View(t.Context(), func(tx *Tx) error {
			tx.stale = true
			return nil
		})
		if !errors.Is(err, ErrDoubt) {
			t.Errorf("View = %v, want ErrDoubt", err)
		}
	})
}

// The last space of a store is for what takes something away.
func TestLastSpace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newSimNode(newSimCluster(rand.New(rand.NewPCG(1, 1))))
		n.full = true
		db, err := Open(t.Context(), n, simSeal{})
		if err != nil {
			t.Fatal(err)
		}
		defer time.Sleep(time.Minute)
		defer db.Close()
		for _, creates := range []bool{true, false} {
			var want error
			if creates {
				want = ErrFull
			}
			if err := db.Update(t.Context(), func(tx *Tx) error {
				if creates {
					tx.OnlyCreates()
				}
				return Put(tx, registerKind, "a", &register{1})
			}); !errors.Is(err, want) {
				t.Errorf("creates %v: %v, want %v", creates, err, want)
			}
		}
	})
}

// A fence that was swept while its owner waited is put up again.
func TestSweptFence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newSimCluster(rand.New(rand.NewPCG(1, 1)))
		c.lease = time.Second
		db, err := Open(t.Context(), newSimNode(c), simSeal{})
		if err != nil {
			t.Fatal(err)
		}
		defer time.Sleep(time.Minute)
		defer db.Close()
		waits := 0
		db.sleep = func(ctx context.Context, d time.Duration) error {
			if waits++; waits == 1 {
				seen, err := db.sweepFences(ctx, nil)
				if err == nil {
					_, err = db.sweepFences(ctx, seen)
				}
				if err != nil {
					t.Error(err)
				}
			}
			return pause(ctx, d)
		}
		err = db.Update(t.Context(), func(tx *Tx) error { return Put(tx, registerKind, "a", &register{1}) })
		if err != nil || waits != 2 {
			t.Errorf("Update = %v after %d waits, want two", err, waits)
		}
		if items, _, err := db.engine.Scan(t.Context(), fencePrefix, "", 10); err != nil || len(items) > 0 {
			t.Errorf("%d fences are left, %v", len(items), err)
		}
	})
}
