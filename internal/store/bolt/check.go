package bolt

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
)

// What a bbolt file consists of: pages, each with a header and, in trees, a table of
// elements. Numbers are in the machine's byte order. bbolt itself trusts all of this
// and follows it without looking; a bit that has flipped in it makes records vanish,
// or the program fail.
const (
	pageHeader    = 16 // id u64, flags u16, count u16, overflow u32
	elementSize   = 16 // branch: pos u32, ksize u32, pgid u64; leaf: flags u32, pos u32, ksize u32, vsize u32
	bucketHeader  = 16 // root u64, sequence u64
	branchPage    = 0x01
	leafPage      = 0x02
	metaPage      = 0x04
	freelistPage  = 0x10
	bucketElement = 0x01
	metaMagic     = 0xED0CDAED
	metaVersion   = 2
	metaSize      = 64 // the last eight are the checksum
	maxDepth      = 64
	maxOverflow   = 1 << 18 // pages
)

var native = binary.NativeEndian

// A meta is the root of everything. There are two, written in turn.
type meta struct {
	pageSize uint32
	root     uint64
	freelist uint64
	end      uint64 // pages in use, or free; none is at or after it
	txid     uint64
}

// readMeta reads one of the two.
func readMeta(r io.ReaderAt, id, pageSize int64) (m meta, err error) {
	b := make([]byte, pageHeader+metaSize)
	if _, err := r.ReadAt(b, id*pageSize); err != nil {
		return m, err
	}
	sum := fnv.New64a()
	sum.Write(b[pageHeader : pageHeader+metaSize-8])
	if native.Uint64(b) != uint64(id) || native.Uint16(b[8:]) != metaPage || native.Uint32(b[16:]) != metaMagic || native.Uint32(b[20:]) != metaVersion ||
		sum.Sum64() != native.Uint64(b[pageHeader+metaSize-8:]) {
		return m, fmt.Errorf("meta page %d is damaged: the last change may be missing", id)
	}
	return meta{native.Uint32(b[24:]), native.Uint64(b[32:]), native.Uint64(b[48:]), native.Uint64(b[56:]), native.Uint64(b[64:])}, nil
}

// A checker walks all pages that one meta leads to.
type checker struct {
	file io.ReaderAt
	meta meta
	seen []uint64 // a bit for each page
	item func(bucket, key, value []byte) error
}

// check reads the whole tree and the free list, and insists that every page is in
// exactly one place and every key in its order. It calls item with each record of each
// bucket.
func check(file io.ReaderAt, m meta, item func(bucket, key, value []byte) error) error {
	if m.end > math.MaxInt32 || m.pageSize < 512 || m.pageSize > 1<<16 {
		return errors.New("a meta page says what cannot be")
	}
	if m.end > 0 {
		if _, err := file.ReadAt(make([]byte, 1), int64(m.end)*int64(m.pageSize)-1); err != nil {
			return errors.New("the file is shorter than it should be")
		}
	}
	c := &checker{file: file, meta: m, seen: make([]uint64, m.end/64+1), item: item}
	if err := errors.Join(c.take(0, 0), c.take(1, 0)); err != nil { // the metas
		return err
	}
	if err := c.free(); err != nil {
		return err
	}
	if err := c.tree(m.root, nil, nil, nil, 0); err != nil {
		return err
	}
	for id := range m.end {
		if c.seen[id/64]&(1<<(id%64)) == 0 {
			return fmt.Errorf("page %d is neither used nor free", id)
		}
	}
	return nil
}

// take notes that a page, with those it goes on in, is used.
func (c *checker) take(id uint64, overflow uint32) error {
	if overflow > maxOverflow || id+uint64(overflow) >= c.meta.end {
		return fmt.Errorf("page %d is beyond the end", id)
	}
	for p := id; p <= id+uint64(overflow); p++ {
		if c.seen[p/64]&(1<<(p%64)) != 0 {
			return fmt.Errorf("page %d is used twice", p)
		}
		c.seen[p/64] |= 1 << (p % 64)
	}
	return nil
}

// page reads a page of one of the kinds given and takes it.
func (c *checker) page(id uint64, kinds ...uint16) (kind uint16, count int, body []byte, err error) {
	if id >= c.meta.end {
		return 0, 0, nil, fmt.Errorf("page %d is beyond the end", id)
	}
	size := int64(c.meta.pageSize)
	first := make([]byte, size)
	if _, err := c.file.ReadAt(first, int64(id)*size); err != nil {
		return 0, 0, nil, fmt.Errorf("page %d: %w", id, err)
	}
	kind, overflow := native.Uint16(first[8:]), native.Uint32(first[12:])
	if native.Uint64(first) != id || !slices.Contains(kinds, kind) {
		return 0, 0, nil, fmt.Errorf("page %d is not what it should be", id)
	}
	if err := c.take(id, overflow); err != nil {
		return 0, 0, nil, err
	}
	whole := first
	if overflow > 0 {
		whole = make([]byte, size*int64(overflow+1))
		if _, err := c.file.ReadAt(whole, int64(id)*size); err != nil {
			return 0, 0, nil, fmt.Errorf("page %d: %w", id, err)
		}
	}
	return kind, int(native.Uint16(first[10:])), whole, nil
}

