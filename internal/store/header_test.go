package store_test

import (
	"context"
	"encoding/json/v2"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
)

// A keySeal is a seal under a key of its own and of any kind.
type keySeal struct {
	*seal.Ephemeral
	kind string
}

func newKeySeal(kind string) keySeal { return keySeal{seal.NewEphemeral(), kind} }

func (k keySeal) Kind() string { return k.kind }

func openWith(t *testing.T, path string, seals ...store.Seal) (*store.DB, error) {
	t.Helper()
	e, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return store.Open(t.Context(), e, seals...)
}

func mustOpenWith(t *testing.T, path string, seals ...store.Seal) *store.DB {
	t.Helper()
	db, err := openWith(t, path, seals...)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func mustNotOpenWith(t *testing.T, want error, path string, seals ...store.Seal) {
	t.Helper()
	db, err := openWith(t, path, seals...)
	if err == nil {
		db.Close()
	}
	if !errors.Is(err, want) {
		t.Errorf("open: %v, want %v", err, want)
	}
}

// Any of several seals opens the store; one that was removed or replaced does not.
func TestSlots(t *testing.T) {
	ctx, path := context.Background(), filepath.Join(t.TempDir(), "store.db")
	first, second, third := newKeySeal("one"), newKeySeal("two"), newKeySeal("one")
	db := mustOpenWith(t, path, first)
	put(t, db, "a", note{Text: "x"})
	if err := db.AddSlot(ctx, "spare", second); err != nil {
		t.Fatal(err)
	}
	if err := db.AddSlot(ctx, "spare", second); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a second seal of one name: %v", err)
	}
	db.Close()
	mustNotOpenWith(t, seal.ErrWrongKey, path, third)
	mustNotOpenWith(t, store.ErrSeal, path, newKeySeal("three"))

	db = mustOpenWith(t, path, third, second)
	boom := errors.New("boom")
	if err := db.ReplaceSlot(ctx, "one", third, func() error { return boom }); !errors.Is(err, boom) {
		t.Errorf("a replacement that fails: %v", err)
	}
	mustNotTake := func() error { t.Error("taken"); return nil }
	if err := db.ReplaceSlot(ctx, "none", third, mustNotTake); err == nil {
		t.Error("a seal that is not there was replaced")
	}
	db.Close()
	mustOpenWith(t, path, third).Close() // it may be in place
	db = mustOpenWith(t, path, first)
	if err := db.ReplaceSlot(ctx, "one", third, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	db.Close()
	mustNotOpenWith(t, seal.ErrWrongKey, path, first)
	db = mustOpenWith(t, path, third)
	if err := db.RemoveSlot(ctx, "spare"); err != nil {
		t.Fatal(err)
	}
	if err := db.RemoveSlot(ctx, "one"); err == nil || !strings.Contains(err.Error(), "last seal") {
		t.Errorf("the last seal was removed: %v", err)
	}
	if err := db.RemoveSlot(ctx, "other"); err == nil {
		t.Error("a seal that is not there was removed")
	}
	if n, err := get(t, db, "a"); err != nil || n.Text != "x" {
		t.Errorf("Get = %v, %v", n, err)
	}
	db.Close()
	mustNotOpenWith(t, store.ErrSeal, path, second)
}

// The header is read before there is a key; nobody can change it without that.
func TestChangedHeader(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		want     error
	}{
		"a later format":   {`"Format":2`, `"Format":3`, store.ErrFormat},
		"no format":        {`"Format":2`, `"Format":0`, store.ErrFormat},
		"another time":     {`"Created":"2`, `"Created":"3`, store.ErrDamaged},
		"another name":     {`"Name":"one"`, `"Name":"two"`, store.ErrDamaged},
		"another seal":     {`"Kind":"one"`, `"Kind":"two"`, store.ErrSeal},
		"not even a shape": {`{"Format"`, `["Format"`, store.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			path, s := filepath.Join(t.TempDir(), "store.db"), newKeySeal("one")
			mustOpenWith(t, path, s).Close()
			e, err := bolt.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			items, _, err := e.Get(t.Context(), "!header")
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.Replace(string(items[0].Val), c.old, c.new, 1)
			if changed == string(items[0].Val) {
				t.Fatal("nothing is changed")
			}
			if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "!header", Val: []byte(changed)}}}); err != nil {
				t.Fatal(err)
			}
			e.Close()
			mustNotOpenWith(t, c.want, path, s)
		})
	}
}

// A record that is taken out, or put back, by somebody who can write the file and
// does not have the key, is noticed.
func TestRecordsTakenOut(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "store.db"), newKeySeal("one")
	db := mustOpenWith(t, path, s)
	put(t, db, "a", note{Text: "x"})
	put(t, db, "b", note{Text: "y"})
	db.Close()
	e, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "a"}}}); err != nil {
		t.Fatal(err)
	}
	e.Close()
	mustNotOpenWith(t, store.ErrDamaged, path, s)
}

// A header that passes for format 1, which had neither tag nor digest, does not open the
// store: what its seals wrap says that it is of a later one.
func TestHeaderOfAnEarlierFormat(t *testing.T) {
	path, s := filepath.Join(t.TempDir(), "store.db"), newKeySeal("one")
	mustOpenWith(t, path, s).Close()
	e, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	deployment, slots, err := store.Slots(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	old, err := json.Marshal(map[string]any{"Format": 1, "Deployment": deployment, "Seal": "one", "StoreKey": slots[0].Wrapped})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "!header", Val: old}}}); err != nil {
		t.Fatal(err)
	}
	e.Close()
	mustNotOpenWith(t, store.ErrDamaged, path, s)
}
