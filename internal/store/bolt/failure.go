package bolt

import (
	"time"

	"go.etcd.io/bbolt"

	"github.com/claviger/claviger/internal/store"
)

// unchanged reports whether a commit failed before it wrote the meta page, by
// which bbolt finds everything else.
func (e *Engine) unchanged() bool {
	var head store.Rev
	err := e.view(func(tx *bbolt.Tx) error {
		head = readHead(tx.Bucket(metaBucket))
		return nil
	})
	return err == nil && head == store.Rev(e.head.Load())
}

// abandon gives bbolt's writer lock back after a panic, as far as it can.
func abandon(tx *bbolt.Tx) {
	defer func() { _ = recover() }()
	if tx != nil {
		_ = tx.Rollback()
	}
}

// Err is store.ErrClosed once a commit has failed in a way that leaves what is on
// disk unknown. If the file system refused the last commit it is tried again, once a
// second at most, whether it does so still.
func (e *Engine) Err() error {
	e.commitMu.Lock()
	defer e.commitMu.Unlock()
	if e.failing != nil && !e.broken && time.Since(e.probed) > time.Second {
		e.probe()
		e.probed = time.Now()
	}
	if e.broken {
		return store.ErrClosed
	}
	if err := e.refusal(); err != nil {
		return err
	}
	return e.failing
}

// probe writes something of some size, which a file system that is full refuses,
// and removes it. commitMu is held.
func (e *Engine) probe() {
	if e.damaged.Load() {
		return
	}
	defer func() {
		if p := recover(); p != nil {
			e.failing = e.damage(p)
		}
	}()
	for _, scratch := range [][]byte{make([]byte, probeSize), nil} {
		e.failing = e.db.Update(func(tx *bbolt.Tx) error {
			if scratch == nil {
				return tx.Bucket(metaBucket).Delete(probeKey)
			}
			return tx.Bucket(metaBucket).Put(probeKey, scratch)
		})
		if e.failing != nil {
			e.broken = !refused(e.failing)
			return
		}
	}
}
