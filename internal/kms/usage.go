package kms

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// A lastUse is when and how a key was last used successfully.
type lastUse struct {
	Region, Account, KeyID string
	At                     time.Time
	Operation              string
	RequestID              string

	saved time.Time // the last use that is stored
}

var lastUseKind = store.Kind[lastUse]{Tag: 40, Name: "last use of a key"}

func lastUseKey(region, account, id string) string {
	return "k/" + region + "/" + account + "/lastuse/" + id
}

// saveUse is how much newer a use must be than the stored one to be stored. A
// crash forgets no more than that, so a key may look unused for this much longer.
const saveUse = time.Hour

// A usage remembers the last use of each key since this process started; the
// store has those of before, and of other nodes as long ago as saveUse
// (kms:TrailingDaysWithoutKeyUsage, GetKeyLastUsage).
// It is safe for concurrent use.
type usage struct {
	last sync.Map // key ARN to *atomic.Pointer[lastUse]; one entry for each key used
}

// note records a use.
func (u *usage) note(k *Key, operation string, call *iam.Call) {
	last, ok := u.last.Load(k.ARN())
	if !ok {
		last, _ = u.last.LoadOrStore(k.ARN(), new(atomic.Pointer[lastUse]))
	}
	p := last.(*atomic.Pointer[lastUse])
	next := &lastUse{Region: k.Region, Account: k.Account, KeyID: k.ID, At: call.Now, Operation: operation, RequestID: call.RequestID}
	if before := p.Load(); before != nil {
		next.saved = before.saved
	}
	p.Store(next)
}

// of returns a key's last use; nil if none is known. What an earlier replica in
// its place was used for does not count.
func (u *usage) of(tx *store.Tx, k *Key) (*lastUse, error) {
	l, err := storedUse(tx, k.Region, k.Account, k.ID)
	if err != nil {
		return nil, err
	}
	if last, ok := u.last.Load(k.ARN()); ok {
		if here := last.(*atomic.Pointer[lastUse]).Load(); l == nil || here.At.After(l.At) {
			l = here
		}
	}
	if l == nil || l.At.Before(k.Created) {
		return nil, nil
	}
	return l, nil
}

// storedUse is the last use that is stored; nil: there is none.
func storedUse(tx *store.Tx, region, account, id string) (*lastUse, error) {
	l, err := store.Get(tx, lastUseKind, lastUseKey(region, account, id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return l, err
}

// forget drops what is remembered of a key that is gone.
func (u *usage) forget(keyARN string) { u.last.Delete(keyARN) }

// trailingDays is how many whole days ago the key was last used; without a
// recorded use, how long ago it was created.
func (u *usage) trailingDays(tx *store.Tx, k *Key, now time.Time) (int, error) {
	l, err := u.of(tx, k)
	if err != nil {
		return 0, err
	}
	from := k.Created
	if l != nil {
		from = l.At
	}
	return int(now.Sub(from) / (24 * time.Hour)), nil
}

// save stores the uses that are newer than the stored ones by more than age.
func (u *usage) save(ctx context.Context, db *store.DB, age time.Duration) error {
	var due []*atomic.Pointer[lastUse]
	u.last.Range(func(_, v any) bool {
		p := v.(*atomic.Pointer[lastUse])
		if l := p.Load(); l.At.Sub(l.saved) > age {
			due = append(due, p)
		}
		return true
	})
	for some := range slices.Chunk(due, db.Batch()) {
		err := db.Update(ctx, func(tx *store.Tx) error {
			tx.OnlyAdds()
			for _, p := range some {
				l := *p.Load()
				if _, err := store.Get(tx, keyKind, keyKey(l.Region, l.Account, l.KeyID)); errors.Is(err, store.ErrNotFound) {
					continue // removed meanwhile
				}
				if stored, err := storedUse(tx, l.Region, l.Account, l.KeyID); err != nil || stored != nil && stored.At.After(l.At) {
					if err != nil {
						return err
					}
					continue // by another node
				}
				if err := store.Put(tx, lastUseKind, lastUseKey(l.Region, l.Account, l.KeyID), &l); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, p := range some {
			before := p.Load()
			after := *before
			after.saved = after.At
			p.CompareAndSwap(before, &after) // a use meanwhile is stored next time
		}
	}
	return nil
}

// GetKeyLastUsage shows when and how a key was last used.
func (s *Service) GetKeyLastUsage(ctx context.Context, call *iam.Call, in *kmsapi.GetKeyLastUsageRequest) (*kmsapi.GetKeyLastUsageResponse, error) {
	out := &kmsapi.GetKeyLastUsageResponse{KeyLastUsage: &kmsapi.KeyLastUsageData{}}
	err := s.view(ctx, call, func(tx *store.Tx) error {
		key, err := managed(tx, call, "GetKeyLastUsage", *in.KeyId, noAlias, &conditions{})
		if err != nil {
			return err
		}
		out.KeyId, out.KeyCreationDate, out.TrackingStartDate = new(key.ARN()), model.At(key.Created), model.At(key.Created)
		l, err := s.usage.of(tx, key)
		if err == nil && l != nil {
			out.KeyLastUsage = &kmsapi.KeyLastUsageData{Operation: &l.Operation, Timestamp: model.At(l.At), KmsRequestId: &l.RequestID}
		}
		return err
	})
	return out, err
}
