package kms

import (
	"errors"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Key is the record of a KMS key. Its policy is part of it: there is no
// moment at which a key has none.
type Key struct {
	ID          string
	Account     string
	Region      string
	Description string
	State       string // kmsapi.KeyState…, as far as it is stored: see state
	Spec        string
	Usage       string
	Origin      string
	Manager     string `json:",omitzero"` // empty: CUSTOMER
	MultiRegion bool
	Created     time.Time
	Deletion    time.Time `json:",omitzero"` // when the waiting period ends
	Window      int32     `json:",omitzero"` // days, while replicas are waited for
	Policy      string    // principals as unique ids (AUTH-2.16)
	Tags        []Tag     `json:",omitzero"`
	Aliases     []string  `json:",omitzero"` // names, with their prefix

	MaterialID string         `json:",omitzero"` // of the current key material; empty before the first import
	Materials  []MaterialInfo `json:",omitzero"` // all of them, the oldest first
	Rotation   Rotation       `json:",omitzero"`

	Primary  string   `json:",omitzero"` // Region of the primary of a multi-Region key
	Replicas []string `json:",omitzero"` // Regions of its replicas, sorted
	Passing  Passing  `json:",omitzero"`

	StoreID  string `json:",omitzero"` // custom key store
	XksKeyID string `json:",omitzero"`

	Expunged bool `json:",omitzero"` // its removal has begun and cannot be cancelled

	arn    string
	policy *policy.Policy
	tags   map[string]string
}

// A Tag is a key and a value; keys are case-sensitive.
type Tag struct{ Key, Value string }

// A Passing is a state that a key leaves by itself.
type Passing struct {
	State string
	Until time.Time
}

// ARN is the key's ARN.
func (k *Key) ARN() string {
	if k.arn != "" {
		return k.arn
	}
	return arn.Key(k.Region, k.Account, k.ID)
}

func (k *Key) prepare() error {
	k.arn = arn.Key(k.Region, k.Account, k.ID)
	k.tags = authz.TagMap(k.Tags, func(t Tag) (string, string) { return t.Key, t.Value })
	var err error
	k.policy, err = compiledPolicy(k.Policy)
	return err
}

var keyKind = store.Kind[Key]{Tag: 30, Name: "key", Prepare: (*Key).prepare}

func keyPrefix(region, account string) string { return "k/" + region + "/" + account + "/key/" }

func keyKey(region, account, id string) string { return keyPrefix(region, account) + id }

func putKey(tx *store.Tx, k *Key) error {
	return store.Put(tx, keyKind, keyKey(k.Region, k.Account, k.ID), k)
}

// editable returns a copy of k to change and put.
func editable(tx *store.Tx, k *Key) (*Key, error) {
	return store.Edit(tx, keyKind, keyKey(k.Region, k.Account, k.ID))
}

// gone reports whether the waiting period is over: the key does not exist any
// more, whether or not the sweep has come by.
func (k *Key) gone(now time.Time) bool {
	return k.Expunged || k.State == kmsapi.KeyStatePendingDeletion && !now.Before(k.Deletion)
}

// state is the key's state at a moment: what is stored, unless the key is on
// its way to it, lacks material, or its key store is not connected.
func (k *Key) state(tx *store.Tx, now time.Time) (string, error) {
	passing := now.Before(k.Passing.Until)
	switch {
	case k.State == kmsapi.KeyStatePendingDeletion || k.State == kmsapi.KeyStatePendingReplicaDeletion:
		return k.State, nil
	case passing && k.Passing.State == kmsapi.KeyStateCreating:
		return kmsapi.KeyStateCreating, nil
	case k.Origin == kmsapi.OriginTypeExternal && !k.complete(now):
		return kmsapi.KeyStatePendingImport, nil
	case passing:
		return k.Passing.State, nil
	case k.StoreID == "":
		return k.State, nil
	}
	s, err := store.Get(tx, keyStoreKind, keyStoreKey(k.Region, k.Account, k.StoreID))
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && s.State != kmsapi.ConnectionStateTypeConnected:
		return kmsapi.KeyStateUnavailable, nil
	default:
		return k.State, err
	}
}

