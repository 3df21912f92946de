package kms

import (
	"encoding/json/v2"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// replayed are the parameters of the changes that can be made again from their audit
// record.
type replayed struct {
	GrantID       string       `json:"grantId"`
	GrantToken    string       `json:"grantToken"`
	Policy        string       `json:"policy"`
	Window        *int32       `json:"pendingWindowInDays"`
	KeyMaterialID string       `json:"keyMaterialId"`
	AliasName     string       `json:"aliasName"`
	TargetKeyID   string       `json:"targetKeyId"`
	Tags          []kmsapi.Tag `json:"tags"`
	TagKeys       []string     `json:"tagKeys"`
	Omitted       bool         `json:"omitted"` // they were too long for the record
}

// Replay makes a change again that the audit log tells of, in a store that came from a
// backup of before it: what takes permissions away, ends a key or its material, or says
// who may use it. It reports false for a change that it cannot make again, and for one
// about a key, grant or alias that is not there.
func (s *Service) Replay(tx *store.Tx, r *audit.Record, now time.Time) (bool, error) {
	var p replayed
	if len(r.RequestParameters) > 0 {
		if err := json.Unmarshal(r.RequestParameters, &p, json.MatchCaseInsensitiveNames(true)); err != nil || p.Omitted {
			return false, nil
		}
	}
	switch r.EventName {
	case "RetireGrant", "RevokeGrant":
		return s.replayGrantEnd(tx, r, &p)
	case "DeleteAlias", "UpdateAlias":
		return replayAlias(tx, r, &p)
	}
	k, err := keyOf(tx, r)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if done, err := s.replayKey(tx, r, &p, k, now); err != nil || !done {
		return false, err
	}
	return true, putKey(tx, k)
}

// keyOf returns the key a record is about, to edit, or store.ErrNotFound.
func keyOf(tx *store.Tx, r *audit.Record) (*Key, error) {
	for _, about := range r.Resources {
		a, err := arn.Parse(about.ARN)
		if id, ok := strings.CutPrefix(a.Resource, "key/"); err == nil && ok {
			return store.Edit(tx, keyKind, keyKey(a.Region, a.Account, id))
		}
	}
	return nil, store.ErrNotFound
}

func (s *Service) replayKey(tx *store.Tx, r *audit.Record, p *replayed, k *Key, now time.Time) (done bool, err error) {
	pending := k.State == kmsapi.KeyStatePendingDeletion || k.State == kmsapi.KeyStatePendingReplicaDeletion
	switch r.EventName {
	case "DisableKey":
		if !pending {
			k.State = kmsapi.KeyStateDisabled
		}
	case "ScheduleKeyDeletion":
		days := int32(defaultWindow)
		if p.Window != nil {
			days = *p.Window
		}
		if len(k.Replicas) > 0 && !k.isReplica() {
			k.State, k.Window = kmsapi.KeyStatePendingReplicaDeletion, days
			return true, nil
		}
		return true, k.replan(tx, days, now)
	case "DeleteKey": // the waiting period had ended
		return true, k.replan(tx, minWindow, now)
	case "CancelKeyDeletion":
		tx.Delete(dueKey(deletionDue, k, k.Deletion))
		k.State, k.Deletion, k.Window = kmsapi.KeyStateDisabled, time.Time{}, 0
	case "PutKeyPolicy":
		doc, err := policy.Parse([]byte(p.Policy))
		if err != nil || policy.Validate(doc, policy.Key) != nil || iam.ResolvePrincipals(tx, doc, arn.Partition(k.Region), false) != nil {
			return false, nil // it names somebody who is not here
		}
		k.Policy = doc.Compact()
	case "TagResource":
		k.Tags, err = addTags(k.Tags, p.Tags)
	case "UntagResource":
		k.Tags = slices.DeleteFunc(k.Tags, func(t Tag) bool { return slices.Contains(p.TagKeys, t.Key) })
	case "DeleteImportedKeyMaterial", "DeleteExpiredKeyMaterial":
		id := p.KeyMaterialID
		if id == "" {
			id = k.MaterialID
		}
		if m := k.info(id); m != nil && m.Imported {
			k.dropImported(tx, m)
		}
	default:
		return false, nil
	}
	return err == nil, err
}

// replan begins a waiting period anew: who restores a store is to have the time to look.
func (k *Key) replan(tx *store.Tx, days int32, now time.Time) error {
	if !k.Deletion.IsZero() {
		tx.Delete(dueKey(deletionDue, k, k.Deletion))
	}
	return k.scheduleDeletion(tx, days, now)
}

// replayGrantEnd ends a grant that is there still.
func (s *Service) replayGrantEnd(tx *store.Tx, r *audit.Record, p *replayed) (bool, error) {
	var region, account, keyID string
	id := p.GrantID
	if p.GrantToken != "" {
		ref, err := s.openToken(p.GrantToken)
		if err != nil {
			return false, nil
		}
		region, account, keyID, id = ref.Region, ref.Account, ref.KeyID, ref.ID
	} else {
		k, err := keyOf(tx, r)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		region, account, keyID = k.Region, k.Account, k.ID
	}
	g, err := findGrant(tx, region, account, keyID, id)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil // it was created since, and is not here
	}
	if err != nil {
		return false, err
	}
	return true, removeGrant(tx, g)
}

// replayAlias takes an alias away from the key it had, and gives it to the one it has led
// to since, if that is there: nothing may use the old key by its name.
func replayAlias(tx *store.Tx, r *audit.Record, p *replayed) (bool, error) {
	at := aliasKey(r.AWSRegion, r.RecipientAccountID, p.AliasName)
	a, err := store.Get(tx, aliasKind, at)
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	tx.Delete(at)
	key := func(id string) (*Key, error) {
		return store.Get(tx, keyKind, keyKey(r.AWSRegion, r.RecipientAccountID, id))
	}
	if old, err := key(a.KeyID); err == nil {
		err = removeAlias(tx, old, a.Name)
		if err != nil {
			return false, err
		}
	} else if !errors.Is(err, store.ErrNotFound) {
		return false, err
	}
	to, err := key(p.TargetKeyID[strings.LastIndexByte(p.TargetKeyID, '/')+1:])
	if errors.Is(err, store.ErrNotFound) {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(addAlias(tx, to, a.Name), store.Put(tx, aliasKind, at, &Alias{a.Name, to.ID, a.Created, r.EventTime}))
}
