package kms

import (
	"context"
	"errors"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
)

// remove expunges one key and records it as the service's own doing.
func (s *Service) remove(ctx context.Context, e store.Entry[due], now time.Time) error {
	entry := s.serviceEvent("DeleteKey", e.Value.Region, e.Value.Account, e.Value.KeyID, now)
	err := s.dropGrants(ctx, entry, e, now)
	if err == nil {
		err = iam.Change(ctx, s.db, entry, func(tx *store.Tx) error { return s.expunge(tx, e, now) })
	}
	if err != nil {
		entry.ErrorCode = "KMSInternalException"
	}
	if !entry.Intended() {
		return err
	}
	s.usage.forget(entry.Resources[0].ARN)
	s.config.Logger.Info("removed a key whose waiting period is over", "key", entry.Resources[0].ARN)
	return errors.Join(err, entry.End())
}

// dropGrants removes the grants on a key that is gone, some at a time: there may
// be more than one transaction holds. Before the first the key is marked, so that a
// deletion that is cancelled in between cannot leave a key without its grants.
func (s *Service) dropGrants(ctx context.Context, entry *audit.Entry, e store.Entry[due], now time.Time) error {
	for more := true; more; {
		err := iam.Change(ctx, s.db, entry, func(tx *store.Tx) error {
			more = false
			at := keyKey(e.Value.Region, e.Value.Account, e.Value.KeyID)
			key, err := store.Edit(tx, keyKind, at)
			switch {
			case errors.Is(err, store.ErrNotFound) || err == nil && !key.gone(now):
				return nil
			case err != nil:
				return err
			case !key.Expunged:
				more, key.Expunged = true, true
				return store.Put(tx, keyKind, at, key)
			}
			n, err := dropSome(tx, e.Value)
			more = n > 0
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// dropSome removes some of what belongs to the grants on a key, and returns how
// much. Nobody looks for it any more.
func dropSome(tx *store.Tx, of *due) (n int, err error) {
	batch := max(1, tx.Batch()/4) // of each up to four records
	prefix := func(part string) string { return grantsOf(of.Region, of.Account, of.KeyID, part) }
	grants, err := store.List(tx, grantKind, prefix("grant"), "", batch)
	if err != nil {
		return 0, err
	}
	for _, g := range grants {
		tx.Delete(g.Key)
		if g.Value.Retiring != "" {
			tx.Delete(g.Value.retirableKey())
		}
	}
	drop := func(keys []string) {
		for _, k := range keys {
			tx.Delete(k)
		}
		n += len(keys)
	}
	names, err1 := store.List(tx, namedKind, prefix("grantname"), "", batch)
	found, err2 := store.List(tx, termsKind, prefix("term"), "", batch)
	forms, err3 := store.List(tx, shapesKind, prefix("grantee"), "", batch/10) // they can be long
	drop(keysOf(names))
	drop(keysOf(found))
	drop(keysOf(forms))
	tx.Delete(grantCountKey(of.Region, of.Account, of.KeyID))
	return n + len(grants), errors.Join(err1, err2, err3)
}

func keysOf[T any](entries []store.Entry[T]) (keys []string) {
	for _, e := range entries {
		keys = append(keys, e.Key)
	}
	return keys
}

// expunge removes one key and all that hangs on it, unless its deletion was
// cancelled meanwhile.
func (s *Service) expunge(tx *store.Tx, e store.Entry[due], now time.Time) error {
	d, err := store.Get(tx, dueKind, e.Key)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	at := keyKey(d.Region, d.Account, d.KeyID)
	key, err := store.Get(tx, keyKind, at)
	switch {
	case err == nil && dueKey(deletionDue, key, key.Deletion) == e.Key && !key.gone(now):
		return nil // not yet: the record stays
	case errors.Is(err, store.ErrNotFound) || err == nil && !key.gone(now):
		tx.Delete(e.Key) // of a deletion that was cancelled
		return nil
	case err != nil:
		return err
	}
	tx.Delete(e.Key)
	for _, name := range key.Aliases {
		a, err := store.Get(tx, aliasKind, aliasKey(d.Region, d.Account, name))
		if err == nil && a.KeyID == key.ID { // it may lead to another key by now
			tx.Delete(aliasKey(d.Region, d.Account, name))
		} else if err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	for _, m := range key.Materials {
		tx.Delete(materialKey(key, m.ID))
	}
	tx.Delete(lastUseKey(key.Region, key.Account, key.ID))
	tx.Delete(at)
	if err := errors.Join(s.leave(tx, key, now), leaveKeyStore(tx, key)); err != nil {
		return err
	}
	return s.countKey(tx, key, -1, 0)
}
