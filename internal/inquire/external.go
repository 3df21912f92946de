package inquire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// An External is access to a key from outside of a zone of trust.
type External struct {
	Kind, Principal string            // of the principal: AWS, and who it is: "*", an account, or an ARN
	Actions         []string          // what it may do
	Conditions      map[string]string // by key, their values joined by commas
	Public          bool              // strangers may
	Grant           bool              // by a grant, not by the key policy
}

// A Proposal is in place of a key's policy and grants.
type Proposal struct {
	Policy *Text               // nil: the key's
	Grants []policy.GrantTerms // if Policy or this is given, of a proposal
}

// External finds who outside of the key's account, or of its organization, has access to a
// key by its policy and grants, or by proposed ones. ErrQuestion: there is no such key.
func (w *World) External(ctx context.Context, key string, organization bool, proposed *Proposal) (out []External, err error) {
	err = w.view(ctx, func(tx *store.Tx) error {
		out, err = w.external(tx, key, organization, proposed)
		return err
	})
	return out, err
}

func (w *World) external(tx *store.Tx, key string, organization bool, proposed *Proposal) ([]External, error) {
	a, err := arn.Parse(key)
	if err != nil {
		return nil, fmt.Errorf("%w: %q is not the ARN of a key", ErrQuestion, key)
	}
	s, err := w.situation(tx, Case{As: arn.Root(iam.Partition, a.Account), Action: "DescribeKey", Key: key})
	missing := errors.Is(err, kms.ErrNoKey) && proposed != nil && proposed.Policy != nil // a key that is to be made
	if err != nil && !missing {
		return nil, err
	}
	zone := analyze.Zone{Accounts: []string{a.Account}}
	var limits []*policy.Policy
	var doc *policy.Document
	var grants []policy.GrantTerms
	if !missing {
		limits = s.policies.RCP
		if organization && s.request.ResourceOrg.Organization != "" {
			if zone.Accounts, err = iam.Members(tx, s.request.ResourceOrg.Organization); err != nil {
				return nil, err
			}
			zone.Organization = s.request.ResourceOrg.Organization
		}
		names := newPlaces(tx, a.Partition)
		if doc, err = names.document(s.policies.Resource); err != nil {
			return nil, err
		}
		if grants, err = kms.GrantsOf(tx, key); err != nil {
			return nil, err
		}
	}
	if proposed != nil && proposed.Policy != nil {
		p, err := compile(*proposed.Policy, policy.Key)
		if err != nil {
			return nil, err
		}
		doc = p.Document
	}
	if proposed != nil {
		grants = proposed.Grants
	}
	var out []External
	for i := range doc.Statements {
		some, err := externalOf(analyze.Key(key), doc, i, zone, limits)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	for _, g := range grants {
		some, err := externalGrant(tx, analyze.Key(key), doc, g, zone, limits)
		if err != nil {
			return nil, err
		}
		out = append(out, some...)
	}
	return out, nil
}

// externalOf is what one statement of a key policy lets in from outside.
func externalOf(key analyze.Key, doc *policy.Document, i int, zone analyze.Zone, limits []*policy.Policy) (out []External, err error) {
	s := doc.Statements[i]
	if s.Effect != policy.Allow || s.Principal == nil {
		return nil, nil
	}
	one := func(kind, text string) error {
		alone := s
		alone.Principal = &policy.Principals{Entries: []policy.PrincipalEntry{{Type: kind, Values: *texts(text)}}}
		if s.NotPrincipal {
			alone.Principal = s.Principal
		}
		p := policy.Compile(withDenies(doc, alone), policy.Key, "statement")
		actions, _, err := analyze.Outside(key, p, zone, limits)
		if err != nil || actions == nil {
			return err
		}
		x := External{Kind: kind, Principal: text, Conditions: conditionsOf(&s)}
		for _, a := range actions {
			x.Actions = append(x.Actions, a.String())
		}
		public, err := analyze.Public(key, p)
		x.Public = public.Verdict != analyze.Proven
		out = append(out, x)
		return err
	}
	if s.Principal.Everyone || s.NotPrincipal {
		return out, one("AWS", "*")
	}
	for _, e := range s.Principal.Entries {
		for _, v := range e.Values.Items {
			if err == nil && e.Type == "AWS" {
				err = one(e.Type, v.Text)
			}
		}
	}
	return out, err
}

// externalGrant is what a grant lets in from outside.
func externalGrant(tx *store.Tx, key analyze.Key, doc *policy.Document, g policy.GrantTerms, zone analyze.Zone, limits []*policy.Policy) ([]External, error) {
	who, err := iam.RestorePrincipal(tx, g.Grantee, partition(string(key)))
	if err != nil || !strings.HasPrefix(who, "arn:") {
		return nil, err
	}
	g.Grantee = who
	p := policy.Compile(withDenies(doc, policy.Grant(g).Document.Statements...), policy.Key, "grant")
	actions, _, err := analyze.Outside(key, p, zone, limits)
	if err != nil || actions == nil {
		return nil, err
	}
	x := External{Kind: "AWS", Principal: who, Grant: true, Conditions: map[string]string{}}
	for _, a := range actions {
		x.Actions = append(x.Actions, a.String())
	}
	pairs := g.Equals
	if pairs == nil {
		pairs = g.Subset
	}
	for k, v := range pairs {
		x.Conditions["kms:EncryptionContext:"+k] = v
	}
	return []External{x}, nil
}

// withDenies is a document of some statements, and of all that deny in another one.
func withDenies(doc *policy.Document, statements ...policy.Statement) *policy.Document {
	out := &policy.Document{Version: doc.Version, Statements: slices.Clone(statements)}
	for _, s := range doc.Statements {
		if s.Effect == policy.Deny {
			out.Statements = append(out.Statements, s)
		}
	}
	return out
}

// plain are the operators that go without saying: a key has one of the values.
var plain = []string{"StringEquals", "StringLike", "ArnEquals", "ArnLike", "Bool", "IpAddress", "NumericEquals", "DateEquals", "ForAnyValue:StringEquals", "ForAnyValue:StringLike"}

// conditionsOf are a statement's conditions, by key, with the operator before it if that does
// not go without saying.
func conditionsOf(s *policy.Statement) map[string]string {
	out := map[string]string{}
	for _, c := range s.Conditions {
		var values []string
		for _, v := range c.Values.Items {
			values = append(values, v.Text)
		}
		key, text := c.Key, strings.Join(values, ",")
		if !slices.Contains(plain, c.Operator) {
			key = c.Operator + " " + c.Key
		}
		if before, known := out[key]; known {
			text = before + "," + text
		}
		out[key] = text
	}
	return out
}
