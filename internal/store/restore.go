package store

import (
	"context"
	"errors"
	"fmt"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/material"
)

// Restored is the record of a store that is an older copy, mostly from a backup: what was
// revoked since then is in force in it, so nothing is served until somebody has looked.
type Restored struct {
	Backup  string    `json:",omitzero"` // its ID; empty: it is a copy that was put in the store's place, or that was left where the store was
	Moved   string    `json:",omitzero"` // where the store went, of which it is what was left
	By      string    `json:",omitzero"` // the instance of the node that took it there
	Created time.Time `json:",omitzero"` // when the backup was made
	Epoch   string    `json:",omitzero"` // of the store that it was made of
	Head    Rev       `json:",omitzero"` // the last commit of that epoch which it has
	At      time.Time // when it was restored
	// Again is how many of the changes that a node's audit log tells of have been made again
	// already, of those made after the backup; the only one has no name.
	Again map[string]int `json:",omitzero"`
}

var restoredKind = Kind[Restored]{Tag: 3, Name: "restoration"}

const restoredKey = "sys/restored"

// IsRestored reports whether the record at key says that a store is an older copy.
func IsRestored(key string) bool { return key == restoredKey }

// Restored returns what the store came from; nil if it came from nothing, or was
// accepted since.
func (db *DB) Restored(ctx context.Context) (r *Restored, err error) {
	err = db.View(ctx, func(tx *Tx) error {
		r, err = Get(tx, restoredKind, restoredKey)
		if errors.Is(err, ErrNotFound) {
			return nil
		}
		return err
	})
	return r, err
}

// MarkRestored notes that a store is an older copy, which no backup says.
func MarkRestored(tx *Tx, r Restored) error { return Put(tx, restoredKind, restoredKey, &r) }

// AcceptRestored lets the store be served again.
func AcceptRestored(tx *Tx) { tx.Delete(restoredKey) }

// MadeAgain notes how many of the changes that a node's audit log tells of were made again.
func MadeAgain(tx *Tx, node string, n int) error {
	r, err := Edit(tx, restoredKind, restoredKey)
	if err != nil {
		return err
	}
	if r.Again == nil {
		r.Again = map[string]int{}
	}
	r.Again[node] = n
	return Put(tx, restoredKind, restoredKey, r)
}

// Restore puts a whole backup, and those that add to it one after another, into an
// empty engine. seals open the backups. The store has their slots, or one of sealed
// alone if that is not nil, and is marked as Restored. The store can be opened only if
// Restore has succeeded.
func Restore(ctx context.Context, e Engine, backups []*Backup, seals []Seal, sealed Seal) error {
	if there, err := anything(ctx, e); err != nil || there {
		return errors.Join(errors.New("store: there is something in it already"), err)
	}
	last := backups[len(backups)-1].Info
	var key []byte
	for i, b := range backups {
		if err := b.follows(backups[:i]); err != nil {
			return err
		}
		k, err := b.unwrap(seals)
		if err != nil {
			return err
		}
		key = k
	}
	defer clear(key)
	if err := join(ctx, e); err != nil {
		return err
	}
	hash, err := newHash(key)
	if err != nil {
		return err
	}
	e.Protect(hash, true)
	for i, b := range backups {
		if err := b.restore(ctx, e, i > 0); err != nil {
			return err
		}
	}
	return finishRestore(ctx, e, last, backups[0].aead, key, sealed)
}