// free takes the pages of the free list.
func (c *checker) free() error {
	_, count, page, err := c.page(c.meta.freelist, freelistPage)
	if err != nil {
		return err
	}
	list := page[pageHeader:]
	if count == math.MaxUint16 && len(list) >= 8 {
		count, list = int(min(native.Uint64(list), c.meta.end)), list[8:]
	}
	if len(list) < 8*count {
		return errors.New("the free list is longer than its page")
	}
	for i := range count {
		if err := c.take(native.Uint64(list[8*i:]), 0); err != nil {
			return fmt.Errorf("free list: %w", err)
		}
	}
	return nil
}

// tree walks a bucket from a page on. Its keys are from low, below high if that is
// not nil.
func (c *checker) tree(id uint64, bucket, low, high []byte, depth int) error {
	kind, count, page, err := c.page(id, branchPage, leafPage)
	if err != nil {
		return err
	}
	if depth > maxDepth {
		return fmt.Errorf("page %d is too deep", id)
	}
	if kind == leafPage {
		return c.leaf(id, page, count, bucket, low, high, depth)
	}
	if count == 0 {
		return fmt.Errorf("page %d is empty", id)
	}
	for i := range count {
		key, child, err := branch(page, count, i)
		if err != nil || bytes.Compare(key, low) < 0 || i > 0 && bytes.Equal(key, low) || high != nil && bytes.Compare(key, high) >= 0 {
			return errors.Join(fmt.Errorf("page %d: element %d is not in its place", id, i), err)
		}
		next := high
		if i+1 < count {
			if next, _, err = branch(page, count, i+1); err != nil {
				return fmt.Errorf("page %d: %w", id, err)
			}
		}
		if err := c.tree(child, bucket, key, next, depth+1); err != nil {
			return err
		}
		low = key
	}
	return nil
}

func branch(page []byte, count, i int) (key []byte, child uint64, err error) {
	at := pageHeader + i*elementSize
	if at+elementSize > len(page) {
		return nil, 0, errOutside
	}
	key, err = part(page, count, at, native.Uint32(page[at:]), native.Uint32(page[at+4:]))
	return key, native.Uint64(page[at+8:]), err
}

var errOutside = errors.New("an element is outside of its page")

// part is n bytes of a page, pos after the element at at, and behind the table.
func part(page []byte, count, at int, pos, n uint32) ([]byte, error) {
	begin := uint64(at) + uint64(pos)
	if end := begin + uint64(n); begin >= uint64(pageHeader+count*elementSize) && end <= uint64(len(page)) {
		return page[begin:end:end], nil
	}
	return nil, errOutside
}

// leaf walks the records of a leaf page, and the buckets in it.
func (c *checker) leaf(id uint64, page []byte, count int, bucket, low, high []byte, depth int) error {
	for i := range count {
		at := pageHeader + i*elementSize
		if at+elementSize > len(page) {
			return fmt.Errorf("page %d: %w", id, errOutside)
		}
		flags, pos := native.Uint32(page[at:]), native.Uint32(page[at+4:])
		key, err := part(page, count, at, pos, native.Uint32(page[at+8:]))
		if err != nil {
			return fmt.Errorf("page %d: %w", id, err)
		}
		value, err := part(page, count, at, pos+uint32(len(key)), native.Uint32(page[at+12:]))
		if err != nil || bytes.Compare(key, low) < 0 || i > 0 && bytes.Equal(key, low) || high != nil && bytes.Compare(key, high) >= 0 {
			return errors.Join(fmt.Errorf("page %d: record %d is not in its place", id, i), err)
		}
		low = key
		switch {
		case flags == bucketElement && bucket == nil:
			err = c.bucket(key, value, depth)
		case flags == 0 && bucket != nil:
			err = c.item(bucket, key, value)
		default:
			err = fmt.Errorf("page %d: record %d is of an unknown kind", id, i)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bucket walks a bucket, which is a tree of its own or, while it is small, a page
// inside of its record.
func (c *checker) bucket(name, value []byte, depth int) error {
	if len(value) < bucketHeader {
		return fmt.Errorf("bucket %q: %w", name, errOutside)
	}
	if root := native.Uint64(value); root != 0 {
		return c.tree(root, name, nil, nil, depth+1)
	}
	page := value[bucketHeader:]
	if len(page) < pageHeader || native.Uint16(page[8:]) != leafPage {
		return fmt.Errorf("bucket %q is not what it should be", name)
	}
	return c.leaf(0, page, int(native.Uint16(page[10:])), name, nil, nil, depth)
}
