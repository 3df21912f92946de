package inquire

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Change would allow what is refused.
type Change struct {
	// What are the steps; all are needed, and mostly there is one.
	What []string
	// Statements are those to add, as JSON, as far as that is the change.
	Statements []string `json:",omitzero"`
	// Widens says that a Deny would be taken away, which others may rely on.
	Widens bool `json:",omitzero"`
}

// An edit is a change of the policies.
type edit struct {
	what, statement string
	widens          bool
	apply           func(*authz.Policies)
}

// changes are the smallest that allow a refused case: single ones or, if none does, two
// together. Each was decided by authz.
func (w *World) changes(tx *store.Tx, c Case, s *situation) (out []Change, err error) {
	others, err := w.askedOtherwise(tx, c, s)
	if err != nil {
		return nil, err
	}
	edits, err := editsOf(tx, s)
	if err != nil {
		return nil, err
	}
	for _, o := range others {
		if d := o.evaluate(); d.Allowed() {
			out = append(out, Change{What: []string{o.what}})
		}
	}
	for _, e := range edits {
		if s.allowedWith(e) {
			out = append(out, Change{What: []string{e.what}, Statements: statements(e), Widens: e.widens})
		}
	}
	if out != nil || len(edits)*(len(edits)+len(others)) > maxTries {
		return out, nil
	}
	for i, e := range edits {
		for _, o := range others {
			if !e.widens && o.allowedWith(e) {
				out = append(out, Change{What: []string{o.what, e.what}, Statements: statements(e)})
			}
		}
		for _, f := range edits[i+1:] {
			if s.allowedWith(e, f) {
				out = append(out, Change{What: []string{e.what, f.what}, Statements: statements(e, f), Widens: e.widens || f.widens})
			}
		}
	}
	return out, nil
}

// maxTries bounds how many pairs of changes are tried, and maxTests how many conditions are
// tried to be turned.
const (
	maxTries = 2000
	maxTests = 60
)

func statements(edits ...edit) (out []string) {
	for _, e := range edits {
		if e.statement != "" {
			out = append(out, e.statement)
		}
	}
	return out
}

// allowedWith decides with changed policies.
func (s *situation) allowedWith(edits ...edit) bool {
	changed := *s
	changed.policies.SCP = slices.Clone(s.policies.SCP)
	for _, e := range edits {
		e.apply(&changed.policies)
	}
	d := changed.evaluate()
	return d.Allowed()
}

