package store

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"strings"
)

// A Digest is the sum, modulo 2^256, of a keyed hash of every record: it changes with
// each record in constant time, and only who has the key can make a set of records
// that has a given one.
type Digest [4]uint64 // least significant first

// A Hash is the keyed hash of one record.
type Hash func(key string, rev Rev, val []byte) Digest

// Add adds o.
func (d *Digest) Add(o Digest) {
	var carry uint64
	for i := range d {
		d[i], carry = bits.Add64(d[i], o[i], carry)
	}
}

// Sub takes o away.
func (d *Digest) Sub(o Digest) {
	var borrow uint64
	for i := range d {
		d[i], borrow = bits.Sub64(d[i], o[i], borrow)
	}
}

// Digested reports whether a record is part of the digest: all are but those that
// are read before there is a key.
func Digested(key string) bool { return !strings.HasPrefix(key, "!") }

// newHash derives the hash of a store from its key.
func newHash(storeKey []byte) (Hash, error) {
	key, err := hkdf.Key(sha256.New, storeKey, nil, "claviger store digest", sha256.Size)
	if err != nil {
		return nil, err
	}
	return func(name string, rev Rev, val []byte) (d Digest) {
		h := hmac.New(sha256.New, key)
		head := binary.BigEndian.AppendUint64(make([]byte, 0, 256), uint64(rev))
		head = binary.BigEndian.AppendUint64(head, uint64(len(name)))
		h.Write(append(head, name...))
		h.Write(val)
		sum := h.Sum(nil)
		for i := range d {
			d[i] = binary.LittleEndian.Uint64(sum[8*i:])
		}
		return d
	}, nil
}
