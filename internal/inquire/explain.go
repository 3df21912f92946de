package inquire

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// An Explanation says how a case is decided, and why.
type Explanation struct {
	Caller, Action, Resource string
	Allowed                  bool
	Outcome                  string   // Allowed, ImplicitDeny or ExplicitDeny
	Why                      string   // in one sentence
	Message                  string   `json:",omitzero"` // of a refusal, as the API words it
	Rules                    []string // of authorization.md
	Layers                   []Layer
	// Changes are the smallest changes that would allow a refused case, each by itself.
	Changes []Change `json:",omitzero"`
	// Needs are the statements and grants without any one of which it would be refused.
	Needs []string `json:",omitzero"`
}

// A Layer is what one type of policies says.
type Layer struct {
	Name string
	// OfOrganization says that the policies are the organization's.
	OfOrganization bool   `json:",omitzero"`
	Says           string // denies, allows, allows nothing of it; or that there is none, or that it is not asked
	Statements     []Statement
}

// A Statement is one that bears on the case: it applies, or does not for the reason given.
type Statement struct {
	Policy       string
	Sid          string `json:",omitzero"`
	Number       int
	Line, Column int    `json:",omitzero"` // in the policy as it is shown by the API; 0 in a grant
	Effect       string // Allow or Deny
	Applies      bool
	Names        string      `json:",omitzero"` // how it names the caller
	Because      string      `json:",omitzero"` // why it does not apply
	Failed       []Condition `json:",omitzero"` // the conditions that do not hold
}

// A Condition is one that does not hold, and what the request has instead.
type Condition struct {
	Line, Column  int `json:",omitzero"`
	Operator, Key string
	Wants         []string
	Has           string
}

// Explain decides a case and tells why, and what would decide it otherwise. ErrQuestion: it
// cannot be asked.
func (w *World) Explain(ctx context.Context, c Case) (out *Explanation, err error) {
	err = w.view(ctx, func(tx *store.Tx) error {
		s, err := w.situation(tx, c)
		if err != nil {
			return err
		}
		out, err = explain(tx, s)
		if err != nil || s.closed {
			return err
		}
		if out.Allowed {
			out.Needs = needs(tx, s)
			return nil
		}
		out.Changes, err = w.changes(tx, c, s)
		return err
	})
	return out, err
}

// explain tells why a situation is decided as it is.
func explain(tx *store.Tx, s *situation) (*Explanation, error) {
	d := s.evaluate()
	r := s.request
	out := &Explanation{Caller: r.Caller.Shown(), Action: r.Action.String(), Resource: r.Resource, Allowed: d.Allowed(), Outcome: d.Outcome.String(), Rules: rules(&d, r)}
	if !d.Allowed() {
		out.Message = d.Refusal(r)
	}
	names := newPlaces(tx, partition(r.Resource))
	for _, l := range layers(s) {
		layer, err := names.layer(l, r)
		if err != nil {
			return nil, err
		}
		out.Layers = append(out.Layers, layer)
	}
	out.Why = why(s, &d, names)
	if strings.HasSuffix(out.Action, "Alias") && s.request.Guarded {
		out.Why += " The alias must be allowed as well (AUTH-9.1)."
	}
	return out, nil
}

func partition(resource string) string {
	if a, err := arn.Parse(resource); err == nil {
		return a.Partition
	}
	return iam.Partition
}

// A layer is policies of one type that a request is asked of.
type layer struct {
	layer    authz.Layer
	name     string
	policies []*policy.Policy
	none     string // what is said if there are no policies
}

// layers are all of a situation, in the order in which they are told.
func layers(s *situation) (out []layer) {
	p, r := &s.policies, s.request
	one := func(p *policy.Policy) []*policy.Policy {
		if p == nil {
			return nil
		}
		return []*policy.Policy{p}
	}
	if r.Guarded && p.Resource != nil {
		out = append(out, layer{authz.ResourceLayer, "key policy", one(p.Resource), ""})
	}
	if r.Guarded {
		out = append(out, layer{authz.GrantLayer, "grants", p.Grants, "there are none to the caller"})
	}
	none := "there are none"
	if r.Caller.Kind == policy.RootUser {
		none = "the root user needs none"
	}
	if r.Caller.Kind != policy.Service {
		out = append(out, layer{authz.IdentityLayer, "identity policies", p.Identity, none})
	}
	if p.HasBoundary || p.Boundary != nil {
		out = append(out, layer{authz.BoundaryLayer, "permissions boundary", one(p.Boundary), "it is gone"})
	}
	if p.HasSession || len(p.Session) > 0 {
		out = append(out, layer{authz.SessionLayer, "session policies", p.Session, "there are none, and the session has no rights without them"})
	}
	for i, level := range slices.Backward(p.SCP) {
		out = append(out, layer{authz.SCPLayer, fmt.Sprintf("service control policies, level %d", len(p.SCP)-i), level, "there are none"})
	}
	if len(p.RCP) > 0 {
		out = append(out, layer{authz.RCPLayer, "resource control policies", p.RCP, ""})
	}
	if p.ThroughEndpoint || p.Endpoint != nil {
		out = append(out, layer{authz.EndpointLayer, "VPC endpoint policy", one(p.Endpoint), "it is gone"})
	}
	return out
}

