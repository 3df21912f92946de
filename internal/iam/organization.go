package iam

import (
	"errors"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// An Organization is a tree of accounts under a management account.
type Organization struct {
	ID         string   // o-…
	Management string   // account id
	Root       string   // r-…
	FeatureSet string   // ALL or CONSOLIDATED_BILLING
	Enabled    []string // types of policies: SCPType, RCPType
	// Changes counts what must not happen beside a change of Enabled, or the
	// organization's end: policies made and attached.
	Changes int
}

// The types of organization policies that decide about requests.
const (
	SCPType = "SERVICE_CONTROL_POLICY"
	RCPType = "RESOURCE_CONTROL_POLICY"
)

// A Target is a place in an organization to which policies can be attached: its
// root, a unit, or an account.
type Target struct {
	ID           string // r-…, ou-…, or 12 digits
	Organization string
	Parent       string `json:",omitzero"` // empty for the root
	Path         string // of aws:PrincipalOrgPaths; of an account its parent's
	Name         string
	Email        string              `json:",omitzero"` // of an account
	Joined       time.Time           `json:",omitzero"` // of an account
	JoinedMethod string              `json:",omitzero"` // of an account: CREATED or INVITED
	Status       string              `json:",omitzero"` // of an account: ACTIVE or SUSPENDED
	Children     int                 `json:",omitzero"` // how many targets are directly under it
	Attached     map[string][]string // ids of policies by type
	Tags         []Tag               `json:",omitzero"`

	paths []string
}

func (t *Target) prepare() error {
	t.paths = []string{t.Path}
	return nil
}

// An OrganizationPolicy is a service or resource control policy.
type OrganizationPolicy struct {
	ID           string // p-…
	Organization string // empty for AWS's own
	Type         string
	Name         string
	Description  string
	Content      string
	Targets      []string // ids of what it is attached to
	Tags         []Tag    `json:",omitzero"`

	compiled *policy.Policy
}

// Kind is the kind of document that policies of a type hold.
func (p *OrganizationPolicy) Kind() policy.Kind {
	if p.Type == RCPType {
		return policy.RCP
	}
	return policy.SCP
}

// ARN is the policy's ARN; management is the organization's management account.
func (p *OrganizationPolicy) ARN(management string) string {
	kind := map[string]string{SCPType: "service_control_policy", RCPType: "resource_control_policy"}[p.Type]
	if p.Organization == "" {
		return "arn:" + Partition + ":organizations::aws:policy/" + kind + "/" + p.ID
	}
	return "arn:" + Partition + ":organizations::" + management + ":policy/" + p.Organization + "/" + kind + "/" + p.ID
}

// Document is what the policy says.
func (p *OrganizationPolicy) Document() *policy.Document { return p.compiled.Document }

func (p *OrganizationPolicy) prepare() error {
	doc, err := policy.Parse([]byte(p.Content))
	if err != nil {
		return err
	}
	p.compiled = policy.Compile(doc, p.Kind(), p.ID)
	return nil
}

// The kinds of records of organizations, and where they lie.
var (
	OrganizationKind       = store.Kind[Organization]{Tag: 20, Name: "organization"}
	TargetKind             = store.Kind[Target]{Tag: 21, Name: "organization target", Prepare: (*Target).prepare}
	OrganizationPolicyKind = store.Kind[OrganizationPolicy]{Tag: 22, Name: "organization policy", Prepare: (*OrganizationPolicy).prepare}
)

// OrganizationKey is where the record of an organization lies.
func OrganizationKey(id string) string { return "o/organization/" + id }

// TargetKey is where the record of a root, unit or account lies.
func TargetKey(id string) string { return "o/target/" + id }

// OrganizationPolicyKey is where the record of an organization's policy lies.
func OrganizationPolicyKey(organization, id string) string {
	return "o/policy/" + organization + "/" + id
}

// full are AWS's own policies, which allow everything, by their type.
var full = func() map[string]*OrganizationPolicy {
	out := map[string]*OrganizationPolicy{}
	for _, p := range []*OrganizationPolicy{
		{ID: "p-FullAWSAccess", Type: SCPType, Name: "FullAWSAccess", Description: "Allows access to every operation",
			Content: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`},
		{ID: "p-RCPFullAWSAccess", Type: RCPType, Name: "RCPFullAWSAccess", Description: "Allows access to every resource",
			Content: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`},
	} {
		if err := p.prepare(); err != nil {
			panic(err)
		}
		out[p.Type] = p
	}
	return out
}()

// FullAccess is AWS's policy of a type that allows everything. It is shared and
// must not be changed.
func FullAccess(policyType string) *OrganizationPolicy { return full[policyType] }

// FindOrganizationPolicy returns a policy that an organization can attach, or
// store.ErrNotFound.
func FindOrganizationPolicy(tx *store.Tx, organization, id string) (*OrganizationPolicy, error) {
	for _, p := range full {
		if p.ID == id {
			return p, nil
		}
	}
	return store.Get(tx, OrganizationPolicyKind, OrganizationPolicyKey(organization, id))
}

// OrganizationOf returns the organization an account is a member of, or
// store.ErrNotFound.
func OrganizationOf(tx *store.Tx, account string) (*Organization, error) {
	p, err := place(tx, account)
	if err == nil && p.organization == nil {
		err = store.ErrNotFound
	}
	return p.organization, err
}

// placement is where an account is in an organization. The zero placement is
// nowhere.
type placement struct {
	target       *Target
	organization *Organization
}

func place(tx *store.Tx, account string) (p placement, err error) {
	if account == "" {
		return p, nil
	}
	p.target, err = store.Get(tx, TargetKind, TargetKey(account))
	if errors.Is(err, store.ErrNotFound) {
		return placement{}, nil
	}
	if err == nil {
		p.organization, err = store.Get(tx, OrganizationKind, OrganizationKey(p.target.Organization))
	}
	return p, damaged(err)
}

// damaged: what a record of an organization names exists.
func damaged(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return store.ErrDamaged
	}
	return err
}

// membership is what condition keys tell of a placement.
func (p placement) membership() authz.Membership {
	if p.target == nil {
		return authz.Membership{}
	}
	return authz.Membership{Organization: p.target.Organization, Paths: p.target.paths}
}

// closed reports whether the account was closed: it may do nothing, and nothing
// may be done with what it has.
func (p placement) closed() bool { return p.target != nil && p.target.Status == "SUSPENDED" }

// bound reports whether policies of a type bind the account: never the
// management account (AUTH-5.5, 5.6).
func (p placement) bound(policyType string) bool {
	return p.target != nil && p.target.ID != p.organization.Management && slices.Contains(p.organization.Enabled, policyType)
}

// levels collects the policies of a type that bind the account, from the account
// up to the root. It is nil if none do.
func (p placement) levels(tx *store.Tx, policyType string) (out [][]*policy.Policy, err error) {
	if !p.bound(policyType) {
		return nil, nil
	}
	for t := p.target; ; {
		level := make([]*policy.Policy, 0, len(t.Attached[policyType]))
		for _, id := range t.Attached[policyType] {
			attached, err := FindOrganizationPolicy(tx, t.Organization, id)
			if err != nil {
				return nil, damaged(err)
			}
			level = append(level, attached.compiled)
		}
		out = append(out, level)
		if t.Parent == "" {
			return out, nil
		}
		if t, err = store.Get(tx, TargetKind, TargetKey(t.Parent)); err == nil && t.Organization != p.organization.ID {
			err = store.ErrDamaged
		}
		if err != nil {
			return nil, damaged(err)
		}
	}
}
