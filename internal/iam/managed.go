package iam

import (
	"errors"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Managed is a managed policy with its versions.
type Managed struct {
	Account     string // empty for an AWS managed policy
	Name        string
	Path        string
	ID          string // ANPA…
	Description string
	Created     time.Time
	Updated     time.Time
	Versions    []Version
	Default     string // version id
	LastVersion int    // the number of the newest version ever made
	Attachments int    // how many identities it is attached to
	Boundaries  int    // how many identities it bounds
	Tags        []Tag

	compiled *policy.Policy
}

// A Version is one version of a managed policy.
type Version struct {
	ID       string // v1, v2 …
	Document string
	Created  time.Time
}

// ARN is the policy's ARN.
func (m *Managed) ARN() string {
	account := m.Account
	if account == "" {
		account = "aws"
	}
	return arn.IAM(Partition, account, "policy"+m.Path+m.Name)
}

func (m *Managed) version(id string) *Version {
	for i := range m.Versions {
		if m.Versions[i].ID == id {
			return &m.Versions[i]
		}
	}
	return nil
}

func (m *Managed) prepare() error {
	v := m.version(m.Default)
	if v == nil {
		return store.ErrDamaged
	}
	doc, err := policy.Parse([]byte(v.Document))
	if err != nil {
		return err
	}
	m.compiled = policy.Compile(doc, policy.Identity, m.ARN())
	return nil
}

var managedKind = store.Kind[Managed]{Tag: 13, Name: "managed policy", Prepare: (*Managed).prepare}

func managedPrefix(account string) string { return "i/a/" + account + "/policy/" }

func managedKey(account, name string) string { return managedPrefix(account) + strings.ToLower(name) }

// managedPolicy returns the compiled default version of a policy by ARN.
func managedPolicy(tx *store.Tx, policyARN string) (*policy.Policy, error) {
	m, err := findManaged(tx, policyARN)
	if err != nil {
		return nil, err
	}
	return m.compiled, nil
}

// findManaged returns a managed policy by ARN, or store.ErrNotFound.
func findManaged(tx *store.Tx, policyARN string) (*Managed, error) {
	if m, ok := awsManaged[policyARN]; ok {
		return m, nil
	}
	account, name, ok := splitPolicyARN(policyARN)
	if !ok {
		return nil, store.ErrNotFound
	}
	m, err := store.Get(tx, managedKind, managedKey(account, name))
	if err == nil && m.ARN() != policyARN {
		return nil, store.ErrNotFound
	}
	return m, err
}

// ManagedExists reports whether an account can use the managed policy: it is its
// own or AWS's.
func ManagedExists(tx *store.Tx, account, policyARN string) (bool, error) {
	m, err := findManaged(tx, policyARN)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil && (m.Account == "" || m.Account == account), err
}

func splitPolicyARN(policyARN string) (account, name string, ok bool) {
	a, err := arn.Parse(policyARN)
	kind, rest := a.Split()
	if err != nil || a.Service != "iam" || kind != "policy" || !arn.IsAccount(a.Account) && a.Account != "aws" {
		return "", "", false
	}
	return a.Account, rest[strings.LastIndexByte(rest, '/')+1:], true
}

// awsManaged are the AWS managed policies that exist here, by ARN. Their effect
// on the services spoken here is AWS's; ReadOnlyAccess lists these services only.
var awsManaged = func() map[string]*Managed {
	out := map[string]*Managed{}
	for _, m := range []Managed{
		{Name: "AdministratorAccess", ID: "ANPAIWMBCKSKIEE64ZLYK", Description: "Provides full access to AWS services and resources.",
			Versions: []Version{{Document: statement(`"Effect":"Allow","Action":"*","Resource":"*"`)}}},
		{Name: "PowerUserAccess", ID: "ANPAJYRXTHIB4FOVS3ZXS",
			Description: "Provides full access to AWS services and resources, but does not allow management of Users and groups.",
			Versions: []Version{{Document: statement(
				`"Effect":"Allow","NotAction":["iam:*","organizations:*","account:*"],"Resource":"*"`,
				`"Effect":"Allow","Action":["account:GetAccountInformation","account:GetPrimaryEmail","account:ListRegions",`+
					`"iam:CreateServiceLinkedRole","iam:DeleteServiceLinkedRole","iam:ListRoles","organizations:DescribeEffectivePolicy",`+
					`"organizations:DescribeOrganization"],"Resource":"*"`)}}},
		{Name: "ReadOnlyAccess", ID: "ANPAILL3HVNFSB6DCOWYQ", Description: "Provides read-only access to AWS services and resources.",
			Versions: []Version{{Document: statement(
				`"Effect":"Allow","Action":["access-analyzer:Get*","access-analyzer:List*","access-analyzer:Validate*",` +
					`"cloudtrail:Describe*","cloudtrail:Get*","cloudtrail:List*","cloudtrail:LookupEvents","iam:Generate*","iam:Get*",` +
					`"iam:List*","iam:Simulate*","kms:Describe*","kms:Get*","kms:List*","organizations:Describe*","organizations:List*",` +
					`"sts:GetAccessKeyInfo","sts:GetCallerIdentity","sts:GetSessionToken","tag:Describe*","tag:Get*"],"Resource":"*"`)}}},
		{Name: "AWSKeyManagementServicePowerUser", ID: "ANPAJNPP7PPPPMJRV2SA4", Description: "Provides access to AWS Key Management Service (KMS).",
			Versions: []Version{{Document: statement(
				`"Effect":"Allow","Action":["kms:CreateAlias","kms:CreateKey","kms:DeleteAlias","kms:Describe*","kms:GenerateRandom",` +
					`"kms:Get*","kms:List*","kms:TagResource","kms:UntagResource","iam:ListGroups","iam:ListRoles","iam:ListUsers"],"Resource":"*"`)}}},
	} {
		m.Path, m.Default, m.LastVersion, m.Versions[0].ID = "/", "v1", 1, "v1"
		m.Created = time.Date(2015, 2, 6, 18, 39, 46, 0, time.UTC)
		m.Updated, m.Versions[0].Created = m.Created, m.Created
		if err := m.prepare(); err != nil {
			panic(err)
		}
		out[m.ARN()] = &m
	}
	return out
}()

func statement(bodies ...string) string {
	return `{"Version":"2012-10-17","Statement":[{` + strings.Join(bodies, "},{") + `}]}`
}
