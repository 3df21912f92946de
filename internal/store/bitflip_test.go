package store_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
)

const flipRecords = 150

// flipStore makes a file with a history: several levels of pages, free ones, long
// records.
func flipStore(t *testing.T) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "store.db")
	db := openFile(t, path)
	for round := range 3 {
		for i := range flipRecords {
			put(t, db, flipKey(i), note{Text: fmt.Sprintf("%0*d", 10+i*(round+i%20), i), Count: i})
			if i%7 == 0 {
				err := db.Update(t.Context(), func(tx *store.Tx) error { tx.Delete(flipKey(i) + "/gone"); return nil })
				if err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func flipKey(i int) string { return fmt.Sprintf("k/eu-central-1/111122223333/key/%06d", i*i) }

func openFile(t *testing.T, path string) *store.DB {
	t.Helper()
	e, err := bolt.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), e, plainSeal{})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// flipPlaces are bits all over the file, and every bit of the first bytes of its pages.
func flipPlaces(text []byte) (places []int) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		places = append(places, rng.IntN(len(text)*8))
	}
	for page := 0; page < len(text); page += 4096 {
		for range 2 {
			places = append(places, page*8+rng.IntN(128*8))
		}
	}
	for bit := range 80 * 8 { // the two roots
		places = append(places, bit, 4096*8+bit)
	}
	return places
}

// A bit that flips anywhere in the file while no server has it open: the store does
// not open, or everything is as it was, because the bit is in a part that means
// nothing.
func TestFlippedBits(t *testing.T) {
	text := flipStore(t)
	path := filepath.Join(t.TempDir(), "store.db")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	places, found := flipPlaces(text), 0
	for i, bit := range places {
		if i > 0 {
			flipBit(t, path, places[i-1]) // back
		}
		flipBit(t, path, bit)
		if damaged(t, path) {
			found++
			continue
		}
		db := openFile(t, path)
		if err := all(t.Context(), db); err != nil {
			t.Errorf("bit %d, in byte %d of page %d: it opens, and %v", bit, bit/8%4096, bit/8/4096, err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bits of a file of %d bytes: %d found, the others mean nothing", len(places), len(text), found)
	if found < len(places)/4 {
		t.Error("hardly any was found")
	}
}

// flipBit flips a bit of a file.
func flipBit(t *testing.T, path string, bit int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	one := make([]byte, 1)
	_, err = f.ReadAt(one, int64(bit/8))
	one[0] ^= 1 << (bit % 8)
	if err == nil {
		_, err = f.WriteAt(one, int64(bit/8))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// damaged reports whether the file is refused, in a way that says why.
func damaged(t *testing.T, path string) bool {
	t.Helper()
	e, err := bolt.Open(path)
	if err == nil {
		var db *store.DB
		if db, err = store.Open(t.Context(), e, plainSeal{}); err == nil {
			err = db.Close()
		}
	}
	if err != nil && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, store.ErrFormat) && !errors.Is(err, store.ErrSeal) {
		t.Errorf("a damaged file is refused with %v", err)
	}
	return err != nil
}

// all checks that every record is there, found alone and in the list.
func all(ctx context.Context, db *store.DB) error {
	return db.View(ctx, func(tx *store.Tx) error {
		for i := range flipRecords {
			n, err := store.Get(tx, noteKind, flipKey(i))
			if err != nil {
				return err
			}
			if n.Count != i {
				return fmt.Errorf("record %d is another one", i)
			}
		}
		list, err := store.List(tx, noteKind, "k/", "", 2*flipRecords)
		if err == nil && len(list) != flipRecords {
			err = fmt.Errorf("%d records are listed", len(list))
		}
		return err
	})
}

// A bit that flips while the store is open: what is read is right or refused, and the
// next verification finds it and stops the store.
func TestFlippedBitsOfAnOpenStore(t *testing.T) {
	text := flipStore(t)
	path := filepath.Join(t.TempDir(), "store.db")
	rng := rand.New(rand.NewPCG(3, 4))
	for range 100 {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		db := openFile(t, path)
		at := rng.IntN(len(text) * 8)
		flipBit(t, path, at)
		verified := db.Verify(t.Context())
		served := all(t.Context(), db)
		switch {
		case verified == nil && served != nil:
			t.Errorf("bit %d: verified, and then %v", at, served)
		case verified != nil && (!errors.Is(verified, store.ErrDamaged) || !errors.Is(served, store.ErrDamaged) || !errors.Is(db.Err(), store.ErrDamaged)):
			t.Errorf("bit %d: found (%v), and then served: %v, %v", at, verified, served, db.Err())
		}
		db.Close()
	}
}