// metadata is the key's wire form at a moment (operations.md §6).
func (k *Key) metadata(tx *store.Tx, now time.Time) (*kmsapi.KeyMetadata, error) {
	state, err := k.state(tx, now)
	if err != nil {
		return nil, err
	}
	m := &kmsapi.KeyMetadata{
		AWSAccountId: &k.Account, KeyId: &k.ID, Arn: new(k.ARN()), CreationDate: model.At(k.Created),
		Enabled: new(state == kmsapi.KeyStateEnabled), Description: &k.Description, KeyUsage: &k.Usage, KeyState: &state,
		Origin: &k.Origin, KeyManager: new(kmsapi.KeyManagerTypeCustomer), CustomerMasterKeySpec: &k.Spec, KeySpec: &k.Spec,
		MultiRegion: &k.MultiRegion,
	}
	if k.Manager != "" {
		m.KeyManager = &k.Manager
	}
	switch k.Usage {
	case encryptDecrypt:
		m.EncryptionAlgorithms = k.algorithms()
	case signVerify:
		m.SigningAlgorithms = k.algorithms()
	case generateVerify:
		m.MacAlgorithms = k.algorithms()
	case keyAgreement:
		m.KeyAgreementAlgorithms = k.algorithms()
	case encapsulation:
		m.EncapsulationAlgorithms = k.algorithms()
	}
	switch state {
	case kmsapi.KeyStatePendingDeletion:
		m.DeletionDate = model.At(k.Deletion)
	case kmsapi.KeyStatePendingReplicaDeletion:
		m.PendingDeletionWindowInDays = &k.Window
	}
	if k.rotates() && k.MaterialID != "" && state != kmsapi.KeyStateCreating {
		m.CurrentKeyMaterialId = &k.MaterialID
	}
	k.describeImport(m, now)
	if k.StoreID != "" {
		m.CustomKeyStoreId, m.XksKeyConfiguration = &k.StoreID, &kmsapi.XksKeyConfigurationType{Id: &k.XksKeyID}
	}
	m.MultiRegionConfiguration = k.relations()
	return m, nil
}

// rotates reports whether the key can have more than one key material.
func (k *Key) rotates() bool { return k.isSymmetric() && k.StoreID == "" }

// isReplica reports whether the key is a replica of a multi-Region key.
func (k *Key) isReplica() bool { return k.MultiRegion && k.Primary != k.Region }

// relations is the wire form of a multi-Region key's relations; nil for others.
func (k *Key) relations() *kmsapi.MultiRegionConfiguration {
	if !k.MultiRegion {
		return nil
	}
	at := func(region string) kmsapi.MultiRegionKey {
		return kmsapi.MultiRegionKey{Arn: new(arn.Key(region, k.Account, k.ID)), Region: &region}
	}
	c := &kmsapi.MultiRegionConfiguration{MultiRegionKeyType: new(k.multiRegionType()), PrimaryKey: new(at(k.Primary)), ReplicaKeys: []kmsapi.MultiRegionKey{}}
	for _, r := range k.Replicas {
		c.ReplicaKeys = append(c.ReplicaKeys, at(r))
	}
	return c
}

func (k *Key) multiRegionType() string {
	if k.isReplica() {
		return kmsapi.MultiRegionKeyTypeReplica
	}
	return kmsapi.MultiRegionKeyTypePrimary
}

// related are the Regions of the other keys of a multi-Region key.
func (k *Key) related() []string {
	if !k.MultiRegion {
		return nil
	}
	return slices.DeleteFunc(append([]string{k.Primary}, k.Replicas...), func(r string) bool { return r == k.Region })
}
