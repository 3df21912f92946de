package kms

import (
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
	State       string // kmsapi.KeyState…
	Spec        string
	Usage       string
	Origin      string
	MultiRegion bool
	Created     time.Time
	Deletion    time.Time `json:",omitzero"` // when the waiting period ends
	Policy      string    // principals as unique ids (AUTH-2.16)
	Tags        []Tag     `json:",omitzero"`
	Aliases     []string  `json:",omitzero"` // names, with their prefix
	MaterialID  string    // of the current key material
	Expunged    bool      `json:",omitzero"` // its removal has begun and cannot be cancelled

	arn    string
	policy *policy.Policy
	tags   map[string]string
}

// A Tag is a key and a value; keys are case-sensitive.
type Tag struct{ Key, Value string }

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
	doc, err := policy.Parse([]byte(k.Policy))
	if err != nil {
		return err
	}
	k.policy = policy.Compile(doc, policy.Key, "key policy")
	return nil
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

// metadata is the key's wire form (operations.md §6).
func (k *Key) metadata() *kmsapi.KeyMetadata {
	m := &kmsapi.KeyMetadata{
		AWSAccountId: &k.Account, KeyId: &k.ID, Arn: new(k.ARN()), CreationDate: model.At(k.Created),
		Enabled: new(k.State == kmsapi.KeyStateEnabled), Description: &k.Description, KeyUsage: &k.Usage, KeyState: &k.State,
		Origin: &k.Origin, KeyManager: new(kmsapi.KeyManagerTypeCustomer), CustomerMasterKeySpec: &k.Spec, KeySpec: &k.Spec,
		EncryptionAlgorithms: []string{kmsapi.EncryptionAlgorithmSpecSymmetricDefault}, MultiRegion: &k.MultiRegion,
		CurrentKeyMaterialId: &k.MaterialID,
	}
	if k.State == kmsapi.KeyStatePendingDeletion {
		m.DeletionDate = model.At(k.Deletion)
	}
	if k.MultiRegion {
		m.MultiRegionConfiguration = &kmsapi.MultiRegionConfiguration{
			MultiRegionKeyType: new(kmsapi.MultiRegionKeyTypePrimary),
			PrimaryKey:         &kmsapi.MultiRegionKey{Arn: new(k.ARN()), Region: &k.Region},
			ReplicaKeys:        []kmsapi.MultiRegionKey{},
		}
	}
	return m
}

// suits checks the key's usage and the algorithm asked for.
func (k *Key) suits(operation, algorithm string) error {
	if k.Usage != kmsapi.KeyUsageTypeEncryptDecrypt {
		return kmsapi.InvalidKeyUsageException(k.ARN() + " key usage is " + k.Usage + " which is not valid for " + operation + ".")
	}
	if algorithm != kmsapi.EncryptionAlgorithmSpecSymmetricDefault {
		return kmsapi.InvalidKeyUsageException("Algorithm " + algorithm + " is incompatible with key spec " + k.Spec + ".")
	}
	return nil
}
