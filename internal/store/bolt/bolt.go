// Package bolt is the embedded store engine: one bbolt file, one process, many
// writers whose transactions share one sync.
package bolt

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/harden"
	"github.com/claviger/claviger/internal/store"
)

var (
	recordBucket = []byte("records")
	metaBucket   = []byte("meta")
	headKey      = []byte("head")
	digestKey    = []byte("digest")
	probeKey     = []byte("probe")
)

const probeSize = 64 << 10 // bytes

const (
	// checkAtOpen is how large a file is checked before it is used, in bytes.
	checkAtOpen = 256 << 20
	// mapping is how much of the memory's addresses the file gets at once, in bytes: while
	// it fits, a commit never waits for readers.
	mapping = 1 << 30
	growth  = 512 << 10 // by how much the file grows, in bytes
)

// An Engine is a store.Engine in one file.
type Engine struct {
	db      *bbolt.DB
	file    *os.File // bbolt's
	head    atomic.Int64
	damaged atomic.Bool

	queueMu sync.Mutex // guards queue
	queue   []*pending

	commitMu sync.Mutex // held by the one writer that commits for all; guards what follows
	watchers []func(store.Rev, []store.Item)
	hash     store.Hash // nil: there is no digest
	begin    bool       // there was no digest before
	mapped   uintptr    // where the file is in memory
	broken   bool       // a sync failed: what is on disk is not known, so nothing more is written
	failing  error      // why the last commit, which left nothing behind, failed
	probed   time.Time  // when it was last tried whether commits are possible again
}

// A pending transaction waits for its turn; rev, err and done are written
// under commitMu.
type pending struct {
	txn  store.Txn
	rev  store.Rev
	err  error
	done bool
}

// Open opens or creates the file at path. store.ErrLocked: another process has it.
// store.ErrDamaged: it cannot be read.
func Open(path string) (*Engine, error) {
	e, err := open(path, bbolt.Options{OpenFile: os.OpenFile})
	if err != nil {
		return nil, err
	}
	if err := durable.SyncDir(filepath.Dir(path)); err != nil { // bbolt syncs the file and not its name
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// OpenMemory makes an engine that leaves no file behind: its file has no name.
func OpenMemory() (*Engine, error) {
	return open("claviger", bbolt.Options{NoSync: true, NoGrowSync: true,
		OpenFile: func(name string, _ int, _ os.FileMode) (*os.File, error) { return namelessFile(name) }})
}

func open(path string, options bbolt.Options) (e *Engine, err error) {
	e = &Engine{}
	openFile := options.OpenFile
	options.OpenFile = func(name string, flag int, mode os.FileMode) (*os.File, error) {
		f, err := openFile(name, flag, mode)
		if e.file == nil { // later ones are for syncing alone
			e.file = f
		}
		return f, err
	}
	if runtime.GOOS != "windows" { // where the file would be as large
		options.InitialMmapSize = mapping
	}
	options.Timeout, options.FreelistType = 100*time.Millisecond, bbolt.FreelistMapType
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = errors.Join(e.damage(p), release(e.file))
		}
		if err != nil {
			e, err = nil, fmt.Errorf("open %s: %w", path, err)
		}
	}()
	e.db, err = bbolt.Open(path, 0o600, &options)
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, store.ErrLocked
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, e.damage(err)
	case err != nil:
		return nil, err
	}
	e.db.AllocSize = growth
	if err := e.prepare(); err != nil {
		return nil, errors.Join(err, e.db.Close())
	}
	e.unlock()
	return e, nil
}

