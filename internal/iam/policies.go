package iam

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Limits of managed policies: characters without white space, and versions.
const (
	maxManaged  = 6144
	maxVersions = 5
)

func wirePolicy(m *Managed) *iamapi.Policy {
	p := &iamapi.Policy{
		PolicyName: &m.Name, PolicyId: &m.ID, Arn: new(m.ARN()), Path: &m.Path, DefaultVersionId: &m.Default,
		AttachmentCount: new(int32(m.Attachments)), PermissionsBoundaryUsageCount: new(int32(m.Boundaries)),
		IsAttachable: new(true), CreateDate: model.At(m.Created), UpdateDate: model.At(m.Updated), Tags: wireTags(m.Tags),
	}
	if m.Description != "" {
		p.Description = &m.Description
	}
	return p
}

func wireVersion(m *Managed, v *Version, withDocument bool) iamapi.PolicyVersion {
	out := iamapi.PolicyVersion{VersionId: &v.ID, IsDefaultVersion: new(v.ID == m.Default), CreateDate: model.At(v.Created)}
	if withDocument {
		out.Document = escaped(v.Document)
	}
	return out
}

func managedDocument(text string) error {
	if size(text) > maxManaged {
		return iamapi.LimitExceededException("Cannot exceed quota for PolicySize: 6144")
	}
	_, err := document(text, policy.Identity)
	return err
}

// addVersion makes text the newest version.
func (m *Managed) addVersion(text string, now time.Time, makeDefault bool) *Version {
	m.LastVersion++
	m.Versions = append(m.Versions, Version{fmt.Sprintf("v%d", m.LastVersion), text, now})
	v := &m.Versions[len(m.Versions)-1]
	if makeDefault {
		m.Default = v.ID
	}
	m.Updated = now
	return v
}

// CreatePolicy makes a customer managed policy.
func (s *Service) CreatePolicy(ctx context.Context, call *Call, in *iamapi.CreatePolicyRequest) (*iamapi.CreatePolicyResponse, error) {
	var out iamapi.CreatePolicyResponse
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		tx.OnlyCreates()
		m := &Managed{Account: call.Account(), Name: *in.PolicyName, Path: model.Or(in.Path, "/"), ID: newID("ANPA", 21),
			Description: model.Value(in.Description), Created: call.Now}
		more := &conditions{tags: setTags(in.Tags)}
		err := s.allow(tx, call, policy.MustAction("iam:CreatePolicy"), m.ARN(), more)
		if err == nil && len(in.Tags) > 0 {
			err = s.allow(tx, call, policy.MustAction("iam:TagPolicy"), m.ARN(), more)
		}
		if err != nil {
			return err
		}
		if err := managedDocument(*in.PolicyDocument); err != nil {
			return err
		}
		key := managedKey(m.Account, m.Name)
		if _, err := store.Get(tx, managedKind, key); err == nil {
			return iamapi.EntityAlreadyExistsException("A policy called " + m.Name + " already exists. Duplicate names are not allowed.")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if m.Tags, err = addTags(nil, in.Tags); err != nil {
			return err
		}
		m.addVersion(*in.PolicyDocument, call.Now, true)
		out.Policy = wirePolicy(m)
		return store.Put(tx, managedKind, key, m)
	})
	return &out, err
}

// managed loads the policy a request names, after the caller was allowed to act on it.
func (s *Service) managed(tx *store.Tx, call *Call, action, policyARN string, more conditions) (*Managed, error) {
	m, err := findManaged(tx, policyARN)
	if err == nil {
		more.resource = tagMap(m.Tags)
	}
	if denied := s.allow(tx, call, policy.MustAction(action), policyARN, &more); denied != nil {
		return nil, denied
	}
	if errors.Is(err, store.ErrNotFound) || err == nil && m.Account != "" && m.Account != call.Account() {
		return nil, iamapi.NoSuchEntityException("Policy " + policyARN + " was not found.")
	}
	return m, err
}

// changeManaged edits a customer managed policy in a transaction.
func (s *Service) changeManaged(ctx context.Context, call *Call, action, policyARN string, more conditions, edit func(*store.Tx, *Managed) error) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		m, err := s.managed(tx, call, action, policyARN, more)
		if err != nil {
			return err
		}
		if m.Account == "" {
			return AccessDenied("Cannot update a policy that AWS manages.")
		}
		key := managedKey(m.Account, m.Name)
		if m, err = store.Edit(tx, managedKind, key); err != nil {
			return err
		}
		if err := edit(tx, m); err != nil {
			return err
		}
		return store.Put(tx, managedKind, key, m)
	})
}

