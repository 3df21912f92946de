// Package iam is who is calling and what they carry: accounts, users, groups,
// roles, policies, access keys and sessions, and the IAM API over them.
//
// The Directory holds the records; a Call is one authenticated request and
// decides, with authz, what it may do. The Service is the IAM API.
package iam

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Partition is the partition of identities.
const Partition = "aws"

// An Account is an AWS account.
type Account struct {
	ID      string
	Name    string
	Created time.Time
}

// A Class is a kind of identity.
type Class string

// The classes, as they stand in ARNs.
const (
	UserClass  Class = "user"
	GroupClass Class = "group"
	RoleClass  Class = "role"
)

// A Tag is a key and a value; keys of one identity differ even without regard
// to case.
type Tag struct{ Key, Value string }

// An Entity is a user, group or role with all that a decision about it needs.
type Entity struct {
	Class   Class
	Account string
	Name    string
	Path    string // begins and ends with a slash
	ID      string // AIDA…, AGPA… or AROA…
	Created time.Time

	Inline   map[string]string // policy documents by name
	Attached []string          // ARNs of managed policies
	Boundary string            // ARN of the permissions boundary, or empty
	Tags     []Tag

	Groups     []string // of a user: names
	AccessKeys []string // of a user: ids
	MFADevices []string `json:",omitzero"` // of a user: serial numbers
	Members    []string // of a group: user names

	Trust       string // of a role: the trust policy, principals as unique ids
	Description string // of a role
	MaxSession  int32  // of a role: seconds

	arn    string
	inline []*policy.Policy
	trust  *policy.Policy
	tags   map[string]string
}

// ARN is the entity's ARN.
func (e *Entity) ARN() string {
	if e.arn != "" {
		return e.arn
	}
	return arn.IAM(Partition, e.Account, string(e.Class)+e.Path+e.Name)
}

// TagMap returns the tags as a map, which is shared and must not be changed.
func (e *Entity) TagMap() map[string]string { return e.tags }

// TrustPolicy is a role's compiled trust policy.
func (e *Entity) TrustPolicy() *policy.Policy { return e.trust }

// prepare compiles what decisions ask.
func (e *Entity) prepare() error {
	e.arn, e.inline = "", nil
	e.arn = e.ARN()
	e.tags = tagMap(e.Tags)
	for _, name := range slices.Sorted(maps.Keys(e.Inline)) {
		doc, err := policy.Parse([]byte(e.Inline[name]))
		if err != nil {
			return err
		}
		e.inline = append(e.inline, policy.Compile(doc, policy.Identity, e.ARN()+" inline "+name))
	}
	if e.Class == RoleClass {
		doc, err := policy.Parse([]byte(e.Trust))
		if err != nil {
			return err
		}
		e.trust = policy.Compile(doc, policy.Trust, e.ARN()+" trust policy")
	}
	return nil
}

// A uniqueID finds an entity by its unique id.
type uniqueID struct {
	Account string
	Class   Class
	Name    string
}

// The kinds of records, and where they lie. Names do not differ by case alone,
// so keys are in lower case.
var (
	accountKind  = store.Kind[Account]{Tag: 10, Name: "account"}
	entityKind   = store.Kind[Entity]{Tag: 11, Name: "identity", Prepare: (*Entity).prepare}
	uniqueIDKind = store.Kind[uniqueID]{Tag: 12, Name: "unique id"}
)

func accountKey(id string) string { return "i/account/" + id }

func entityPrefix(account string, c Class) string { return "i/a/" + account + "/" + string(c) + "/" }

func entityKey(account string, c Class, name string) string {
	return entityPrefix(account, c) + strings.ToLower(name)
}

func uniqueIDKey(id string) string { return "i/id/" + id }

// FindAccount returns an account, or store.ErrNotFound.
func FindAccount(tx *store.Tx, id string) (*Account, error) {
	return store.Get(tx, accountKind, accountKey(id))
}

// AddAccount creates an account without identities, or leaves an existing one.
func AddAccount(tx *store.Tx, a Account) error {
	_, err := FindAccount(tx, a.ID)
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return store.Put(tx, accountKind, accountKey(a.ID), &a)
}

