package authz

import (
	"maps"
	"slices"

	"github.com/claviger/claviger/internal/policy"
)

// RequestTags are the tags that a request brings. They answer aws:RequestTag
// and aws:TagKeys, the same for every service.
type RequestTags struct {
	Set     map[string]string // given to the resource
	Removed []string          // keys of those taken from it
}

// Lookup answers a condition key.
func (t *RequestTags) Lookup(key policy.ConditionKey) policy.Value {
	switch key.ID {
	case policy.KeyRequestTag:
		return FoldLookup(t.Set, key.Suffix)
	case policy.KeyTagKeys:
		return policy.OptionalMany(slices.Concat(t.Removed, slices.Sorted(maps.Keys(t.Set))))
	default:
		return policy.Value{}
	}
}

// TagMap makes a map of tags, of which every API has its own type. Of several
// with one key the last counts.
func TagMap[T any](tags []T, pair func(T) (key, value string)) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		key, value := pair(t)
		m[key] = value
	}
	return m
}
