package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/debug"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/claviger/claviger/internal/store"
)

// Protect makes the engine keep a digest from the next commit on; begin says that
// there was none before.
func (e *Engine) Protect(hash store.Hash, begin bool) {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.hash, e.begin = hash, begin
}

// Verify reads the whole file, as of one instant, and checks its structure and its
// digest.
func (e *Engine) Verify(ctx context.Context) (err error) {
	e.commitMu.Lock()
	tx, err := e.db.Begin(false)
	hash := e.hash
	var m meta
	if err == nil && !e.damaged.Load() {
		m, err = e.meta(tx) // before a commit writes over it
	}
	e.commitMu.Unlock()
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	if tx != nil {
		defer tx.Rollback()
	}
	if err == nil {
		err = e.verify(ctx, m, hash)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		err = e.damage(err)
	}
	return errors.Join(err, e.refusal())
}

// meta reads the meta page of a transaction; the other one must be whole too, or the
// last change may have been in it.
func (e *Engine) meta(tx *bbolt.Tx) (m meta, err error) {
	for id := range int64(2) {
		one, err := readMeta(e.file, id, int64(e.db.Info().PageSize))
		if err != nil {
			return m, err
		}
		if one.txid == uint64(tx.ID()) {
			m = one
		}
	}
	if m.txid != uint64(tx.ID()) {
		return m, errors.New("no meta page is that of the last change")
	}
	return m, nil
}

func (e *Engine) verify(ctx context.Context, m meta, hash store.Hash) error {
	var sum, want store.Digest
	var head store.Rev
	known := false
	err := check(e.file, m, func(bucket, key, value []byte) error {
		if string(bucket) == string(recordBucket) {
			if hash != nil {
				sum.Add(hashed(hash, string(key), value))
			}
			return ctx.Err()
		}
		switch {
		case bytes.Equal(key, digestKey) && len(value) == len(want)*8:
			known = true
			want = readDigest(value)
		case bytes.Equal(key, headKey) && len(value) == 8:
			head = store.Rev(binary.BigEndian.Uint64(value))
		}
		return nil
	})
	if err != nil || hash == nil {
		return err
	}
	sum.Add(hash(headName, head, nil))
	switch {
	case !known:
		return errors.New("the digest is missing")
	case sum != want:
		return errors.New("the records are not those that were written")
	}
	return nil
}

// headName stands for the revision of the last commit in the digest.
const headName = "!head"

// hashed is what a stored value adds to the digest.
func hashed(hash store.Hash, key string, stored []byte) store.Digest {
	if len(stored) < 8 || !store.Digested(key) {
		return store.Digest{}
	}
	return hash(key, store.Rev(binary.BigEndian.Uint64(stored)), stored[8:])
}

// digest is that of the last commit. If none was kept before, all records are read.
func (e *Engine) digest(tx *bbolt.Tx) (sum store.Digest, err error) {
	if e.hash == nil {
		return sum, nil
	}
	if v := tx.Bucket(metaBucket).Get(digestKey); len(v) == len(sum)*8 {
		return readDigest(v), nil
	}
	if !e.begin {
		return sum, e.damage("the digest is missing")
	}
	sum = e.hash(headName, store.Rev(e.head.Load()), nil)
	err = tx.Bucket(recordBucket).ForEach(func(k, v []byte) error {
		sum.Add(hashed(e.hash, string(k), v))
		return nil
	})
	return sum, err
}

func readDigest(v []byte) (d store.Digest) {
	for i := range d {
		d[i] = binary.BigEndian.Uint64(v[8*i:])
	}
	return d
}

// finish stores where the commit of a group has brought the store.
func (e *Engine) finish(tx *bbolt.Tx, sum store.Digest, rev store.Rev) error {
	meta := tx.Bucket(metaBucket)
	if err := meta.Put(headKey, binary.BigEndian.AppendUint64(nil, uint64(rev))); err != nil || e.hash == nil {
		return err
	}
	sum.Sub(e.hash(headName, store.Rev(e.head.Load()), nil))
	sum.Add(e.hash(headName, rev, nil))
	var v []byte
	for _, word := range sum {
		v = binary.BigEndian.AppendUint64(v, word)
	}
	e.begin = false
	return meta.Put(digestKey, v)
}

// damage notes that the file is damaged: from now on nothing is read from it.
func (e *Engine) damage(reason any) error {
	e.damaged.Store(true)
	return fmt.Errorf("%w: %v; restore a backup", store.ErrDamaged, reason)
}

// refusal is why nothing may be read any more.
func (e *Engine) refusal() error {
	if e.damaged.Load() {
		return store.ErrDamaged
	}
	return nil
}

// view runs fn in a transaction. bbolt panics when it meets a damaged page, and
// the operating system faults when the disk does not give one.
func (e *Engine) view(fn func(*bbolt.Tx) error) (err error) {
	if err := e.refusal(); err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = e.damage(p)
		}
	}()
	err = e.db.View(fn)
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
		return store.ErrClosed
	}
	return err
}
