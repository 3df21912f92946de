package iam

import (
	"context"
	"slices"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxAccessKeys is how many access keys a user may have.
const maxAccessKeys = 2

// CreateAccessKey gives a user an access key; the secret is shown this once.
func (s *Service) CreateAccessKey(ctx context.Context, call *Call, in *iamapi.CreateAccessKeyRequest) (*iamapi.CreateAccessKeyResponse, error) {
	name, err := call.userName(in.UserName)
	if err != nil {
		return nil, err
	}
	var out iamapi.CreateAccessKeyResponse
	err = s.change(ctx, call, policy.MustAction("iam:CreateAccessKey"), UserClass, name, nil, func(tx *store.Tx, e *Entity) error {
		tx.OnlyAdds()
		if len(e.AccessKeys) == maxAccessKeys {
			return iamapi.LimitExceededException("Cannot exceed quota for AccessKeysPerUser: 2")
		}
		k := &AccessKey{ID: NewAccessKeyID(), Secret: NewSecret(), Account: e.Account, User: e.Name, UserID: e.ID, Active: true, Created: call.Now}
		e.AccessKeys = append(e.AccessKeys, k.ID)
		out.AccessKey = &iamapi.AccessKey{UserName: &e.Name, AccessKeyId: &k.ID, Status: new(status(k)), SecretAccessKey: new(string(k.Secret)), CreateDate: model.At(k.Created)}
		return store.Put(tx, accessKeyKind, accessKeyKey(k.ID), k)
	})
	return &out, err
}

func status(k *AccessKey) string {
	if k.Active {
		return "Active"
	}
	return "Inactive"
}

// ListAccessKeys lists a user's access keys, without their secrets.
func (s *Service) ListAccessKeys(ctx context.Context, call *Call, in *iamapi.ListAccessKeysRequest) (*iamapi.ListAccessKeysResponse, error) {
	name, err := call.userName(in.UserName)
	if err != nil {
		return nil, err
	}
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListAccessKeysResponse{}
	err = s.read(ctx, call, policy.MustAction("iam:ListAccessKeys"), UserClass, name, func(tx *store.Tx, e *Entity) error {
		out.AccessKeyMetadata = []iamapi.AccessKeyMetadata{}
		var ids []string
		ids, out.IsTruncated, out.Marker = cutAfter(p, e.AccessKeys, func(id string) string { return id })
		for _, id := range ids {
			k, err := store.Get(tx, accessKeyKind, accessKeyKey(id))
			if err != nil {
				return err
			}
			out.AccessKeyMetadata = append(out.AccessKeyMetadata, iamapi.AccessKeyMetadata{
				UserName: &e.Name, AccessKeyId: &k.ID, Status: new(status(k)), CreateDate: model.At(k.Created)})
		}
		return nil
	})
	return out, err
}

// ownKey finds an access key that must be the user's.
func ownKey(tx *store.Tx, e *Entity, id string) (*AccessKey, error) {
	if !slices.Contains(e.AccessKeys, id) {
		return nil, iamapi.NoSuchEntityException("The Access Key with id " + id + " cannot be found.")
	}
	return store.Edit(tx, accessKeyKind, accessKeyKey(id))
}

// UpdateAccessKey activates or deactivates an access key.
func (s *Service) UpdateAccessKey(ctx context.Context, call *Call, in *iamapi.UpdateAccessKeyRequest) (*struct{}, error) {
	name, err := call.userName(in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, call, policy.MustAction("iam:UpdateAccessKey"), UserClass, name, nil, func(tx *store.Tx, e *Entity) error {
		k, err := ownKey(tx, e, *in.AccessKeyId)
		if err != nil {
			return err
		}
		k.Active = *in.Status == "Active"
		return store.Put(tx, accessKeyKind, accessKeyKey(k.ID), k)
	})
}

// DeleteAccessKey removes an access key.
func (s *Service) DeleteAccessKey(ctx context.Context, call *Call, in *iamapi.DeleteAccessKeyRequest) (*struct{}, error) {
	name, err := call.userName(in.UserName)
	if err != nil {
		return nil, err
	}
	return nil, s.change(ctx, call, policy.MustAction("iam:DeleteAccessKey"), UserClass, name, nil, func(tx *store.Tx, e *Entity) error {
		if _, err := ownKey(tx, e, *in.AccessKeyId); err != nil {
			return err
		}
		e.AccessKeys = slices.DeleteFunc(e.AccessKeys, func(id string) bool { return id == *in.AccessKeyId })
		tx.Delete(accessKeyKey(*in.AccessKeyId))
		return nil
	})
}

// FindAccessKey returns the account and user of a long-term access key, or
// store.ErrNotFound.
func FindAccessKey(tx *store.Tx, id string) (account, user string, err error) {
	k, err := store.Get(tx, accessKeyKind, accessKeyKey(id))
	if err != nil {
		return "", "", err
	}
	return k.Account, k.User, nil
}
