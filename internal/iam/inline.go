package iam

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxInline is how long an entity's inline policies may be together, in
// characters without white space.
var maxInline = map[Class]int{UserClass: 2048, GroupClass: 5120, RoleClass: 10240}

func (s *Service) putInline(ctx context.Context, call *Call, action string, c Class, name, policyName, text string) error {
	return s.change(ctx, call, policy.MustAction(action), c, name, nil, func(_ *store.Tx, e *Entity) error {
		if size(text) <= maxInline[c] {
			if _, err := document(text, policy.Identity); err != nil {
				return err
			}
		}
		if e.Inline == nil {
			e.Inline = map[string]string{}
		}
		e.Inline[policyName] = text
		total := 0
		for _, d := range e.Inline {
			total += size(d)
		}
		if total > maxInline[c] {
			return iamapi.LimitExceededException(fmt.Sprintf("Maximum policy size of %d bytes exceeded for %s %s", maxInline[c], c, e.Name))
		}
		return nil
	})
}

func noInline(c Class, name string) error {
	return iamapi.NoSuchEntityException("The " + string(c) + " policy with name " + name + " cannot be found.")
}

func (s *Service) getInline(ctx context.Context, call *Call, action string, c Class, name, policyName string) (text *string, err error) {
	err = s.read(ctx, call, policy.MustAction(action), c, name, func(_ *store.Tx, e *Entity) error {
		d, ok := e.Inline[policyName]
		if !ok {
			return noInline(c, policyName)
		}
		text = escaped(d)
		return nil
	})
	return text, err
}

func (s *Service) deleteInline(ctx context.Context, call *Call, action string, c Class, name, policyName string) error {
	return s.change(ctx, call, policy.MustAction(action), c, name, nil, func(_ *store.Tx, e *Entity) error {
		if _, ok := e.Inline[policyName]; !ok {
			return noInline(c, policyName)
		}
		delete(e.Inline, policyName)
		return nil
	})
}

func (s *Service) listInline(ctx context.Context, call *Call, action string, c Class, name string, marker *string, items *int32) (
	names []string, truncated *bool, next *string, err error) {
	p, err := newPage(marker, items)
	if err != nil {
		return nil, nil, nil, err
	}
	err = s.read(ctx, call, policy.MustAction(action), c, name, func(_ *store.Tx, e *Entity) error {
		names, truncated, next = cutNames(p, append([]string{}, slices.Sorted(maps.Keys(e.Inline))...))
		return nil
	})
	return names, truncated, next, err
}
