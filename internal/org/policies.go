package org

import (
	"context"
	"encoding/json/jsontext"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/orgapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Bounds of policies by type: characters of one, and how many one target has.
var (
	maxContent  = map[string]int{iam.SCPType: 10_240, iam.RCPType: 5_120}
	maxAttached = map[string]int{iam.SCPType: 10, iam.RCPType: 5}
)

func noPolicy() *model.Fault {
	return orgapi.PolicyNotFoundException("You specified a policy that doesn't exist.")
}

func policyTaken() *model.Fault {
	return orgapi.DuplicatePolicyException("A policy with the specified name and type already exists.")
}

// editPolicy returns a copy of a policy of the organization's own to change and put.
func (v *view) editPolicy(id string) (*iam.OrganizationPolicy, error) {
	return store.Edit(v.tx, iam.OrganizationPolicyKind, iam.OrganizationPolicyKey(v.org.ID, id))
}

func (v *view) putPolicy(p *iam.OrganizationPolicy) error {
	return store.Put(v.tx, iam.OrganizationPolicyKind, iam.OrganizationPolicyKey(v.org.ID, p.ID), p)
}

// retarget notes in a policy what it is attached to. AWS's own keep no such note.
func (v *view) retarget(id, policyType string, edit func([]string) []string) error {
	if id == iam.FullAccess(policyType).ID {
		return nil
	}
	p, err := v.editPolicy(id)
	if err != nil {
		return err
	}
	p.Targets = edit(p.Targets)
	return v.putPolicy(p)
}

func without(list []string, s string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(o string) bool { return o == s })
}

// checkContent refuses what can be no policy of a type (AUTH-5.5, 5.6).
func checkContent(policyType, content string) error {
	if len(content) > maxContent[policyType] {
		return constraint(orgapi.ConstraintViolationExceptionReasonPolicyContentLimitExceeded, "You have exceeded the maximum policy size.")
	}
	doc, err := policy.Parse([]byte(content))
	if err == nil {
		err = policy.Validate(doc, (&iam.OrganizationPolicy{Type: policyType}).Kind())
	}
	if err != nil {
		return orgapi.MalformedPolicyDocumentException("The provided policy document does not meet the requirements of the specified policy type.").Because(err)
	}
	return nil
}

// compacted drops the white space of a policy, as the API stores it.
func compacted(content string) string {
	v := jsontext.Value(content)
	if v.Compact() != nil {
		return content
	}
	return string(v)
}

func (v *view) summary(p *iam.OrganizationPolicy) *orgapi.PolicySummary {
	return &orgapi.PolicySummary{Id: &p.ID, Arn: new(p.ARN(v.org.Management)), Name: &p.Name, Description: &p.Description, Type: &p.Type,
		AwsManaged: new(p.Organization == "")}
}

func (v *view) wirePolicy(p *iam.OrganizationPolicy) *orgapi.Policy {
	return &orgapi.Policy{PolicySummary: v.summary(p), Content: &p.Content}
}

// CreatePolicy makes a service or resource control policy, attached to nothing.
func (s *Service) CreatePolicy(ctx context.Context, call *iam.Call, in *orgapi.CreatePolicyRequest) (*orgapi.CreatePolicyResponse, error) {
	var out orgapi.CreatePolicyResponse
	return &out, s.change(ctx, call, request{action: "CreatePolicy", tags: setTags(in.Tags), policyType: *in.Type}, func(v *view) error {
		if !decides(*in.Type) || v.org.FeatureSet != allFeatures {
			return orgapi.PolicyTypeNotAvailableForOrganizationException("You can't use the specified policy type with the feature set currently enabled for this organization.")
		}
		id, err := freeID(v.tx, iam.OrganizationPolicyKind, func(id string) string { return iam.OrganizationPolicyKey(v.org.ID, id) }, "p-", 8)
		if err != nil {
			return err
		}
		p := &iam.OrganizationPolicy{ID: id, Organization: v.org.ID, Type: *in.Type, Name: *in.Name, Description: *in.Description, Content: compacted(*in.Content)}
		if err := checkContent(p.Type, *in.Content); err != nil {
			return err
		}
		if err := v.takeName(p, p.Name); err != nil {
			return err
		}
		if p.Tags, err = addTags(nil, in.Tags); err != nil {
			return err
		}
		out.Policy = v.wirePolicy(p)
		if err := v.changed(); err != nil {
			return err
		}
		return v.putPolicy(p)
	})
}

