package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/claviger/claviger/internal/store"
)

// FuzzCheck: whatever is in a file, checking it ends, and without a panic. The input
// is what to change in a file that is whole: places and what is put there.
func FuzzCheck(f *testing.F) {
	path := filepath.Join(f.TempDir(), "store.db")
	e, err := Open(path)
	if err != nil {
		f.Fatal(err)
	}
	for i := range 300 {
		_, err := e.Commit(f.Context(), store.Txn{Do: []store.Item{{Key: fmt.Sprint("key", i%200), Val: bytes.Repeat([]byte{byte(i)}, i*i%3000)}}})
		if err != nil {
			f.Fatal(err)
		}
	}
	if err := e.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	page := os.Getpagesize()
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 8, 0xff})
	for id := range len(whole) / page {
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(id*page+10)), 0xff))         // how many elements
		f.Add(append(binary.BigEndian.AppendUint32(nil, uint32(id*page+pageHeader)), 0xff)) // where the first is
	}
	f.Fuzz(func(t *testing.T, changes []byte) {
		text := bytes.Clone(whole)
		for ; len(changes) >= 5; changes = changes[5:] {
			text[int(binary.BigEndian.Uint32(changes))%len(text)] = changes[4]
		}
		for id := range int64(2) {
			m, err := readMeta(bytes.NewReader(text), id, int64(page))
			if err == nil {
				_ = check(bytes.NewReader(text), m, func(_, _, _ []byte) error { return nil })
			}
		}
	})
}

// A file whose free list bbolt cannot load is refused as damaged, and is not left locked.
func TestDamagedFreeList(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	e, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := int64(os.Getpagesize())
	for id := range int64(2) {
		m, err := readMeta(bytes.NewReader(text), id, page)
		if err != nil {
			t.Fatal(err)
		}
		text[int64(m.freelist)*page+8] ^= 1 // what kind of page it is
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := Open(path); !errors.Is(err, store.ErrDamaged) {
			t.Fatalf("refused with %v", err)
		}
	}
}
