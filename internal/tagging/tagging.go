// Package tagging is what there is of the Resource Groups Tagging API: finding KMS
// keys by their tags.
package tagging

import (
	"context"
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/tagapi"
	"github.com/claviger/claviger/internal/policy"
)

// A Service is the tagging API over the keys of a KMS service. It is safe for
// concurrent use.
type Service struct{ kms *kms.Service }

// New makes the API over k.
func New(k *kms.Service) *Service { return &Service{k} }

const (
	defaultPage = 50
	maxPage     = 100
)

// GetResources finds the tagged keys of the account and Region: of those types,
// with tags that satisfy every filter, or those that are named.
func (s *Service) GetResources(ctx context.Context, call *iam.Call, in *tagapi.GetResourcesInput) (*tagapi.GetResourcesOutput, error) {
	n := model.Or(in.ResourcesPerPage, defaultPage)
	named := in.ResourceARNList != nil
	switch {
	case n < 1 || n > maxPage:
		return nil, tagapi.InvalidParameterException("ResourcesPerPage must be between 1 and 100.")
	case named && (in.TagFilters != nil || in.ResourceTypeFilters != nil || in.ResourcesPerPage != nil || model.Value(in.PaginationToken) != ""):
		return nil, tagapi.InvalidParameterException("ResourceARNList cannot be specified with filters or pagination.")
	case model.Value(in.ExcludeCompliantResources) || model.Value(in.IncludeComplianceDetails):
		return nil, tagapi.InvalidParameterException("There are no tag policies to comply with.")
	}
	after, err := readToken(in.PaginationToken)
	if err != nil {
		return nil, err
	}
	for _, f := range in.TagFilters {
		if f.Key == nil {
			return nil, tagapi.InvalidParameterException("A tag filter needs a key.")
		}
	}
	out := &tagapi.GetResourcesOutput{PaginationToken: new(""), ResourceTagMappingList: []tagapi.ResourceTagMapping{}}
	ofKeys := len(in.ResourceTypeFilters) == 0 || slices.ContainsFunc(in.ResourceTypeFilters, func(f string) bool { return f == "kms" || f == "kms:key" })
	err = s.kms.TaggedKeys(ctx, call, policy.MustAction("tag:GetResources"), after, func(arn string, tags []kms.Tag) bool {
		if !ofKeys || named && !slices.Contains(in.ResourceARNList, arn) || !satisfied(in.TagFilters, tags) {
			return true
		}
		if len(out.ResourceTagMappingList) == int(n) {
			out.PaginationToken = token(*out.ResourceTagMappingList[n-1].ResourceARN)
			return false
		}
		m := tagapi.ResourceTagMapping{ResourceARN: &arn}
		for _, t := range tags {
			m.Tags = append(m.Tags, tagapi.Tag{Key: &t.Key, Value: &t.Value})
		}
		out.ResourceTagMappingList = append(out.ResourceTagMappingList, m)
		return true
	})
	return out, err
}

// satisfied reports whether tags have every filter's key, with one of its values
// if it has any.
func satisfied(filters []tagapi.TagFilter, tags []kms.Tag) bool {
	for _, f := range filters {
		if !slices.ContainsFunc(tags, func(t kms.Tag) bool {
			return t.Key == *f.Key && (len(f.Values) == 0 || slices.Contains(f.Values, t.Value))
		}) {
			return false
		}
	}
	return true
}

func token(last string) *string { return new(base64.RawURLEncoding.EncodeToString([]byte(last))) }

func readToken(t *string) (after string, err error) {
	text, err := base64.RawURLEncoding.DecodeString(model.Value(t))
	if err != nil || len(text) > 0 && !strings.HasPrefix(string(text), "arn:") {
		return "", tagapi.PaginationTokenExpiredException("The pagination token is not valid.")
	}
	return string(text), nil
}

// GetTagKeys lists the tag keys in use in the account and Region, all at once.
func (s *Service) GetTagKeys(ctx context.Context, call *iam.Call, _ *tagapi.GetTagKeysInput) (*tagapi.GetTagKeysOutput, error) {
	found, err := s.distinct(ctx, call, "tag:GetTagKeys", func(t kms.Tag) (string, bool) { return t.Key, true })
	return &tagapi.GetTagKeysOutput{PaginationToken: new(""), TagKeys: found}, err
}

// GetTagValues lists the values of a tag key in use in the account and Region, all
// at once.
func (s *Service) GetTagValues(ctx context.Context, call *iam.Call, in *tagapi.GetTagValuesInput) (*tagapi.GetTagValuesOutput, error) {
	found, err := s.distinct(ctx, call, "tag:GetTagValues", func(t kms.Tag) (string, bool) { return t.Value, t.Key == *in.Key })
	return &tagapi.GetTagValuesOutput{PaginationToken: new(""), TagValues: found}, err
}

// distinct collects what pick takes from each tag, sorted.
func (s *Service) distinct(ctx context.Context, call *iam.Call, action string, pick func(kms.Tag) (string, bool)) ([]string, error) {
	seen := map[string]bool{}
	err := s.kms.TaggedKeys(ctx, call, policy.MustAction(action), "", func(_ string, tags []kms.Tag) bool {
		for _, t := range tags {
			if text, ok := pick(t); ok {
				seen[text] = true
			}
		}
		return true
	})
	found := slices.Sorted(maps.Keys(seen))
	if found == nil {
		found = []string{}
	}
	return found, err
}
