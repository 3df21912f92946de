package iam

import (
	"context"
	"errors"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/store"
)

// Update runs a state change in a transaction. Before the change takes effect
// its intent is in the audit log, and with it the store takes up where the log
// stood, so that a log cut short is noticed.
func (c *Call) Update(ctx context.Context, db *store.DB, fn func(*store.Tx) error) error {
	err := db.Update(ctx, func(tx *store.Tx) error {
		c.Entry.Claviger.Decisions = nil // fn may run again
		if err := fn(tx); err != nil || !tx.Changed() {
			return err
		}
		tx.BeforeCommit(func() error {
			head, err := c.Entry.Intend()
			if err != nil {
				return err
			}
			return store.Put(tx, anchorKind, anchorKey, (*anchor)(&head))
		})
		return tx.Mark(c.RequestID)
	})
	if c.Entry.Intended() && !errors.Is(err, store.ErrUnknown) {
		committed := err == nil
		c.Entry.Claviger.Committed = &committed
	}
	return err
}

// An anchor is a place in the audit log that the store remembers.
type anchor audit.Head

var anchorKind = store.Kind[anchor]{Tag: 2, Name: "audit anchor"}

const anchorKey = "sys/audit"

// AuditAnchor returns the place in the audit log that the last state change
// recorded; the log must reach and contain it.
func AuditAnchor(ctx context.Context, db *store.DB) (head audit.Head, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		a, err := store.Get(tx, anchorKind, anchorKey)
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
