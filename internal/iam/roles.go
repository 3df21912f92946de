package iam

import (
	"context"
	"errors"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Limits of a role: characters of its trust policy without white space, and
// seconds of a session when none are asked for.
const (
	maxTrustPolicy = 2048
	defaultSession = 3600
)

func (s *Service) wireRole(tx *store.Tx, e *Entity) (*iamapi.Role, error) {
	doc, err := policy.Parse([]byte(e.Trust))
	if err != nil {
		return nil, err
	}
	if err := RestorePrincipals(tx, doc, Partition); err != nil {
		return nil, err
	}
	r := &iamapi.Role{
		Path: &e.Path, RoleName: &e.Name, RoleId: &e.ID, Arn: new(e.ARN()), CreateDate: model.At(e.Created),
		AssumeRolePolicyDocument: escaped(doc.Compact()), MaxSessionDuration: &e.MaxSession,
		PermissionsBoundary: wireBoundary(e), Tags: wireTags(e.Tags), RoleLastUsed: &iamapi.RoleLastUsed{},
	}
	if e.Description != "" {
		r.Description = &e.Description
	}
	return r, nil
}

// setTrust checks a trust policy and gives it to the role.
func setTrust(tx *store.Tx, e *Entity, text string) error {
	if size(text) > maxTrustPolicy {
		return iamapi.LimitExceededException("Cannot exceed quota for ACLSizePerRole: 2048")
	}
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		return MalformedPolicy("This policy contains invalid Json").Because(err)
	}
	switch err := policy.Validate(doc, policy.Trust); {
	case errors.Is(err, policy.ErrPrincipal):
		return MalformedPolicy("Missing required field Principal").Because(err)
	case err != nil:
		return MalformedPolicy(Grammar(err)).Because(err)
	}
	var invalid *PrincipalError
	if err := ResolvePrincipals(tx, doc, Partition, true); errors.As(err, &invalid) {
		return MalformedPolicy(`Invalid principal in policy: "` + invalid.Type + `":"` + invalid.Text + `"`).Because(err)
	} else if err != nil {
		return err
	}
	e.Trust = doc.Compact()
	return nil
}

// CreateRole makes a role.
func (s *Service) CreateRole(ctx context.Context, call *Call, in *iamapi.CreateRoleRequest) (*iamapi.CreateRoleResponse, error) {
	var out iamapi.CreateRoleResponse
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		e := newEntity(call.Account(), RoleClass, *in.RoleName, model.Value(in.Path), call.Now)
		e.Description, e.MaxSession = model.Value(in.Description), model.Or(in.MaxSessionDuration, defaultSession)
		action, boundary := policy.MustAction("iam:CreateRole"), model.Value(in.PermissionsBoundary)
		if err := s.allowCreate(tx, call, action, e, in.Tags, boundary); err != nil {
			return err // before the trust policy, which tells who exists
		}
		if err := setTrust(tx, e, *in.AssumeRolePolicyDocument); err != nil {
			return err
		}
		if err := s.create(tx, call, action, e, in.Tags, boundary); err != nil {
			return err
		}
		var err error
		out.Role, err = s.wireRole(tx, e)
		if err == nil {
			out.Role.MaxSessionDuration, out.Role.RoleLastUsed = nil, nil // GetRole shows them
		}
		return err
	})
	return &out, err
}

// AddAdministrator makes a role that may do everything in its account and that
// another account's identity policies let their principals assume, for the
// program itself.
func AddAdministrator(tx *store.Tx, account, name, trusted string, now time.Time) error {
	e := newEntity(account, RoleClass, name, "/", now)
	e.MaxSession, e.Attached = defaultSession, []string{"arn:" + Partition + ":iam::aws:policy/AdministratorAccess"}
	trust := statement(`"Effect":"Allow","Principal":{"AWS":"` + arn.Root(Partition, trusted) + `"},"Action":"sts:AssumeRole"`)
	if err := setTrust(tx, e, trust); err != nil {
		return err
	}
	return addEntity(tx, e)
}

