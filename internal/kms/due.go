package kms

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
)

// A due record says that something happens to a key by itself; its own key begins
// with when.
type due struct {
	Region, Account, KeyID string
}

var dueKind = store.Kind[due]{Tag: 33, Name: "due"}

// Lists of what is due.
const (
	deletionDue = "due/"
	rotationDue = "due-rotation/"
	expiryDue   = "due-expiry/"
)

func dueKey(list string, k *Key, at time.Time) string {
	return fmt.Sprintf("%s%012d/%s/%s/%s", list, at.Unix(), k.Region, k.Account, k.ID)
}

func putDue(tx *store.Tx, list string, k *Key, at time.Time) error {
	return store.Put(tx, dueKind, dueKey(list, k, at), &due{k.Region, k.Account, k.ID})
}

// key finds what the record is about; nil if it does not exist any more.
func (d *due) key(tx *store.Tx) (*Key, error) {
	k, err := store.Get(tx, keyKind, keyKey(d.Region, d.Account, d.KeyID))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return k, err
}

// sweep does what is due, and returns when the next thing is; the zero time if
// nothing is planned. One thing that cannot be done does not keep the others.
func (s *Service) sweep(ctx context.Context, now time.Time) (next time.Time, err error) {
	for list, do := range map[string]func(context.Context, store.Entry[due], time.Time) error{
		deletionDue: s.remove, rotationDue: s.inTransaction(s.rotateDue), expiryDue: s.inTransaction(s.expireDue),
	} {
		at, failed := s.sweepList(ctx, list, now, do)
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
		err = errors.Join(err, failed)
	}
	return next, err
}

func (s *Service) sweepList(ctx context.Context, list string, now time.Time, do func(context.Context, store.Entry[due], time.Time) error) (next time.Time, err error) {
	const batch = 100
	after := list
	for {
		var planned []store.Entry[due]
		failed := s.db.View(ctx, func(tx *store.Tx) (err error) {
			planned, err = store.List(tx, dueKind, list, after, batch)
			return err
		})
		if failed != nil {
			return next, errors.Join(err, failed)
		}
		for _, e := range planned {
			if at := dueAt(list, e.Key); at.After(now) {
				return at, err
			}
			after = e.Key
			err = errors.Join(err, do(ctx, e, now))
		}
		if len(planned) < batch {
			return next, err
		}
	}
}

// dueAt is when something is due, by its record's key.
func dueAt(list, key string) time.Time {
	text, _, _ := strings.Cut(strings.TrimPrefix(key, list), "/")
	seconds, _ := strconv.ParseInt(text, 10, 64) // dueKey wrote it
	return time.Unix(seconds, 0)
}

// serviceEvent begins the audit record of something the service does by itself.
func (s *Service) serviceEvent(name, region, account, keyID string, now time.Time) *audit.Entry {
	return s.config.Log.Begin(audit.Record{
		EventType: "AwsServiceEvent", EventTime: now.UTC().Truncate(time.Second), EventSource: "kms.amazonaws.com", EventName: name,
		AWSRegion: region, UserIdentity: &audit.Identity{Type: "AWSService", AccountID: account}, RequestID: uuid.New().String(),
		RecipientAccountID: account,
		Resources:          []audit.Resource{{AccountID: account, Type: "AWS::KMS::Key", ARN: arn.Key(region, account, keyID)}}})
}

// inTransaction runs a handler in a transaction and records what it did, if
// anything.
func (s *Service) inTransaction(do func(*store.Tx, store.Entry[due], time.Time) (event string, err error)) func(context.Context, store.Entry[due], time.Time) error {
	return func(ctx context.Context, e store.Entry[due], now time.Time) error {
		entry := s.serviceEvent("", e.Value.Region, e.Value.Account, e.Value.KeyID, now)
		err := iam.Change(ctx, s.db, entry, func(tx *store.Tx) (err error) {
			entry.EventName, err = do(tx, e, now)
			if err == nil && entry.EventName == "" {
				entry.EventName = "ForgetPlan" // only the record of what was due goes
			}
			return err
		})
		if err != nil {
			entry.ErrorCode = "KMSInternalException"
		}
		if !entry.Intended() {
			return err
		}
		return errors.Join(err, entry.End())
	}
}
