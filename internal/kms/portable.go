package kms

import (
	"context"
	"encoding/json/v2"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// PortableTags are the kinds of records that exports have: all that hold no key
// material and no credential, and are not of the moment.
var PortableTags = []byte{keyKind.Tag, aliasKind.Tag, dueKind.Tag, grantKind.Tag, retirableKind.Tag, grantCountKind.Tag, namedKind.Tag, shapesKind.Tag, termsKind.Tag,
	keyCountKind.Tag, keyStoreKind.Tag, keyStoreIndexKind.Tag, claimKind.Tag}

// Portable takes out of a record what an export does not have: which key materials
// there are. It reports false for a record to leave out.
func Portable(p store.Plain) (store.Plain, bool, error) {
	switch p.Tag {
	case keyKind.Tag:
		return edited(p, func(k *Key) { k.Materials, k.MaterialID = nil, "" })
	case keyStoreKind.Tag:
		return edited(p, func(s *KeyStore) { s.State, s.ErrorCode = kmsapi.ConnectionStateTypeDisconnected, "" })
	default:
		return p, !strings.HasPrefix(p.Key, expiryDue), nil
	}
}

func edited[T any](p store.Plain, edit func(*T)) (store.Plain, bool, error) {
	v := new(T)
	if err := json.Unmarshal(p.Value, v); err != nil {
		return p, false, err
	}
	edit(v)
	var err error
	p.Value, err = json.Marshal(v)
	return p, true, err
}

// Adopt writes a key from an export, in all its Regions, with new key material: what was
// encrypted with the old one stays so. A key of imported material waits for it.
func (s *Service) Adopt(ctx context.Context, records []store.Plain) error {
	var keys []*Key
	for _, p := range records {
		k := new(Key)
		if err := json.Unmarshal(p.Value, k); err != nil {
			return err
		}
		if keyKey(k.Region, k.Account, k.ID) != p.Key || keySpecs[k.Spec].algorithms[k.Usage] == nil {
			return validation("The key record " + p.Key + " is not what it should be.")
		}
		k.Passing, k.Expunged = Passing{Until: time.Time{}}, false
		keys = append(keys, k)
	}
	var secret []byte
	if keys[0].Origin == kmsapi.OriginTypeAwsKms {
		var err error
		if secret, err = s.generateMaterial(ctx, keys[0].Spec); err != nil {
			return err
		}
		defer clear(secret)
	}
	return s.db.Update(ctx, func(tx *store.Tx) error {
		for _, k := range keys {
			if secret != nil {
				if err := k.first(tx, secret); err != nil {
					return err
				}
			}
			if err := putKey(tx, k); err != nil {
				return err
			}
		}
		return nil
	})
}

// Keys lists the ARNs of all keys there are, in order.
func Keys(ctx context.Context, db *store.DB) (arns []string, err error) {
	err = db.Dump(ctx, []byte{keyKind.Tag}, func(p store.Plain) error {
		if parts := strings.Split(p.Key, "/"); len(parts) == 5 { // k/REGION/ACCOUNT/key/ID
			arns = append(arns, arn.Key(parts[1], parts[2], parts[4]))
		}
		return nil
	})
	return arns, err
}

// IsKey reports whether a record of an export is that of a key, and of which.
func IsKey(p store.Plain) (id string, ok bool) {
	return p.Key[strings.LastIndexByte(p.Key, '/')+1:], p.Tag == keyKind.Tag
}