// takeName claims a name for a policy; AWS's own has its name in every organization.
func (v *view) takeName(p *iam.OrganizationPolicy, name string) error {
	if name == iam.FullAccess(p.Type).Name {
		return policyTaken()
	}
	return v.take(v.org.ID+"/"+p.Type, name, p.ID, policyTaken())
}

// ofPolicy is a request about a policy, and perhaps about targets.
func ofPolicy(action, id string, targets ...string) request {
	return request{action: action, about: append([]string{id}, targets...)}
}

// own returns a policy to change: one of the organization's own.
func (v *view) own(id string) (*iam.OrganizationPolicy, error) {
	p, err := v.editPolicy(id)
	if errors.Is(err, store.ErrNotFound) {
		if _, aws := iam.FindOrganizationPolicy(v.tx, v.org.ID, id); aws == nil {
			return nil, invalid(orgapi.InvalidInputExceptionReasonImmutablePolicy, "You specified a policy that is managed by AWS and can't be modified.")
		}
	}
	return p, or(err, noPolicy())
}

// UpdatePolicy changes a policy; what it is attached to is bound by it at once.
func (s *Service) UpdatePolicy(ctx context.Context, call *iam.Call, in *orgapi.UpdatePolicyRequest) (*orgapi.UpdatePolicyResponse, error) {
	var out orgapi.UpdatePolicyResponse
	return &out, s.change(ctx, call, ofPolicy("UpdatePolicy", *in.PolicyId), func(v *view) error {
		p, err := v.update(*in.PolicyId, in.Content, in.Name, in.Description)
		if err == nil {
			out.Policy = v.wirePolicy(p)
		}
		return err
	})
}

// update changes what is not nil.
func (v *view) update(id string, content, name, description *string) (*iam.OrganizationPolicy, error) {
	p, err := v.own(id)
	if err != nil {
		return nil, err
	}
	if content != nil {
		if err := checkContent(p.Type, *content); err != nil {
			return nil, err
		}
		p.Content = compacted(*content)
	}
	if to := model.Or(name, p.Name); to != p.Name {
		if err := v.takeName(p, to); err != nil {
			return nil, err
		}
		v.tx.Delete(nameKey(v.org.ID+"/"+p.Type, p.Name))
		p.Name = to
	}
	p.Description = model.Or(description, p.Description)
	return p, v.putPolicy(p)
}

// DescribePolicy shows a policy.
func (s *Service) DescribePolicy(ctx context.Context, call *iam.Call, in *orgapi.DescribePolicyRequest) (*orgapi.DescribePolicyResponse, error) {
	var out orgapi.DescribePolicyResponse
	return &out, s.read(ctx, call, ofPolicy("DescribePolicy", *in.PolicyId), func(v *view) error {
		p, err := iam.FindOrganizationPolicy(v.tx, v.org.ID, *in.PolicyId)
		if err != nil {
			return or(err, noPolicy())
		}
		out.Policy = v.wirePolicy(p)
		return nil
	})
}

// DeletePolicy removes a policy that is attached to nothing.
func (s *Service) DeletePolicy(ctx context.Context, call *iam.Call, in *orgapi.DeletePolicyRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, ofPolicy("DeletePolicy", *in.PolicyId), func(v *view) error {
		p, err := v.own(*in.PolicyId)
		if err != nil {
			return err
		}
		if len(p.Targets) > 0 {
			return orgapi.PolicyInUseException("The policy is attached to one or more entities. You must detach it from all roots, OUs, and accounts before performing this operation.")
		}
		v.tx.Delete(nameKey(v.org.ID+"/"+p.Type, p.Name))
		v.tx.Delete(iam.OrganizationPolicyKey(v.org.ID, p.ID))
		return nil
	})
}

// maxPolicies is how many policies of a type an organization may have.
const maxPolicies = 10_000

// policies collects the organization's own policies of a type.
func (v *view) policies(policyType string) ([]*iam.OrganizationPolicy, error) {
	return store.Collect(v.tx, iam.OrganizationPolicyKind, iam.OrganizationPolicyKey(v.org.ID, ""), "", maxPolicies,
		func(p *iam.OrganizationPolicy) bool { return p.Type == policyType })
}