// prepare finds where the store ends, and makes what a new one lacks. A file that
// may be damaged is not written to.
func (e *Engine) prepare() error {
	isNew := false
	err := e.view(func(tx *bbolt.Tx) error {
		m, err := e.meta(tx)
		if err == nil && tx.Size() <= checkAtOpen { // before bbolt follows anything: a cycle would end the process
			err = check(e.file, m, func(_, _, _ []byte) error { return nil })
		}
		if err != nil {
			return e.damage(err)
		}
		records, meta := tx.Bucket(recordBucket), tx.Bucket(metaBucket)
		isNew = tx.ID() < 2
		if !isNew && (records == nil || meta == nil) {
			return e.damage("it is not what this program made")
		}
		if !isNew {
			e.head.Store(int64(readHead(meta)))
		}
		return nil
	})
	if err != nil || !isNew {
		return err
	}
	return e.db.Update(func(tx *bbolt.Tx) error {
		_, recordErr := tx.CreateBucket(recordBucket)
		_, metaErr := tx.CreateBucket(metaBucket)
		return errors.Join(recordErr, metaErr)
	})
}

func readHead(meta *bbolt.Bucket) store.Rev {
	if v := meta.Get(headKey); len(v) == 8 {
		return store.Rev(binary.BigEndian.Uint64(v))
	}
	return 0
}

// Get reads keys in one bbolt transaction.
func (e *Engine) Get(_ context.Context, keys ...string) (items []store.Item, rev store.Rev, err error) {
	err = e.view(func(tx *bbolt.Tx) error {
		rev = readHead(tx.Bucket(metaBucket))
		records := tx.Bucket(recordBucket)
		for _, k := range keys {
			items = append(items, item(k, records.Get([]byte(k))))
		}
		return nil
	})
	return items, rev, err
}

// Scan reads up to n items in one bbolt transaction.
func (e *Engine) Scan(_ context.Context, prefix, after string, n int) (items []store.Item, rev store.Rev, err error) {
	err = e.view(func(tx *bbolt.Tx) error {
		rev = readHead(tx.Bucket(metaBucket))
		c := tx.Bucket(recordBucket).Cursor()
		k, v := c.Seek([]byte(max(prefix, after)))
		for ; k != nil && len(items) < n && bytes.HasPrefix(k, []byte(prefix)); k, v = c.Next() {
			if string(k) > after {
				items = append(items, item(string(k), v))
			}
		}
		return nil
	})
	return items, rev, err
}

// item copies a stored value, which begins with its revision.
func item(key string, stored []byte) store.Item {
	if len(stored) < 8 {
		return store.Item{Key: key}
	}
	return store.Item{Key: key, Rev: store.Rev(binary.BigEndian.Uint64(stored)), Val: bytes.Clone(stored[8:])}
}

// Commit queues t. Whoever gets commitMu commits everything queued by then in
// one bbolt transaction: while one group syncs, the next one gathers, and a
// lone writer never waits.
func (e *Engine) Commit(_ context.Context, t store.Txn) (store.Rev, error) {
	size := 0
	for _, i := range t.Do {
		size += len(i.Key) + len(i.Val)
	}
	p := &pending{txn: t}
	if len(t.Do) > store.MaxTxnOps || len(t.If) > store.MaxTxnOps || size > store.MaxTxnBytes {
		p.err, p.done = store.ErrTooLarge, true
	} else {
		e.queueMu.Lock()
		e.queue = append(e.queue, p)
		e.queueMu.Unlock()
	}
	if t.Queued != nil {
		t.Queued()
	}

	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if !p.done {
		e.flush()
	}
	return p.rev, p.err
}

// flush commits the queue. commitMu is held.
func (e *Engine) flush() {
	e.queueMu.Lock()
	group := e.queue
	e.queue = nil
	e.queueMu.Unlock()

	err := e.commitGroup(group)
	for _, p := range group {
		p.done = true
		if p.err == nil {
			p.err = err
		}
		if p.err != nil {
			continue
		}
		e.head.Store(int64(p.rev))
		for _, fn := range e.watchers {
			fn(p.rev, p.txn.Do)
		}
	}
}