// finishRestore writes the mark and, last, the header, without which nothing opens.
func finishRestore(ctx context.Context, e Engine, info BackupInfo, aead *material.AEAD, key []byte, sealed Seal) error {
	db := &DB{engine: e, deployment: info.Deployment, aead: aead}
	mark, err := encode(db, restoredKind, restoredKey, &Restored{Backup: info.ID, Created: info.Created, Epoch: info.Epoch, Head: info.Head, At: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	if _, err := e.Commit(ctx, Txn{Do: []Item{{Key: restoredKey, Val: mark}}}); err != nil {
		return err
	}
	h := header{Format: Format, Deployment: info.Deployment, Epoch: uuid.New().String(), Slots: info.Slots}
	if sealed != nil {
		slot, err := newSlot(sealed.Kind(), sealed, key)
		if err != nil {
			return err
		}
		h.Slots = []Slot{slot}
	}
	return h.write(ctx, e, aead, 0)
}

// follows checks that a backup adds to the one before it, or is whole and the first.
func (b *Backup) follows(before []*Backup) error {
	if len(before) == 0 && b.Info.Since == "" {
		return nil
	}
	if len(before) == 0 {
		return fmt.Errorf("%w: it adds to the backup %s, which must come before it", ErrBackup, b.Info.Since)
	}
	if p := before[len(before)-1].Info; b.Info.Since != p.ID || b.Info.SinceHead != p.Head || b.Info.Deployment != p.Deployment || b.Info.Epoch != p.Epoch {
		return fmt.Errorf("%w: the backup %s does not add to %s", ErrBackup, b.Info.ID, p.ID)
	}
	return nil
}

// restore writes the records of a backup. Those that are there and not in the backup
// are removed.
func (b *Backup) restore(ctx context.Context, e Engine, adds bool) error {
	w := batch{ctx: ctx, engine: e}
	there := keysIn(ctx, e)
	err := b.each(func(i Item) error {
		for adds {
			key, err := there.peek()
			if err != nil {
				return err
			}
			if key == "" || key >= i.Key {
				if key != i.Key && i.Val == nil {
					return fmt.Errorf("%w: it lacks the record %s", ErrBackup, i.Key)
				}
				if key == i.Key {
					there.next()
				}
				break
			}
			there.next()
			if err := w.add(Item{Key: key}); err != nil {
				return err
			}
		}
		if i.Val == nil {
			if !adds {
				return fmt.Errorf("%w: it lacks the record %s", ErrBackup, i.Key)
			}
			return nil
		}
		return w.add(Item{Key: i.Key, Val: i.Val})
	})
	for err == nil && adds {
		var key string
		if key, err = there.peek(); err != nil || key == "" {
			break
		}
		there.next()
		err = w.add(Item{Key: key})
	}
	if err != nil {
		return err
	}
	return w.flush()
}

// A batch gathers changes into transactions.
type batch struct {
	ctx    context.Context
	engine Engine
	txn    Txn
	size   int
}

func (b *batch) add(i Item) error {
	b.txn.Do = append(b.txn.Do, i)
	b.size += len(i.Key) + len(i.Val)
	if len(b.txn.Do) < batchOf(b.engine) && b.size < MaxTxnBytes/8 {
		return nil
	}
	return b.flush()
}

func (b *batch) flush() error {
	if len(b.txn.Do) == 0 {
		return nil
	}
	_, err := b.engine.Commit(b.ctx, b.txn)
	b.txn.Do, b.size = nil, 0
	return err
}

// A keyWalk goes through the keys of an engine, which may be changed behind it.
type keyWalk struct {
	ctx    context.Context
	engine Engine
	keys   []string
	after  string
	end    bool
}

func keysIn(ctx context.Context, e Engine) *keyWalk { return &keyWalk{ctx: ctx, engine: e} }

// peek is the next key; empty at the end.
func (k *keyWalk) peek() (string, error) {
	if len(k.keys) == 0 && !k.end {
		items, _, err := k.engine.Scan(k.ctx, "", k.after, 1000)
		if err != nil {
			return "", err
		}
		for _, i := range items {
			k.keys = append(k.keys, i.Key)
			k.after = i.Key
		}
		k.end = len(items) == 0
	}
	if k.end {
		return "", nil
	}
	return k.keys[0], nil
}

func (k *keyWalk) next() { k.keys = k.keys[1:] }