// ListPolicies lists the policies of a type.
func (s *Service) ListPolicies(ctx context.Context, call *iam.Call, in *orgapi.ListPoliciesRequest) (*orgapi.ListPoliciesResponse, error) {
	after, n, err := newPage(in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &orgapi.ListPoliciesResponse{Policies: []orgapi.PolicySummary{}}
	return out, s.read(ctx, call, request{action: "ListPolicies", policyType: *in.Filter}, func(v *view) error {
		found, err := v.policies(*in.Filter)
		if err != nil {
			return err
		}
		if aws := iam.FullAccess(*in.Filter); aws != nil {
			found = append(found, aws)
		}
		slices.SortFunc(found, func(a, b *iam.OrganizationPolicy) int { return strings.Compare(a.ID, b.ID) })
		found, out.NextToken = paged(found, after, n, func(p *iam.OrganizationPolicy) string { return p.ID })
		for _, p := range found {
			out.Policies = append(out.Policies, *v.summary(p))
		}
		return nil
	})
}

// attachment is a request's policy and target, both of which must exist, with
// the policies of the type that the target has.
func (v *view) attachment(policyID, targetID string) (p *iam.OrganizationPolicy, t *iam.Target, err error) {
	if p, err = iam.FindOrganizationPolicy(v.tx, v.org.ID, policyID); err != nil {
		return nil, nil, or(err, noPolicy())
	}
	if t, err = v.edit(targetID); err != nil {
		return nil, nil, or(err, noTarget())
	}
	return p, t, nil
}

// AttachPolicy makes a policy bind a root, unit or account, and what is under it.
func (s *Service) AttachPolicy(ctx context.Context, call *iam.Call, in *orgapi.AttachPolicyRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, ofPolicy("AttachPolicy", *in.PolicyId, *in.TargetId), func(v *view) error {
		return v.attach(*in.PolicyId, *in.TargetId)
	})
}

func (v *view) attach(policyID, targetID string) error {
	p, t, err := v.attachment(policyID, targetID)
	if err != nil {
		return err
	}
	attached := t.Attached[p.Type]
	switch {
	case !slices.Contains(v.org.Enabled, p.Type):
		return orgapi.PolicyTypeNotEnabledException("This operation can be performed only for enabled policy types.")
	case slices.Contains(attached, p.ID):
		return orgapi.DuplicatePolicyAttachmentException("The selected policy is already attached to the specified target.")
	case len(attached) == maxAttached[p.Type]:
		return constraint(orgapi.ConstraintViolationExceptionReasonMaxPolicyTypeAttachmentLimitExceeded,
			"You have attached the maximum number of policies to the specified target.")
	}
	t.Attached[p.Type] = append(attached, p.ID)
	if err := v.retarget(p.ID, p.Type, func(targets []string) []string { return append(targets, t.ID) }); err != nil {
		return err
	}
	if err := v.changed(); err != nil {
		return err
	}
	return v.put(t)
}

// DetachPolicy ends that. One service control policy must remain, and AWS's own
// resource control policy always does.
func (s *Service) DetachPolicy(ctx context.Context, call *iam.Call, in *orgapi.DetachPolicyRequest) (*struct{}, error) {
	return nil, s.change(ctx, call, ofPolicy("DetachPolicy", *in.PolicyId, *in.TargetId), func(v *view) error {
		return v.detach(*in.PolicyId, *in.TargetId)
	})
}

func (v *view) detach(policyID, targetID string) error {
	p, t, err := v.attachment(policyID, targetID)
	if err != nil {
		return err
	}
	attached := t.Attached[p.Type]
	switch {
	case p == iam.FullAccess(iam.RCPType):
		return invalid(orgapi.InvalidInputExceptionReasonNonDetachablePolicy, "You can't detach this policy.")
	case !slices.Contains(v.org.Enabled, p.Type):
		return orgapi.PolicyTypeNotEnabledException("This operation can be performed only for enabled policy types.")
	case !slices.Contains(attached, p.ID):
		return orgapi.PolicyNotAttachedException("The policy isn't attached to the specified target in the specified root.")
	case p.Type == iam.SCPType && len(attached) == 1:
		return constraint(orgapi.ConstraintViolationExceptionReasonMinPolicyTypeAttachmentLimitExceeded,
			"You cannot remove the last policy attached to the specified target. You must have at least one attached at all times.")
	}
	t.Attached[p.Type] = without(attached, p.ID)
	if err := v.retarget(p.ID, p.Type, func(targets []string) []string { return without(targets, t.ID) }); err != nil {
		return err
	}
	return v.put(t)
}

