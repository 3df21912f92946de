package org

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/orgapi"
	"github.com/claviger/claviger/internal/store"
)

// maxDepth is how deep units nest below the root.
const maxDepth = 5

func noParent() *model.Fault {
	return orgapi.ParentNotFoundException("You specified parent that doesn't exist.")
}

func noUnit() *model.Fault {
	return orgapi.OrganizationalUnitNotFoundException("You specified an organizational unit that doesn't exist.")
}

func unitTaken() *model.Fault {
	return orgapi.DuplicateOrganizationalUnitException("An OU with the same name already exists.")
}

func sortTargets(ts []*iam.Target) {
	slices.SortFunc(ts, func(a, b *iam.Target) int { return cmp.Compare(a.ID, b.ID) })
}

func (v *view) wireUnit(t *iam.Target) *orgapi.OrganizationalUnit {
	return &orgapi.OrganizationalUnit{Id: &t.ID, Arn: new(targetARN(v.org, t.ID)), Name: &t.Name, Path: &t.Path}
}

// CreateOrganizationalUnit makes a unit under a root or another unit.
func (s *Service) CreateOrganizationalUnit(ctx context.Context, call *iam.Call, in *orgapi.CreateOrganizationalUnitRequest) (*orgapi.CreateOrganizationalUnitResponse, error) {
	var out orgapi.CreateOrganizationalUnitResponse
	r := request{action: "CreateOrganizationalUnit", about: []string{*in.ParentId}, tags: setTags(in.Tags)}
	return &out, s.change(ctx, call, r, func(v *view) error {
		parent, err := v.target(*in.ParentId)
		if err != nil || typeOf(*in.ParentId) == accountType {
			return or(err, noParent())
		}
		if strings.Count(parent.Path, "/") >= 2+maxDepth {
			return constraint(orgapi.ConstraintViolationExceptionReasonOuDepthLimitExceeded, "You have exceeded the OU depth limit.")
		}
		id, err := freeID(v.tx, iam.TargetKind, iam.TargetKey, "ou-"+strings.TrimPrefix(v.org.Root, "r-")+"-", 8)
		if err != nil {
			return err
		}
		u := &iam.Target{ID: id, Organization: v.org.ID, Parent: parent.ID, Name: *in.Name, Attached: fullAccess()}
		u.Path = parent.Path + u.ID + "/"
		if err := v.take(parent.ID, u.Name, u.ID, unitTaken()); err != nil {
			return err
		}
		if u.Tags, err = addTags(nil, in.Tags); err != nil {
			return err
		}
		out.OrganizationalUnit = v.wireUnit(u)
		return v.add(u)
	})
}

// unit returns a unit to change.
func (v *view) unit(id string) (*iam.Target, error) {
	u, err := v.edit(id)
	if err == nil && typeOf(id) != unitType {
		err = store.ErrNotFound
	}
	return u, or(err, noUnit())
}

// DescribeOrganizationalUnit shows a unit.
func (s *Service) DescribeOrganizationalUnit(ctx context.Context, call *iam.Call, in *orgapi.DescribeOrganizationalUnitRequest) (*orgapi.DescribeOrganizationalUnitResponse, error) {
	var out orgapi.DescribeOrganizationalUnitResponse
	id := *in.OrganizationalUnitId
	return &out, s.read(ctx, call, request{action: "DescribeOrganizationalUnit", about: []string{id}}, func(v *view) error {
		u, err := v.unit(id)
		if err == nil {
			out.OrganizationalUnit = v.wireUnit(u)
		}
		return err
	})
}

// UpdateOrganizationalUnit renames a unit.
func (s *Service) UpdateOrganizationalUnit(ctx context.Context, call *iam.Call, in *orgapi.UpdateOrganizationalUnitRequest) (*orgapi.UpdateOrganizationalUnitResponse, error) {
	var out orgapi.UpdateOrganizationalUnitResponse
	id := *in.OrganizationalUnitId
	return &out, s.change(ctx, call, request{action: "UpdateOrganizationalUnit", about: []string{id}}, func(v *view) error {
		u, err := v.unit(id)
		if err != nil {
			return err
		}
		if name := model.Or(in.Name, u.Name); name != u.Name {
			if err := v.take(u.Parent, name, u.ID, unitTaken()); err != nil {
				return err
			}
			v.tx.Delete(nameKey(u.Parent, u.Name))
			u.Name = name
		}
		out.OrganizationalUnit = v.wireUnit(u)
		return v.put(u)
	})
}

