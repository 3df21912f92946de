package kms

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxReplicas bounds what one change writes. AWS has fewer Regions.
const maxReplicas = 40

// share writes what the keys of a multi-Region key have in common into the
// others: key materials, rotation, and which Regions have one.
func (k *Key) share(tx *store.Tx) error {
	for _, region := range k.related() {
		other, err := store.Edit(tx, keyKind, keyKey(region, k.Account, k.ID))
		if err != nil {
			return err
		}
		other.adopt(k)
		if err := putKey(tx, other); err != nil {
			return err
		}
	}
	return nil
}

// adopt takes over what k has in common with other. Whether imported material is
// there is each key's own.
func (k *Key) adopt(other *Key) {
	own := k.Materials
	k.Materials = slices.Clone(other.Materials)
	for i := range k.Materials {
		m := &k.Materials[i]
		m.Imported, m.ValidTo = false, time.Time{}
		for _, o := range own {
			if o.ID == m.ID {
				m.Imported, m.ValidTo = o.Imported, o.ValidTo
			}
		}
	}
	k.MaterialID, k.Rotation, k.Primary, k.Replicas = other.MaterialID, other.Rotation, other.Primary, other.Replicas
}

// ReplicateKey makes a replica of a multi-Region primary key in another Region:
// the same key material and id, with its own policy, tags, aliases and grants.
func (s *Service) ReplicateKey(ctx context.Context, call *iam.Call, in *kmsapi.ReplicateKeyRequest) (*kmsapi.ReplicateKeyResponse, error) {
	out := &kmsapi.ReplicateKeyResponse{}
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		out.ReplicaTags = []kmsapi.Tag{}
		c := &conditions{request: []requestKey{{policy.KeyKMSReplicaRegion, *in.ReplicaRegion}}}
		key, err := managed(tx, call, "ReplicateKey", *in.KeyId, noAlias, c)
		if err != nil {
			return err
		}
		there := *call
		there.Region = *in.ReplicaRegion
		replica := newReplica(key, &there, in)
		if err := mayReplicate(tx, &there, replica, in); err != nil {
			return err
		}
		if !s.config.Regions.Has(replica.Region) || replica.Region == key.Region || arn.Partition(replica.Region) != arn.Partition(key.Region) {
			return validation("ReplicaRegion " + replica.Region + " is not valid for " + key.ARN() + ".") // UNVERIFIED text
		}
		if _, err := store.Get(tx, keyKind, keyKey(replica.Region, key.Account, key.ID)); err == nil {
			return kmsapi.AlreadyExistsException(replica.ARN() + " already exists.") // UNVERIFIED text
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := s.addReplica(tx, &there, key, replica, in); err != nil {
			return err
		}
		if out.ReplicaKeyMetadata, err = replica.metadata(tx, call.Now); err != nil {
			return err
		}
		out.ReplicaKeyMetadata.KeyState, out.ReplicaKeyMetadata.Enabled = new(kmsapi.KeyStateCreating), new(false)
		out.ReplicaKeyMetadata.CurrentKeyMaterialId = nil
		for _, t := range replica.Tags {
			out.ReplicaTags = append(out.ReplicaTags, kmsapi.Tag{TagKey: &t.Key, TagValue: &t.Value})
		}
		noteResource(call, target{account: replica.Account, id: replica.ID, arn: replica.ARN()})
		out.ReplicaPolicy, err = shownPolicy(tx, replica)
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, s.serviceEvent("CreateKey", *in.ReplicaRegion, call.Account(), *out.ReplicaKeyMetadata.KeyId, call.Now).End()
}

func newReplica(key *Key, there *iam.Call, in *kmsapi.ReplicateKeyRequest) *Key {
	r := &Key{ID: key.ID, Account: key.Account, Region: there.Region, Description: model.Value(in.Description), State: kmsapi.KeyStateEnabled,
		Spec: key.Spec, Usage: key.Usage, Origin: key.Origin, MultiRegion: true, Created: there.Now}
	r.adopt(key)
	return r
}

// mayReplicate authorizes the making of the replica in its own Region, where no
// key policy is there yet to ask.
func mayReplicate(tx *store.Tx, there *iam.Call, replica *Key, in *kmsapi.ReplicateKeyRequest) error {
	create := &kmsapi.CreateKeyRequest{KeySpec: &replica.Spec, KeyUsage: &replica.Usage, Origin: &replica.Origin, MultiRegion: new(true)}
	c := &conditions{create: create, replica: true, tags: setTags(in.Tags)}
	if err := allowed(tx, there, actions["CreateKey"], "*", c); err != nil || len(in.Tags) == 0 {
		return err
	}
	return allowed(tx, there, actions["TagResource"], replica.ARN(), c)
}

// addReplica stores a replica with the key's materials and tells the others of it.
func (s *Service) addReplica(tx *store.Tx, there *iam.Call, key, replica *Key, in *kmsapi.ReplicateKeyRequest) (err error) {
	if replica.Tags, err = addTags(nil, in.Tags); err != nil {
		return err
	}
	if replica.Policy, err = newPolicy(tx, there, replica, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
		return err
	}
	if len(key.Replicas) >= maxReplicas {
		return kmsapi.LimitExceededException("The number of replicas has reached the limit of a multi-Region key.")
	}
	if err := s.countKey(tx, replica, 1, 0); err != nil {
		return err
	}
	if s.config.Settling > 0 {
		replica.Passing = Passing{kmsapi.KeyStateCreating, there.Now.Add(s.config.Settling)}
	}
	primary, err := editable(tx, key)
	if err != nil {
		return err
	}
	primary.Replicas = append(primary.Replicas, replica.Region)
	slices.Sort(primary.Replicas)
	if m := primary.awaiting(); m != nil && primary.Origin == kmsapi.OriginTypeExternal {
		m.State = pendingImport // until the new replica has it too
	}
	replica.adopt(primary)
	if key.Origin != kmsapi.OriginTypeExternal {
		for _, m := range key.Materials {
			if err := copyMaterial(tx, key, replica, m.ID); err != nil {
				return err
			}
		}
	}
	if err := errors.Join(putKey(tx, replica), putKey(tx, primary)); err != nil {
		return err
	}
	return primary.share(tx)
}

// copyMaterial gives a replica material of its primary.
func copyMaterial(tx *store.Tx, from, to *Key, id string) error {
	m, err := from.material(tx, id)
	if err != nil {
		return err
	}
	return m.secret.Use(func(bytes []byte) error { return putMaterial(tx, to, id, bytes) })
}

// UpdatePrimaryRegion makes a replica the primary key. Both keys' policies must
// allow it.
func (s *Service) UpdatePrimaryRegion(ctx context.Context, call *iam.Call, in *kmsapi.UpdatePrimaryRegionRequest) (*struct{}, error) {
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		request := []requestKey{{policy.KeyKMSPrimaryRegion, *in.PrimaryRegion}}
		key, err := managed(tx, call, "UpdatePrimaryRegion", *in.KeyId, noAlias, &conditions{request: request})
		if err != nil {
			return err
		}
		there := *call
		there.Region = *in.PrimaryRegion
		t, err := find(tx, &there, key.Account, key.ID)
		if err != nil {
			return err
		}
		if t.key == nil || t.key.Region == key.Region {
			return kmsapi.NotFoundException("Key '" + t.arn + "' does not exist") // UNVERIFIED
		}
		if _, err := authorize(tx, &there, actions["UpdatePrimaryRegion"], t, &conditions{request: request}); err != nil {
			return err
		}
		for _, one := range []*Key{key, t.key} {
			if err := one.admits(tx, call.Now, "UpdatePrimaryRegion"); err != nil {
				return err
			}
			if call.Now.Before(one.Passing.Until) {
				return kmsapi.KMSInvalidStateException(one.ARN() + " is updating.") // UNVERIFIED
			}
		}
		return s.movePrimary(tx, key, t.key.Region, call.Now)
	})
}

