package kms

import (
	"context"
	"encoding/hex"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// CreateKey makes a KMS key. The creator gets nothing by creating it: from then
// on the key policy counts alone (AUTH-1.5).
func (s *Service) CreateKey(ctx context.Context, call *iam.Call, in *kmsapi.CreateKeyRequest) (*kmsapi.CreateKeyResponse, error) {
	in = withDefaults(in)
	var proxied *KeyStore
	err := call.View(ctx, s.db, func(tx *store.Tx) (err error) { // whoever may not create makes no work
		if err = mayCreate(tx, call, newKey(call, in), in); err == nil {
			err = s.checkKind(in)
		}
		if err == nil && in.CustomKeyStoreId != nil {
			proxied, err = findKeyStore(tx, call, *in.CustomKeyStoreId)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if proxied != nil {
		if err := s.checkOutside(ctx, call, proxied, in); err != nil {
			return nil, err
		}
	}
	var secret []byte
	if *in.Origin != kmsapi.OriginTypeExternal {
		if secret, err = s.generateMaterial(ctx, *in.KeySpec); err != nil {
			return nil, err
		}
		defer clear(secret)
	}
	part, done := s.counting.take()
	defer done()
	var out kmsapi.CreateKeyResponse
	err = call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		key := newKey(call, in)
		if err := mayCreate(tx, call, key, in); err != nil {
			return err
		}
		if err := s.fill(tx, call, key, in, secret, part); err != nil {
			return err
		}
		noteResource(call, target{account: key.Account, id: key.ID, arn: key.ARN()})
		if err := putKey(tx, key); err != nil {
			return err
		}
		out.KeyMetadata, err = key.metadata(tx, call.Now)
		return err
	})
	return &out, err
}

// mayCreate authorizes a CreateKey: there is no key yet whose policy could.
func mayCreate(tx *store.Tx, call *iam.Call, key *Key, in *kmsapi.CreateKeyRequest) error {
	c := &conditions{create: in, bypass: in.BypassPolicyLockoutSafetyCheck, tags: setTags(in.Tags)}
	if err := allowed(tx, call, actions["CreateKey"], "*", c); err != nil || len(in.Tags) == 0 {
		return err
	}
	return allowed(tx, call, actions["TagResource"], key.ARN(), c)
}

// fill makes the new key whole: tags, policy, key store and key material.
func (s *Service) fill(tx *store.Tx, call *iam.Call, key *Key, in *kmsapi.CreateKeyRequest, secret []byte, part int) (err error) {
	if key.Tags, err = addTags(nil, in.Tags); err != nil {
		return err
	}
	if key.Policy, err = newPolicy(tx, call, key, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
		return err
	}
	if err := s.countKey(tx, key, 1, part); err != nil {
		return err
	}
	if in.CustomKeyStoreId != nil {
		key.StoreID, key.XksKeyID = *in.CustomKeyStoreId, *in.XksKeyId
		if err := joinKeyStore(tx, call, key); err != nil {
			return err
		}
	}
	if secret == nil {
		return nil // to be imported
	}
	return key.first(tx, secret)
}

// first gives a new key its first key material.
func (k *Key) first(tx *store.Tx, secret []byte) (err error) {
	if k.MaterialID, err = k.materialID(secret); err != nil {
		return err
	}
	k.Materials = []MaterialInfo{{ID: k.MaterialID, State: current}}
	return putMaterial(tx, k, k.MaterialID, secret)
}

// materialID is the id of key material: the same material has the same id.
func (k *Key) materialID(secret []byte) (string, error) {
	switch k.class() {
	case "symmetric":
		return material.MaterialID(k.ID, secret), nil
	case "HMAC":
		return material.MACMaterialID(k.ID, secret), nil
	}
	pair, err := material.NewPair(k.Spec, material.NewSecret(secret))
	if err != nil {
		return "", err
	}
	return material.MaterialID(k.ID, pair.Public), nil // a private key has several encodings
}

// withDefaults fills in what the API defaults; KeyUsage stays absent where there
// is no default.
func withDefaults(in *kmsapi.CreateKeyRequest) *kmsapi.CreateKeyRequest {
	c := *in
	if c.KeySpec == nil {
		c.KeySpec = c.CustomerMasterKeySpec
	}
	c.KeySpec = new(model.Or(c.KeySpec, symmetricDefault))
	c.Origin = new(model.Or(c.Origin, kmsapi.OriginTypeAwsKms))
	c.MultiRegion = new(model.Value(c.MultiRegion))
	if c.KeyUsage == nil && *c.KeySpec == symmetricDefault {
		c.KeyUsage = new(encryptDecrypt)
	}
	return &c
}

// checkKind refuses combinations that make no key.
func (s *Service) checkKind(in *kmsapi.CreateKeyRequest) error {
	spec := keySpecs[*in.KeySpec]
	switch {
	case in.CustomerMasterKeySpec != nil && *in.CustomerMasterKeySpec != *in.KeySpec:
		return validation("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	case in.KeyUsage == nil:
		return validation("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
	case spec.algorithms[*in.KeyUsage] == nil:
		return validation("KeyUsage " + *in.KeyUsage + " is not compatible with KeySpec " + *in.KeySpec)
	case *in.KeySpec == kmsapi.KeySpecSM2 && !s.config.SM2:
		return kmsapi.UnsupportedOperationException("KeySpec SM2 is not supported in this Region.")
	}
	if err := approved(*in.KeySpec); err != nil {
		return err
	}
	return checkOrigin(in, spec)
}

// checkOrigin refuses what does not go with the origin of the key material. The
// texts are UNVERIFIED.
func checkOrigin(in *kmsapi.CreateKeyRequest, spec keySpec) error {
	inStore := *in.Origin == kmsapi.OriginTypeAwsCloudhsm || *in.Origin == kmsapi.OriginTypeExternalKeyStore
	outside := *in.Origin == kmsapi.OriginTypeExternalKeyStore
	switch {
	case *in.Origin == kmsapi.OriginTypeExternal && !spec.importable:
		return validation("Origin EXTERNAL is not compatible with KeySpec " + *in.KeySpec)
	case inStore && in.CustomKeyStoreId == nil:
		return validation("CustomKeyStoreId is required when Origin is " + *in.Origin)
	case !inStore && in.CustomKeyStoreId != nil:
		return validation("CustomKeyStoreId is not compatible with Origin " + *in.Origin)
	case outside && in.XksKeyId == nil:
		return validation("XksKeyId is required when Origin is EXTERNAL_KEY_STORE")
	case !outside && in.XksKeyId != nil:
		return validation("XksKeyId is not compatible with Origin " + *in.Origin)
	case inStore && (*in.KeySpec != symmetricDefault || *in.MultiRegion):
		return kmsapi.UnsupportedOperationException("Keys in custom key stores are symmetric encryption keys of a single Region.")
	default:
		return nil
	}
}

func newKey(call *iam.Call, in *kmsapi.CreateKeyRequest) *Key {
	id := uuid.New()
	k := &Key{
		ID: id.String(), Account: call.Account(), Region: call.Region, Description: model.Value(in.Description),
		State: kmsapi.KeyStateEnabled, Spec: *in.KeySpec, Usage: model.Value(in.KeyUsage), Origin: *in.Origin,
		MultiRegion: *in.MultiRegion, Created: call.Now,
	}
	if k.MultiRegion {
		k.ID, k.Primary = "mrk-"+hex.EncodeToString(id[:]), k.Region
	}
	return k
}

// DescribeKey shows a key, in any state.
func (s *Service) DescribeKey(ctx context.Context, call *iam.Call, in *kmsapi.DescribeKeyRequest) (*kmsapi.DescribeKeyResponse, error) {
	presented, err := s.present(in.GrantTokens)
	if err != nil {
		return nil, err
	}
	var out kmsapi.DescribeKeyResponse
	err = s.view(ctx, call, func(tx *store.Tx) error {
		key, err := managed(tx, call, "DescribeKey", *in.KeyId, withAlias, &conditions{presented: presented})
		if err == nil {
			out.KeyMetadata, err = key.metadata(tx, call.Now)
		}
		return err
	})
	return &out, err
}

// ListKeys lists the keys of the caller's account and Region, in any state.
func (s *Service) ListKeys(ctx context.Context, call *iam.Call, in *kmsapi.ListKeysRequest) (*kmsapi.ListKeysResponse, error) {
	p, err := newPage("ListKeys", in.Marker, in.Limit, 100, 1000)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListKeysResponse{}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := allowed(tx, call, actions["ListKeys"], "*", &conditions{}); err != nil {
			return err
		}
		prefix := keyPrefix(call.Region, call.Account())
		entries, err := store.List(tx, keyKind, prefix, prefix+p.after, p.n+1)
		if err != nil {
			return err
		}
		entries, out.Truncated, out.NextMarker = cut(p, entries, func(e store.Entry[Key]) string { return e.Value.ID })
		out.Keys = []kmsapi.KeyListEntry{}
		for _, e := range entries {
			if !e.Value.gone(call.Now) {
				out.Keys = append(out.Keys, kmsapi.KeyListEntry{KeyId: &e.Value.ID, KeyArn: new(arn.Key(call.Region, call.Account(), e.Value.ID))})
			}
		}
		return nil
	})
	return out, err
}
