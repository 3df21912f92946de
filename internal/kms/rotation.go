package kms

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Rotation is how a key's material is rotated.
type Rotation struct {
	Enabled  bool      `json:",omitzero"`
	Days     int32     `json:",omitzero"` // between two automatic rotations
	Next     time.Time `json:",omitzero"` // of the next one, in whole seconds
	OnDemand int       `json:",omitzero"` // rotations on demand so far
}

const (
	rotationDays     = 365 // between two rotations, unless the caller says
	maxOnDemand      = 25  // rotations on demand in a key's life
	rotationConflict = 20 * time.Minute
	day              = 24 * time.Hour
)

// schedule sets when the key is rotated next.
func (k *Key) schedule(tx *store.Tx, at time.Time) error {
	k.Rotation.Next = at.Truncate(time.Second)
	return putDue(tx, rotationDue, k, k.Rotation.Next)
}

// EnableKeyRotation makes the key rotate every so many days.
func (s *Service) EnableKeyRotation(ctx context.Context, call *iam.Call, in *kmsapi.EnableKeyRotationRequest) (*struct{}, error) {
	days := model.Or(in.RotationPeriodInDays, rotationDays)
	c := &conditions{request: []requestKey{{policy.KeyKMSRotationPeriodInDays, strconv.Itoa(int(days))}}}
	return nil, s.change(ctx, call, "EnableKeyRotation", *in.KeyId, c, func(tx *store.Tx, k *Key) error {
		if k.Rotation.Enabled && (in.RotationPeriodInDays == nil || days == k.Rotation.Days) {
			return nil // goes on as it is (UNVERIFIED)
		}
		k.Rotation.Enabled, k.Rotation.Days = true, days
		if err := k.schedule(tx, call.Now.Add(time.Duration(days)*day)); err != nil {
			return err
		}
		return k.share(tx)
	})
}

// DisableKeyRotation ends automatic rotation.
func (s *Service) DisableKeyRotation(ctx context.Context, call *iam.Call, in *kmsapi.DisableKeyRotationRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, "DisableKeyRotation", *in.KeyId, &conditions{}, func(tx *store.Tx, k *Key) error {
		tx.Delete(dueKey(rotationDue, k, k.Rotation.Next))
		k.Rotation = Rotation{OnDemand: k.Rotation.OnDemand}
		return k.share(tx)
	})
}

// GetKeyRotationStatus tells whether and when a key is rotated by itself.
func (s *Service) GetKeyRotationStatus(ctx context.Context, call *iam.Call, in *kmsapi.GetKeyRotationStatusRequest) (*kmsapi.GetKeyRotationStatusResponse, error) {
	out := &kmsapi.GetKeyRotationStatusResponse{KeyRotationEnabled: new(false)}
	err := s.view(ctx, call, func(tx *store.Tx) error {
		key, err := managed(tx, call, "GetKeyRotationStatus", *in.KeyId, noAlias, &conditions{})
		if err != nil {
			return err
		}
		state, err := key.state(tx, call.Now)
		out.KeyId = new(key.ARN())
		deleting := state == kmsapi.KeyStatePendingDeletion || state == kmsapi.KeyStatePendingReplicaDeletion
		if key.Rotation.Enabled && !deleting {
			out.KeyRotationEnabled, out.RotationPeriodInDays, out.NextRotationDate = new(true), &key.Rotation.Days, model.At(key.Rotation.Next)
		}
		return err
	})
	return out, err
}

// RotateKeyOnDemand rotates a key now: with fresh material, or with the imported
// material that waits for it.
func (s *Service) RotateKeyOnDemand(ctx context.Context, call *iam.Call, in *kmsapi.RotateKeyOnDemandRequest) (*kmsapi.RotateKeyOnDemandResponse, error) {
	var out kmsapi.RotateKeyOnDemandResponse
	err := s.change(ctx, call, "RotateKeyOnDemand", *in.KeyId, &conditions{}, func(tx *store.Tx, k *Key) error {
		out.KeyId = new(k.ARN())
		if k.Rotation.OnDemand >= maxOnDemand {
			return kmsapi.LimitExceededException(
				"The on-demand rotations limit has been reached for the given keyId. No more on-demand rotations can be performed for this key: " + k.ARN())
		}
		if k.Rotation.Enabled && !call.Now.Before(k.Rotation.Next.Add(-rotationConflict)) {
			return kmsapi.ConflictException(k.ARN() + " is about to be rotated automatically.")
		}
		k.Rotation.OnDemand++
		if k.Origin == kmsapi.OriginTypeExternal {
			return k.promote(tx, call.Now)
		}
		return s.rotate(tx, k, kmsapi.RotationTypeOnDemand, call.Now)
	})
	return &out, err
}

