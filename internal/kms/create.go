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
	in, err := withDefaults(in)
	if err != nil {
		return nil, err
	}
	secret, err := material.Generate()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	var created *Key
	err = call.Update(ctx, s.db, func(tx *store.Tx) error {
		key := newKey(call, in)
		c := &conditions{create: in, bypass: in.BypassPolicyLockoutSafetyCheck, tags: setTags(in.Tags)}
		if err := allowed(tx, call, actions["CreateKey"], "*", c); err != nil {
			return err
		}
		if len(in.Tags) > 0 {
			if err := allowed(tx, call, actions["TagResource"], key.ARN(), c); err != nil {
				return err
			}
		}
		if err := supported(in); err != nil {
			return err
		}
		if key.Tags, err = addTags(nil, in.Tags); err != nil {
			return err
		}
		if key.Policy, err = newPolicy(tx, call, key, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		key.MaterialID = material.MaterialID(key.ID, secret)
		m := &Material{ID: key.MaterialID, Bytes: append([]byte(nil), secret...)}
		if err := store.Put(tx, materialKind, materialKey(key, m.ID), m); err != nil {
			return err
		}
		created = key
		noteResource(call, target{account: key.Account, id: key.ID, arn: key.ARN()})
		return putKey(tx, key)
	})
	if err != nil {
		return nil, err
	}
	return &kmsapi.CreateKeyResponse{KeyMetadata: created.metadata()}, nil
}

// withDefaults fills in what the API defaults, and refuses combinations that
// make no key.
func withDefaults(in *kmsapi.CreateKeyRequest) (*kmsapi.CreateKeyRequest, error) {
	c := *in
	if c.KeySpec == nil {
		c.KeySpec = c.CustomerMasterKeySpec
	} else if c.CustomerMasterKeySpec != nil && *c.CustomerMasterKeySpec != *c.KeySpec {
		return nil, validation("You cannot specify KeySpec and CustomerMasterKeySpec in the same request. CustomerMasterKeySpec is deprecated.")
	}
	c.KeySpec = new(model.Or(c.KeySpec, kmsapi.KeySpecSymmetricDefault))
	c.Origin = new(model.Or(c.Origin, kmsapi.OriginTypeAwsKms))
	c.MultiRegion = new(model.Value(c.MultiRegion))
	if c.KeyUsage == nil {
		if *c.KeySpec != kmsapi.KeySpecSymmetricDefault {
			return nil, validation("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")
		}
		c.KeyUsage = new(kmsapi.KeyUsageTypeEncryptDecrypt)
	}
	if *c.KeySpec == kmsapi.KeySpecSymmetricDefault && *c.KeyUsage != kmsapi.KeyUsageTypeEncryptDecrypt {
		return nil, validation("KeyUsage " + *c.KeyUsage + " is not compatible with KeySpec " + *c.KeySpec)
	}
	return &c, nil
}

// supported refuses the kinds of keys that there are not yet.
func supported(in *kmsapi.CreateKeyRequest) error {
	switch {
	case *in.KeySpec != kmsapi.KeySpecSymmetricDefault:
		return kmsapi.UnsupportedOperationException("KeySpec " + *in.KeySpec + " is not supported.")
	case *in.Origin != kmsapi.OriginTypeAwsKms:
		return kmsapi.UnsupportedOperationException("Origin " + *in.Origin + " is not supported.")
	case in.CustomKeyStoreId != nil || in.XksKeyId != nil:
		return kmsapi.UnsupportedOperationException("Custom key stores are not supported.")
	default:
		return nil
	}
}

func newKey(call *iam.Call, in *kmsapi.CreateKeyRequest) *Key {
	id := uuid.New()
	k := &Key{
		ID: id.String(), Account: call.Account(), Region: call.Region, Description: model.Value(in.Description),
		State: kmsapi.KeyStateEnabled, Spec: *in.KeySpec, Usage: *in.KeyUsage, Origin: *in.Origin,
		MultiRegion: *in.MultiRegion, Created: call.Now,
	}
	if k.MultiRegion {
		k.ID = "mrk-" + hex.EncodeToString(id[:])
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
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		key, err := managed(tx, call, "DescribeKey", *in.KeyId, withAlias, &conditions{presented: presented})
		if err == nil {
			out.KeyMetadata = key.metadata()
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
