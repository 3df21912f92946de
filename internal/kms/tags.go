package kms

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// maxTags is how many tags a key may have.
const maxTags = 50

const reservedTag = "Tags beginning with aws: are reserved"

func reserved(key string) bool { return strings.HasPrefix(strings.ToLower(key), "aws:") }

// setTags are the tags that a request sets, for condition keys.
func setTags(tags []kmsapi.Tag) authz.RequestTags {
	return authz.RequestTags{Set: authz.TagMap(tags, func(t kmsapi.Tag) (string, string) { return *t.TagKey, *t.TagValue })}
}

// addTags sets tags; they stay sorted by key.
func addTags(tags []Tag, add []kmsapi.Tag) ([]Tag, error) {
	seen := map[string]bool{}
	for _, t := range add {
		if seen[*t.TagKey] {
			return nil, kmsapi.TagException("Duplicate tag keys")
		}
		seen[*t.TagKey] = true
		if reserved(*t.TagKey) {
			return nil, kmsapi.TagException(reservedTag)
		}
		tags = append(slices.DeleteFunc(tags, func(o Tag) bool { return o.Key == *t.TagKey }), Tag{*t.TagKey, *t.TagValue})
	}
	if twoSpellings(tags) {
		return nil, kmsapi.TagException("Tag keys that differ only in case are not supported")
	}
	if len(tags) > maxTags {
		return nil, kmsapi.TagException("Too many tags")
	}
	slices.SortFunc(tags, func(a, b Tag) int { return cmp.Compare(a.Key, b.Key) })
	return tags, nil
}

// twoSpellings reports whether two keys differ only in case. KMS would take them;
// condition keys do not tell them apart, so that one could hide the other from a
// Deny, and they are refused here.
func twoSpellings(tags []Tag) bool {
	seen := map[string]bool{}
	for _, t := range tags {
		lower := strings.ToLower(t.Key)
		if seen[lower] {
			return true
		}
		seen[lower] = true
	}
	return false
}

// TagResource sets tags of a key.
func (s *Service) TagResource(ctx context.Context, call *iam.Call, in *kmsapi.TagResourceRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, "TagResource", *in.KeyId, &conditions{tags: setTags(in.Tags)}, func(_ *store.Tx, k *Key) (err error) {
		k.Tags, err = addTags(k.Tags, in.Tags)
		return err
	})
}

// UntagResource removes tags of a key; keys it does not have are no error.
func (s *Service) UntagResource(ctx context.Context, call *iam.Call, in *kmsapi.UntagResourceRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, "UntagResource", *in.KeyId, &conditions{tags: authz.RequestTags{Removed: in.TagKeys}}, func(_ *store.Tx, k *Key) error {
		if slices.ContainsFunc(in.TagKeys, reserved) {
			return kmsapi.TagException(reservedTag)
		}
		k.Tags = slices.DeleteFunc(k.Tags, func(t Tag) bool { return slices.Contains(in.TagKeys, t.Key) })
		return nil
	})
}

// ListResourceTags lists the tags of a key.
func (s *Service) ListResourceTags(ctx context.Context, call *iam.Call, in *kmsapi.ListResourceTagsRequest) (*kmsapi.ListResourceTagsResponse, error) {
	p, err := newPage("ListResourceTags", in.Marker, in.Limit, 50, 50)
	if err != nil {
		return nil, err
	}
	out := &kmsapi.ListResourceTagsResponse{}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		key, err := managed(tx, call, "ListResourceTags", *in.KeyId, noAlias, &conditions{})
		if err != nil {
			return err
		}
		rest := slices.DeleteFunc(slices.Clone(key.Tags), func(t Tag) bool { return t.Key <= p.after })
		rest, out.Truncated, out.NextMarker = cut(p, rest, func(t Tag) string { return t.Key })
		out.Tags = []kmsapi.Tag{}
		for _, t := range rest {
			out.Tags = append(out.Tags, kmsapi.Tag{TagKey: &t.Key, TagValue: &t.Value})
		}
		return nil
	})
	return out, err
}