// places finds statements in policies as people know them.
type places struct {
	tx        *store.Tx
	partition string
	of        map[*policy.Policy]*policy.Document // nil for a policy as it is stored
}

func newPlaces(tx *store.Tx, partition string) *places {
	return &places{tx: tx, partition: partition, of: map[*policy.Policy]*policy.Document{}}
}

// document is a policy as its readers see it: a key policy as GetKeyPolicy returns it, any
// other one as it was written.
func (p *places) document(x *policy.Policy) (*policy.Document, error) {
	if x == nil {
		return &policy.Document{}, nil
	}
	if x.Name != storedKeyPolicy {
		return x.Document, nil
	}
	if doc := p.of[x]; doc != nil {
		return doc, nil
	}
	doc, err := policy.Parse([]byte(x.Document.Compact()))
	if err == nil {
		err = iam.RestorePrincipals(p.tx, doc, p.partition)
	}
	if err == nil {
		doc, err = policy.Parse([]byte(doc.String()))
	}
	p.of[x] = doc
	return doc, err
}

// storedKeyPolicy is what kms calls the policy of a key.
const storedKeyPolicy = "key policy"

// layer tells what a layer says.
func (p *places) layer(l layer, r *authz.Request) (Layer, error) {
	out := Layer{Name: l.name, OfOrganization: l.layer == authz.SCPLayer || l.layer == authz.RCPLayer, Statements: []Statement{}}
	denies, allows := false, false
	for _, x := range l.policies {
		doc, err := p.document(x)
		if err != nil {
			return out, err
		}
		for _, rule := range x.Rules() {
			if !rule.Has(r.Action) {
				continue
			}
			s := statementOf(x, rule, doc, r)
			denies = denies || s.Applies && rule.Effect == policy.Deny
			allows = allows || s.Applies && rule.Effect == policy.Allow
			out.Statements = append(out.Statements, s)
		}
	}
	switch {
	case denies:
		out.Says = "denies"
	case allows:
		out.Says = "allows"
	case len(l.policies) == 0:
		out.Says = l.none
	default:
		out.Says = "allows nothing of it"
	}
	return out, nil
}

// reaches says how a statement names the caller.
var reaches = map[policy.Reach]string{policy.Direct: "the caller", policy.Limited: "the caller, within its permissions boundary and session policies",
	policy.Account: "the caller's account, whose identity policies decide", policy.Everyone: "everyone"}

// statementOf tells what becomes of a statement that is about the action.
func statementOf(x *policy.Policy, rule policy.Rule, doc *policy.Document, r *authz.Request) Statement {
	written := &doc.Statements[rule.Ref-1]
	s := Statement{Policy: x.Name, Sid: written.Sid, Number: int(rule.Ref), Line: written.Pos.Line, Column: written.Pos.Column, Effect: rule.Effect.String()}
	reach := rule.Reach(&r.Caller.Principal)
	if written.Principal != nil {
		s.Names = reaches[reach]
	}
	switch {
	case reach == policy.NoReach:
		s.Because = "it is about other principals"
		return s
	case !rule.Covers(r.Resource, r):
		s.Because = "it is about other resources"
		return s
	}
	for i, t := range rule.Tests() {
		if t.Holds(r) {
			continue
		}
		at := written.Conditions[i]
		failed := Condition{Line: at.Pos.Line, Column: at.Pos.Column, Operator: at.Operator, Key: at.Key, Has: has(r.Lookup(t.Key()))}
		for _, v := range at.Values.Items {
			failed.Wants = append(failed.Wants, v.Text)
		}
		s.Failed = append(s.Failed, failed)
	}
	if s.Failed != nil {
		s.Because = "its conditions do not hold"
	}
	s.Applies = s.Failed == nil
	return s
}

// has is a value in words.
func has(v policy.Value) string {
	switch {
	case !v.Present:
		return "nothing"
	case v.Multi:
		return strings.Join(v.List, ", ")
	default:
		return v.Text
	}
}

// name is a statement as people know it.
func (p *places) name(b authz.By) string {
	doc, err := p.document(b.Policy)
	if err != nil {
		return b.String()
	}
	s := &doc.Statements[b.Ref-1]
	if s.Pos.Line == 0 {
		return b.Policy.Name // a grant
	}
	text := fmt.Sprintf("%s:%d:%d, statement %d", b.Policy.Name, s.Pos.Line, s.Pos.Column, b.Ref)
	if s.Sid != "" {
		text += " " + s.Sid
	}
	return text
}

