package kms

import (
	"errors"
	"fmt"
	"slices"

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

// LoadAlias writes an alias of a key that was loaded before. store.ErrNotFound: it was not.
func LoadAlias(tx *store.Tx, region, account, name, keyID string) error {
	k, err := store.Edit(tx, keyKind, keyKey(region, account, keyID))
	if err != nil {
		return err
	}
	if !slices.Contains(k.Aliases, name) {
		k.Aliases = append(k.Aliases, name)
	}
	if err := putKey(tx, k); err != nil {
		return err
	}
	return store.Put(tx, aliasKind, aliasKey(region, account, name), &Alias{Name: name, KeyID: keyID, Created: k.Created, Updated: k.Created})
}

// LoadGrant writes a grant on a key that was loaded before. Its principals are found as those
// of key policies are.
func LoadGrant(tx *store.Tx, g *Grant) error {
	for _, who := range []*string{&g.Terms.Grantee, &g.Retiring} {
		stored, err := iam.ResolvePrincipal(tx, *who, arn.Partition(g.Region))
		switch {
		case err == nil:
			*who = stored
		case !errors.Is(err, iam.ErrPrincipal):
			return err
		}
	}
	g.Terms.Name = "grant " + g.ID
	return addGrant(tx, g)
}
