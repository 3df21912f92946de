package kms

import (
	"errors"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// A target is what a request's key identifier names: a place for a key, and the
// key if there is one there.
type target struct {
	account string
	id      string
	arn     string
	alias   string // the alias name, if the request used one
	key     *Key   // nil if it does not exist
	cipher  bool   // known only from a ciphertext
	wrong   bool   // not the key of the ciphertext that came with it
}

// aliasForms says whether an operation takes aliases.
type aliasForms bool

const (
	noAlias   aliasForms = false
	withAlias aliasForms = true
)

// resolve finds what a key identifier names (operations.md §1.1). Identifiers
// that can name nothing are faults; a key that does not exist is not, yet: only
// authorize may tell.
func resolve(tx *store.Tx, call *iam.Call, identifier string, aliases aliasForms) (target, error) {
	region, account, resource := call.Region, call.Account(), identifier
	if strings.HasPrefix(identifier, "arn:") {
		a, err := arn.Parse(identifier)
		if err != nil || a.Service != "kms" || !arn.IsAccount(a.Account) {
			return target{}, invalidKeyID(identifier)
		}
		if a.Region != region || a.Partition != arn.Partition(region) {
			return target{}, kmsapi.NotFoundException("Invalid arn " + a.Region)
		}
		account, resource = a.Account, a.Resource
		if id, ok := strings.CutPrefix(resource, "key/"); ok {
			resource = id
		} else if !strings.HasPrefix(resource, "alias/") {
			return target{}, invalidKeyID(identifier)
		}
	} else if account == "" {
		return target{}, validation("A service principal names a KMS key by its ARN: it has no account in which to find " + identifier)
	}
	if strings.HasPrefix(resource, "alias/") {
		if aliases == noAlias {
			return target{}, invalidKeyID(identifier)
		}
		return viaAlias(tx, call, account, resource)
	}
	if !arn.IsKeyID(resource) {
		return target{}, invalidKeyID(identifier)
	}
	return find(tx, call, account, resource)
}

func invalidKeyID(identifier string) error {
	return kmsapi.NotFoundException("Invalid keyId '" + identifier + "'")
}

// find looks a key up by account and id, in the call's Region.
func find(tx *store.Tx, call *iam.Call, account, id string) (target, error) {
	t := target{account: account, id: id}
	key, err := store.Get(tx, keyKind, keyKey(call.Region, account, id))
	switch {
	case err == nil && !key.gone(call.Now):
		t.key, t.arn = key, key.ARN()
	case err == nil || errors.Is(err, store.ErrNotFound):
		t.arn = arn.Key(call.Region, account, id)
	default:
		return t, err
	}
	noteResource(call, t)
	return t, nil
}

func noteResource(call *iam.Call, t target) {
	r := audit.Resource{AccountID: t.account, Type: "AWS::KMS::Key", ARN: t.arn}
	for _, seen := range call.Entry.Resources {
		if seen == r {
			return
		}
	}
	call.Entry.Resources = append(call.Entry.Resources, r)
}

// viaAlias follows an alias. An alias of another account that does not exist is
// not told from one that may not be used.
func viaAlias(tx *store.Tx, call *iam.Call, account, name string) (target, error) {
	_, t, err := findAlias(tx, call, account, name)
	if errors.Is(err, store.ErrNotFound) {
		aliasARN := arn.Alias(call.Region, account, name)
		if account != call.Account() {
			return target{account: account, arn: aliasARN, alias: name}, nil
		}
		if service := managedService(name); service != "" {
			return target{}, &unmadeKey{service}
		}
		return target{}, noSuchAlias(aliasARN)
	}
	return t, err
}

func noSuchAlias(aliasARN string) error {
	return kmsapi.NotFoundException("Alias " + aliasARN + " is not found.")
}