// rotate gives a key fresh material, which encrypts from now on.
func (s *Service) rotate(tx *store.Tx, k *Key, how string, now time.Time) error {
	secret, err := s.generateMaterial(context.Background(), symmetricDefault) // does not wait
	if err != nil {
		return err
	}
	defer clear(secret)
	id, err := k.materialID(secret)
	if err != nil {
		return err
	}
	k.Materials = append(k.Materials, MaterialInfo{ID: id})
	k.makeCurrent(id, how, now)
	if err := putMaterial(tx, k, id, secret); err != nil {
		return err
	}
	for _, region := range k.related() {
		if err := putMaterial(tx, &Key{ID: k.ID, Account: k.Account, Region: region, Spec: k.Spec}, id, secret); err != nil {
			return err
		}
	}
	return k.share(tx)
}

// makeCurrent makes one of the key's materials the one that encrypts.
func (k *Key) makeCurrent(id, how string, now time.Time) {
	for i := range k.Materials {
		switch m := &k.Materials[i]; {
		case m.ID == id:
			m.State, m.Rotation, m.Rotated = current, how, now
		case m.State == current:
			m.State = nonCurrent
		}
	}
	k.MaterialID = id
}

// rotateDue rotates a key whose time has come, unless it cannot be now: a
// disabled key is rotated when it is enabled.
func (s *Service) rotateDue(tx *store.Tx, e store.Entry[due], now time.Time) (event string, err error) {
	key, err := e.Value.key(tx)
	if err != nil || key == nil {
		tx.Delete(e.Key)
		return "", err
	}
	tx.Delete(e.Key)
	if !key.Rotation.Enabled || dueKey(rotationDue, key, key.Rotation.Next) != e.Key || key.isReplica() {
		return "", nil // of a plan that was changed
	}
	if state, err := key.state(tx, now); err != nil || state != kmsapi.KeyStateEnabled && state != kmsapi.KeyStateUpdating {
		return "", err
	}
	k, err := editable(tx, key)
	if err != nil {
		return "", err
	}
	if err := s.rotateOverdue(tx, k, now); err != nil {
		return "", err
	}
	return "RotateKey", putKey(tx, k)
}

// rotateOverdue rotates a key whose time has come and plans the next rotation.
func (s *Service) rotateOverdue(tx *store.Tx, k *Key, now time.Time) error {
	period := time.Duration(k.Rotation.Days) * day
	next := k.Rotation.Next.Add(period)
	if !next.After(now) {
		next = now.Add(period)
	}
	if err := k.schedule(tx, next); err != nil {
		return err
	}
	return s.rotate(tx, k, kmsapi.RotationTypeAutomatic, now)
}

// ListKeyRotations lists the rotations of a key, and on request all of its key
// materials.
func (s *Service) ListKeyRotations(ctx context.Context, call *iam.Call, in *kmsapi.ListKeyRotationsRequest) (*kmsapi.ListKeyRotationsResponse, error) {
	p, err := newPage("ListKeyRotations", in.Marker, in.Limit, 100, 1000)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeyRotationsResponse{Rotations: []kmsapi.RotationsListEntry{}}
	err = s.view(ctx, call, func(tx *store.Tx) error {
		key, err := managed(tx, call, "ListKeyRotations", *in.KeyId, noAlias, &conditions{})
		if err != nil {
			return err
		}
		var shown []int
		for i := range key.Materials {
			all := model.Value(in.IncludeKeyMaterial) == kmsapi.IncludeKeyMaterialAllKeyMaterial
			if (all || key.Materials[i].Rotation != "") && position(i) > p.after {
				shown = append(shown, i)
			}
		}
		shown, out.Truncated, out.NextMarker = cut(p, shown, position)
		out.Rotations = []kmsapi.RotationsListEntry{}
		for _, i := range shown {
			out.Rotations = append(out.Rotations, key.rotationEntry(&key.Materials[i], call.Now))
		}
		return nil
	})
	return out, err
}

// position is where a material stands in its key's list, for a marker.
func position(i int) string { return fmt.Sprintf("%08d", i) }

func (k *Key) rotationEntry(m *MaterialInfo, now time.Time) kmsapi.RotationsListEntry {
	e := kmsapi.RotationsListEntry{KeyId: new(k.ARN()), KeyMaterialId: &m.ID, KeyMaterialState: &m.State}
	if m.Rotation != "" {
		e.RotationType, e.RotationDate = &m.Rotation, model.At(m.Rotated)
	}
	if k.Origin != kmsapi.OriginTypeExternal {
		return e
	}
	e.ImportState = new(kmsapi.ImportStatePendingImport)
	if m.Description != "" {
		e.KeyMaterialDescription = &m.Description
	}
	if m.present(now) {
		e.ImportState = new(kmsapi.ImportStateImported)
		e.ExpirationModel = new(kmsapi.ExpirationModelTypeKeyMaterialDoesNotExpire)
		if !m.ValidTo.IsZero() {
			e.ExpirationModel, e.ValidTo = new(kmsapi.ExpirationModelTypeKeyMaterialExpires), model.At(m.ValidTo)
		}
	}
	return e
}
