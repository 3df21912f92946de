package foreign

import (
	"context"
	"fmt"
	"slices"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// An organization is what several commands of aws organizations print, in one object:
// describe-organization, list-roots, list-accounts and list-organizational-units-for-parent
// with the parent of each, and describe-policy with the targets of each.
type organization struct {
	Organization struct {
		ID              string `json:"Id"`
		MasterAccountID string `json:"MasterAccountId"`
		FeatureSet      string
	}
	Roots []struct {
		ID          string `json:"Id"`
		PolicyTypes []struct{ Type, Status string }
	}
	OrganizationalUnits []struct {
		ID       string `json:"Id"`
		ParentID string `json:"ParentId"`
		Name     string
	}
	Accounts []struct {
		ID       string `json:"Id"`
		ParentID string `json:"ParentId"`
		Name     string
		Status   string
	}
	Policies []struct {
		PolicySummary struct {
			ID   string `json:"Id"`
			Name string
			Type string
		}
		Content   document
		TargetIDs []string `json:"TargetIds"`
	}
}

// Organization reads a file with an organization.
func (l *Loader) Organization(ctx context.Context, path string) error {
	var in organization
	if err := readJSON(path, &in); err != nil {
		return err
	}
	if in.Organization.ID == "" || len(in.Roots) != 1 {
		return fmt.Errorf("%s: an organization has an Id and one of Roots", path)
	}
	root := in.Roots[0]
	o := &iam.Organization{ID: in.Organization.ID, Management: in.Organization.MasterAccountID, Root: root.ID, FeatureSet: in.Organization.FeatureSet}
	for _, t := range root.PolicyTypes {
		if t.Status == "ENABLED" && (t.Type == iam.SCPType || t.Type == iam.RCPType) {
			o.Enabled = append(o.Enabled, t.Type)
		}
	}
	targets := map[string]*iam.Target{root.ID: {ID: root.ID, Organization: o.ID, Path: o.ID + "/" + root.ID + "/", Name: "Root"}}
	for _, u := range in.OrganizationalUnits {
		targets[u.ID] = &iam.Target{ID: u.ID, Organization: o.ID, Parent: u.ParentID, Name: u.Name}
	}
	for _, a := range in.Accounts {
		if a.ParentID == "" {
			a.ParentID = root.ID
			l.problem("%s: account %s: its ParentId is missing: it is put under the root", path, a.ID)
		}
		targets[a.ID] = &iam.Target{ID: a.ID, Organization: o.ID, Parent: a.ParentID, Name: a.Name, Status: a.Status}
	}
	var policies []*iam.OrganizationPolicy
	for _, p := range in.Policies {
		x := &iam.OrganizationPolicy{ID: p.PolicySummary.ID, Organization: o.ID, Type: p.PolicySummary.Type, Name: p.PolicySummary.Name, Content: string(p.Content), Targets: p.TargetIDs}
		if x.Type != iam.SCPType && x.Type != iam.RCPType {
			continue // which decide nothing about requests
		}
		if doc, err := policy.Parse([]byte(x.Content)); err != nil {
			l.problem("%s: policy %s: %v", path, x.ID, err)
			continue
		} else if err := policy.Validate(doc, x.Kind()); err != nil {
			l.problem("%s: policy %s: %v", path, x.ID, err)
		}
		for _, id := range x.Targets {
			t := targets[id]
			if t == nil {
				l.problem("%s: policy %s: its target %s is not in the file", path, x.ID, id)
				continue
			}
			if t.Attached == nil {
				t.Attached = map[string][]string{}
			}
			t.Attached[x.Type] = append(t.Attached[x.Type], x.ID)
		}
		if known := iam.FullAccess(x.Type); known.ID != x.ID {
			policies = append(policies, x)
		}
	}
	if err := paths(targets); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return l.DB.Update(ctx, func(tx *store.Tx) error {
		if err := store.Put(tx, iam.OrganizationKind, iam.OrganizationKey(o.ID), o); err != nil {
			return err
		}
		for _, p := range policies {
			if err := store.Put(tx, iam.OrganizationPolicyKind, iam.OrganizationPolicyKey(o.ID, p.ID), p); err != nil {
				return err
			}
		}
		l.Accounts = 0
		for _, id := range sorted(targets) {
			t := targets[id]
			if err := store.Put(tx, iam.TargetKind, iam.TargetKey(id), t); err != nil {
				return err
			}
			if len(id) == 12 {
				l.Accounts++
				if err := iam.AddAccount(tx, iam.Account{ID: id, Name: t.Name}); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// paths fills in where the targets are.
func paths(targets map[string]*iam.Target) error {
	for _, id := range sorted(targets) {
		t := targets[id]
		var units []string
		for at := t; at.Parent != ""; at = targets[at.Parent] {
			if targets[at.Parent] == nil || len(units) > len(targets) {
				return fmt.Errorf("%s: the parent %s is not in the file, or is under itself", at.ID, at.Parent)
			}
			if len(at.ID) != 12 {
				units = append(units, at.ID)
			}
			targets[at.Parent].Children += map[bool]int{true: 1}[at == t]
		}
		if t.Parent == "" {
			continue
		}
		t.Path = root(targets, t).Path
		for _, u := range slices.Backward(units) {
			t.Path += u + "/"
		}
	}
	return nil
}

func root(targets map[string]*iam.Target, t *iam.Target) *iam.Target {
	for t.Parent != "" {
		t = targets[t.Parent]
	}
	return t
}
