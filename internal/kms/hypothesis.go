package kms

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Hypothesis is a request that nobody need have made, as far as policies can ask about it.
type Hypothesis struct {
	Action  policy.Action
	Key     string            // as requests name it; empty for what is about no key
	Context map[string]string // the encryption context; nil without one
	Tags    authz.RequestTags
	Values  map[string][]string // of further condition keys, by name in lower case
	Grant   string              // which grant RetireGrant is about; empty for any of the key's
}

// severalValues are the keys of the service that have several values.
var severalValues = []policy.KeyID{policy.KeyKMSGrantOperations, policy.KeyKMSResourceAliases}

// A supposed answers the condition keys of a hypothesis, and what it says nothing of from
// the key.
type supposed struct {
	*conditions
	values map[string][]string
}

// Lookup answers a condition key.
func (s supposed) Lookup(key policy.ConditionKey) policy.Value {
	values, given := s.values[strings.ToLower(key.String())]
	switch {
	case !given:
		return s.conditions.Lookup(key)
	case slices.Contains(severalValues, key.ID):
		return policy.OptionalMany(values)
	default:
		return policy.One(values[0])
	}
}

// ErrNoKey reports that there is no key by a name.
var ErrNoKey = errors.New("kms: there is no such key")

// Query is what authorizes a hypothetical request, of which all grants to the caller are
// looked at, whether or not they fit. call's Region and time are the request's. ErrNoKey:
// the key does not exist.
func (s *Service) Query(tx *store.Tx, call *iam.Call, h Hypothesis) (iam.Query, error) {
	c := &conditions{tx: tx, encryptionContext: h.Context, tags: h.Tags}
	values := map[string][]string{}
	c.assume(s, call, h.Action.String(), h.Values, values)
	maps.Copy(values, h.Values)
	q := iam.Query{Action: h.Action, Resource: "*", ResourceAccount: call.Account(), CrossAccount: authz.AcrossAccounts.Has(h.Action)}
	q.Conditions = supposed{c, values}
	if h.Key == "" {
		return q, nil
	}
	if i := strings.Index(h.Key, "alias/"); i >= 0 && slices.Contains(ofAliases, h.Action.String()) { // the alias itself (AUTH-9.1)
		q.Resource = arn.Alias(call.Region, call.Account(), h.Key[i:])
		return q, nil
	}
	t, err := resolve(tx, call, h.Key, withAlias)
	if err != nil {
		return q, err
	}
	q.Resource, q.ResourceAccount = t.arn, t.account
	if t.key == nil {
		return q, ErrNoKey
	}
	c.key, c.requestAlias = t.key, t.alias
	q.Guarded, q.ResourcePolicy = true, t.key.policy
	q.Grants = func(who *policy.Principal) ([]*policy.Policy, error) { return grantsTo(tx, t.key, who) }
	if h.Action == actions["RetireGrant"] { // as allowRetiring asks
		q.ResourcePolicy, q.Unlimited = nil, true
		retirable, err := grantsOn(tx, t.key.Region, t.key.Account, t.key.ID, func(g *Grant) bool { return h.Grant == "" || g.ID == h.Grant })
		if err != nil {
			return q, err
		}
		if len(retirable) == 1 {
			terms := retirable[0].Terms
			c.encryptionContext, c.constraintType = constraint(terms), constraintType(terms.Equals, terms.Subset)
		}
		q.Grants = func(*policy.Principal) (out []*policy.Policy, err error) {
			for _, g := range retirable {
				out = append(out, g.retirement())
			}
			return out, nil
		}
	}
	_, given := values["kms:encryptionalgorithm"]
	if t.key.isSymmetric() && slices.Contains(encrypting, h.Action.String()) && !given {
		c.algorithm = symmetricDefault
	}
	return q, nil
}

// encrypting are the actions of symmetric encryption.
var encrypting = []string{"kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext",
	"kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext"}