func (s *Service) readManaged(ctx context.Context, call *Call, action, policyARN string, show func(*store.Tx, *Managed) error) error {
	return call.View(ctx, s.db, func(tx *store.Tx) error {
		m, err := s.managed(tx, call, action, policyARN, conditions{})
		if err != nil {
			return err
		}
		return show(tx, m)
	})
}

// GetPolicy shows a managed policy.
func (s *Service) GetPolicy(ctx context.Context, call *Call, in *iamapi.GetPolicyRequest) (*iamapi.GetPolicyResponse, error) {
	var out iamapi.GetPolicyResponse
	err := s.readManaged(ctx, call, "iam:GetPolicy", *in.PolicyArn, func(_ *store.Tx, m *Managed) error {
		out.Policy = wirePolicy(m)
		out.Policy.Tags = append([]iamapi.Tag{}, out.Policy.Tags...) // here also when there are none
		return nil
	})
	return &out, err
}

// ListPolicies lists managed policies: AWS's, the account's own, or both.
func (s *Service) ListPolicies(ctx context.Context, call *Call, in *iamapi.ListPoliciesRequest) (*iamapi.ListPoliciesResponse, error) {
	out := &iamapi.ListPoliciesResponse{Policies: []iamapi.Policy{}}
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		path := model.Or(in.PathPrefix, "/")
		if err := s.allow(tx, call, policy.MustAction("iam:ListPolicies"), arn.IAM(Partition, call.Account(), "policy"+path), nil); err != nil {
			return err
		}
		var found []*Managed
		if scope := model.Or(in.Scope, "All"); scope != "Local" {
			found = slices.SortedFunc(maps.Values(awsManaged), func(a, b *Managed) int { return cmp.Compare(a.Name, b.Name) })
		}
		if model.Or(in.Scope, "All") != "AWS" {
			own, err := scan(tx, managedKind, managedPrefix(call.Account()), page{n: 1 << 20}, func(*Managed) bool { return true })
			if err != nil {
				return err
			}
			found = append(found, own...)
		}
		found = slices.DeleteFunc(found, func(m *Managed) bool {
			unused := model.Value(in.OnlyAttached) && m.Attachments == 0 || in.PolicyUsageFilter != nil && !m.usedAs(*in.PolicyUsageFilter)
			return !strings.HasPrefix(m.Path, path) || unused || listKey(m) <= p.after
		})
		found, out.IsTruncated, out.Marker = cut(p, found, listKey)
		out.Policies = out.Policies[:0]
		for _, m := range found {
			w := wirePolicy(m)
			w.Description, w.Tags = nil, nil
			out.Policies = append(out.Policies, *w)
		}
		return nil
	})
	return out, err
}

// usedAs reports whether the policy is in use as a permissions policy or as a
// permissions boundary.
func (m *Managed) usedAs(usage string) bool {
	if usage == "PermissionsBoundary" {
		return m.Boundaries > 0
	}
	return m.Attachments > 0
}

// listKey orders policies: AWS's first, then the account's own, each by name.
func listKey(m *Managed) string {
	if m.Account == "" {
		return "0/" + m.Name
	}
	return "1/" + strings.ToLower(m.Name)
}

// DeletePolicy removes a policy that is attached nowhere and has one version.
func (s *Service) DeletePolicy(ctx context.Context, call *Call, in *iamapi.DeletePolicyRequest) (*struct{}, error) {
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		m, err := s.managed(tx, call, "iam:DeletePolicy", *in.PolicyArn, conditions{})
		switch {
		case err != nil:
			return err
		case m.Account == "":
			return AccessDenied("Cannot delete a policy that AWS manages.")
		case m.Attachments > 0 || m.Boundaries > 0:
			return iamapi.DeleteConflictException("Cannot delete a policy attached to entities.")
		case len(m.Versions) > 1:
			return iamapi.DeleteConflictException("This policy has more than one version. Before you delete a policy, you must delete the policy's versions. " +
				"The default version is deleted with the policy.")
		}
		tx.Delete(managedKey(m.Account, m.Name))
		return nil
	})
}

