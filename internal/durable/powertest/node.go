//go:build linux

package powertest

import (
	"maps"
	"slices"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
)

const pageSize = 4096

// A page is never changed once it is synced. Nil is all zeros.
type page *[pageSize]byte

// A node is a file or a directory.
type node struct {
	number uint64
	mode   uint32
	links  int

	// Of a file: what programs see, and what is on the disk.
	size, syncedSize   int64
	pages, syncedPages map[int64]page
	// unsynced are the pages that differ. False: a sync has failed, and no other
	// will write this page unless it is written to again.
	unsynced map[int64]bool

	// Of a directory: likewise.
	names, syncedNames map[string]*node
	changes            []change // from syncedNames to names
}

// A change is what one operation does to a directory; a nil node removes the name.
type change map[string]*node

func newNode(number uint64, mode uint32) *node {
	n := &node{number: number, mode: mode}
	if n.isDir() {
		n.names, n.syncedNames = map[string]*node{}, map[string]*node{}
	} else {
		n.pages, n.syncedPages, n.unsynced = map[int64]page{}, map[int64]page{}, map[int64]bool{}
	}
	return n
}

func (n *node) isDir() bool { return n.mode&syscall.S_IFMT == syscall.S_IFDIR }

func (n *node) attributes() fuse.Attr {
	return fuse.Attr{Ino: n.number, Size: uint64(n.size), Blocks: uint64(n.size+511) / 512, Mode: n.mode, Nlink: uint32(n.links), Blksize: pageSize}
}

func (n *node) read(b []byte, offset int64) int {
	length := int(max(0, min(int64(len(b)), n.size-offset)))
	for done := 0; done < length; {
		number, from := (offset+int64(done))/pageSize, (offset+int64(done))%pageSize
		part := b[done:min(length, done+int(pageSize-from))]
		if p := n.pages[number]; p != nil {
			copy(part, p[from:])
		} else {
			clear(part)
		}
		done += len(part)
	}
	return length
}

func (n *node) write(b []byte, offset int64) {
	n.size = max(n.size, offset+int64(len(b)))
	for len(b) > 0 {
		done := copy(n.fresh(offset / pageSize)[offset%pageSize:], b)
		b, offset = b[done:], offset+int64(done)
	}
}

// fresh returns a page to be changed.
func (n *node) fresh(number int64) page {
	p := n.pages[number]
	if p == nil || !n.unsynced[number] {
		var p2 [pageSize]byte
		if p != nil {
			p2 = *p
		}
		p = &p2
		n.pages[number], n.unsynced[number] = p, true
	}
	return p
}

func (n *node) truncate(size int64) {
	if size < n.size {
		keep := (size + pageSize - 1) / pageSize
		for number := range n.pages {
			if number >= keep {
				delete(n.pages, number)
				n.unsynced[number] = true
			}
		}
		if rest := size % pageSize; rest != 0 && n.pages[keep-1] != nil {
			clear(n.fresh(keep - 1)[rest:])
		}
	}
	n.size = size
}

// sync puts what has been written on the disk, or fails to.
func (n *node) sync(failed bool) {
	for number, waiting := range n.unsynced {
		switch {
		case failed:
			n.unsynced[number] = false
		case waiting:
			n.syncedPages[number] = n.pages[number]
			delete(n.unsynced, number)
		}
	}
	if !failed {
		n.syncedSize = n.size
	}
}

func (n *node) change(c change) {
	n.changes = append(n.changes, c)
	apply(n.names, c)
}

func (n *node) syncNames() { n.syncedNames, n.changes = maps.Clone(n.names), nil }

func apply(names map[string]*node, c change) {
	for name, n := range c {
		if n == nil {
			delete(names, name)
		} else {
			names[name] = n
		}
	}
}

func sorted[V any](names map[string]V) []string { return slices.Sorted(maps.Keys(names)) }
