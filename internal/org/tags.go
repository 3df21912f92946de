package org

import (
	"context"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/orgapi"
	"github.com/claviger/claviger/internal/store"
)

// maxTags is how many tags a resource of an organization may have.
const maxTags = 50

func tagMap(tags []iam.Tag) map[string]string {
	return authz.TagMap(tags, func(t iam.Tag) (string, string) { return t.Key, t.Value })
}

// addTags sets tags; a key that differs only in case is the same tag.
func addTags(tags []iam.Tag, add []orgapi.Tag) ([]iam.Tag, error) {
	seen := map[string]bool{}
	for _, t := range add {
		key := strings.ToLower(*t.Key)
		switch {
		case seen[key]:
			return nil, invalid(orgapi.InvalidInputExceptionReasonDuplicateTagKey, "The request has duplicate tag keys.")
		case strings.HasPrefix(key, "aws:"):
			return nil, invalid(orgapi.InvalidInputExceptionReasonInvalidSystemTagsParameter, "You can't specify a tag key that begins with aws:.")
		}
		seen[key] = true
		tags = append(slices.DeleteFunc(tags, func(o iam.Tag) bool { return strings.ToLower(o.Key) == key }), iam.Tag{Key: *t.Key, Value: *t.Value})
	}
	if len(tags) > maxTags {
		return nil, constraint(orgapi.ConstraintViolationExceptionReasonMaxTagLimitExceeded, "You have exceeded the number of tags allowed on this resource.")
	}
	return tags, nil
}

func noTarget() *model.Fault {
	return orgapi.TargetNotFoundException("You specified a target that doesn't exist.")
}

// retag changes the tags of a root, unit, account or policy.
func (s *Service) retag(ctx context.Context, call *iam.Call, action, id string, tags authz.RequestTags, edit func([]iam.Tag) ([]iam.Tag, error)) error {
	r := request{action: action, about: []string{id}, tags: tags}
	return s.change(ctx, call, r, func(v *view) (err error) {
		if strings.HasPrefix(id, "p-") {
			p, err := v.editPolicy(id)
			if err != nil {
				return or(err, noTarget())
			}
			if p.Tags, err = edit(p.Tags); err != nil {
				return err
			}
			return v.putPolicy(p)
		}
		t, err := v.edit(id)
		if err != nil {
			return or(err, noTarget())
		}
		if t.Tags, err = edit(t.Tags); err != nil {
			return err
		}
		return v.put(t)
	})
}

// TagResource sets tags.
func (s *Service) TagResource(ctx context.Context, call *iam.Call, in *orgapi.TagResourceRequest) (*struct{}, error) {
	return nil, s.retag(ctx, call, "TagResource", *in.ResourceId, setTags(in.Tags), func(tags []iam.Tag) ([]iam.Tag, error) { return addTags(tags, in.Tags) })
}

// UntagResource removes tags.
func (s *Service) UntagResource(ctx context.Context, call *iam.Call, in *orgapi.UntagResourceRequest) (*struct{}, error) {
	return nil, s.retag(ctx, call, "UntagResource", *in.ResourceId, authz.RequestTags{Removed: in.TagKeys}, func(tags []iam.Tag) ([]iam.Tag, error) {
		return slices.DeleteFunc(tags, func(t iam.Tag) bool {
			return slices.ContainsFunc(in.TagKeys, func(k string) bool { return strings.EqualFold(k, t.Key) })
		}), nil
	})
}

// ListTagsForResource lists tags.
func (s *Service) ListTagsForResource(ctx context.Context, call *iam.Call, in *orgapi.ListTagsForResourceRequest) (*orgapi.ListTagsForResourceResponse, error) {
	out := &orgapi.ListTagsForResourceResponse{Tags: []orgapi.Tag{}}
	id := *in.ResourceId
	return out, s.read(ctx, call, request{action: "ListTagsForResource", about: []string{id}}, func(v *view) error {
		var tags []iam.Tag
		if strings.HasPrefix(id, "p-") {
			p, err := iam.FindOrganizationPolicy(v.tx, v.org.ID, id)
			if err != nil {
				return or(err, noTarget())
			}
			tags = p.Tags
		} else {
			t, err := store.Get(v.tx, iam.TargetKind, iam.TargetKey(id))
			if err == nil && t.Organization != v.org.ID {
				err = store.ErrNotFound
			}
			if err != nil {
				return or(err, noTarget())
			}
			tags = t.Tags
		}
		for _, t := range tags {
			out.Tags = append(out.Tags, orgapi.Tag{Key: &t.Key, Value: &t.Value})
		}
		return nil
	})
}
