package kms

import (
	"fmt"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// LoadKey writes a key as it is elsewhere, without key material. Principals of its policy
// that exist are found; others stay as they are written. For worlds that are only asked
// about.
func LoadKey(tx *store.Tx, k *Key) error {
	if k.Spec == "" {
		k.Spec, k.Usage = symmetricDefault, encryptDecrypt
	}
	if k.Origin == "" {
		k.Origin = kmsapi.OriginTypeAwsKms
	}
	if k.State == "" {
		k.State = kmsapi.KeyStateEnabled
	}
	doc, err := policy.Parse([]byte(k.Policy))
	if err == nil {
		err = policy.Validate(doc, policy.Key)
	}
	if err != nil {
		return fmt.Errorf("the policy of %s: %w", k.ARN(), err)
	}
	if err := iam.ResolveKnown(tx, doc, arn.Partition(k.Region)); err != nil {
		return err
	}
	k.Policy = doc.Compact()
	if err := iam.AddAccount(tx, iam.Account{ID: k.Account, Created: k.Created}); err != nil {
		return err
	}
	return putKey(tx, k)
}