// assume sets what requests for an action say if they say nothing else.
func (c *conditions) assume(s *Service, call *iam.Call, action string, given, values map[string][]string) {
	switch action {
	case "kms:ScheduleKeyDeletion":
		c.window, c.unused = new(int32(30)), s.unusedAt(call)
	case "kms:DisableKey":
		c.unused = s.unusedAt(call)
	case "kms:CreateGrant", "kms:ListGrants", "kms:RevokeGrant":
		c.forService = forService(call)
	case "kms:Sign", "kms:Verify":
		values["kms:messagetype"] = []string{kmsapi.MessageTypeRaw}
	case "kms:CreateKey":
		spec, usage, origin := one(given["kms:keyspec"]), one(given["kms:keyusage"]), one(given["kms:keyorigin"])
		c.create = withDefaults(&kmsapi.CreateKeyRequest{KeySpec: spec, KeyUsage: usage, Origin: origin, MultiRegion: new(slices.Equal(given["kms:multiregion"], []string{"true"}))})
	}
}

func one(values []string) *string {
	if len(values) == 0 {
		return nil
	}
	return &values[0]
}

// ofAliases are the actions that are authorized on an alias too.
var ofAliases = []string{"kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias"}

// grantsOn are the grants on a key that keep holds for.
func grantsOn(tx *store.Tx, region, account, id string, keep func(*Grant) bool) ([]*Grant, error) {
	prefix := grantPrefix(region, account, id)
	return store.Collect(tx, grantKind, prefix, prefix, 1<<20, keep)
}

// grantsTo are the grants on a key to a caller, whatever they are for.
func grantsTo(tx *store.Tx, key *Key, who *policy.Principal) (out []*policy.Policy, err error) {
	mine := grantees(who, arn.Partition(key.Region))
	found, err := grantsOn(tx, key.Region, key.Account, key.ID, func(g *Grant) bool { return slices.Contains(mine[:], g.Terms.Grantee) })
	for _, g := range found {
		terms := g.Terms
		terms.Name = "grant " + g.ID
		out = append(out, policy.Grant(terms))
	}
	return out, err
}

// located takes the ARN of a key apart.
func located(key string) (region, account, id string, err error) {
	a, err := arn.Parse(key)
	return a.Region, a.Account, strings.TrimPrefix(a.Resource, "key/"), err
}

// GrantsOf are the terms of all grants on a key, named by its ARN.
func GrantsOf(tx *store.Tx, key string) (out []policy.GrantTerms, err error) {
	region, account, id, err := located(key)
	if err != nil {
		return nil, err
	}
	found, err := grantsOn(tx, region, account, id, func(*Grant) bool { return true })
	for _, g := range found {
		out = append(out, g.Terms)
	}
	return out, err
}

// Likeness is the same for keys, named by their ARNs, that policies cannot tell apart but by
// their ARNs: of one account and Region, with the same policy, tags, aliases and properties. A
// key with grants is like no other. store.ErrNotFound: there is no such key.
func Likeness(tx *store.Tx, key string) (string, error) {
	region, account, id, err := located(key)
	if err != nil {
		return "", err
	}
	k, err := store.Get(tx, keyKind, keyKey(region, account, id))
	if err != nil {
		return "", err
	}
	like := fmt.Sprintf("%q %q %q %q %q %q %v %q %q %q", k.Account, k.Region, strings.ReplaceAll(k.Policy, key, "key"), k.Spec, k.Usage, k.Origin, k.MultiRegion, k.Primary, k.Tags, k.Aliases)
	if n, err := countGrants(tx, region, account, id); err != nil || n > 0 {
		return like + id, err
	}
	return like, nil
}

// Changeable reports whether a key's policy can be changed, and whether a grant on it can give
// an operation by itself. store.ErrNotFound: there is no such key.
func Changeable(tx *store.Tx, key, operation string) (byPolicy, byGrant bool, err error) {
	region, account, id, err := located(key)
	if err != nil {
		return false, false, err
	}
	k, err := store.Get(tx, keyKind, keyKey(region, account, id))
	if err != nil {
		return false, false, err
	}
	alone := operation != "CreateGrant" && operation != "RetireGrant"
	return k.Manager == "", k.Manager == "" && alone && k.grantable(operation), nil
}
