package org

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/orgapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

const allFeatures = "ALL"

// CreateOrganization makes an organization whose management account is the
// caller's.
func (s *Service) CreateOrganization(ctx context.Context, call *iam.Call, in *orgapi.CreateOrganizationRequest) (*orgapi.CreateOrganizationResponse, error) {
	var out orgapi.CreateOrganizationResponse
	err := call.Update(ctx, s.db, func(tx *store.Tx) error {
		d, req, err := call.Decide(tx, iam.Query{Action: policy.MustAction("organizations:CreateOrganization"), Resource: "*", ResourceAccount: call.Account()})
		if err != nil {
			return err
		}
		if !d.Allowed() {
			return orgapi.AccessDeniedException(d.Refusal(req))
		}
		if _, err := iam.OrganizationOf(tx, call.Account()); err == nil {
			return orgapi.AlreadyInOrganizationException("The AWS account is already a member of an organization.")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		o := &iam.Organization{Management: call.Account(), FeatureSet: model.Or(in.FeatureSet, allFeatures)}
		if o.ID, err = freeID(tx, iam.OrganizationKind, iam.OrganizationKey, "o-", 10); err != nil {
			return err
		}
		if o.Root, err = freeID(tx, iam.TargetKind, iam.TargetKey, "r-", 8); err != nil {
			return err
		}
		if err := store.Put(tx, iam.OrganizationKind, iam.OrganizationKey(o.ID), o); err != nil {
			return err
		}
		v := &view{tx, call, o}
		root := &iam.Target{ID: o.Root, Organization: o.ID, Path: o.ID + "/" + o.Root + "/", Name: "Root", Attached: fullAccess()}
		if err := v.put(root); err != nil {
			return err
		}
		out.Organization = wireOrganization(o)
		return v.join(call.Account(), "Management", "management@"+call.Account()+".invalid", "INVITED", call.Now)
	})
	return &out, err
}

// fullAccess is what is attached to a new target.
func fullAccess() map[string][]string {
	return map[string][]string{iam.SCPType: {iam.FullAccess(iam.SCPType).ID}, iam.RCPType: {iam.FullAccess(iam.RCPType).ID}}
}

// join makes an account a member of the organization, under its root.
func (v *view) join(account, name, email, method string, now time.Time) error {
	t := &iam.Target{ID: account, Organization: v.org.ID, Parent: v.org.Root, Path: v.org.ID + "/" + v.org.Root + "/", Name: name, Email: email,
		Joined: now, JoinedMethod: method, Status: orgapi.AccountStatusActive, Attached: fullAccess()}
	return v.add(t)
}

// add puts a new target under its parent, which must exist.
func (v *view) add(t *iam.Target) error {
	if err := v.count(t.Parent, 1); err != nil {
		return err
	}
	if err := store.Put(v.tx, placeKind, childKey(v.org.ID, t.Parent, t.ID), &place{t.ID}); err != nil {
		return err
	}
	return v.put(t)
}

// count changes how many children a target has, so that whoever finds it empty
// and whoever adds to it cannot both succeed.
func (v *view) count(parent string, by int) error {
	p, err := v.edit(parent)
	if err != nil {
		return err
	}
	p.Children += by
	return v.put(p)
}

// Join makes an existing account a member of another account's organization, for
// the program itself.
func Join(tx *store.Tx, account, management string, now time.Time) error {
	o, err := iam.OrganizationOf(tx, management)
	if err != nil {
		return err
	}
	v := &view{tx: tx, org: o}
	return v.join(account, "Account "+account, account+"@example.invalid", "INVITED", now)
}

func wireOrganization(o *iam.Organization) *orgapi.Organization {
	out := &orgapi.Organization{
		Id: &o.ID, Arn: new(organizationARN(o, "organization")), FeatureSet: &o.FeatureSet, MasterAccountId: &o.Management,
		MasterAccountArn: new(targetARN(o, o.Management)), MasterAccountEmail: new("management@" + o.Management + ".invalid"),
		AvailablePolicyTypes: []orgapi.PolicyTypeSummary{}}
	if o.FeatureSet == allFeatures { // the API's own note: this says what is available, in an old way
		out.AvailablePolicyTypes = append(out.AvailablePolicyTypes, orgapi.PolicyTypeSummary{
			Type: new(orgapi.PolicyTypeServiceControlPolicy), Status: new(orgapi.PolicyTypeStatusEnabled)})
	}
	return out
}

// DescribeOrganization shows the caller's organization.
func (s *Service) DescribeOrganization(ctx context.Context, call *iam.Call, _ *model.Empty) (*orgapi.DescribeOrganizationResponse, error) {
	var out orgapi.DescribeOrganizationResponse
	return &out, s.read(ctx, call, request{action: "DescribeOrganization", member: true}, func(v *view) error {
		out.Organization = wireOrganization(v.org)
		return nil
	})
}

// DeleteOrganization ends an organization that has no other account than its
// management account, and no units and policies.
func (s *Service) DeleteOrganization(ctx context.Context, call *iam.Call, _ *model.Empty) (*struct{}, error) {
	return nil, s.change(ctx, call, request{action: "DeleteOrganization"}, func(v *view) error {
		root, err := v.target(v.org.Root)
		if err != nil {
			return err
		}
		management, err := v.target(v.org.Management)
		if err != nil {
			return err
		}
		policies, err := store.List(v.tx, iam.OrganizationPolicyKind, iam.OrganizationPolicyKey(v.org.ID, ""), "", 1)
		if err != nil {
			return err
		}
		if root.Children > 1 || management.Parent != v.org.Root || len(policies) > 0 {
			return orgapi.OrganizationNotEmptyException("The organization isn't empty. To delete an organization, you must first remove all accounts except the management account.")
		}
		v.tx.Delete(childKey(v.org.ID, v.org.Root, v.org.Management))
		v.tx.Delete(iam.TargetKey(v.org.Management))
		v.tx.Delete(iam.TargetKey(v.org.Root))
		v.tx.Delete(iam.OrganizationKey(v.org.ID))
		return nil
	})
}

// ListRoots shows the organization's root.
func (s *Service) ListRoots(ctx context.Context, call *iam.Call, in *orgapi.ListRootsRequest) (*orgapi.ListRootsResponse, error) {
	if _, _, err := newPage(in.NextToken, in.MaxResults); err != nil {
		return nil, err
	}
	var out orgapi.ListRootsResponse
	return &out, s.read(ctx, call, request{action: "ListRoots"}, func(v *view) error {
		out.Roots = []orgapi.Root{*wireRoot(v.org)}
		return nil
	})
}

func wireRoot(o *iam.Organization) *orgapi.Root {
	r := &orgapi.Root{Id: &o.Root, Arn: new(targetARN(o, o.Root)), Name: new("Root"), PolicyTypes: []orgapi.PolicyTypeSummary{}}
	for _, t := range o.Enabled {
		r.PolicyTypes = append(r.PolicyTypes, orgapi.PolicyTypeSummary{Type: &t, Status: new(orgapi.PolicyTypeStatusEnabled)})
	}
	return r
}

// decides reports whether policies of a type decide about requests here.
func decides(policyType string) bool { return iam.FullAccess(policyType) != nil }

// EnablePolicyType makes policies of a type bind the member accounts. At first
// they allow everything.
func (s *Service) EnablePolicyType(ctx context.Context, call *iam.Call, in *orgapi.EnablePolicyTypeRequest) (*orgapi.EnablePolicyTypeResponse, error) {
	var out orgapi.EnablePolicyTypeResponse
	return &out, s.change(ctx, call, request{action: "EnablePolicyType", about: []string{*in.RootId}, policyType: *in.PolicyType}, func(v *view) error {
		switch {
		case *in.RootId != v.org.Root:
			return orgapi.RootNotFoundException("You specified a root that doesn't exist.")
		case v.org.FeatureSet != allFeatures, !decides(*in.PolicyType):
			return orgapi.PolicyTypeNotAvailableForOrganizationException("You can't use the specified policy type with the feature set currently enabled for this organization.")
		case slices.Contains(v.org.Enabled, *in.PolicyType):
			return orgapi.PolicyTypeAlreadyEnabledException("The specified policy type is already enabled.")
		}
		return v.setEnabled(append(slices.Clone(v.org.Enabled), *in.PolicyType), &out.Root)
	})
}

func (v *view) setEnabled(enabled []string, root **orgapi.Root) error {
	o, err := store.Edit(v.tx, iam.OrganizationKind, iam.OrganizationKey(v.org.ID))
	if err != nil {
		return err
	}
	o.Enabled = enabled
	*root = wireRoot(o)
	return store.Put(v.tx, iam.OrganizationKind, iam.OrganizationKey(o.ID), o)
}

// changed notes that a policy was made or attached.
func (v *view) changed() error {
	o, err := store.Edit(v.tx, iam.OrganizationKind, iam.OrganizationKey(v.org.ID))
	if err != nil {
		return err
	}
	o.Changes++
	return store.Put(v.tx, iam.OrganizationKind, iam.OrganizationKey(o.ID), o)
}

// DisablePolicyType detaches all policies of a type: from then on they bind
// nobody.
func (s *Service) DisablePolicyType(ctx context.Context, call *iam.Call, in *orgapi.DisablePolicyTypeRequest) (*orgapi.DisablePolicyTypeResponse, error) {
	var out orgapi.DisablePolicyTypeResponse
	return &out, s.change(ctx, call, request{action: "DisablePolicyType", about: []string{*in.RootId}, policyType: *in.PolicyType}, func(v *view) error {
		switch {
		case *in.RootId != v.org.Root:
			return orgapi.RootNotFoundException("You specified a root that doesn't exist.")
		case !slices.Contains(v.org.Enabled, *in.PolicyType):
			return orgapi.PolicyTypeNotEnabledException("This operation can be performed only for enabled policy types.")
		}
		if err := v.detachAll(*in.PolicyType); err != nil {
			return err
		}
		return v.setEnabled(slices.DeleteFunc(slices.Clone(v.org.Enabled), func(t string) bool { return t == *in.PolicyType }), &out.Root)
	})
}

// detachAll leaves only AWS's own policy of a type on every target.
func (v *view) detachAll(policyType string) error {
	policies, err := v.policies(policyType)
	if err != nil {
		return err
	}
	for _, p := range policies {
		for _, id := range p.Targets {
			t, err := v.edit(id)
			if err != nil {
				return err
			}
			t.Attached[policyType] = []string{iam.FullAccess(policyType).ID}
			if err := v.put(t); err != nil {
				return err
			}
		}
		edited, err := v.editPolicy(p.ID)
		if err != nil {
			return err
		}
		edited.Targets = nil
		if err := v.putPolicy(edited); err != nil {
			return err
		}
	}
	return nil
}
