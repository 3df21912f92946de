package analyze

import (
	"slices"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A Known is what is known about the requests of a question: the condition keys that Has
// reports are answered by Request for all of them. Nil: nothing is known but the key.
type Known struct {
	Request *authz.Request
	Has     func(policy.ConditionKey) bool
	Limits  []*policy.Policy // resource control policies of the key's account, beside a key policy

	byText bool                   // the policies are read by what they say alone; there is no Request
	meets  func(policy.Rule) bool // which statements matter; nil: all
}

func nothing(policy.ConditionKey) bool { return false }

// Group names the condition keys that a key depends on, and that depend on it: of them all or
// none are known.
func Group(key policy.ConditionKey) string { return groupOf(key) }

func (k *Known) limits() []*policy.Policy {
	if k == nil {
		return nil
	}
	return k.Limits
}

// decides reports whether it is known how a test comes out.
func (k *Known) decides(t policy.Test) bool {
	if k == nil || k.byText || !k.Has(t.Key()) {
		return false
	}
	_, variables := t.Shapes()
	return !slices.ContainsFunc(variables, func(key policy.ConditionKey) bool { return !k.Has(key) })
}

// A Subject is requests by one caller for one action on one key, with all the policies that
// decide about them.
type Subject struct {
	Known
	Policies *authz.Policies
}

// A Way is one in which a Subject's requests are allowed.
type Way struct {
	By         authz.By // the statement that allows; none for the root user
	Via        authz.By // the statement that lets identity policies decide, or the grant that does
	Conditions []string // all of which must hold
}

// Ways are those in which a subject's requests are allowed: each is one, together they are
// all, and none follows from another one alone. ErrUndecided: the policies are too large.
func Ways(x Subject) (out []Way, err error) {
	layers := x.relevant()
	if !layers.possible() {
		return nil, nil
	}
	err = within(Key(x.Request.Resource), layers.policies(), &x.Known, func(s *space) {
		out = layers.ways(s, x)
	})
	return out, err
}

// layers are the policies of a subject. Each vote of a layer is what its statements come to.
type layers struct {
	resource                               *policy.Policy
	identity, boundary, session, rcp, ends []*policy.Policy
	scp                                    [][]*policy.Policy
	grants                                 []*policy.Policy
	about                                  func(policy.Rule) bool
}

func (x *Subject) relevant() *layers {
	one := func(p *policy.Policy) []*policy.Policy {
		if p == nil {
			return nil
		}
		return []*policy.Policy{p}
	}
	p, r := x.Policies, x.Request
	return &layers{resource: p.Resource, identity: p.Identity, boundary: one(p.Boundary), session: p.Session, rcp: p.RCP, ends: one(p.Endpoint), scp: p.SCP, grants: p.Grants,
		about: func(rule policy.Rule) bool {
			return rule.Has(r.Action) && rule.Reach(&r.Caller.Principal) != policy.NoReach && rule.Covers(r.Resource, r)
		}}
}

// possible reports whether a statement of the key's side is about the request and allows.
func (l *layers) possible() bool {
	allows := func(r policy.Rule) bool { return r.Effect == policy.Allow && l.about(r) }
	return slices.ContainsFunc(l.resource.Rules(), allows) ||
		slices.ContainsFunc(l.grants, func(g *policy.Policy) bool { return slices.ContainsFunc(g.Rules(), allows) })
}

func (l *layers) policies() []*policy.Policy {
	return slices.Concat([]*policy.Policy{l.resource}, l.identity, l.boundary, l.session, l.rcp, l.ends, slices.Concat(l.scp...), l.grants)
}

// said is what some policies say, by effect.
func (l *layers) said(s *space, c *caller, policies []*policy.Policy) (allow, deny node) {
	for _, p := range policies {
		for _, r := range s.rules[p] {
			switch {
			case !l.about(r.Rule):
			case r.Effect == policy.Allow:
				allow = s.or(allow, s.applies(r, c))
			default:
				deny = s.or(deny, s.applies(r, c))
			}
		}
	}
	return allow, deny
}

// ways is authz.Evaluate over all requests of a subject, statement by statement
// (authorization.md §0).
func (l *layers) ways(s *space, x Subject) []Way {
	r, p := x.Request, x.Policies
	c := s.classOf(r.Caller)
	care := s.possible(c, r.Action)
	same := r.ResourceAccount == r.Caller.Account || r.Caller.Kind == policy.Service
	if !same && !r.CrossAccount {
		return nil
	}
	_, denied := l.said(s, c, []*policy.Policy{l.resource})
	guard := yes
	for _, level := range l.scp {
		allow, deny := l.said(s, c, level)
		guard, denied = s.and(guard, allow), s.or(denied, deny)
	}
	_, deny := l.said(s, c, l.rcp)
	denied = s.or(denied, deny)
	within := func(bound bool, policies []*policy.Policy) node {
		allow, deny := l.said(s, c, policies)
		denied = s.or(denied, deny)
		if !bound && len(policies) == 0 {
			return yes
		}
		return allow
	}
	guard = s.and(guard, within(p.ThroughEndpoint, l.ends))
	limits := s.and(within(p.HasBoundary, l.boundary), within(p.HasSession, l.session))
	_, deny = l.said(s, c, l.identity)
	denied = s.or(denied, deny)
	guard = s.and(s.minus(guard, denied), care)

	var found []wayOut
	add := func(by, via authz.By, holds node) {
		if holds = s.and(holds, guard); holds != no {
			found = append(found, wayOut{by, via, holds})
		}
	}
	// identity adds the ways in which the caller's own policies allow as well.
	identity := func(via authz.By, holds node) {
		holds = s.and(holds, limits)
		if r.Caller.Kind == policy.RootUser || r.Caller.Kind == policy.FederatedSession && r.Caller.EntityARN == "" {
			add(authz.By{}, via, holds)
			return
		}
		for _, p := range l.identity {
			for _, rule := range s.rules[p] {
				if rule.Effect == policy.Allow && l.about(rule.Rule) {
					add(authz.By{Policy: p, Ref: rule.Ref}, via, s.and(holds, s.applies(rule, c)))
				}
			}
		}
	}
	for i, p := range slices.Concat([]*policy.Policy{l.resource}, l.grants) {
		for _, rule := range s.rules[p] {
			if rule.Effect != policy.Allow || !l.about(rule.Rule) {
				continue
			}
			by, holds := authz.By{Policy: p, Ref: rule.Ref}, s.applies(rule, c)
			reach := rule.Reach(&r.Caller.Principal)
			switch {
			case reach == policy.Account, i == 0 && !same:
				identity(by, holds)
			case reach == policy.Limited:
				add(by, authz.By{}, s.and(holds, limits))
			default:
				add(by, authz.By{}, holds)
			}
		}
	}
	var out []Way
	for _, w := range minimal(s, found) {
		out = append(out, Way{w.by, w.via, s.conditions(w.holds, care)})
	}
	return out
}

// A wayOut is a Way, and when it is one.
type wayOut struct {
	by, via authz.By
	holds   node
}

// minimal leaves out the ways that follow from another one.
func minimal(s *space, ways []wayOut) []wayOut {
	for i := 0; i < len(ways); {
		follows := false
		for j := range ways {
			follows = follows || j != i && s.implies(ways[i].holds, ways[j].holds)
		}
		if follows {
			ways = slices.Delete(ways, i, i+1)
		} else {
			i++
		}
	}
	return ways
}