// movePrimary writes the new primary Region into all related keys.
func (s *Service) movePrimary(tx *store.Tx, key *Key, region string, now time.Time) error {
	replicas := append(slices.DeleteFunc(slices.Clone(key.Replicas), func(r string) bool { return r == region }), key.Region)
	slices.Sort(replicas)
	for _, r := range append(key.related(), key.Region) {
		k, err := store.Edit(tx, keyKind, keyKey(r, key.Account, key.ID))
		if err != nil {
			return err
		}
		k.Primary, k.Replicas = region, replicas
		if s.config.Settling > 0 && (r == region || r == key.Region) {
			k.Passing = Passing{kmsapi.KeyStateUpdating, now.Add(s.config.Settling)}
		}
		if r == region && k.Rotation.Enabled {
			if err := k.schedule(tx, k.Rotation.Next); err != nil {
				return err
			}
		}
		if err := putKey(tx, k); err != nil {
			return err
		}
	}
	return nil
}

// leave takes a key that is being removed out of its relations. A primary that
// waited for its last replica begins its own waiting period, and imported material
// that waited for this replica alone waits no more.
func (s *Service) leave(tx *store.Tx, k *Key, now time.Time) error {
	for _, region := range k.related() {
		other, err := store.Edit(tx, keyKind, keyKey(region, k.Account, k.ID))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		other.Replicas = slices.DeleteFunc(other.Replicas, func(r string) bool { return r == k.Region })
		if other.State == kmsapi.KeyStatePendingReplicaDeletion && len(other.Replicas) == 0 {
			if err := other.scheduleDeletion(tx, other.Window, now); err != nil {
				return err
			}
		}
		if !other.isReplica() {
			if err := s.settleImports(tx, other, now); err != nil {
				return err
			}
		}
		if err := putKey(tx, other); err != nil {
			return err
		}
	}
	return nil
}
