package store

import (
	"context"
	"encoding/json/jsontext"
	"fmt"
	"iter"
)

// A Plain is a record as it is written in exports: JSON, with its kind's tag.
type Plain struct {
	Key   string
	Tag   byte
	Value jsontext.Value
}

// Dump calls fn with all records of one instant that have one of the tags.
func (db *DB) Dump(ctx context.Context, tags []byte, fn func(Plain) error) error {
	wanted := map[byte]bool{}
	for _, t := range tags {
		wanted[t] = true
	}
	return db.engine.Snapshot(ctx, func(_ Rev, items iter.Seq[Item]) error {
		for i := range items {
			if !Digested(i.Key) || len(i.Val) < 2 || !wanted[i.Val[1]] {
				continue
			}
			text, err := db.unsealed(i.Val[1], "record", i.Key, i.Val)
			if err == nil {
				err = fn(Plain{i.Key, i.Val[1], text})
			}
			clear(text)
			if err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		return nil
	})
}

// Load writes a record of a dump. The transaction must not read it afterwards.
func (tx *Tx) Load(p Plain) error {
	if !p.Value.IsValid() || p.Key == "" || len(p.Key) > maxBackupKey {
		return fmt.Errorf("store: the record %q is not what it should be", p.Key)
	}
	sealed, err := tx.db.aead.Seal([]byte{recordVersion, p.Tag}, p.Value, tx.db.associated(p.Key, p.Tag))
	if err != nil {
		return err
	}
	tx.set(p.Key, sealed, nil)
	return nil
}

// Empty reports whether there is no record whose key has the prefix.
func (db *DB) Empty(ctx context.Context, prefix string) (bool, error) {
	items, _, err := db.engine.Scan(ctx, prefix, "", 1)
	return len(items) == 0, err
}