// editsOf are the changes to policies that could matter: a statement more in a layer, one
// that denies taken away, a grant.
func editsOf(tx *store.Tx, s *situation) (out []edit, err error) {
	names := newPlaces(tx, partition(s.request.Resource))
	for _, l := range layers(s) {
		for _, x := range l.policies {
			for _, ref := range applying(x, s.request, policy.Deny) {
				out = append(out, edit{what: "take " + names.name(authz.By{Policy: x, Ref: ref}) + " away, or except the case from it", widens: true,
					apply: func(p *authz.Policies) { replace(p, x, x.Without(ref)) }})
			}
		}
	}
	r := s.request
	allow := policy.Statement{Effect: policy.Allow, Action: texts(r.Action.String()), Resource: texts(r.Resource)}
	add := func(layer string, statement policy.Statement, apply func(*authz.Policies, *policy.Policy)) {
		kind := policy.Identity
		if statement.Principal != nil {
			kind = policy.Key
		}
		doc := &policy.Document{Version: "2012-10-17", Statements: []policy.Statement{statement}}
		p := policy.Compile(doc, kind, "a statement more")
		out = append(out, edit{what: "add a statement to " + layer, statement: statement.JSON(), apply: func(to *authz.Policies) { apply(to, p) }})
	}
	op := strings.TrimPrefix(r.Action.String(), "kms:")
	changeable, grantable := false, false
	if r.Guarded {
		if changeable, grantable, err = kms.Changeable(tx, r.Resource, op); err != nil {
			return nil, err
		}
	}
	if changeable && s.policies.Resource != nil {
		direct := allow
		direct.Principal, direct.Resource = &policy.Principals{Entries: []policy.PrincipalEntry{principalEntry(&r.Caller)}}, texts("*")
		add("the key policy", direct, func(p *authz.Policies, more *policy.Policy) {
			p.Resource = p.Resource.With(direct, policy.Key)
		})
	}
	if r.Caller.Kind != policy.Service && r.Caller.Kind != policy.RootUser && r.Caller.EntityARN != "" {
		add("an identity policy of "+r.Caller.EntityARN, allow, func(p *authz.Policies, more *policy.Policy) {
			p.Identity = append(slices.Clip(p.Identity), more)
		})
	}
	if s.policies.HasBoundary {
		add("the permissions boundary", allow, func(p *authz.Policies, more *policy.Policy) {
			if p.Boundary == nil {
				p.Boundary = more
			} else {
				p.Boundary = p.Boundary.With(allow, policy.Identity)
			}
		})
	}
	if s.policies.HasSession || len(s.policies.Session) > 0 {
		add("the session's policy", allow, func(p *authz.Policies, more *policy.Policy) { p.Session = append(slices.Clip(p.Session), more) })
	}
	for i := range s.policies.SCP {
		add(fmt.Sprintf("the service control policies of level %d", len(s.policies.SCP)-i), allow, func(p *authz.Policies, more *policy.Policy) {
			p.SCP[i] = append(slices.Clip(p.SCP[i]), more)
		})
	}
	if s.policies.ThroughEndpoint && s.policies.Endpoint != nil {
		all := allow
		all.Principal = &policy.Principals{Everyone: true}
		add("the VPC endpoint policy", all, func(p *authz.Policies, more *policy.Policy) { p.Endpoint = p.Endpoint.With(all, policy.Endpoint) })
	}
	if grantable && r.Caller.Kind != policy.Service {
		grantee := principalEntry(&r.Caller).Values.Items[0].Text
		g := policy.Grant(policy.GrantTerms{Name: "a grant more", Grantee: grantee, Operations: []string{op}})
		out = append(out, edit{what: "grant " + op + " to " + grantee, apply: func(p *authz.Policies) { p.Grants = append(slices.Clip(p.Grants), g) }})
	}
	return out, nil
}

func texts(s ...string) *policy.List {
	l := &policy.List{Array: len(s) != 1}
	for _, t := range s {
		l.Items = append(l.Items, policy.Item{Text: t, Quoted: true})
	}
	return l
}

// principalEntry names a caller in a key policy: a session by its role.
func principalEntry(c *authz.Caller) policy.PrincipalEntry {
	switch {
	case c.Kind == policy.Service:
		return policy.PrincipalEntry{Type: "Service", Values: *texts(c.Service)}
	case c.Kind == policy.RoleSession:
		return policy.PrincipalEntry{Type: "AWS", Values: *texts(c.EntityARN)}
	default:
		return policy.PrincipalEntry{Type: "AWS", Values: *texts(c.ARN)}
	}
}

// applying are the statements of a policy that have an effect on a request.
func applying(x *policy.Policy, r *authz.Request, effect policy.Effect) (out []policy.Ref) {
	for _, rule := range x.Rules() {
		applies := rule.Effect == effect && rule.Has(r.Action) && rule.Reach(&r.Caller.Principal) != policy.NoReach && rule.Covers(r.Resource, r)
		if applies && !slices.ContainsFunc(rule.Tests(), func(t policy.Test) bool { return !t.Holds(r) }) {
			out = append(out, rule.Ref)
		}
	}
	return out
}

// replace puts a policy in the place of another, wherever it is.
func replace(p *authz.Policies, old, new *policy.Policy) {
	swap := func(in []*policy.Policy) []*policy.Policy {
		in = slices.Clone(in)
		for i := range in {
			if in[i] == old {
				in[i] = new
			}
		}
		return in
	}
	for _, one := range []**policy.Policy{&p.Resource, &p.Boundary, &p.Endpoint} {
		if *one == old {
			*one = new
		}
	}
	p.Identity, p.Session, p.RCP, p.Grants = swap(p.Identity), swap(p.Session), swap(p.RCP), swap(p.Grants)
	for i := range p.SCP {
		p.SCP[i] = swap(p.SCP[i])
	}
}

