package iam

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// maxAttached is how many managed policies an entity may have.
const maxAttached = 10

func noManaged(policyARN string) error {
	return iamapi.NoSuchEntityException("Policy " + policyARN + " does not exist or is not attachable.")
}

// count changes how often a customer managed policy is attached, and how often
// it is a boundary. The policy must exist and be the account's own, or AWS's.
func count(tx *store.Tx, account, policyARN string, attachments, boundaries int) error {
	m, err := findManaged(tx, policyARN)
	if errors.Is(err, store.ErrNotFound) || err == nil && m.Account != "" && m.Account != account {
		return noManaged(policyARN)
	}
	if err != nil || m.Account == "" {
		return err
	}
	if m, err = store.Edit(tx, managedKind, managedKey(m.Account, m.Name)); err != nil {
		return err
	}
	m.Attachments, m.Boundaries = m.Attachments+attachments, m.Boundaries+boundaries
	return store.Put(tx, managedKind, managedKey(m.Account, m.Name), m)
}

func (s *Service) attach(ctx context.Context, call *Call, action string, c Class, name, policyARN string) error {
	more := &conditions{policyARN: policyARN}
	return s.change(ctx, call, policy.MustAction(action), c, name, more, func(tx *store.Tx, e *Entity) error {
		if slices.Contains(e.Attached, policyARN) {
			return nil
		}
		if err := count(tx, e.Account, policyARN, 1, 0); err != nil {
			return err
		}
		if len(e.Attached) == maxAttached {
			plural := strings.ToUpper(string(c[:1])) + string(c[1:])
			return iamapi.LimitExceededException("Cannot exceed quota for PoliciesPer" + plural + ": 10")
		}
		e.Attached = append(e.Attached, policyARN)
		return nil
	})
}

func (s *Service) detach(ctx context.Context, call *Call, action string, c Class, name, policyARN string) error {
	more := &conditions{policyARN: policyARN}
	return s.change(ctx, call, policy.MustAction(action), c, name, more, func(tx *store.Tx, e *Entity) error {
		if !slices.Contains(e.Attached, policyARN) {
			return iamapi.NoSuchEntityException("Policy " + policyARN + " was not found.")
		}
		e.Attached = slices.DeleteFunc(e.Attached, func(a string) bool { return a == policyARN })
		return count(tx, e.Account, policyARN, -1, 0)
	})
}

func (s *Service) listAttached(ctx context.Context, call *Call, action string, c Class, name string, prefix, marker *string, items *int32) (
	shown []iamapi.AttachedPolicy, truncated *bool, next *string, err error) {
	p, err := newPage(marker, items)
	if err != nil {
		return nil, nil, nil, err
	}
	err = s.read(ctx, call, policy.MustAction(action), c, name, func(tx *store.Tx, e *Entity) error {
		shown = []iamapi.AttachedPolicy{}
		var arns []string
		arns, truncated, next = cutNames(p, slices.Sorted(slices.Values(e.Attached)))
		for _, a := range arns {
			m, err := findManaged(tx, a)
			if err != nil {
				return err
			}
			if strings.HasPrefix(m.Path, model.Or(prefix, "/")) {
				shown = append(shown, iamapi.AttachedPolicy{PolicyName: &m.Name, PolicyArn: &a})
			}
		}
		return nil
	})
	return shown, truncated, next, err
}

// setBoundary attaches a permissions boundary in place of the one there is.
func setBoundary(tx *store.Tx, e *Entity, policyARN string) error {
	if err := clearBoundary(tx, e); err != nil {
		return err
	}
	e.Boundary = policyARN
	return count(tx, e.Account, policyARN, 0, 1)
}

func clearBoundary(tx *store.Tx, e *Entity) error {
	if e.Boundary == "" {
		return nil
	}
	old := e.Boundary
	e.Boundary = ""
	return count(tx, e.Account, old, 0, -1)
}

func (s *Service) putBoundary(ctx context.Context, call *Call, action string, c Class, name, policyARN string) error {
	more := &conditions{boundary: policyARN}
	return s.change(ctx, call, policy.MustAction(action), c, name, more, func(tx *store.Tx, e *Entity) error {
		return setBoundary(tx, e, policyARN)
	})
}

func (s *Service) deleteBoundary(ctx context.Context, call *Call, action string, c Class, name string) error {
	return s.change(ctx, call, policy.MustAction(action), c, name, nil, func(tx *store.Tx, e *Entity) error {
		if e.Boundary == "" {
			return iamapi.NoSuchEntityException("The " + string(c) + " with name " + e.Name + " does not have a permissions boundary.")
		}
		return clearBoundary(tx, e)
	})
}

// PutUserPermissionsBoundary sets a user's permissions boundary.
func (s *Service) PutUserPermissionsBoundary(ctx context.Context, call *Call, in *iamapi.PutUserPermissionsBoundaryRequest) (*struct{}, error) {
	return nil, s.putBoundary(ctx, call, "iam:PutUserPermissionsBoundary", UserClass, *in.UserName, *in.PermissionsBoundary)
}

// DeleteUserPermissionsBoundary removes a user's permissions boundary.
func (s *Service) DeleteUserPermissionsBoundary(ctx context.Context, call *Call, in *iamapi.DeleteUserPermissionsBoundaryRequest) (*struct{}, error) {
	return nil, s.deleteBoundary(ctx, call, "iam:DeleteUserPermissionsBoundary", UserClass, *in.UserName)
}

// PutRolePermissionsBoundary sets a role's permissions boundary.
func (s *Service) PutRolePermissionsBoundary(ctx context.Context, call *Call, in *iamapi.PutRolePermissionsBoundaryRequest) (*struct{}, error) {
	return nil, s.putBoundary(ctx, call, "iam:PutRolePermissionsBoundary", RoleClass, *in.RoleName, *in.PermissionsBoundary)
}

// DeleteRolePermissionsBoundary removes a role's permissions boundary.
func (s *Service) DeleteRolePermissionsBoundary(ctx context.Context, call *Call, in *iamapi.DeleteRolePermissionsBoundaryRequest) (*struct{}, error) {
	return nil, s.deleteBoundary(ctx, call, "iam:DeleteRolePermissionsBoundary", RoleClass, *in.RoleName)
}
