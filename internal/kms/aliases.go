package kms

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// maxAliases is how many aliases a key may have.
const maxAliases = 50

// An Alias is the record of an alias.
type Alias struct {
	Name    string // with its prefix
	KeyID   string
	Created time.Time
	Updated time.Time
}

var aliasKind = store.Kind[Alias]{Tag: 32, Name: "alias"}

func aliasPrefix(region, account string) string { return "k/" + region + "/" + account + "/alias/" }

func aliasKey(region, account, name string) string { return "k/" + region + "/" + account + "/" + name }

// findAlias returns an alias and the key it leads to. An alias of a key whose
// waiting period is over is gone with the key: store.ErrNotFound.
func findAlias(tx *store.Tx, call *iam.Call, account, name string) (*Alias, target, error) {
	a, err := store.Get(tx, aliasKind, aliasKey(call.Region, account, name))
	if err != nil {
		return nil, target{}, err
	}
	t, err := find(tx, call, account, a.KeyID)
	if err == nil && t.key == nil {
		err = store.ErrNotFound
	}
	t.alias = name
	return a, t, err
}

// checkAliasName refuses what cannot be the name of a customer's alias.
func checkAliasName(name string) error {
	rest, ok := strings.CutPrefix(name, "alias/")
	switch {
	case !ok:
		return validation(`Alias must start with the prefix "alias/". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)
	case strings.HasPrefix(rest, "aws/"):
		return model.NewFault("NotAuthorizedException", 400, "") // UNVERIFIED, but not in the model
	case rest == "" || strings.Contains(rest, ":"):
		return kmsapi.InvalidAliasNameException("Alias contains invalid characters for an alias")
	default:
		return nil
	}
}

// targetKey finds the key an alias is to point to: one of the caller's own.
func targetKey(tx *store.Tx, call *iam.Call, operation, identifier string) (*Key, error) {
	if strings.HasPrefix(identifier, "alias/") || strings.Contains(identifier, ":alias/") {
		return nil, validation("Aliases must refer to keys. Not aliases")
	}
	return managed(tx, call, operation, identifier, noAlias, &conditions{})
}

// CreateAlias gives a key another name. It needs kms:CreateAlias on the alias
// and on the key (AUTH-9.1).
func (s *Service) CreateAlias(ctx context.Context, call *iam.Call, in *kmsapi.CreateAliasRequest) (*struct{}, error) {
	name := *in.AliasName
	if err := checkAliasName(name); err != nil {
		return nil, err
	}
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		aliasARN := arn.Alias(call.Region, call.Account(), name)
		if err := allowed(tx, call, actions["CreateAlias"], aliasARN, &conditions{}); err != nil {
			return err
		}
		key, err := targetKey(tx, call, "CreateAlias", *in.TargetKeyId)
		if err != nil {
			return err
		}
		at := aliasKey(call.Region, call.Account(), name)
		if _, _, err := findAlias(tx, call, call.Account(), name); err == nil {
			return kmsapi.AlreadyExistsException("An alias with the name " + aliasARN + " already exists")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if err := addAlias(tx, key, name); err != nil {
			return err
		}
		return store.Put(tx, aliasKind, at, &Alias{name, key.ID, call.Now, call.Now})
	})
}

// addAlias notes in the key's record that an alias points to it.
func addAlias(tx *store.Tx, key *Key, name string) error {
	k, err := editable(tx, key)
	if err != nil {
		return err
	}
	if len(k.Aliases) >= maxAliases {
		return kmsapi.LimitExceededException("The number of aliases of " + k.ARN() + " has reached the limit of 50.")
	}
	k.Aliases = append(k.Aliases, name)
	slices.Sort(k.Aliases)
	return putKey(tx, k)
}

func removeAlias(tx *store.Tx, key *Key, name string) error {
	k, err := editable(tx, key)
	if err != nil {
		return err
	}
	k.Aliases = slices.DeleteFunc(k.Aliases, func(a string) bool { return a == name })
	return putKey(tx, k)
}

// existing finds an alias of the caller's account and the key behind it, after
// the operation was allowed on both.
func existing(tx *store.Tx, call *iam.Call, operation, name string) (*Alias, *Key, error) {
	aliasARN := arn.Alias(call.Region, call.Account(), name)
	if err := allowed(tx, call, actions[operation], aliasARN, &conditions{}); err != nil {
		return nil, nil, err
	}
	a, t, err := findAlias(tx, call, call.Account(), name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, noSuchAlias(aliasARN)
	}
	if err != nil {
		return nil, nil, err
	}
	t.alias = "" // it names the alias, not the key
	key, err := authorize(tx, call, actions[operation], t, &conditions{})
	return a, key, err
}

// UpdateAlias points an alias to another key of the same kind. It needs
// kms:UpdateAlias on the alias, its present key and its new key.
func (s *Service) UpdateAlias(ctx context.Context, call *iam.Call, in *kmsapi.UpdateAliasRequest) (*struct{}, error) {
	if err := checkAliasName(*in.AliasName); err != nil {
		return nil, err
	}
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		a, from, err := existing(tx, call, "UpdateAlias", *in.AliasName)
		if err != nil {
			return err
		}
		to, err := targetKey(tx, call, "UpdateAlias", *in.TargetKeyId)
		if err != nil {
			return err
		}
		if from.Usage != to.Usage || from.class() != to.class() {
			return validation("Alias " + a.Name + " cannot be changed to a key of another type or usage.")
		}
		if from.ID != to.ID {
			if err := removeAlias(tx, from, a.Name); err != nil {
				return err
			}
			if err := addAlias(tx, to, a.Name); err != nil {
				return err
			}
		}
		return store.Put(tx, aliasKind, aliasKey(call.Region, call.Account(), a.Name), &Alias{a.Name, to.ID, a.Created, call.Now})
	})
}

// DeleteAlias removes an alias, in any state of its key.
func (s *Service) DeleteAlias(ctx context.Context, call *iam.Call, in *kmsapi.DeleteAliasRequest) (*struct{}, error) {
	if err := checkAliasName(*in.AliasName); err != nil {
		return nil, err
	}
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		a, key, err := existing(tx, call, "DeleteAlias", *in.AliasName)
		if err != nil {
			return err
		}
		tx.Delete(aliasKey(call.Region, call.Account(), a.Name))
		return removeAlias(tx, key, a.Name)
	})
}

// ListAliases lists the aliases of the caller's account and Region, or of one
// of its keys.
func (s *Service) ListAliases(ctx context.Context, call *iam.Call, in *kmsapi.ListAliasesRequest) (*kmsapi.ListAliasesResponse, error) {
	p, err := newPage("ListAliases", in.Marker, in.Limit, 50, 100)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListAliasesResponse{}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := allowed(tx, call, actions["ListAliases"], "*", &conditions{}); err != nil {
			return err
		}
		found, err := aliasesOf(tx, call, in.KeyId, p)
		if err != nil {
			return err
		}
		if in.KeyId == nil {
			found = withPredefined(found, p)
		}
		found, out.Truncated, out.NextMarker = cut(p, found, func(a *Alias) string { return a.Name })
		out.Aliases = []kmsapi.AliasListEntry{}
		for _, a := range found {
			if a.KeyID == "" {
				out.Aliases = append(out.Aliases, kmsapi.AliasListEntry{AliasName: &a.Name, AliasArn: new(arn.Alias(call.Region, call.Account(), a.Name))})
				continue
			}
			if _, _, err := findAlias(tx, call, call.Account(), a.Name); errors.Is(err, store.ErrNotFound) {
				continue
			} else if err != nil {
				return err
			}
			out.Aliases = append(out.Aliases, kmsapi.AliasListEntry{
				AliasName: &a.Name, AliasArn: new(arn.Alias(call.Region, call.Account(), a.Name)), TargetKeyId: &a.KeyID,
				CreationDate: model.At(a.Created), LastUpdatedDate: model.At(a.Updated)})
		}
		return nil
	})
	return out, err
}

// withPredefined adds to a page the aliases of AWS managed keys that nobody has
// asked for yet: they lead nowhere.
func withPredefined(found []*Alias, p page) []*Alias {
	whole := len(found) <= p.n // there are no more behind them
	for _, service := range managedServices {
		a := &Alias{Name: "alias/aws/" + service}
		at, known := slices.BinarySearchFunc(found, a, func(x, y *Alias) int { return cmp.Compare(x.Name, y.Name) })
		if !known && a.Name > p.after && (whole || at < len(found)) {
			found = slices.Insert(found, at, a)
		}
	}
	return found
}

func aliasesOf(tx *store.Tx, call *iam.Call, keyID *string, p page) ([]*Alias, error) {
	var found []*Alias
	if keyID == nil {
		prefix := aliasPrefix(call.Region, call.Account())
		after := prefix
		if p.after != "" {
			after = aliasKey(call.Region, call.Account(), p.after)
		}
		entries, err := store.List(tx, aliasKind, prefix, after, p.n+1)
		for _, e := range entries {
			found = append(found, e.Value)
		}
		return found, err // those of keys that are gone are left out when they are shown
	}
	t, err := resolve(tx, call, *keyID, noAlias)
	if err != nil {
		return nil, err
	}
	if t.key == nil || t.account != call.Account() {
		return nil, kmsapi.NotFoundException("Key '" + t.arn + "' does not exist")
	}
	for _, name := range t.key.Aliases {
		if name <= p.after {
			continue
		}
		a, err := store.Get(tx, aliasKind, aliasKey(call.Region, call.Account(), name))
		if err != nil {
			return nil, err
		}
		found = append(found, a)
	}
	return found, nil
}