// CreatePolicyVersion adds a version.
func (s *Service) CreatePolicyVersion(ctx context.Context, call *Call, in *iamapi.CreatePolicyVersionRequest) (*iamapi.CreatePolicyVersionResponse, error) {
	var out iamapi.CreatePolicyVersionResponse
	err := s.changeManaged(ctx, call, "iam:CreatePolicyVersion", *in.PolicyArn, conditions{}, func(_ *store.Tx, m *Managed) error {
		v, err := m.createVersion(*in.PolicyDocument, call.Now, model.Value(in.SetAsDefault))
		if err == nil {
			out.PolicyVersion = new(wireVersion(m, v, false))
		}
		return err
	})
	return &out, err
}

func (m *Managed) createVersion(text string, now time.Time, makeDefault bool) (*Version, error) {
	if err := managedDocument(text); err != nil {
		return nil, err
	}
	if len(m.Versions) == maxVersions {
		return nil, iamapi.LimitExceededException("A managed policy can have up to 5 versions. Before you create a new version, you must delete an existing version.")
	}
	return m.addVersion(text, now, makeDefault), nil
}

func noVersion(policyARN, id string) error {
	return iamapi.NoSuchEntityException("Policy " + policyARN + " version " + id + " does not exist or is not attachable.")
}

// GetPolicyVersion shows one version with its document.
func (s *Service) GetPolicyVersion(ctx context.Context, call *Call, in *iamapi.GetPolicyVersionRequest) (*iamapi.GetPolicyVersionResponse, error) {
	var out iamapi.GetPolicyVersionResponse
	err := s.readManaged(ctx, call, "iam:GetPolicyVersion", *in.PolicyArn, func(_ *store.Tx, m *Managed) error {
		v := m.version(*in.VersionId)
		if v == nil {
			return noVersion(*in.PolicyArn, *in.VersionId)
		}
		out.PolicyVersion = new(wireVersion(m, v, true))
		return nil
	})
	return &out, err
}

// ListPolicyVersions lists versions, the newest first.
func (s *Service) ListPolicyVersions(ctx context.Context, call *Call, in *iamapi.ListPolicyVersionsRequest) (*iamapi.ListPolicyVersionsResponse, error) {
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListPolicyVersionsResponse{}
	err = s.readManaged(ctx, call, "iam:ListPolicyVersions", *in.PolicyArn, func(_ *store.Tx, m *Managed) error {
		versions := slices.Clone(m.Versions)
		slices.Reverse(versions)
		versions, out.IsTruncated, out.Marker = cutAfter(p, versions, func(v Version) string { return v.ID })
		out.Versions = []iamapi.PolicyVersion{}
		for i := range versions {
			out.Versions = append(out.Versions, wireVersion(m, &versions[i], false))
		}
		return nil
	})
	return out, err
}

// DeletePolicyVersion removes a version that is not the default.
func (s *Service) DeletePolicyVersion(ctx context.Context, call *Call, in *iamapi.DeletePolicyVersionRequest) (*struct{}, error) {
	return nil, s.changeManaged(ctx, call, "iam:DeletePolicyVersion", *in.PolicyArn, conditions{}, func(_ *store.Tx, m *Managed) error {
		return m.deleteVersion(*in.VersionId)
	})
}

func (m *Managed) deleteVersion(id string) error {
	switch {
	case m.version(id) == nil:
		return noVersion(m.ARN(), id)
	case m.Default == id:
		return iamapi.DeleteConflictException("Cannot delete the default version of a policy.")
	}
	m.Versions = slices.DeleteFunc(m.Versions, func(v Version) bool { return v.ID == id })
	return nil
}

// SetDefaultPolicyVersion makes another version the one in force.
func (s *Service) SetDefaultPolicyVersion(ctx context.Context, call *Call, in *iamapi.SetDefaultPolicyVersionRequest) (*struct{}, error) {
	return nil, s.changeManaged(ctx, call, "iam:SetDefaultPolicyVersion", *in.PolicyArn, conditions{}, func(_ *store.Tx, m *Managed) error {
		return m.setDefault(*in.VersionId, call.Now)
	})
}

func (m *Managed) setDefault(id string, now time.Time) error {
	if m.version(id) == nil {
		return noVersion(m.ARN(), id)
	}
	m.Default, m.Updated = id, now
	return nil
}