// DeleteOrganizationalUnit removes a unit that nothing is under.
func (s *Service) DeleteOrganizationalUnit(ctx context.Context, call *iam.Call, in *orgapi.DeleteOrganizationalUnitRequest) (*struct{}, error) {
	id := *in.OrganizationalUnitId
	return nil, s.change(ctx, call, request{action: "DeleteOrganizationalUnit", about: []string{id}}, func(v *view) error {
		u, err := v.unit(id)
		if err != nil {
			return err
		}
		if u.Children > 0 {
			return orgapi.OrganizationalUnitNotEmptyException("The specified OU is not empty. Move all accounts to another root or to other OUs, remove all child OUs, and try the operation again.")
		}
		for policyType, ids := range u.Attached {
			for _, p := range ids {
				if err := v.retarget(p, policyType, func(targets []string) []string { return without(targets, id) }); err != nil {
					return err
				}
			}
		}
		if err := v.count(u.Parent, -1); err != nil {
			return err
		}
		v.tx.Delete(childKey(v.org.ID, u.Parent, u.ID))
		v.tx.Delete(nameKey(u.Parent, u.Name))
		v.tx.Delete(iam.TargetKey(u.ID))
		return nil
	})
}

// ListOrganizationalUnitsForParent lists the units directly under a root or unit.
func (s *Service) ListOrganizationalUnitsForParent(ctx context.Context, call *iam.Call, in *orgapi.ListOrganizationalUnitsForParentRequest) (*orgapi.ListOrganizationalUnitsForParentResponse, error) {
	out := &orgapi.ListOrganizationalUnitsForParentResponse{OrganizationalUnits: []orgapi.OrganizationalUnit{}}
	r := request{action: "ListOrganizationalUnitsForParent", about: []string{*in.ParentId}}
	next, err := s.listed(ctx, call, r, *in.ParentId, unitType, in.NextToken, in.MaxResults, func(v *view, t *iam.Target) {
		out.OrganizationalUnits = append(out.OrganizationalUnits, *v.wireUnit(t))
	})
	out.NextToken = next
	return out, err
}

// ListChildren lists the accounts or the units directly under a root or unit.
func (s *Service) ListChildren(ctx context.Context, call *iam.Call, in *orgapi.ListChildrenRequest) (*orgapi.ListChildrenResponse, error) {
	out := &orgapi.ListChildrenResponse{Children: []orgapi.Child{}}
	r := request{action: "ListChildren", about: []string{*in.ParentId}}
	next, err := s.listed(ctx, call, r, *in.ParentId, *in.ChildType, in.NextToken, in.MaxResults, func(_ *view, t *iam.Target) {
		out.Children = append(out.Children, orgapi.Child{Id: &t.ID, Type: in.ChildType})
	})
	out.NextToken = next
	return out, err
}

// ListParents shows what an account or unit is directly under.
func (s *Service) ListParents(ctx context.Context, call *iam.Call, in *orgapi.ListParentsRequest) (*orgapi.ListParentsResponse, error) {
	out := &orgapi.ListParentsResponse{}
	return out, s.read(ctx, call, request{action: "ListParents", about: []string{*in.ChildId}}, func(v *view) error {
		t, err := v.target(*in.ChildId)
		if err == nil && t.Parent == "" {
			err = store.ErrNotFound
		}
		if err != nil {
			return or(err, orgapi.ChildNotFoundException("You specified a child that doesn't exist."))
		}
		out.Parents = []orgapi.Parent{{Id: &t.Parent, Type: new(typeOf(t.Parent))}}
		return nil
	})
}
