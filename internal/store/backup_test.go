package store_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
)

// A contextual is a test of one or the other kind.
type contextual interface {
	rapid.TB
	Context() context.Context
}

func backup(t contextual, db *store.DB, since *store.BackupInfo) (text []byte, info store.BackupInfo) {
	var b bytes.Buffer
	info, err := db.Backup(t.Context(), &b, since)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), info
}

func readBackup(text []byte) (*store.Backup, error) { return store.ReadBackup(bytes.NewReader(text)) }

// restore puts backups into a new store and opens it.
func restore(t contextual, seals []store.Seal, sealed store.Seal, texts ...[]byte) (*store.DB, error) {
	e, err := bolt.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	var backups []*store.Backup
	for _, text := range texts {
		b, err := readBackup(text)
		if err != nil {
			t.Fatal(err)
		}
		backups = append(backups, b)
	}
	if err := store.Restore(t.Context(), e, backups, seals, sealed); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	if sealed != nil {
		seals = []store.Seal{sealed}
	}
	return store.Open(t.Context(), e, seals...)
}

// contents are all notes of a store.
func contents(t contextual, db *store.DB) string {
	var out strings.Builder
	err := db.View(t.Context(), func(tx *store.Tx) error {
		out.Reset()
		list, err := store.List(tx, noteKind, "k/", "", 10_000)
		for _, e := range list {
			fmt.Fprintf(&out, "%s=%s\n", e.Key, e.Value.Text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// Whatever is written and removed between backups, the whole one and those that add to
// it give back the store as it was at the last.
func TestBackupAndRestore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e, err := bolt.OpenMemory()
		if err != nil {
			t.Fatal(err)
		}
		s, other := newKeySeal("one"), newKeySeal("two")
		db, err := store.Open(t.Context(), e, s)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		var texts [][]byte
		var since *store.BackupInfo
		for range rapid.IntRange(1, 4).Draw(t, "backups") {
			for range rapid.IntRange(0, 12).Draw(t, "changes") {
				key := rapid.StringMatching(`k/[a-e]{1,2}`).Draw(t, "key")
				text := strings.Repeat("x", rapid.SampledFrom([]int{0, 1, 100, 70_000}).Draw(t, "size")) + rapid.StringN(0, 5, 20).Draw(t, "text")
				remove := rapid.Bool().Draw(t, "remove")
				err := db.Update(t.Context(), func(tx *store.Tx) error {
					if remove {
						tx.Delete(key)
						return nil
					}
					return store.Put(tx, noteKind, key, &note{Text: text})
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			text, info := backup(t, db, since)
			b, err := readBackup(text)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := b.Verify(s); err != nil {
				t.Fatal(err)
			}
			texts, since = append(texts, text), &info
		}
		var sealed store.Seal
		if rapid.Bool().Draw(t, "sealed anew") {
			sealed = other
		}
		restored, err := restore(t, []store.Seal{s}, sealed, texts...)
		if err != nil {
			t.Fatal(err)
		}
		defer restored.Close()
		if got, want := contents(t, restored), contents(t, db); got != want {
			t.Errorf("restored:\n%s\nwant:\n%s", got, want)
		}
		if r, err := restored.Restored(t.Context()); err != nil || r == nil || r.Backup != since.ID {
			t.Errorf("Restored = %+v, %v", r, err)
		}
		if _, err := restored.Backup(t.Context(), new(bytes.Buffer), since); err == nil {
			t.Error("a backup adds to one of before the restoration")
		}
	})
}

// A backup that was cut anywhere, or changed in any byte, is refused.
func TestDamagedBackup(t *testing.T) {
	s := newKeySeal("one")
	db := mustOpenWith(t, filepath.Join(t.TempDir(), "store.db"), s)
	defer db.Close()
	for i := range 5 {
		put(t, db, fmt.Sprint("k/", i), note{Text: strings.Repeat("x", 30_000*(i%2)+i)})
	}
	text, _ := backup(t, db, nil)
	verify := func(text []byte) error {
		b, err := readBackup(text)
		if err == nil {
			_, _, err = b.Verify(s)
		}
		return err
	}
	if err := verify(text); err != nil {
		t.Fatal(err)
	}
	step := len(text)/1500 + 1
	for i := range len(text) {
		if i > 800 && i < len(text)-200 && i%step != 0 {
			continue
		}
		if verify(text[:i]) == nil {
			t.Errorf("a backup that was cut after %d of %d bytes passes", i, len(text))
		}
		changed := bytes.Clone(text)
		changed[i] ^= 1
		if verify(changed) == nil {
			t.Errorf("a backup whose byte %d of %d was changed passes", i, len(text))
		}
	}
	if verify(append(bytes.Clone(text), 'x')) == nil {
		t.Error("a backup with something behind its end passes")
	}
}

func TestRestoreRefuses(t *testing.T) {
	s := newKeySeal("one")
	db := mustOpenWith(t, filepath.Join(t.TempDir(), "store.db"), s)
	defer db.Close()
	put(t, db, "k/a", note{Text: "x"})
	first, info := backup(t, db, nil)
	put(t, db, "k/b", note{Text: "x"})
	second, info2 := backup(t, db, &info)
	third, _ := backup(t, db, &info2)
	whole, _ := backup(t, db, nil)
	seals := []store.Seal{s}
	for name, c := range map[string]struct {
		texts [][]byte
		seals []store.Seal
		want  error
	}{
		"one that adds, alone": {[][]byte{second}, seals, store.ErrBackup},
		"one left out":         {[][]byte{first, third}, seals, store.ErrBackup},
		"another whole one":    {[][]byte{first, whole}, seals, store.ErrBackup},
		"another seal":         {[][]byte{first}, []store.Seal{newKeySeal("two")}, store.ErrSeal},
	} {
		if db, err := restore(t, c.seals, nil, c.texts...); !errors.Is(err, c.want) {
			if db != nil {
				db.Close()
			}
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	other := mustOpenWith(t, filepath.Join(t.TempDir(), "store.db"), s)
	defer other.Close()
	if _, err := other.Backup(t.Context(), new(bytes.Buffer), &info); err == nil {
		t.Error("a backup adds to one of another store")
	}
	e, err := bolt.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "k", Val: []byte("v")}}}); err != nil {
		t.Fatal(err)
	}
	b, err := readBackup(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Restore(t.Context(), e, []*store.Backup{b}, seals, nil); err == nil {
		t.Error("a backup is restored over what is there")
	}
}

func FuzzReadBackup(f *testing.F) {
	e, err := bolt.OpenMemory()
	if err != nil {
		f.Fatal(err)
	}
	s := newKeySeal("one")
	db, err := store.Open(f.Context(), e, s)
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	put(f, db, "k/a", note{Text: "x"})
	text, _ := backup(f, db, nil)
	f.Add(text)
	f.Fuzz(func(t *testing.T, changed []byte) {
		b, err := readBackup(changed)
		if err == nil {
			_, _, err = b.Verify(s)
		}
		if err == nil && !bytes.Equal(changed, text) {
			t.Errorf("a backup that is not the one made passes: %q", changed)
		}
	})
}