// GetRole shows a role.
func (s *Service) GetRole(ctx context.Context, call *Call, in *iamapi.GetRoleRequest) (*iamapi.GetRoleResponse, error) {
	var out iamapi.GetRoleResponse
	err := s.read(ctx, call, policy.MustAction("iam:GetRole"), RoleClass, *in.RoleName, func(tx *store.Tx, e *Entity) (err error) {
		out.Role, err = s.wireRole(tx, e)
		return err
	})
	return &out, err
}

// ListRoles lists roles.
func (s *Service) ListRoles(ctx context.Context, call *Call, in *iamapi.ListRolesRequest) (*iamapi.ListRolesResponse, error) {
	shown, truncated, marker, err := s.entities(ctx, call, policy.MustAction("iam:ListRoles"), RoleClass, in.PathPrefix, in.Marker, in.MaxItems)
	out := &iamapi.ListRolesResponse{Roles: []iamapi.Role{}, IsTruncated: truncated, Marker: marker}
	if err != nil {
		return nil, err
	}
	return out, call.View(ctx, s.db, func(tx *store.Tx) error {
		out.Roles = out.Roles[:0]
		for _, e := range shown {
			r, err := s.wireRole(tx, e)
			if err != nil {
				return err
			}
			r.Tags, r.PermissionsBoundary, r.RoleLastUsed = nil, nil, nil
			out.Roles = append(out.Roles, *r)
		}
		return nil
	})
}

// UpdateRole changes a role's description and longest session.
func (s *Service) UpdateRole(ctx context.Context, call *Call, in *iamapi.UpdateRoleRequest) (*iamapi.UpdateRoleResponse, error) {
	err := s.change(ctx, call, policy.MustAction("iam:UpdateRole"), RoleClass, *in.RoleName, nil, func(_ *store.Tx, e *Entity) error {
		e.Description, e.MaxSession = model.Or(in.Description, e.Description), model.Or(in.MaxSessionDuration, e.MaxSession)
		return nil
	})
	return &iamapi.UpdateRoleResponse{}, err
}

// UpdateRoleDescription changes a role's description.
func (s *Service) UpdateRoleDescription(ctx context.Context, call *Call, in *iamapi.UpdateRoleDescriptionRequest) (*iamapi.UpdateRoleDescriptionResponse, error) {
	var out iamapi.UpdateRoleDescriptionResponse
	err := s.change(ctx, call, policy.MustAction("iam:UpdateRoleDescription"), RoleClass, *in.RoleName, nil, func(tx *store.Tx, e *Entity) (err error) {
		e.Description = *in.Description
		if out.Role, err = s.wireRole(tx, e); err == nil {
			out.Role.MaxSessionDuration, out.Role.RoleLastUsed = nil, nil
		}
		return err
	})
	return &out, err
}

// UpdateAssumeRolePolicy replaces a role's trust policy.
func (s *Service) UpdateAssumeRolePolicy(ctx context.Context, call *Call, in *iamapi.UpdateAssumeRolePolicyRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, policy.MustAction("iam:UpdateAssumeRolePolicy"), RoleClass, *in.RoleName, nil, func(tx *store.Tx, e *Entity) error {
		return setTrust(tx, e, *in.PolicyDocument)
	})
}

// DeleteRole removes a role without policies. Its sessions end at once.
func (s *Service) DeleteRole(ctx context.Context, call *Call, in *iamapi.DeleteRoleRequest) (*struct{}, error) {
	return nil, s.remove(ctx, call, policy.MustAction("iam:DeleteRole"), RoleClass, *in.RoleName)
}

// ListInstanceProfilesForRole answers that there are none: there are no
// instances here. Tools ask before they delete a role.
func (s *Service) ListInstanceProfilesForRole(ctx context.Context, call *Call, in *iamapi.ListInstanceProfilesForRoleRequest) (*iamapi.ListInstanceProfilesForRoleResponse, error) {
	if _, err := newPage(in.Marker, in.MaxItems); err != nil {
		return nil, err
	}
	out := &iamapi.ListInstanceProfilesForRoleResponse{InstanceProfiles: []iamapi.InstanceProfile{}, IsTruncated: new(false)}
	return out, s.read(ctx, call, policy.MustAction("iam:ListInstanceProfilesForRole"), RoleClass, *in.RoleName, func(*store.Tx, *Entity) error { return nil })
}
