package kms

import (
	"context"
	"errors"
	"fmt"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// change edits the key an operation manages, in a transaction.
func (s *Service) change(ctx context.Context, call *iam.Call, operation, identifier string, c *conditions, edit func(*store.Tx, *Key) error) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		key, err := managed(tx, call, operation, identifier, noAlias, c)
		if err != nil {
			return err
		}
		k, err := editable(tx, key)
		if err != nil {
			return err
		}
		if err := edit(tx, k); err != nil {
			return err
		}
		return putKey(tx, k)
	})
}

// unusedAt tells how long a key has not been used, as of the call.
func (s *Service) unusedAt(call *iam.Call) func(*Key) int {
	return func(k *Key) int { return s.usage.trailingDays(k, call.Now) }
}

// EnableKey makes a disabled key usable.
func (s *Service) EnableKey(ctx context.Context, call *iam.Call, in *kmsapi.EnableKeyRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, "EnableKey", *in.KeyId, &conditions{}, func(_ *store.Tx, k *Key) error {
		k.State = kmsapi.KeyStateEnabled
		return nil
	})
}

// DisableKey makes a key unusable until it is enabled.
func (s *Service) DisableKey(ctx context.Context, call *iam.Call, in *kmsapi.DisableKeyRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, "DisableKey", *in.KeyId, &conditions{unused: s.unusedAt(call)}, func(_ *store.Tx, k *Key) error {
		k.State = kmsapi.KeyStateDisabled
		return nil
	})
}

// UpdateKeyDescription replaces the description.
func (s *Service) UpdateKeyDescription(ctx context.Context, call *iam.Call, in *kmsapi.UpdateKeyDescriptionRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, "UpdateKeyDescription", *in.KeyId, &conditions{}, func(_ *store.Tx, k *Key) error {
		k.Description = *in.Description
		return nil
	})
}

// Days of the waiting period before a deletion.
const (
	minWindow     = 7
	defaultWindow = 30
	maxWindow     = 30
)

// A due record says that a key's waiting period ends; its key begins with when.
type due struct {
	Region, Account, KeyID string
}

var dueKind = store.Kind[due]{Tag: 33, Name: "due deletion"}

const duePrefix = "due/"

func dueKey(k *Key) string {
	return fmt.Sprintf("%s%012d/%s/%s/%s", duePrefix, k.Deletion.Unix(), k.Region, k.Account, k.ID)
}

// ScheduleKeyDeletion begins the waiting period, at whose end the key, its
// material, aliases and policy vanish.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, call *iam.Call, in *kmsapi.ScheduleKeyDeletionRequest) (*kmsapi.ScheduleKeyDeletionResponse, error) {
	days := model.Or(in.PendingWindowInDays, defaultWindow)
	if days < minWindow || days > maxWindow {
		return nil, validation(fmt.Sprintf("PendingWindowInDays should be between 7 and 30, but it is %d", days))
	}
	var out kmsapi.ScheduleKeyDeletionResponse
	err := s.change(ctx, call, "ScheduleKeyDeletion", *in.KeyId, &conditions{window: &days, unused: s.unusedAt(call)}, func(tx *store.Tx, k *Key) error {
		k.State = kmsapi.KeyStatePendingDeletion
		// Whole seconds: the due record's key has no finer time.
		k.Deletion = call.Now.Add(time.Duration(days) * 24 * time.Hour).Truncate(time.Second)
		out = kmsapi.ScheduleKeyDeletionResponse{
			KeyId: new(k.ARN()), DeletionDate: model.At(k.Deletion), KeyState: &k.State, PendingWindowInDays: &days}
		return store.Put(tx, dueKind, dueKey(k), &due{k.Region, k.Account, k.ID})
	})
	return &out, err
}

// CancelKeyDeletion ends the waiting period; the key is disabled then.
func (s *Service) CancelKeyDeletion(ctx context.Context, call *iam.Call, in *kmsapi.CancelKeyDeletionRequest) (*kmsapi.CancelKeyDeletionResponse, error) {
	var out kmsapi.CancelKeyDeletionResponse
	err := s.change(ctx, call, "CancelKeyDeletion", *in.KeyId, &conditions{}, func(tx *store.Tx, k *Key) error {
		tx.Delete(dueKey(k))
		k.State, k.Deletion = kmsapi.KeyStateDisabled, time.Time{}
		out.KeyId = new(k.ARN())
		return nil
	})
	return &out, err
}

// sweep removes the keys whose waiting period is over. One that cannot be
// removed does not keep the others.
func (s *Service) sweep(ctx context.Context, now time.Time) error {
	var failed []error
	after := duePrefix
	for {
		var ripe []store.Entry[due]
		err := s.db.View(ctx, func(tx *store.Tx) (err error) {
			ripe, err = store.List(tx, dueKind, duePrefix, after, 100)
			return err
		})
		if err != nil {
			return errors.Join(append(failed, err)...)
		}
		for _, e := range ripe {
			if e.Key >= fmt.Sprintf("%s%012d", duePrefix, now.Unix()+1) {
				return errors.Join(failed...)
			}
			after = e.Key
			if err := s.remove(ctx, e, now); err != nil {
				failed = append(failed, err)
			}
		}
		if len(ripe) < 100 {
			return errors.Join(failed...)
		}
	}
}

// remove expunges one key and records it as the service's own doing.
func (s *Service) remove(ctx context.Context, e store.Entry[due], now time.Time) error {
	keyARN := arn.Key(e.Value.Region, e.Value.Account, e.Value.KeyID)
	entry := s.config.Log.Begin(audit.Record{
		EventType: "AwsServiceEvent", EventTime: now.UTC().Truncate(time.Second), EventSource: "kms.amazonaws.com", EventName: "DeleteKey",
		AWSRegion: e.Value.Region, UserIdentity: &audit.Identity{Type: "AWSService", AccountID: e.Value.Account}, RequestID: uuid.New().String(),
		RecipientAccountID: e.Value.Account, Resources: []audit.Resource{{AccountID: e.Value.Account, Type: "AWS::KMS::Key", ARN: keyARN}}})
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
	s.config.Logger.Info("removed a key whose waiting period is over", "key", keyARN)
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
	const batch = 500
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
	case err == nil && dueKey(key) == e.Key && !key.gone(now):
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
	tx.Delete(materialKey(key, key.MaterialID))
	tx.Delete(at)
	return nil
}
