//go:build linux

package powertest_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/durable/powertest"
	"github.com/claviger/claviger/internal/leakcheck"
)

func TestMain(m *testing.M) {
	powertest.Serve()
	os.Exit(leakcheck.Run(m))
}

const pageSize, sectorSize = 4096, 512

// cuts is enough for everything that is tossed for to come up both ways.
const cuts = 40

func random() *rand.Rand { return rand.New(rand.NewPCG(1, 1)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill makes a file of pages that are all the byte b.
func fill(b byte, pages int) []byte { return bytes.Repeat([]byte{b}, pages*pageSize) }

func openFile(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, flags, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// exists reports whether a cut has left a file.
func exists(t *testing.T, dir, name string) bool {
	t.Helper()
	_, err := os.Stat(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// What was synced survives; of what was written since, each page is dropped, kept or
// torn, and a longer file is long or short.
func TestPages(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	must(t, durable.Create(filepath.Join(d.Dir, "f"), fill('a', 8)))
	f := openFile(t, filepath.Join(d.Dir, "f"), os.O_RDWR)
	_, err := f.WriteAt(fill('b', 6), 4*pageSize) // the first four pages are left
	must(t, err)
	rng, seen := random(), map[string]int{}
	for range cuts {
		text, err := os.ReadFile(filepath.Join(d.Cut(rng), "f"))
		must(t, err)
		if !bytes.Equal(text[:4*pageSize], fill('a', 4)) {
			t.Fatal("what was synced is lost")
		}
		seen[fmt.Sprint(len(text)/pageSize, " pages")]++
		for page := 4; page < 8; page++ {
			seen[judge(t, text[page*pageSize:(page+1)*pageSize])]++
		}
	}
	for _, what := range []string{"8 pages", "10 pages", "dropped", "kept", "torn"} {
		if seen[what] == 0 {
			t.Errorf("never %s: %v", what, seen)
		}
	}
	must(t, f.Sync())
	for range cuts {
		text, err := os.ReadFile(filepath.Join(d.Cut(rng), "f"))
		if err != nil || !bytes.Equal(text, append(fill('a', 4), fill('b', 6)...)) {
			t.Fatalf("what was synced is lost: %v", err)
		}
	}
}

// judge says what became of a page of a's that was written over with b's.
func judge(t *testing.T, page []byte) string {
	t.Helper()
	kept := 0
	for sector := 0; sector < pageSize; sector += sectorSize {
		switch part := page[sector : sector+sectorSize]; {
		case bytes.Count(part, []byte("b")) == sectorSize:
			kept += sectorSize
		case bytes.Count(part, []byte("a")) != sectorSize:
			t.Fatalf("a torn sector: %q", part)
		}
	}
	switch kept {
	case 0:
		return "dropped"
	case pageSize:
		return "kept"
	default:
		return "torn"
	}
}

// Names are lost until their directory is synced, the latest first.
func TestNames(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	must(t, durable.Create(filepath.Join(d.Dir, "old"), []byte("text")))
	must(t, os.Rename(filepath.Join(d.Dir, "old"), filepath.Join(d.Dir, "new")))
	must(t, os.Mkdir(filepath.Join(d.Dir, "dir"), 0o700))
	must(t, durable.Create(filepath.Join(d.Dir, "dir", "f"), nil)) // syncs dir, and not the name of dir
	must(t, os.Remove(filepath.Join(d.Dir, "new")))
	rng, seen := random(), map[string]int{}
	for range cuts {
		dir := d.Cut(rng)
		seen[fmt.Sprint(exists(t, dir, "old"), exists(t, dir, "new"), exists(t, dir, "dir/f"))]++
	}
	for _, state := range []string{"true false false", "false true false", "false true true", "false false true"} {
		if seen[state] == 0 {
			t.Errorf("never %s", state)
		}
		delete(seen, state)
	}
	if len(seen) != 0 {
		t.Errorf("out of order: %v", seen)
	}
	must(t, durable.SyncDir(d.Dir))
	for range cuts {
		if dir := d.Cut(rng); exists(t, dir, "old") || exists(t, dir, "new") || !exists(t, dir, "dir/f") {
			t.Fatal("a synced name is lost, or one that was removed is back")
		}
	}
}

// A file that durable writes is whole in every cut, with the old text or the new.
func TestReplace(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	path := filepath.Join(d.Dir, "f")
	must(t, durable.Create(path, fill('a', 3)))
	var writer sync.WaitGroup
	done := make(chan struct{})
	writer.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			if err := durable.Replace(path, fill(byte('a'+i%26), 3)); err != nil {
				t.Error(err)
				return
			}
		}
	})
	rng := random()
	for range cuts {
		text, err := os.ReadFile(filepath.Join(d.Cut(rng), "f"))
		if err != nil || len(text) != 3*pageSize || strings.Trim(string(text), string(text[:1])) != "" {
			t.Errorf("%d bytes, %v", len(text), err)
		}
	}
	close(done)
	writer.Wait()
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	must(t, durable.Create(filepath.Join(d.Dir, "f"), fill('a', 4)))
	f := openFile(t, filepath.Join(d.Dir, "f"), os.O_RDWR|os.O_APPEND)
	must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 64<<20))
	must(t, f.Truncate(pageSize+10))
	must(t, f.Truncate(3*pageSize))
	_, err := f.WriteString("end")
	must(t, err)
	want := append(append(fill('a', 1), "aaaaaaaaaa"...), make([]byte, 2*pageSize-10)...)
	want = append(want, "end"...)
	text, err := os.ReadFile(f.Name())
	if err != nil || !bytes.Equal(text, want) {
		t.Errorf("it holds %d bytes, %v", len(text), err)
	}
	must(t, f.Sync())
	text, err = os.ReadFile(filepath.Join(d.Cut(random()), "f"))
	if err != nil || !bytes.Equal(text, want) {
		t.Errorf("the cut holds %d bytes, %v", len(text), err)
	}
}

