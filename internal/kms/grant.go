package kms

import (
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxGrants is how many grants a key may have.
const maxGrants = 50_000

// A Grant is the record of a grant (AUTH-6.1). Principals are in their stored
// form: users and roles as unique ids, services by name.
type Grant struct {
	ID       string // 64 hexadecimal digits
	Region   string // of the key, as Account and KeyID
	Account  string
	KeyID    string
	Name     string `json:",omitzero"`
	Created  time.Time
	Issuer   string // the account whose principal made it (AUTH-6.14); the key's if a service did
	Retiring string `json:",omitzero"` // who may retire it
	Terms    policy.GrantTerms
}

// isService reports whether a stored principal is a service.
func isService(stored string) bool {
	return stored != "" && !strings.HasPrefix(stored, "arn:") && !policy.IsUniqueID(stored)
}

func (g *Grant) keyARN() string { return arn.Key(g.Region, g.Account, g.KeyID) }

// retirement compiles who may retire the grant (AUTH-6.6): its retiring
// principal, the grantee if it was granted that, and by their identity policies
// the principals of the account that made it and of the key's.
func (g *Grant) retirement() *policy.Policy {
	partition := arn.Partition(g.Region)
	who := []string{arn.Root(partition, g.Account)}
	if g.Issuer != "" && g.Issuer != g.Account {
		who = append(who, arn.Root(partition, g.Issuer))
	}
	if g.Retiring != "" {
		who = append(who, g.Retiring)
	}
	if slices.Contains(g.Terms.Operations, kmsapi.GrantOperationRetireGrant) {
		who = append(who, g.Terms.Grantee)
	}
	return policy.Retirement("grant "+g.ID, who...)
}

var grantKind = store.Kind[Grant]{Tag: 34, Name: "grant"}

// grantsOf is where what belongs to the grants of one key lies, one kind of
// record in each part.
func grantsOf(region, account, keyID, part string) string {
	return "k/" + region + "/" + account + "/" + part + "/" + keyID + "/"
}

func grantPrefix(region, account, keyID string) string {
	return grantsOf(region, account, keyID, "grant")
}

func (g *Grant) key() string { return grantPrefix(g.Region, g.Account, g.KeyID) + g.ID }

func (g *Grant) part(name string) string { return grantsOf(g.Region, g.Account, g.KeyID, name) }

// A retirable record says that a principal may retire a grant, for
// ListRetirableGrants, which asks across accounts.
type retirable struct{ Account, KeyID, ID string }

var retirableKind = store.Kind[retirable]{Tag: 35, Name: "retirable grant"}

func retirablePrefix(region, retiring string) string {
	return "k/" + region + "/retiring/" + retiring + "/"
}

func (g *Grant) retirableKey() string {
	return retirablePrefix(g.Region, g.Retiring) + g.Account + "/" + g.KeyID + "/" + g.ID
}

// A grantCount is how many grants a key has.
type grantCount struct{ N int }

var grantCountKind = store.Kind[grantCount]{Tag: 36, Name: "number of grants"}

func grantCountKey(region, account, keyID string) string {
	return "k/" + region + "/" + account + "/grants/" + keyID
}

func countGrants(tx *store.Tx, region, account, keyID string) (int, error) {
	c, err := store.Get(tx, grantCountKind, grantCountKey(region, account, keyID))
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return c.N, nil
}

// A named record finds the grant of a name with the same terms.
type named struct{ ID string }

var namedKind = store.Kind[named]{Tag: 37, Name: "name of a grant"}

// namedKey is where the grant's name lies, with all its other parameters as they
// were given.
func (g *Grant) namedKey() string {
	t := g.Terms
	list := []string{g.Name, g.Retiring, g.Issuer, t.Grantee, strings.Join(slices.Sorted(slices.Values(t.Operations)), ","), t.SourceArn}
	for kind, pairs := range []map[string]string{t.Equals, t.Subset} {
		if pairs == nil {
			continue
		}
		list = append(list, strconv.Itoa(kind))
		for _, k := range slices.Sorted(maps.Keys(pairs)) {
			list = append(list, k, pairs[k])
		}
	}
	return g.part("grantname") + digest(list...)
}

// addGrant makes a grant known everywhere it is looked for.
func addGrant(tx *store.Tx, g *Grant) error {
	n, err := countGrants(tx, g.Region, g.Account, g.KeyID)
	if err != nil {
		return err
	}
	if err := store.Put(tx, grantCountKind, grantCountKey(g.Region, g.Account, g.KeyID), &grantCount{n + 1}); err != nil {
		return err
	}
	if g.Name != "" {
		if err := store.Put(tx, namedKind, g.namedKey(), &named{g.ID}); err != nil {
			return err
		}
	}
	if g.Retiring != "" {
		if err := store.Put(tx, retirableKind, g.retirableKey(), &retirable{g.Account, g.KeyID, g.ID}); err != nil {
			return err
		}
	}
	if err := indexGrant(tx, g, true); err != nil {
		return err
	}
	return store.Put(tx, grantKind, g.key(), g)
}

// removeGrant is the opposite.
func removeGrant(tx *store.Tx, g *Grant) error {
	n, err := countGrants(tx, g.Region, g.Account, g.KeyID)
	if err != nil {
		return err
	}
	if at := grantCountKey(g.Region, g.Account, g.KeyID); n > 1 {
		err = store.Put(tx, grantCountKind, at, &grantCount{n - 1})
	} else {
		tx.Delete(at)
	}
	if err != nil {
		return err
	}
	if g.Name != "" {
		tx.Delete(g.namedKey())
	}
	if g.Retiring != "" {
		tx.Delete(g.retirableKey())
	}
	tx.Delete(g.key())
	return indexGrant(tx, g, false)
}

// room refuses a further grant on a key that has as many as it may.
func room(tx *store.Tx, key *Key) error {
	n, err := countGrants(tx, key.Region, key.Account, key.ID)
	if err == nil && n >= maxGrants {
		err = kmsapi.LimitExceededException("The number of grants on " + key.ARN() + " has reached the limit of 50000.")
	}
	return err
}

// findGrant returns a grant of a key, or store.ErrNotFound.
func findGrant(tx *store.Tx, region, account, keyID, id string) (*Grant, error) {
	return store.Get(tx, grantKind, grantPrefix(region, account, keyID)+id)
}
