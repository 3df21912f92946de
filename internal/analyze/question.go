// Package analyze answers what key policies mean, for all requests that there could be: does
// one allow what another does not, does it let strangers in, who may do something and when.
// An answer is a proof, or has a request that authz has confirmed, or says what it does not
// know. It is pure: no I/O, no clock.
//
// Requests are divided into classes that the policies cannot tell apart, and what a policy
// allows is a decision diagram over them; docs/policies.md says how.
package analyze

import (
	"errors"
	"fmt"
	"slices"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// votes is what one policy says about requests by a class of callers for an action.
type votes struct {
	deny  node
	allow map[policy.Reach]node
}

// match is Policy.Match of some statements for a class of callers, over all requests.
func (s *space) match(rules []*rule, c *caller, a policy.Action) votes {
	v := votes{allow: map[policy.Reach]node{}}
	for _, r := range rules {
		reach := c.reach[r.index]
		if reach == policy.NoReach || !r.Has(a) {
			continue
		}
		holds := s.applies(r, c)
		if r.Effect == policy.Deny {
			v.deny = s.or(v.deny, holds)
		} else {
			v.allow[reach] = s.or(v.allow[reach], holds)
		}
	}
	return v
}

// applies is when a statement applies that names the caller and the action.
func (s *space) applies(r *rule, c *caller) node {
	at := newSituation(s.key)
	at.Caller = c.who
	holds := r.covers
	switch {
	case r.doubt != "":
	case s.hasCaller():
		holds = constant(r.Covers(string(s.key), s.known.Request))
	default:
		holds = constant(r.Covers(string(s.key), at))
	}
	for _, t := range r.tests {
		if t.ofCaller {
			holds = s.and(holds, constant(c.holds[t.index]))
		} else {
			holds = s.and(holds, t.node)
		}
	}
	return holds
}

// allowed is when a key policy allows an action to a class of callers.
func (s *space) allowed(p *policy.Policy, c *caller, a policy.Action) node {
	return s.allowedBy(s.rules[p], c, a)
}

// allowedBy is when a key policy of some statements allows an action to a class of callers,
// whose own policies are not known: authz.Evaluate over all requests (authorization.md §0).
func (s *space) allowedBy(rules []*rule, c *caller, a policy.Action) node {
	v := s.match(rules, c, a)
	if s.known != nil && s.known.byText {
		allow := s.or(s.or(v.allow[policy.Direct], v.allow[policy.Everyone]), s.or(v.allow[policy.Limited], v.allow[policy.Account]))
		return s.minus(allow, v.deny)
	}
	identity, limits := s.identity, s.limits
	if c.who.Kind == policy.RootUser {
		identity, limits = yes, yes
	} else if c.who.Kind == policy.FederatedSession && c.who.EntityARN == "" {
		identity = yes
	}
	direct := s.or(v.allow[policy.Direct], v.allow[policy.Everyone])
	limited, delegated := v.allow[policy.Limited], v.allow[policy.Account]
	own := s.and(identity, limits)
	var allow node
	switch {
	case c.who.Account == s.account || c.who.Kind == policy.Service:
		allow = s.or(direct, s.or(s.and(limited, limits), s.and(delegated, own)))
	case authz.AcrossAccounts.Has(a):
		allow = s.and(s.or(direct, s.or(limited, delegated)), own)
	}
	for _, p := range s.known.limits() {
		v.deny = s.or(v.deny, s.match(s.rules[p], c, a).deny)
	}
	return s.minus(allow, v.deny)
}

// possible is what can be true of requests by a class of callers for an action.
func (s *space) possible(c *caller, a policy.Action) node {
	return s.and(c.facts, s.carried(a))
}

// A Witness is a request, and what becomes of it.
type Witness struct {
	Action  policy.Action
	Alike   []policy.Action // for which all that is said holds as well, Action among them
	Request *authz.Request
	// Identity says that an identity policy allows the caller the action, and Limits that its
	// permissions boundary and session policies do, if there are any.
	Identity, Limits bool
	// Given are the parts of the request that matter, in words.
	Given []string
}

// Policies are those that decide about the witness beside a key policy.
func (w *Witness) Policies(key *policy.Policy) *authz.Policies {
	p := &authz.Policies{Resource: key, HasBoundary: !w.Limits}
	if w.Identity {
		p.Identity = []*policy.Policy{everythingAllowed}
	}
	return p
}

// Decide asks authz what becomes of the witness under a key policy.
func (w *Witness) Decide(key *policy.Policy) authz.Decision {
	return authz.Evaluate(w.Request, w.Policies(key))
}

// everythingAllowed stands for an identity policy that allows what it is asked.
var everythingAllowed = policy.Compile(&policy.Document{Version: "2012-10-17", Statements: []policy.Statement{{Effect: policy.Allow,
	Action: &policy.List{Items: []policy.Item{{Text: "*", Quoted: true}}}, Resource: &policy.List{Items: []policy.Item{{Text: "*", Quoted: true}}}}}},
	policy.Identity, "an identity policy")

// witness is a request that a node, which is not no, is yes for.
func (s *space) witness(n node, c *caller, a policy.Action) *Witness {
	at := newSituation(s.key)
	at.Region = s.region
	at.Caller, at.Action, at.CrossAccount = c.who, a, authz.AcrossAccounts.Has(a)
	w := &Witness{Action: a, Alike: s.alike(a), Request: &at.Request}
	through, _ := s.path(n)
	for i, p := range s.parts {
		x := p.samples[0]
		classes, asked := through[i]
		if asked {
			x = p.samples[classes.first()]
		}
		if x.set != nil {
			x.set(at)
		}
		if asked && x.set != nil {
			w.Given = append(w.Given, x.name)
		}
		w.Identity = w.Identity || x.name == identityName
		w.Limits = w.Limits || x.name == limitsName
	}
	if c.who.Kind == policy.RootUser || c.who.Kind == policy.Service {
		w.Limits = true
	}
	return w
}

// A Verdict is the answer to whether something can happen.
type Verdict uint8

// The verdicts.
const (
	Proven    Verdict = iota // it cannot
	Refuted                  // it can: there is a witness
	Undecided                // the analysis does not know
)

func (v Verdict) String() string { return [...]string{"proven", "refuted", "undecided"}[v] }

// An Answer says whether something can happen, with witnesses, or with what is in the way
// of an answer.
type Answer struct {
	Verdict   Verdict
	Witnesses []*Witness
	Doubts    []string
}

// add takes up what one part of a question came to.
func (a *Answer) add(w *Witness, doubts []string) {
	switch {
	case w != nil:
		a.Verdict = Refuted
		a.Witnesses = append(a.Witnesses, w)
	default:
		a.Doubts = distinct(append(a.Doubts, doubts...))
		if a.Verdict == Proven {
			a.Verdict = Undecided
		}
	}
}

// doubts are the conditions that a node depends on of which the analysis does not know when
// they hold.
func (s *space) doubts(n node) (out []string) {
	asked := s.asks(n)
	for _, t := range s.order {
		if t.doubt != "" && t.node > yes && asked.has(s.branches[t.node].dim) {
			out = append(out, t.text+": "+t.doubt)
		}
	}
	for _, p := range s.given {
		for _, r := range s.rules[p] {
			if r.doubt != "" && asked.has(s.branches[r.covers].dim) {
				out = append(out, fmt.Sprintf("%s, statement %d: %s", p.Name, r.Ref, r.doubt))
			}
		}
	}
	if out == nil { // a mistake of this package
		out = []string{"a request was found that the evaluation does not confirm"}
	}
	return out
}

// NewAccess answers whether a key policy allows a request that another one does not, to
// anybody, whatever their identity policies say. Of each class of callers and statements one
// action is shown.
func NewAccess(key Key, old, new *policy.Policy) (out Answer, err error) {
	policies := []*policy.Policy{old, new}
	found := edits(old, new)
	if len(found) > maxEdits {
		return answer(key, policies, nil, func(s *space, a *Answer) { s.newAccess(old, new, changed{}, a) })
	}
	for _, e := range found {
		one, err := answer(key, policies, e.meets, func(s *space, a *Answer) { s.newAccess(old, new, e, a) })
		if err != nil {
			return out, err
		}
		for _, w := range one.Witnesses {
			out.add(w, nil)
		}
		if one.Verdict == Undecided {
			out.add(nil, one.Doubts)
		}
	}
	return out, nil
}

// newAccess looks for new access: through one changed statement, if that is not zero.
func (s *space) newAccess(old, new *policy.Policy, through changed, a *Answer) {
	i := slices.IndexFunc(s.rules[through.in], func(r *rule) bool { return r.Ref == through.rule.Ref })
	s.each(func(c *caller, action policy.Action) {
		possible := s.possible(c, action)
		if i >= 0 {
			r := s.rules[through.in][i]
			if c.reach[r.index] == policy.NoReach || !r.Has(action) {
				return
			}
			possible = s.and(possible, s.applies(r, c))
		}
		more := s.and(s.minus(s.allowed(new, c, action), s.allowed(old, c, action)), possible)
		if more == no {
			return
		}
		w := s.witness(more, c, action)
		if after, before := w.Decide(new), w.Decide(old); after.Allowed() && !before.Allowed() {
			a.add(w, nil)
		} else {
			a.add(nil, s.doubts(more))
		}
	})
}

// answer asks a question in a space. One that is too large is undecided.
func answer(key Key, policies []*policy.Policy, meets func(policy.Rule) bool, ask func(*space, *Answer)) (a Answer, err error) {
	err = within(key, policies, &Known{meets: meets, Has: nothing}, func(s *space) { ask(s, &a) })
	if errors.Is(err, ErrUndecided) {
		return Answer{Verdict: Undecided, Doubts: []string{err.Error()}}, nil
	}
	return a, err
}

// within makes a space and does something in it. errNodes: its diagram is too large.
func within(key Key, policies []*policy.Policy, known *Known, do func(*space)) (err error) {
	defer func() {
		if p := recover(); p != nil {
			e, ok := p.(error)
			if !ok || !errors.Is(e, errNodes) {
				panic(p)
			}
			err = e
		}
	}()
	s, err := newSpace(key, known, policies...)
	if err == nil {
		do(s)
	}
	return err
}

// each calls fn with each class of callers and each action, but of actions that nothing
// tells apart only with the first.
func (s *space) each(fn func(*caller, policy.Action)) {
	for _, alike := range s.actions() {
		for _, c := range s.callers {
			fn(c, alike[0])
		}
	}
}

// alike are the actions that nothing tells from one.
func (s *space) alike(a policy.Action) []policy.Action {
	all := s.actions()
	return all[slices.IndexFunc(all, func(some []policy.Action) bool { return slices.Contains(some, a) })]
}

// actions are those that the key policy decides about, by kinds: what nothing tells apart is
// together.
func (s *space) actions() (out [][]policy.Action) {
	if s.kinds != nil {
		return s.kinds
	}
	seen := map[string]int{}
	for a := policy.Action(1); int(a) < policy.NumActions; a++ {
		if byText := s.known != nil && s.known.byText; !byText && !Decides(a) || byText && !s.key.about(a) {
			continue
		}
		way := fmt.Sprint(s.carried(a), authz.AcrossAccounts.Has(a))
		for _, p := range s.given {
			for _, r := range s.rules[p] {
				way += string(digitOf(r.Has(a)))
			}
		}
		if i, known := seen[way]; known {
			out[i] = append(out[i], a)
			continue
		}
		seen[way] = len(out)
		out = append(out, []policy.Action{a})
	}
	s.kinds = out
	return out
}

// Decides reports whether key policies have a say about an action: those of what is done to
// one key, but for RetireGrant (AUTH-6.6).
func Decides(a policy.Action) bool { return authz.OnKeys.Has(a) && a != retireGrant }

var retireGrant = policy.MustAction("kms:RetireGrant")

// Possible answers whether a key policy allows one of some actions to somebody, whatever
// their identity policies say.
func Possible(key Key, p *policy.Policy, actions policy.ActionSet) (Answer, error) {
	return answer(key, []*policy.Policy{p}, nil, func(s *space, a *Answer) {
		for _, alike := range s.actions() {
			i := slices.IndexFunc(alike, actions.Has)
			for _, c := range s.callers {
				if i < 0 {
					continue
				}
				if can := s.and(s.allowed(p, c, alike[i]), s.possible(c, alike[i])); can != no {
					s.found(a, can, c, alike[i], p)
				}
			}
		}
		for _, w := range a.Witnesses {
			w.Alike = slices.DeleteFunc(slices.Clone(w.Alike), func(a policy.Action) bool { return !actions.Has(a) })
		}
	})
}

// found adds a witness of something that a key policy allows, if authz confirms it.
func (s *space) found(a *Answer, can node, c *caller, action policy.Action, p *policy.Policy) {
	if w := s.witness(can, c, action); w.allowed(p) {
		a.add(w, nil)
	} else {
		a.add(nil, s.doubts(can))
	}
}

func (w *Witness) allowed(key *policy.Policy) bool {
	d := w.Decide(key)
	return d.Allowed()
}

// Public answers whether a key policy allows something to a caller of whom it names nothing
// that could be trusted: neither the account, nor the organization, nor the address, the VPC
// or its endpoint.
func Public(key Key, p *policy.Policy) (Answer, error) {
	return answer(key, []*policy.Policy{p}, nil, func(s *space, a *Answer) {
		untrusted := s.untrusted()
		s.each(func(c *caller, action policy.Action) {
			if c = s.stranger(c); c == nil {
				return
			}
			if can := s.and(s.and(s.allowed(p, c, action), s.possible(c, action)), untrusted); can != no {
				s.found(a, can, c, action, p)
			}
		})
	})
}

// A Lint is a statement that could be left out.
type Lint struct {
	Statement policy.Ref
	Dead      bool // it applies to no request; otherwise, others say the same
}

// Redundant finds the statements of a key policy each of which could be left out alone
// without any request being decided otherwise. ErrUndecided: it is too large.
func Redundant(key Key, p *policy.Policy) (out []Lint, err error) {
	err = within(key, []*policy.Policy{p}, nil, func(s *space) {
		rules := s.rules[p]
		for i, r := range rules {
			dead, same := true, true
			others := slices.Delete(slices.Clone(rules), i, i+1)
			s.each(func(c *caller, action policy.Action) {
				if !same || c.reach[r.index] == policy.NoReach || !r.Has(action) {
					return
				}
				facts := s.possible(c, action)
				dead = dead && s.and(s.applies(r, c), facts) == no
				same = s.and(s.allowedBy(others, c, action), facts) == s.and(s.allowedBy(rules, c, action), facts)
			})
			if same {
				out = append(out, Lint{r.Ref, dead})
			}
		}
	})
	return out, err
}
