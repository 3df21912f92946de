package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/store/etcd"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

type note struct {
	Text  string
	Count int
	upper string
}

var noteKind = store.Kind[note]{Tag: 100, Name: "note", Prepare: func(n *note) error {
	n.upper = strings.ToUpper(n.Text)
	return nil
}}

var otherKind = store.Kind[note]{Tag: 101, Name: "other"}

func testSeal(t testing.TB) *seal.Passphrase {
	t.Helper()
	p, err := seal.NewPassphrase([]byte("for tests only, not secret"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// onEngines runs a test on each kind of engine; open makes an empty one, which the store
// that is opened on it owns.
func onEngines(t *testing.T, test func(t *testing.T, open func() store.Engine)) {
	t.Run("bolt", func(t *testing.T) {
		test(t, func() store.Engine {
			e, err := bolt.OpenMemory()
			if err != nil {
				t.Fatal(err)
			}
			return e
		})
	})
	t.Run("etcd", func(t *testing.T) {
		c := etcdtest.Start(t, 1)
		n := 0
		test(t, func() store.Engine {
			n++
			return openNode(t, c, fmt.Sprintf("/%d/", n), "node", 0)
		})
	})
}

// openNode opens the engine of a node.
func openNode(t testing.TB, c *etcdtest.Cluster, prefix, name string, lease time.Duration) *etcd.Engine {
	t.Helper()
	e, err := etcd.Open(t.Context(), etcd.Config{Endpoints: c.Endpoints(), Prefix: prefix, Node: name, Instance: name, Lease: lease, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func openMemory(t testing.TB) *store.DB {
	t.Helper()
	e, err := bolt.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, e)
}

func openOn(t testing.TB, e store.Engine) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), e, plainSeal{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func put(t testing.TB, db *store.DB, key string, n note) {
	t.Helper()
	if err := db.Update(t.Context(), func(tx *store.Tx) error { return store.Put(tx, noteKind, key, &n) }); err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, db *store.DB, key string) (n note, err error) {
	t.Helper()
	err = db.View(t.Context(), func(tx *store.Tx) error {
		v, err := store.Get(tx, noteKind, key)
		if err == nil {
			n = *v
		}
		return err
	})
	return n, err
}

func TestPutGetDelete(t *testing.T) { onEngines(t, testPutGetDelete) }

func testPutGetDelete(t *testing.T, open func() store.Engine) {
	db := openOn(t, open())
	if _, err := get(t, db, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get of nothing = %v, want ErrNotFound", err)
	}
	put(t, db, "a", note{Text: "x"})
	if n, err := get(t, db, "a"); err != nil || n.Text != "x" || n.upper != "X" {
		t.Fatalf("Get = %+v, %v", n, err)
	}
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		tx.Delete("a")
		if _, err := store.Get(tx, noteKind, "a"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get after Delete in one transaction = %v, want ErrNotFound", err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, db, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get after Delete = %v, want ErrNotFound", err)
	}
}

func TestFailedUpdateLeavesNothing(t *testing.T) { onEngines(t, testFailedUpdateLeavesNothing) }

func testFailedUpdateLeavesNothing(t *testing.T, open func() store.Engine) {
	db := openOn(t, open())
	boom := errors.New("boom")
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		if err := store.Put(tx, noteKind, "a", &note{}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Update = %v, want boom", err)
	}
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		tx.BeforeCommit(func() error { return boom })
		return store.Put(tx, noteKind, "a", &note{})
	})
	if !errors.Is(err, boom) {
		t.Fatalf("Update with a failing BeforeCommit = %v, want boom", err)
	}
	if _, err := get(t, db, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("Get = %v, want ErrNotFound", err)
	}
}

// Sixteen writers add to one counter and to their own; readers must never see
// the two halves of a transaction apart.
func TestConcurrentTransactions(t *testing.T) { onEngines(t, testConcurrentTransactions) }

func testConcurrentTransactions(t *testing.T, open func() store.Engine) {
	db := openOn(t, open())
	put(t, db, "a", note{})
	put(t, db, "b", note{})
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				err := db.View(context.Background(), func(tx *store.Tx) error {
					a, err := store.Get(tx, noteKind, "a")
					if err != nil {
						return err
					}
					b, err := store.Get(tx, noteKind, "b")
					if err == nil && a.Count != b.Count {
						return fmt.Errorf("a = %d, b = %d", a.Count, b.Count)
					}
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 16 {
		writers.Go(func() {
			for range 20 {
				err := db.Update(context.Background(), func(tx *store.Tx) error {
					for _, k := range []string{"a", "b"} {
						n, err := store.Edit(tx, noteKind, k)
						if err != nil {
							return err
						}
						n.Count++
						if err := store.Put(tx, noteKind, k, n); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
	if n, err := get(t, db, "a"); err != nil || n.Count != 320 {
		t.Errorf("count = %d, %v; want 320", n.Count, err)
	}
}

// The store behaves as a map does.
func TestModel(t *testing.T) { onEngines(t, testModel) }

func testModel(t *testing.T, open func() store.Engine) {
	rapid.Check(t, func(rt *rapid.T) {
		db, err := store.Open(context.Background(), open(), plainSeal{})
		if err != nil {
			rt.Fatal(err)
		}
		defer db.Close()
		want := map[string]string{}
		key := rapid.StringMatching(`k/[a-c]{1,2}`)
		rt.Repeat(map[string]func(*rapid.T){
			"write": func(rt *rapid.T) {
				k, v, del := key.Draw(rt, "key"), rapid.String().Draw(rt, "value"), rapid.Bool().Draw(rt, "delete")
				err := db.Update(context.Background(), func(tx *store.Tx) error {
					if del {
						tx.Delete(k)
						return nil
					}
					return store.Put(tx, noteKind, k, &note{Text: v})
				})
				if err != nil {
					rt.Fatal(err)
				}
				if del {
					delete(want, k)
				} else {
					want[k] = v
				}
			},
			"read": func(rt *rapid.T) {
				k := key.Draw(rt, "key")
				err := db.View(context.Background(), func(tx *store.Tx) error {
					n, err := store.Get(tx, noteKind, k)
					if v, ok := want[k]; ok != (err == nil) || ok && n.Text != v {
						rt.Fatalf("Get(%s) = %v, %v; want %q, %t", k, n, err, v, ok)
					}
					return nil
				})
				if err != nil {
					rt.Fatal(err)
				}
			},
			"list": func(rt *rapid.T) {
				after := rapid.SampledFrom([]string{"", "k/a", "k/b", "k/bb", "k/z"}).Draw(rt, "after")
				var got, wanted []string
				err := db.View(context.Background(), func(tx *store.Tx) error {
					entries, err := store.List(tx, noteKind, "k/", after, 5)
					for _, e := range entries {
						got = append(got, e.Key+"="+e.Value.Text)
					}
					return err
				})
				if err != nil {
					rt.Fatal(err)
				}
				for _, k := range slices.Sorted(maps.Keys(want)) {
					if k > after && len(wanted) < 5 {
						wanted = append(wanted, k+"="+want[k])
					}
				}
				if !slices.Equal(got, wanted) {
					rt.Fatalf("List after %q = %q, want %q", after, got, wanted)
				}
			},
		})
	})
}

// plainSeal wraps nothing: the model test opens thousands of stores.
type plainSeal struct{}

func (plainSeal) Kind() string                    { return "plain" }
func (plainSeal) Wrap(b []byte) ([]byte, error)   { return slices.Clone(b), nil }
func (plainSeal) Unwrap(b []byte) ([]byte, error) { return slices.Clone(b), nil }

func TestRecordsAreBoundToTheirPlace(t *testing.T) { onEngines(t, testRecordsAreBoundToTheirPlace) }

func testRecordsAreBoundToTheirPlace(t *testing.T, open func() store.Engine) {
	e := open()
	db := openOn(t, e)
	put(t, db, "a", note{Text: "secret text"})
	put(t, db, "b", note{Text: "b"})
	items, _, err := e.Get(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(items[0].Val), "secret") {
		t.Error("the record is stored in the clear")
	}
	tests := map[string]store.Item{
		"moved to another key": {Key: "b", Val: items[0].Val},
		"one bit flipped":      {Key: "b", Val: flip(items[0].Val)},
		"cut":                  {Key: "b", Val: items[0].Val[:1]},
	}
	for name, item := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{item}}); err != nil {
				t.Fatal(err)
			}
			if _, err := get(t, db, "b"); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("Get = %v, want ErrDamaged", err)
			}
		})
	}
	t.Run("another kind", func(t *testing.T) {
		err := db.View(t.Context(), func(tx *store.Tx) error {
			_, err := store.Get(tx, otherKind, "a")
			return err
		})
		if !errors.Is(err, store.ErrDamaged) {
			t.Errorf("Get = %v, want ErrDamaged", err)
		}
	})
}

func flip(b []byte) []byte {
	c := slices.Clone(b)
	c[len(c)-1] ^= 1
	return c
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	e, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), e, testSeal(t))
	if err != nil {
		t.Fatal(err)
	}
	put(t, db, "a", note{Text: "x"})
	if _, err := bolt.Open(path); !errors.Is(err, store.ErrLocked) {
		t.Errorf("second Open = %v, want ErrLocked", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if e, err = bolt.Open(path); err != nil {
		t.Fatal(err)
	}
	other, _ := seal.NewPassphrase([]byte("quite another passphrase"))
	if _, err := store.Open(t.Context(), e, other); !errors.Is(err, seal.ErrWrongKey) {
		t.Errorf("Open with another passphrase = %v, want ErrWrongKey", err)
	}
	if e, err = bolt.Open(path); err != nil {
		t.Fatal(err)
	}
	if db, err = store.Open(t.Context(), e, testSeal(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if n, err := get(t, db, "a"); err != nil || n.Text != "x" {
		t.Errorf("Get after reopening = %+v, %v", n, err)
	}
}

func TestFormatIsChecked(t *testing.T) { onEngines(t, testFormatIsChecked) }

func testFormatIsChecked(t *testing.T, open func() store.Engine) {
	e := open()
	_, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "!header", Val: []byte(`{"Format":99}`)}}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Open(t.Context(), e, plainSeal{}); !errors.Is(err, store.ErrFormat) {
		t.Errorf("Open = %v, want ErrFormat", err)
	}
}

func TestMarks(t *testing.T) { onEngines(t, testMarks) }

func testMarks(t *testing.T, open func() store.Engine) {
	db := openOn(t, open())
	err := db.Update(t.Context(), func(tx *store.Tx) error { return tx.Mark("one") })
	if err != nil {
		t.Fatal(err)
	}
	if marks, err := db.Marks(t.Context()); err != nil || !marks["one"] {
		t.Fatalf("Marks = %v, %v; want one", marks, err)
	}
	db.Unmark("one")
	put(t, db, "a", note{}) // which does not take up how far the log reaches
	if marks, err := db.Marks(t.Context()); err != nil || !marks["one"] {
		t.Fatalf("Marks = %v, %v; want one still", marks, err)
	}
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		tx.AtCommit(func() error { return nil })
		return store.Put(tx, noteKind, "b", &note{})
	})
	if err != nil {
		t.Fatal(err)
	}
	if marks, err := db.Marks(t.Context()); err != nil || len(marks) != 0 {
		t.Fatalf("Marks after Unmark = %v, %v; want none", marks, err)
	}
}

func TestTooLarge(t *testing.T) { onEngines(t, testTooLarge) }

func testTooLarge(t *testing.T, open func() store.Engine) {
	db := openOn(t, open())
	err := db.Update(t.Context(), func(tx *store.Tx) error {
		for i := range store.MaxTxnOps + 1 {
			if err := store.Put(tx, noteKind, fmt.Sprint(i), &note{}); err != nil {
				return err
			}
		}
		return nil
	})
	if !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("Update = %v, want ErrTooLarge", err)
	}
}

// FuzzToken: a token opens under the name it was made for, and no other does.
func FuzzToken(f *testing.F) {
	db := openMemory(f)
	good, err := db.Token("grant token", []byte("what it says"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("grant token", good)
	f.Add("session token", good)
	f.Add("grant token", good[:len(good)-1])
	f.Fuzz(func(t *testing.T, name string, token []byte) {
		text, err := db.OpenToken(name, token)
		right := name == "grant token" && bytes.Equal(token, good)
		if right != (err == nil) || right && string(text) != "what it says" || err != nil && (!errors.Is(err, store.ErrDamaged) || text != nil) {
			t.Fatalf("OpenToken of %x as %q = %q, %v", token, name, text, err)
		}
	})
}

// FuzzRecord: what is not the sealed record that was written at a key is no record
// there, of any kind.
func FuzzRecord(f *testing.F) {
	e, err := bolt.OpenMemory()
	if err != nil {
		f.Fatal(err)
	}
	db := openOn(f, e)
	put(f, db, "k/a", note{Text: "a"})
	items, _, err := e.Get(f.Context(), "k/a")
	if err != nil {
		f.Fatal(err)
	}
	good := bytes.Clone(items[0].Val)
	f.Add("k/a", good)
	f.Add("k/b", good)
	f.Add("k/a", append([]byte{good[0], otherKind.Tag}, good[2:]...))
	f.Add("k/a", good[:2])
	f.Fuzz(func(t *testing.T, key string, sealed []byte) {
		if len(key) > 500 || len(sealed) == 0 {
			return
		}
		key = "k/" + strings.TrimPrefix(key, "k/")
		if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: key, Val: sealed}}}); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []store.Kind[note]{noteKind, otherKind} {
			var n *note
			err := db.View(t.Context(), func(tx *store.Tx) (err error) {
				n, err = store.Get(tx, kind, key)
				return err
			})
			right := key == "k/a" && bytes.Equal(sealed, good) // remembered, it is a note whatever it is asked for as
			if right && kind.Tag == otherKind.Tag {
				continue
			}
			if right != (err == nil) || right && n.Text != "a" || err != nil && (!errors.Is(err, store.ErrDamaged) || n != nil) {
				t.Fatalf("%x at %q as a %s = %v, %v", sealed, key, kind.Name, n, err)
			}
		}
	})
}
