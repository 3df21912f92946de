package iam

import (
	"context"
	"errors"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/store"
)

// View runs a read for the call.
func (c *Call) View(ctx context.Context, db *store.DB, fn func(*store.Tx) error) error {
	return db.View(ctx, func(tx *store.Tx) error {
		c.begin()
		return fn(tx)
	})
}

// Update runs a state change for the call, as Change does.
func (c *Call) Update(ctx context.Context, db *store.DB, fn func(*store.Tx) error) error {
	return Change(ctx, db, c.Entry, func(tx *store.Tx) error {
		c.begin()
		return fn(tx)
	})
}

// begin forgets what an earlier attempt, which a writer overtook, noted.
func (c *Call) begin() { c.Entry.Resources, c.Entry.Claviger.Decisions = nil, nil }

// Change runs a state change in a transaction. Before the change takes effect
// its intent is in the audit log and on disk; with it the store takes up how far
// the log reached, so that a log cut short is noticed, and a mark by which the
// outcome can be settled after a crash. The caller ends the entry.
func Change(ctx context.Context, db *store.DB, e *audit.Entry, fn func(*store.Tx) error) error {
	e.Claviger.Committed, e.Claviger.Commit = nil, nil // of an earlier change of the same entry
	var last *store.Tx
	err := db.Update(ctx, func(tx *store.Tx) error {
		last = tx
		if err := fn(tx); err != nil || !tx.Changed() {
			return err
		}
		tx.BeforeCommit(e.Intend)
		tx.AtCommit(func() error {
			head := e.LogSynced()
			return store.Put(tx, anchorKind, AuditAnchorKey(db.Node()), (*anchor)(&head))
		})
		return tx.Mark(e.RequestID)
	})
	if e.Intended() && !errors.Is(err, store.ErrUnknown) {
		committed := err == nil
		e.Claviger.Committed = &committed
		if committed && db.Node() != "" && last.Revision() > 0 {
			e.Claviger.Commit = &audit.Commit{Epoch: db.Epoch(), Revision: int64(last.Revision())}
		}
	}
	return err
}

// Anchor makes the store take up how far the log reaches on disk, without any change.
func Anchor(ctx context.Context, db *store.DB, synced func() audit.Head) error {
	return db.Update(ctx, func(tx *store.Tx) error {
		put := func() error {
			head := synced()
			return store.Put(tx, anchorKind, AuditAnchorKey(db.Node()), (*anchor)(&head))
		}
		tx.OnlyAdds()
		tx.AtCommit(put) // in the order of all commits
		return put()
	})
}

// An anchor is a place in the audit log that the store remembers.
type anchor audit.Head

var anchorKind = store.Kind[anchor]{Tag: 2, Name: "audit anchor"}

// PutAuditAnchor makes the store know a line of another node's log.
func PutAuditAnchor(tx *store.Tx, node string, line audit.Head) error {
	return store.Put(tx, anchorKind, AuditAnchorKey(node), (*anchor)(&line))
}

// AuditAnchorKey is where the anchor of a node's log is; without a name, that of the only one.
func AuditAnchorKey(node string) string {
	if node != "" {
		return "sys/audit/" + node
	}
	return "sys/audit"
}

// AuditAnchor returns the place in the audit log of this node that the last state change
// recorded; the log must reach and contain it.
func AuditAnchor(ctx context.Context, db *store.DB) (audit.Head, error) {
	return AuditAnchorOf(ctx, db, db.Node())
}

// AuditAnchorOf is AuditAnchor for the log of another node.
func AuditAnchorOf(ctx context.Context, db *store.DB, node string) (head audit.Head, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		a, err := store.Get(tx, anchorKind, AuditAnchorKey(node))
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err == nil {
			head = audit.Head(*a)
		}
		return err
	})
	return head, err
}