// ListPoliciesForTarget lists the policies of a type that are attached directly
// to a root, unit or account.
func (s *Service) ListPoliciesForTarget(ctx context.Context, call *iam.Call, in *orgapi.ListPoliciesForTargetRequest) (*orgapi.ListPoliciesForTargetResponse, error) {
	after, n, err := newPage(in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &orgapi.ListPoliciesForTargetResponse{Policies: []orgapi.PolicySummary{}}
	return out, s.read(ctx, call, request{action: "ListPoliciesForTarget", about: []string{*in.TargetId}, policyType: *in.Filter}, func(v *view) error {
		t, err := v.target(*in.TargetId)
		if err != nil {
			return or(err, noTarget())
		}
		var ids []string
		if slices.Contains(v.org.Enabled, *in.Filter) {
			ids = slices.Sorted(slices.Values(t.Attached[*in.Filter]))
		}
		ids, out.NextToken = paged(ids, after, n, func(id string) string { return id })
		for _, id := range ids {
			p, err := iam.FindOrganizationPolicy(v.tx, v.org.ID, id)
			if err != nil {
				return err
			}
			out.Policies = append(out.Policies, *v.summary(p))
		}
		return nil
	})
}

// ListTargetsForPolicy lists what a policy is attached to directly.
func (s *Service) ListTargetsForPolicy(ctx context.Context, call *iam.Call, in *orgapi.ListTargetsForPolicyRequest) (*orgapi.ListTargetsForPolicyResponse, error) {
	after, n, err := newPage(in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &orgapi.ListTargetsForPolicyResponse{Targets: []orgapi.PolicyTargetSummary{}}
	return out, s.read(ctx, call, ofPolicy("ListTargetsForPolicy", *in.PolicyId), func(v *view) error {
		p, err := iam.FindOrganizationPolicy(v.tx, v.org.ID, *in.PolicyId)
		if err != nil {
			return or(err, noPolicy())
		}
		targets, err := v.attachedTo(p)
		if err != nil {
			return err
		}
		targets, out.NextToken = paged(targets, after, n, func(t *iam.Target) string { return t.ID })
		for _, t := range targets {
			out.Targets = append(out.Targets, orgapi.PolicyTargetSummary{TargetId: &t.ID, Arn: new(targetARN(v.org, t.ID)), Name: &t.Name, Type: new(typeOf(t.ID))})
		}
		return nil
	})
}

// attachedTo collects the targets of a policy by id. AWS's own policies keep no
// list, so all targets are looked at.
func (v *view) attachedTo(p *iam.OrganizationPolicy) (found []*iam.Target, err error) {
	ids := slices.Clone(p.Targets)
	if p.Organization == "" && slices.Contains(v.org.Enabled, p.Type) {
		for _, kind := range []string{accountType, unitType} {
			all, err := v.children("", kind)
			if err != nil {
				return nil, err
			}
			for _, t := range all {
				ids = append(ids, t.ID)
			}
		}
		ids = append(ids, v.org.Root)
	}
	for _, id := range ids {
		t, err := v.target(id)
		if err != nil {
			return nil, err
		}
		if slices.Contains(t.Attached[p.Type], p.ID) {
			found = append(found, t)
		}
	}
	sortTargets(found)
	return found, nil
}

// DescribeEffectivePolicy is about the types of policies that are merged into one
// document. There are none here; what SCPs and RCPs permit is no document.
func (s *Service) DescribeEffectivePolicy(ctx context.Context, call *iam.Call, in *orgapi.DescribeEffectivePolicyRequest) (*orgapi.DescribeEffectivePolicyResponse, error) {
	target := model.Or(in.TargetId, call.Account())
	return nil, s.read(ctx, call, request{action: "DescribeEffectivePolicy", about: []string{target}, policyType: *in.PolicyType, member: true}, func(v *view) error {
		if target != call.Account() && !v.manages() {
			return notYours()
		}
		if _, err := v.target(target); err != nil {
			return or(err, noTarget())
		}
		return orgapi.EffectivePolicyNotFoundException("There is no effective policy of the specified type for the target.")
	})
}
