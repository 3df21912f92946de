package iam

import (
	"context"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxTags is how many tags an entity may have.
const maxTags = 50

func wireTags(tags []Tag) []iamapi.Tag {
	var out []iamapi.Tag
	for _, t := range tags {
		out = append(out, iamapi.Tag{Key: &t.Key, Value: &t.Value})
	}
	return out
}

func tagMap(tags []Tag) map[string]string {
	return authz.TagMap(tags, func(t Tag) (string, string) { return t.Key, t.Value })
}

// setTags are the tags that a request sets, for condition keys.
func setTags(tags []iamapi.Tag) authz.RequestTags {
	return authz.RequestTags{Set: authz.TagMap(tags, func(t iamapi.Tag) (string, string) { return *t.Key, *t.Value })}
}

// addTags sets tags; a key that differs only in case is the same tag.
func addTags(tags []Tag, add []iamapi.Tag) ([]Tag, error) {
	seen := map[string]bool{}
	for _, t := range add {
		key := *t.Key
		if seen[strings.ToLower(key)] {
			return nil, iamapi.InvalidInputException("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
		seen[strings.ToLower(key)] = true
		if strings.HasPrefix(strings.ToLower(key), "aws:") {
			return nil, iamapi.InvalidInputException("The prefix aws: is reserved for AWS use and cannot be used in tag keys.")
		}
		tags = append(slices.DeleteFunc(tags, func(o Tag) bool { return strings.EqualFold(o.Key, key) }), Tag{key, *t.Value})
	}
	if len(tags) > maxTags {
		return nil, iamapi.LimitExceededException("The number of tags has reached the maximum limit.")
	}
	return tags, nil
}

func removeTags(tags []Tag, keys []string) []Tag {
	return slices.DeleteFunc(tags, func(t Tag) bool {
		return slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, t.Key) })
	})
}

func (s *Service) tag(ctx context.Context, call *Call, action string, c Class, name string, add []iamapi.Tag) error {
	return s.change(ctx, call, policy.MustAction(action), c, name, &conditions{tags: setTags(add)}, func(_ *store.Tx, e *Entity) (err error) {
		e.Tags, err = addTags(e.Tags, add)
		return err
	})
}

func (s *Service) untag(ctx context.Context, call *Call, action string, c Class, name string, keys []string) error {
	return s.change(ctx, call, policy.MustAction(action), c, name, &conditions{tags: authz.RequestTags{Removed: keys}}, func(_ *store.Tx, e *Entity) error {
		e.Tags = removeTags(e.Tags, keys)
		return nil
	})
}

// tagPage is one page of tags.
func tagPage(p page, tags []Tag) (shown []iamapi.Tag, truncated *bool, marker *string) {
	tags, truncated, marker = cutAfter(p, tags, func(t Tag) string { return t.Key })
	return append([]iamapi.Tag{}, wireTags(tags)...), truncated, marker
}

func (s *Service) listTags(ctx context.Context, call *Call, action string, c Class, name string, from *string, items *int32) (
	tags []iamapi.Tag, truncated *bool, marker *string, err error) {
	p, err := newPage(from, items)
	if err != nil {
		return nil, nil, nil, err
	}
	err = s.read(ctx, call, policy.MustAction(action), c, name, func(_ *store.Tx, e *Entity) error {
		tags, truncated, marker = tagPage(p, e.Tags)
		return nil
	})
	return tags, truncated, marker, err
}

// TagUser sets tags of a user.
func (s *Service) TagUser(ctx context.Context, call *Call, in *iamapi.TagUserRequest) (*struct{}, error) {
	return nil, s.tag(ctx, call, "iam:TagUser", UserClass, *in.UserName, in.Tags)
}

// UntagUser removes tags of a user.
func (s *Service) UntagUser(ctx context.Context, call *Call, in *iamapi.UntagUserRequest) (*struct{}, error) {
	return nil, s.untag(ctx, call, "iam:UntagUser", UserClass, *in.UserName, in.TagKeys)
}

// ListUserTags lists the tags of a user.
func (s *Service) ListUserTags(ctx context.Context, call *Call, in *iamapi.ListUserTagsRequest) (*iamapi.ListUserTagsResponse, error) {
	tags, truncated, marker, err := s.listTags(ctx, call, "iam:ListUserTags", UserClass, *in.UserName, in.Marker, in.MaxItems)
	return &iamapi.ListUserTagsResponse{Tags: tags, IsTruncated: truncated, Marker: marker}, err
}

// TagRole sets tags of a role.
func (s *Service) TagRole(ctx context.Context, call *Call, in *iamapi.TagRoleRequest) (*struct{}, error) {
	return nil, s.tag(ctx, call, "iam:TagRole", RoleClass, *in.RoleName, in.Tags)
}

// UntagRole removes tags of a role.
func (s *Service) UntagRole(ctx context.Context, call *Call, in *iamapi.UntagRoleRequest) (*struct{}, error) {
	return nil, s.untag(ctx, call, "iam:UntagRole", RoleClass, *in.RoleName, in.TagKeys)
}

// ListRoleTags lists the tags of a role.
func (s *Service) ListRoleTags(ctx context.Context, call *Call, in *iamapi.ListRoleTagsRequest) (*iamapi.ListRoleTagsResponse, error) {
	tags, truncated, marker, err := s.listTags(ctx, call, "iam:ListRoleTags", RoleClass, *in.RoleName, in.Marker, in.MaxItems)
	return &iamapi.ListRoleTagsResponse{Tags: tags, IsTruncated: truncated, Marker: marker}, err
}