// needs are the statements without any one of which an allowed situation would be refused.
func needs(tx *store.Tx, s *situation) (out []string) {
	names := newPlaces(tx, partition(s.request.Resource))
	for _, l := range layers(s) {
		for _, x := range l.policies {
			for _, ref := range applying(x, s.request, policy.Allow) {
				without := edit{apply: func(p *authz.Policies) { replace(p, x, x.Without(ref)) }}
				if !s.allowedWith(without) {
					out = append(out, names.name(authz.By{Policy: x, Ref: ref}))
				}
			}
		}
	}
	return out
}

// An otherwise is a situation that differs in one thing that is said about the request.
type otherwise struct {
	situation
	what string
}

// askedOtherwise are the situations in which a condition that stands in the way comes out
// otherwise, since its key has another value.
func (w *World) askedOtherwise(tx *store.Tx, c Case, s *situation) (out []otherwise, err error) {
	done := map[string]bool{}
	tests := 0
	for _, l := range layers(s) {
		for _, x := range l.policies {
			for _, rule := range x.Rules() {
				if !rule.Has(s.request.Action) || rule.Reach(&s.request.Caller.Principal) == policy.NoReach {
					continue
				}
				for _, t := range rule.Tests() {
					if t.Holds(s.request) != (rule.Effect == policy.Deny) {
						continue
					}
					if tests++; tests > maxTests {
						return out, nil
					}
					found, err := w.turned(tx, c, t, s)
					if err != nil {
						return nil, err
					}
					for _, o := range found {
						if !done[o.what] {
							done[o.what] = true
							out = append(out, o)
						}
					}
				}
			}
		}
	}
	return out, nil
}

// turned are the first situation in which a test comes out otherwise than in s, and the first
// of which that allows, if there are any among the values that the test suggests.
func (w *World) turned(tx *store.Tx, c Case, t policy.Test, s *situation) (out []otherwise, err error) {
	name := t.Key().String()
	without := c
	without.Given = slices.DeleteFunc(slices.Clone(c.Given), func(pair string) bool {
		key, _, _ := strings.Cut(pair, "=")
		return strings.EqualFold(key, name)
	})
	try := func(c Case, what string) error {
		o, err := w.situation(tx, c)
		if errors.Is(err, ErrQuestion) {
			return nil // no value that a request could have
		}
		if err != nil || t.Holds(o.request) == t.Holds(s.request) {
			return err
		}
		if d := o.evaluate(); out == nil || d.Allowed() {
			out = append(out, otherwise{*o, what})
		}
		return nil
	}
	if len(without.Given) < len(c.Given) {
		if err := try(without, "ask without "+name); err != nil {
			return nil, err
		}
	}
	for _, value := range candidates(t) {
		if n := len(out); n > 0 {
			if d := out[n-1].evaluate(); d.Allowed() {
				return out[n-1:], nil
			}
		}
		pair := name + "=" + value
		if t.Key().ID == policy.KeyKMSEncryptionContextKeys {
			pair = "kms:EncryptionContext:" + value + "=value"
		}
		changed := without
		changed.Given = append(slices.Clip(without.Given), pair)
		if err := try(changed, "ask with "+pair); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// maxCandidates bounds how many values of a condition are tried.
const maxCandidates = 12

// candidates are values near what a test wants or refuses.
func candidates(t policy.Test) (out []string) {
	add := func(v string) {
		if !slices.Contains(out, v) && len(out) < maxCandidates {
			out = append(out, v)
		}
	}
	for _, item := range t.Source().Values.Items {
		v := item.Text
		if prefix, err := netip.ParsePrefix(v); err == nil {
			add(prefix.Masked().Addr().String())
			continue
		}
		if at, err := time.Parse(time.RFC3339, v); err == nil {
			add(at.Add(-time.Second).Format(time.RFC3339))
			add(at.Add(time.Second).Format(time.RFC3339))
		}
		if n, err := strconv.ParseInt(v, 10, 64); err == nil && len(v) < 12 {
			add(v)
			add(strconv.FormatInt(n-1, 10))
			add(strconv.FormatInt(n+1, 10))
			continue
		}
		if !strings.Contains(v, "${") {
			add(strings.NewReplacer("*", "", "?", "x").Replace(v))
		}
	}
	add("true")
	add("false")
	for _, item := range t.Source().Values.Items {
		add(item.Text + "x") // another one, for what is refused
	}
	return out
}