// why says in one sentence how a decision came about.
func why(s *situation, d *authz.Decision, p *places) string {
	r := s.request
	foreign := r.ResourceAccount != "" && r.ResourceAccount != r.Caller.Account && r.Caller.Kind != policy.Service
	switch {
	case s.closed:
		return "Refused: an account is closed."
	case d.Outcome == authz.ExplicitDeny:
		return "Refused: " + p.name(d.By) + " denies it, whatever allows it."
	case d.Allowed() && d.By.Ref == 0 && d.Via.Ref != 0:
		return "Allowed: " + p.name(d.Via) + " names the account, whose root user needs no identity policy."
	case d.Allowed() && d.By.Ref == 0:
		return "Allowed: the root user needs no identity policy."
	case d.Allowed() && d.Via.Ref != 0:
		return "Allowed: " + p.name(d.By) + " allows it, and " + p.name(d.Via) + " lets identity policies decide."
	case d.Allowed() && d.Layer == authz.GrantLayer:
		return "Allowed: by " + p.name(d.By) + "."
	case d.Allowed():
		return "Allowed: by " + p.name(d.By) + "."
	case d.Missing == authz.ResourceLayer && foreign && !r.CrossAccount:
		return "Refused: the action works on keys of one's own account alone."
	case d.Missing == authz.ResourceLayer && r.Caller.Kind == policy.RootUser:
		return "Refused: the key policy does not name the account, and the root user has no right to a key but by its policy."
	case d.Missing == authz.ResourceLayer:
		return "Refused: neither the key policy nor a grant allows it, and the key policy lets no identity policy decide about it."
	case d.Missing == authz.IdentityLayer && foreign:
		return "Refused: the key's side allows it, by " + p.name(d.Via) + ", and no identity policy of the caller does, which a key of another account needs as well."
	case d.Missing == authz.IdentityLayer && d.Via.Ref != 0:
		return "Refused: " + p.name(d.Via) + " lets identity policies decide, and none allows it."
	case d.Missing == authz.IdentityLayer:
		return "Refused: no identity policy allows it."
	default:
		return "Refused: " + article(d.Missing.String()) + " must allow it, and does not."
	}
}

func article(what string) string { return "the " + what }

// rules are those of authorization.md that a decision follows.
func rules(d *authz.Decision, r *authz.Request) []string {
	foreign := r.ResourceAccount != "" && r.ResourceAccount != r.Caller.Account && r.Caller.Kind != policy.Service
	limit := map[authz.Layer]string{authz.SCPLayer: "AUTH-5.5", authz.RCPLayer: "AUTH-5.6", authz.EndpointLayer: "AUTH-5.8", authz.BoundaryLayer: "AUTH-5.1", authz.SessionLayer: "AUTH-5.1"}
	switch {
	case d.Outcome == authz.ExplicitDeny && d.Layer == authz.IdentityLayer:
		return []string{"AUTH-1.3", "AUTH-1.4"}
	case d.Outcome == authz.ExplicitDeny && limit[d.Layer] != "":
		return []string{"AUTH-1.3", limit[d.Layer]}
	case d.Outcome == authz.ExplicitDeny:
		return []string{"AUTH-1.3"}
	case d.Allowed() && d.Layer == authz.GrantLayer:
		return []string{"AUTH-6.9"}
	case d.Allowed() && d.Via.Ref != 0 && foreign:
		return []string{"AUTH-4.2"}
	case d.Allowed() && d.Root && d.Via.Ref != 0:
		return []string{"AUTH-3.4"}
	case d.Allowed() && d.Via.Ref != 0:
		return []string{"AUTH-3.1", "AUTH-5.3"}
	case d.Allowed() && d.Layer == authz.ResourceLayer && (r.Caller.Kind == policy.Service):
		return []string{"AUTH-2.7"}
	case d.Allowed() && d.Layer == authz.ResourceLayer:
		return []string{"AUTH-1.1", "AUTH-5.1"}
	case d.Allowed():
		return []string{"AUTH-5.3"}
	case limit[d.Missing] != "" && foreign && d.Missing != authz.SCPLayer && d.Missing != authz.EndpointLayer:
		return []string{"AUTH-5.2"}
	case limit[d.Missing] != "":
		return []string{limit[d.Missing]}
	case d.Missing == authz.ResourceLayer && foreign && !r.CrossAccount:
		return []string{"AUTH-4.3"}
	case d.Missing == authz.ResourceLayer && r.Caller.Kind == policy.RootUser:
		return []string{"AUTH-3.4"}
	case d.Missing == authz.ResourceLayer:
		return []string{"AUTH-1.1"}
	case foreign:
		return []string{"AUTH-4.2"}
	case r.Guarded:
		return []string{"AUTH-3.1"}
	default:
		return []string{"AUTH-5.3"}
	}
}