func TestLoseSyncs(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	d.LoseSyncs(true)
	must(t, durable.Create(filepath.Join(d.Dir, "f"), []byte("text")))
	lost, rng := 0, random()
	for range cuts {
		if !exists(t, d.Cut(rng), "f") {
			lost++
		}
	}
	if lost == 0 || lost == cuts {
		t.Errorf("lost in %d of %d cuts", lost, cuts)
	}
}

// What a failed sync has not put on the disk no later sync does.
func TestFailSync(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	must(t, durable.Create(filepath.Join(d.Dir, "f"), fill('a', 2)))
	f := openFile(t, filepath.Join(d.Dir, "f"), os.O_RDWR)
	_, err := f.WriteAt(fill('b', 2), 0)
	must(t, err)
	d.FailSync(syscall.EIO)
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Sync = %v", err)
	}
	d.FailSync(0)
	_, err = f.WriteAt([]byte("c"), pageSize)
	must(t, err)
	must(t, f.Sync())
	want := append(fill('a', 1), fill('b', 1)...)
	want[pageSize] = 'c'
	rng := random()
	for range cuts {
		text, err := os.ReadFile(filepath.Join(d.Cut(rng), "f"))
		if err != nil || !bytes.Equal(text, want) {
			t.Fatalf("a page that was not written again is on the disk, or one that was is not: %v", err)
		}
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	path := filepath.Join(d.Dir, "f")
	must(t, durable.Create(path, []byte("text")))
	f := openFile(t, path, os.O_RDWR)
	d.ReadOnly(true)
	_, err := f.WriteString("more")
	for what, err := range map[string]error{
		"Write": err, "Truncate": f.Truncate(0), "Create": durable.Create(path+"2", nil), "Mkdir": os.Mkdir(path+"3", 0o700), "Remove": os.Remove(path),
		"Rename": os.Rename(path, path+"4"), "Link": os.Link(path, path+"5"),
	} {
		if !errors.Is(err, syscall.EROFS) || !durable.Refused(err) {
			t.Errorf("%s = %v", what, err)
		}
	}
	d.ReadOnly(false)
	if text, err := os.ReadFile(path); err != nil || string(text) != "text" {
		t.Errorf("it holds %q, %v", text, err)
	}
	must(t, durable.Replace(path, nil))
}

// A database that is mapped, locked, grown and read while it is written opens after
// each cut with every transaction that was committed before.
func TestDatabase(t *testing.T) {
	t.Parallel()
	d := powertest.Mount(t)
	db, err := bbolt.Open(filepath.Join(d.Dir, "db"), 0o600, nil)
	must(t, err)
	defer db.Close()
	must(t, durable.SyncDir(d.Dir))
	committed := func(tx *bbolt.Tx) (n uint64) {
		if b := tx.Bucket([]byte("b")); b != nil {
			n = b.Sequence()
		}
		return n
	}
	var acknowledged atomic.Uint64 // bbolt shows a transaction to readers before it is synced
	step := func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			n, err := b.NextSequence()
			if err != nil {
				return err
			}
			return b.Put(fmt.Appendf(nil, "%x", n*0x9e3779b97f4a7c15), make([]byte, 2000))
		})
	}
	done := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
			}
			if err := step(); err != nil {
				t.Error(err)
				return
			}
			acknowledged.Add(1)
		}
	})
	rng := random()
	for range cuts {
		before, after := acknowledged.Load(), uint64(0)
		left, err := bbolt.Open(filepath.Join(d.Cut(rng), "db"), 0o600, nil)
		must(t, err)
		must(t, left.View(func(tx *bbolt.Tx) error {
			after = committed(tx)
			for err := range tx.Check() {
				t.Error(err)
			}
			return nil
		}))
		must(t, left.Close())
		if after < before {
			t.Errorf("of %d transactions %d are left", before, after)
		}
	}
	close(done)
	writer.Wait()
}
