//go:build linux

package powertest

import (
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
)

const sectorSize = 512

// A remnant is what a cut leaves of a file.
type remnant struct {
	size  int64
	pages map[int64]page
}

// A wreck is a power cut at work.
type wreck struct {
	rng   *rand.Rand
	files map[*node]remnant // a file with two names has one content
	tasks []func() error    // write it down
}

// cut writes what a power cut leaves to the directory. The file system goes on while
// it writes.
func (fs *fileSystem) cut(rng *rand.Rand, dir string) error {
	w := &wreck{rng: rng, files: map[*node]remnant{}}
	fs.mu.Lock()
	w.directory(fs.nodes[rootNumber], dir)
	fs.mu.Unlock()
	for _, task := range w.tasks {
		if err := task(); err != nil {
			return err
		}
	}
	return nil
}

// directory keeps a random number of the changes that are not synced, from the first on.
func (w *wreck) directory(n *node, path string) {
	names := maps.Clone(n.syncedNames)
	for _, c := range n.changes[:w.rng.IntN(len(n.changes)+1)] {
		apply(names, c)
	}
	for _, name := range sorted(names) {
		child, path := names[name], filepath.Join(path, name)
		mode := os.FileMode(child.mode & 0o777)
		if child.isDir() {
			w.tasks = append(w.tasks, func() error { return os.Mkdir(path, mode) })
			w.directory(child, path)
			continue
		}
		r, ok := w.files[child]
		if !ok {
			r = w.file(child)
			w.files[child] = r
		}
		w.tasks = append(w.tasks, func() error { return r.write(path, mode) })
	}
}

// file drops, keeps or tears each page that is not synced, and may keep a new size.
func (w *wreck) file(n *node) remnant {
	r := remnant{n.syncedSize, maps.Clone(n.syncedPages)}
	for _, number := range slices.Sorted(maps.Keys(n.unsynced)) {
		switch after := n.pages[number]; {
		case !n.unsynced[number]: // lost with a sync that failed
		case w.rng.IntN(3) == 0:
			r.pages[number] = copied(after)
		case w.rng.IntN(2) == 0:
			r.pages[number] = w.tear(r.pages[number], after)
		}
	}
	if w.rng.IntN(2) == 0 {
		r.size = n.size
	}
	return r
}

// tear takes each sector from one page or the other.
func (w *wreck) tear(before, after page) page {
	torn, other := copied(before), copied(after)
	for at := 0; at < pageSize; at += sectorSize {
		if w.rng.IntN(2) == 0 {
			copy(torn[at:at+sectorSize], other[at:])
		}
	}
	return torn
}

func copied(p page) page {
	var c [pageSize]byte
	if p != nil {
		c = *p
	}
	return &c
}

func (r remnant) write(path string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer f.Close()
	for number, p := range r.pages {
		if p == nil {
			continue
		}
		if _, err := f.WriteAt(p[:], number*pageSize); err != nil {
			return err
		}
	}
	return f.Truncate(r.size)
}
