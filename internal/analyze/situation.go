package analyze

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A Key is the KMS key that a question is about, by its ARN.
type Key string

// A situation is a request in the making. Whatever a policy can ask about it is asked of
// the request that it becomes, so that no two answers contradict each other.
type situation struct {
	authz.Request

	values  map[string]policy.Value // of condition keys of the service, by name
	context map[string]string       // the encryption context
	tags    authz.RequestTags
}

// fixed is a moment for requests whose time nothing asks for.
var fixed = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

func newSituation(key Key) *situation {
	a, _ := arn.Parse(string(key))
	s := &situation{values: map[string]policy.Value{}, context: map[string]string{}}
	s.Request = authz.Request{Resource: string(key), Guarded: true, ResourceAccount: a.Account, Region: a.Region, Now: fixed, SourceIP: "203.0.113.10",
		UserAgent: "aws-cli", SecureTransport: true}
	s.tags.Set = map[string]string{}
	s.ServiceCondition = (*service)(s)
	return s
}

// service answers the condition keys of KMS for a situation.
type service situation

// Lookup answers a condition key.
func (s *service) Lookup(key policy.ConditionKey) policy.Value {
	switch key.ID {
	case policy.KeyKMSEncryptionContext:
		return authz.FoldLookup(s.context, key.Suffix)
	case policy.KeyKMSEncryptionContextKeys:
		return policy.OptionalMany(slices.Sorted(maps.Keys(s.context)))
	case policy.KeyRequestTag, policy.KeyTagKeys:
		return s.tags.Lookup(key)
	default:
		return s.values[nameOf(key)]
	}
}

// nameOf is a key's name, the same however it is written.
func nameOf(key policy.ConditionKey) string { return strings.ToLower(key.String()) }