// commitGroup applies each transaction whose conditions hold, in order, and
// syncs once. A failed condition spoils nobody else's transaction.
func (e *Engine) commitGroup(group []*pending) (err error) {
	if err := e.refusal(); err != nil {
		return err
	}
	if e.broken {
		return store.ErrClosed
	}
	var tx *bbolt.Tx
	defer func() {
		if p := recover(); p != nil { // a damaged file: bbolt panics
			e.broken = true
			abandon(tx)
			err = fmt.Errorf("%w: %v", store.ErrUnknown, p)
		}
	}()
	tx, err = e.db.Begin(true)
	if err != nil {
		if errors.Is(err, bolterrors.ErrDatabaseNotOpen) {
			return store.ErrClosed
		}
		return err
	}
	records, rev := tx.Bucket(recordBucket), store.Rev(e.head.Load())
	sum, err := e.digest(tx)
	if err != nil {
		return errors.Join(err, tx.Rollback())
	}
	for _, p := range group {
		if p.err = conflict(records, p.txn.If); p.err != nil {
			continue
		}
		rev++
		p.rev = rev
		if err := e.apply(records, rev, p.txn.Do, &sum); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if err := e.finish(tx, sum, rev); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	e.failing = tx.Commit()
	if e.failing == nil {
		e.unlock()
		return nil
	}
	if refused(e.failing) && e.unchanged() {
		return e.failing
	}
	e.broken = true
	return fmt.Errorf("%w: %w", store.ErrUnknown, e.failing)
}

// refused reports an error that the file system may not have later. When the file
// cannot be made longer bbolt has written nothing yet, and says why in its text alone.
func refused(err error) bool {
	return durable.Refused(err) || strings.HasPrefix(err.Error(), "file resize error: ")
}

// unlock lets the file's pages, which are sealed, be evicted when the process locks its
// memory: all that are mapped, also those that are to come. A file that has outgrown its
// mapping is somewhere else. commitMu is held.
func (e *Engine) unlock() {
	if at := e.db.Info().Data; at != e.mapped {
		e.mapped = at
		harden.Unlock(at, uintptr(max(mapping, e.Size())))
	}
}

func conflict(records *bbolt.Bucket, conditions []store.Item) error {
	for _, c := range conditions {
		if item(c.Key, records.Get([]byte(c.Key))).Rev != c.Rev {
			return store.ErrConflict
		}
	}
	return nil
}

func (e *Engine) apply(records *bbolt.Bucket, rev store.Rev, do []store.Item, sum *store.Digest) (err error) {
	for _, i := range do {
		key := []byte(i.Key)
		if e.hash != nil {
			sum.Sub(hashed(e.hash, i.Key, records.Get(key)))
		}
		if i.Val == nil {
			err = records.Delete(key)
		} else {
			stored := append(binary.BigEndian.AppendUint64(nil, uint64(rev)), i.Val...)
			if e.hash != nil {
				sum.Add(hashed(e.hash, i.Key, stored))
			}
			err = records.Put(key, stored)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Watch registers fn for the commits to come.
func (e *Engine) Watch(fn func(store.Rev, []store.Item)) {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	e.watchers = append(e.watchers, fn)
}

// Head returns the revision of the last commit.
func (e *Engine) Head(context.Context) (store.Rev, error) { return store.Rev(e.head.Load()), nil }

// Snapshot reads everything in one bbolt transaction.
func (e *Engine) Snapshot(_ context.Context, fn func(store.Rev, iter.Seq[store.Item]) error) error {
	return e.view(func(tx *bbolt.Tx) error {
		return fn(readHead(tx.Bucket(metaBucket)), func(yield func(store.Item) bool) {
			c := tx.Bucket(recordBucket).Cursor()
			for k, v := c.First(); k != nil && yield(item(string(k), v)); k, v = c.Next() {
			}
		})
	})
}

// Size is the size of the file.
func (e *Engine) Size() (size int64) {
	_ = e.view(func(tx *bbolt.Tx) error { size = tx.Size(); return nil }) // closed: 0
	return size
}

// Close waits for transactions in flight and closes the file.
func (e *Engine) Close() error {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	return e.db.Close()
}
