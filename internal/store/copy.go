package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"uuid"
)

// Copy copies the whole store into an engine that is empty, as of one instant, and compares
// then record by record. Records whose keys rename changes are sealed anew, for sealed records
// are bound to their keys; all others are copied as they are, but for those whose key becomes empty. The header comes last: a copy
// that is broken off is no store. Nobody may change the store meanwhile.
func (db *DB) Copy(ctx context.Context, to Engine, rename func(key string) string) (records int, err error) {
	if there, err := anything(ctx, to); err != nil || there {
		return 0, errors.Join(errors.New("store: where it is to be copied there is a store already, or a copy that was broken off"), err)
	}
	if err := join(ctx, to); err != nil {
		return 0, err
	}
	h, _, err := readHeader(ctx, db.engine)
	if err != nil {
		return 0, err
	}
	h.Epoch = uuid.New().String() // the revisions are others: no backup adds to one of before
	err = db.key.Use(func(key []byte) error {
		hash, err := newHash(key)
		if err == nil {
			to.Protect(hash, true)
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	w := batch{ctx: ctx, engine: to}
	err = db.eachCopied(ctx, rename, func(i Item, key string) error {
		copied, err := db.renamed(i, key)
		if err == nil {
			err = w.add(Item{Key: copied.Key, Val: copied.Val})
		}
		return err
	})
	if err == nil {
		err = w.flush()
	}
	if err == nil {
		records, err = db.compare(ctx, to, rename)
	}
	if err == nil {
		err = to.Verify(ctx)
	}
	if err == nil {
		err = h.write(ctx, to, db.aead, 0)
	}
	return records, err
}

// eachCopied calls fn with each record that is part of a copy, and its key there.
func (db *DB) eachCopied(ctx context.Context, rename func(string) string, fn func(i Item, key string) error) error {
	return db.engine.Snapshot(ctx, func(_ Rev, items iter.Seq[Item]) error {
		for i := range items {
			if !Digested(i.Key) {
				continue
			}
			if key := rename(i.Key); key != "" {
				if err := fn(i, key); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// renamed is a record under another key.
func (db *DB) renamed(i Item, key string) (Item, error) {
	if key == i.Key {
		return i, nil
	}
	text, err := db.unsealed(i.Val[min(1, len(i.Val))], "record", i.Key, i.Val)
	if err != nil {
		return i, err
	}
	defer clear(text)
	sealed, err := db.aead.Seal([]byte{recordVersion, i.Val[1]}, text, db.associated(key, i.Val[1]))
	return Item{Key: key, Val: sealed}, err
}

// compare reads every record of a copy and compares it with the one here.
func (db *DB) compare(ctx context.Context, copied Engine, rename func(string) string) (n int, err error) {
	err = db.eachCopied(ctx, rename, func(i Item, key string) error {
		n++
		there, _, err := copied.Get(ctx, key)
		if err != nil {
			return err
		}
		same := bytes.Equal(there[0].Val, i.Val)
		if key != i.Key && there[0].Val != nil {
			same, err = db.sameText(i, there[0])
		}
		if err != nil || !same {
			return errors.Join(fmt.Errorf("store: the copy of the record %s is not what it should be", i.Key), err)
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	there := 0
	for w := keysIn(ctx, copied); ; w.next() {
		key, err := w.peek()
		if err != nil {
			return n, err
		}
		if key == "" {
			break
		}
		there++
	}
	if there != n {
		return n, fmt.Errorf("store: the copy has %d records and should have %d", there, n)
	}
	return n, nil
}

func (db *DB) sameText(a, b Item) (bool, error) {
	one, err := db.unsealed(a.Val[1], "record", a.Key, a.Val)
	if err != nil {
		return false, err
	}
	defer clear(one)
	other, err := db.unsealed(b.Val[min(1, len(b.Val))], "record", b.Key, b.Val)
	defer clear(other)
	return bytes.Equal(one, other), err
}