// Accounts lists the ids of all accounts.
func Accounts(ctx context.Context, db *store.DB) (ids []string, err error) {
	err = db.View(ctx, func(tx *store.Tx) error {
		ids = nil
		found, err := scan(tx, accountKind, accountKey(""), page{n: 1 << 20}, func(*Account) bool { return true })
		for _, a := range found {
			ids = append(ids, a.ID)
		}
		return err
	})
	return ids, err
}

// FindEntity returns a user, group or role by name, or store.ErrNotFound.
func FindEntity(tx *store.Tx, account string, c Class, name string) (*Entity, error) {
	return store.Get(tx, entityKind, entityKey(account, c, name))
}

// FindUnique returns the entity with a unique id, or store.ErrNotFound if it
// was deleted, even when another has its name now.
func FindUnique(tx *store.Tx, id string) (*Entity, error) {
	u, err := store.Get(tx, uniqueIDKind, uniqueIDKey(id))
	if err != nil {
		return nil, err
	}
	e, err := FindEntity(tx, u.Account, u.Class, u.Name)
	if err == nil && e.ID != id {
		return nil, store.ErrNotFound
	}
	return e, err
}

// findARN returns the user or role an ARN names, or store.ErrNotFound.
func findARN(tx *store.Tx, a arn.ARN) (*Entity, error) {
	class, rest, _ := strings.Cut(a.Resource, "/")
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	if name == "" || Class(class) != UserClass && Class(class) != RoleClass {
		return nil, store.ErrNotFound
	}
	e, err := FindEntity(tx, a.Account, Class(class), name)
	if err == nil && e.ARN() != a.String() {
		return nil, store.ErrNotFound // another path, or another spelling
	}
	return e, err
}

func addEntity(tx *store.Tx, e *Entity) error {
	if err := store.Put(tx, uniqueIDKind, uniqueIDKey(e.ID), &uniqueID{e.Account, e.Class, e.Name}); err != nil {
		return err
	}
	return putEntity(tx, e)
}

func putEntity(tx *store.Tx, e *Entity) error {
	return store.Put(tx, entityKind, entityKey(e.Account, e.Class, e.Name), e)
}

func editEntity(tx *store.Tx, account string, c Class, name string) (*Entity, error) {
	return store.Edit(tx, entityKind, entityKey(account, c, name))
}

func removeEntity(tx *store.Tx, e *Entity) {
	tx.Delete(entityKey(e.Account, e.Class, e.Name))
	tx.Delete(uniqueIDKey(e.ID))
}

// newID draws an identifier: a prefix that tells its kind, and n characters in all.
func newID(prefix string, n int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	b := make([]byte, n-len(prefix))
	_, _ = rand.Read(b) // never fails
	for i := range b {
		b[i] = alphabet[b[i]%32]
	}
	return prefix + string(b)
}

// uniqueIDs are the prefixes of unique ids.
var uniqueIDs = map[Class]string{UserClass: "AIDA", GroupClass: "AGPA", RoleClass: "AROA"}

func newEntity(account string, c Class, name, path string, now time.Time) *Entity {
	if path == "" {
		path = "/"
	}
	return &Entity{Class: c, Account: account, Name: name, Path: path, ID: newID(uniqueIDs[c], 21), Created: now}
}

// identityPolicies collects the policies that bear on what e may do: its own,
// its groups', all managed ones attached.
func identityPolicies(tx *store.Tx, e *Entity) ([]*policy.Policy, error) {
	out := slices.Clip(e.inline)
	attached := slices.Clip(e.Attached)
	for _, name := range e.Groups {
		g, err := FindEntity(tx, e.Account, GroupClass, name)
		if err != nil {
			return nil, fmt.Errorf("group %s of %s: %w", name, e.ARN(), err)
		}
		out = append(out, g.inline...)
		attached = append(attached, g.Attached...)
	}
	for _, a := range attached {
		p, err := managedPolicy(tx, a)
		if err != nil {
			return nil, fmt.Errorf("policy %s of %s: %w", a, e.ARN(), err)
		}
		out = append(out, p)
	}
	return out, nil
}