// ListEntitiesForPolicy lists whom a policy is attached to.
func (s *Service) ListEntitiesForPolicy(ctx context.Context, call *Call, in *iamapi.ListEntitiesForPolicyRequest) (*iamapi.ListEntitiesForPolicyResponse, error) {
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListEntitiesForPolicyResponse{}
	err = s.readManaged(ctx, call, "iam:ListEntitiesForPolicy", *in.PolicyArn, func(tx *store.Tx, m *Managed) error {
		found, err := holders(tx, call.Account(), m.ARN(), in)
		if err != nil {
			return err
		}
		found, out.IsTruncated, out.Marker = cutAfter(p, found, func(e *Entity) string { return e.ID })
		out.PolicyGroups, out.PolicyUsers, out.PolicyRoles = []iamapi.PolicyGroup{}, []iamapi.PolicyUser{}, []iamapi.PolicyRole{}
		for _, e := range found {
			switch e.Class {
			case GroupClass:
				out.PolicyGroups = append(out.PolicyGroups, iamapi.PolicyGroup{GroupName: &e.Name, GroupId: &e.ID})
			case UserClass:
				out.PolicyUsers = append(out.PolicyUsers, iamapi.PolicyUser{UserName: &e.Name, UserId: &e.ID})
			case RoleClass:
				out.PolicyRoles = append(out.PolicyRoles, iamapi.PolicyRole{RoleName: &e.Name, RoleId: &e.ID})
			}
		}
		return nil
	})
	return out, err
}

// holders finds the entities that have a policy attached, or as their boundary.
func holders(tx *store.Tx, account, policyARN string, in *iamapi.ListEntitiesForPolicyRequest) ([]*Entity, error) {
	var all []*Entity
	boundary := model.Value(in.PolicyUsageFilter) == "PermissionsBoundary"
	for _, c := range entityFilter(model.Value(in.EntityFilter)) {
		found, err := scan(tx, entityKind, entityPrefix(account, c), page{n: 1 << 20}, func(e *Entity) bool {
			uses := slices.Contains(e.Attached, policyARN)
			if boundary {
				uses = e.Boundary == policyARN
			}
			return uses && strings.HasPrefix(e.Path, model.Or(in.PathPrefix, "/"))
		})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// entityFilter is the classes that an EntityFilter lets through.
func entityFilter(filter string) []Class {
	switch filter {
	case "User":
		return []Class{UserClass}
	case "Role":
		return []Class{RoleClass}
	case "Group":
		return []Class{GroupClass}
	case "":
		return []Class{GroupClass, UserClass, RoleClass}
	default:
		return nil // policies: this lists entities
	}
}

// TagPolicy sets tags of a policy.
func (s *Service) TagPolicy(ctx context.Context, call *Call, in *iamapi.TagPolicyRequest) (*struct{}, error) {
	return nil, s.changeManaged(ctx, call, "iam:TagPolicy", *in.PolicyArn, conditions{tags: setTags(in.Tags)}, func(_ *store.Tx, m *Managed) (err error) {
		m.Tags, err = addTags(m.Tags, in.Tags)
		return err
	})
}

// UntagPolicy removes tags of a policy.
func (s *Service) UntagPolicy(ctx context.Context, call *Call, in *iamapi.UntagPolicyRequest) (*struct{}, error) {
	return nil, s.changeManaged(ctx, call, "iam:UntagPolicy", *in.PolicyArn, conditions{tags: authz.RequestTags{Removed: in.TagKeys}}, func(_ *store.Tx, m *Managed) error {
		m.Tags = removeTags(m.Tags, in.TagKeys)
		return nil
	})
}

// ListPolicyTags lists the tags of a policy.
func (s *Service) ListPolicyTags(ctx context.Context, call *Call, in *iamapi.ListPolicyTagsRequest) (*iamapi.ListPolicyTagsResponse, error) {
	p, err := newPage(in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iamapi.ListPolicyTagsResponse{}
	err = s.readManaged(ctx, call, "iam:ListPolicyTags", *in.PolicyArn, func(_ *store.Tx, m *Managed) error {
		out.Tags, out.IsTruncated, out.Marker = tagPage(p, m.Tags)
		return nil
	})
	return out, err
}
