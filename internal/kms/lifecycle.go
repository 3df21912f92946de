package kms

import (
	"context"
	"fmt"
	"time"

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
func (s *Service) unusedAt(call *iam.Call) func(*store.Tx, *Key) (int, error) {
	return func(tx *store.Tx, k *Key) (int, error) { return s.usage.trailingDays(tx, k, call.Now) }
}

// EnableKey makes a disabled key usable. A rotation that was due meanwhile
// happens now.
func (s *Service) EnableKey(ctx context.Context, call *iam.Call, in *kmsapi.EnableKeyRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, "EnableKey", *in.KeyId, &conditions{}, func(tx *store.Tx, k *Key) error {
		tx.OnlyAdds()
		k.State = kmsapi.KeyStateEnabled
		switch {
		case !k.Rotation.Enabled || k.isReplica():
			return nil
		case call.Now.Before(k.Rotation.Next):
			return k.schedule(tx, k.Rotation.Next)
		default:
			return s.rotateOverdue(tx, k, call.Now)
		}
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
	return nil, s.change(ctx, call, "UpdateKeyDescription", *in.KeyId, &conditions{}, func(tx *store.Tx, k *Key) error {
		tx.OnlyAdds()
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

// ScheduleKeyDeletion begins the waiting period, at whose end the key, its
// material, aliases and policy vanish. A multi-Region primary key first waits until
// its replicas are gone.
func (s *Service) ScheduleKeyDeletion(ctx context.Context, call *iam.Call, in *kmsapi.ScheduleKeyDeletionRequest) (*kmsapi.ScheduleKeyDeletionResponse, error) {
	days := model.Or(in.PendingWindowInDays, defaultWindow)
	var out kmsapi.ScheduleKeyDeletionResponse
	err := s.change(ctx, call, "ScheduleKeyDeletion", *in.KeyId, &conditions{window: &days, unused: s.unusedAt(call)}, func(tx *store.Tx, k *Key) error {
		if days < minWindow || days > maxWindow {
			return validation(fmt.Sprintf("PendingWindowInDays should be between 7 and 30, but it is %d", days))
		}
		out = kmsapi.ScheduleKeyDeletionResponse{KeyId: new(k.ARN()), PendingWindowInDays: &days}
		if len(k.Replicas) > 0 && !k.isReplica() {
			k.State, k.Window = kmsapi.KeyStatePendingReplicaDeletion, days
			out.KeyState = &k.State
			return nil
		}
		err := k.scheduleDeletion(tx, days, call.Now)
		out.KeyState, out.DeletionDate = &k.State, model.At(k.Deletion)
		return err
	})
	return &out, err
}

// scheduleDeletion begins the key's waiting period.
func (k *Key) scheduleDeletion(tx *store.Tx, days int32, now time.Time) error {
	k.State, k.Window = kmsapi.KeyStatePendingDeletion, 0
	k.Deletion = now.Add(time.Duration(days) * day).Truncate(time.Second)
	return putDue(tx, deletionDue, k, k.Deletion)
}

// CancelKeyDeletion ends the waiting period; the key is disabled then.
func (s *Service) CancelKeyDeletion(ctx context.Context, call *iam.Call, in *kmsapi.CancelKeyDeletionRequest) (*kmsapi.CancelKeyDeletionResponse, error) {
	var out kmsapi.CancelKeyDeletionResponse
	err := s.change(ctx, call, "CancelKeyDeletion", *in.KeyId, &conditions{}, func(tx *store.Tx, k *Key) error {
		tx.OnlyAdds()
		tx.Delete(dueKey(deletionDue, k, k.Deletion))
		k.State, k.Deletion, k.Window = kmsapi.KeyStateDisabled, time.Time{}, 0
		out.KeyId = new(k.ARN())
		return nil
	})
	return &out, err
}
