package analyze

import (
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// Documents are policies read by what they say alone: naming an account means everybody in it,
// and it is not known which key they are about. It is how Access Analyzer's custom policy
// checks read them (policy-document.md §9).

// none stands for the resource of actions that have none.
const none Key = "*"

// NewAccessByText answers whether a document allows a request that another one does not. Both
// are key policies, or both are identity policies.
func NewAccessByText(old, new *policy.Policy) (Answer, error) {
	return byText([]*policy.Policy{old, new}, nil, func(s *space, a *Answer) {
		s.each(func(c *caller, action policy.Action) {
			more := s.and(s.minus(s.allowed(new, c, action), s.allowed(old, c, action)), s.possible(c, action))
			if more == no {
				return
			}
			w := s.witness(more, c, action)
			if s.matches(new, w) && !s.matches(old, w) {
				a.add(w, nil)
			} else {
				a.add(nil, s.doubts(more))
			}
		})
	})
}

// PossibleByText answers whether a document allows one of some actions on a resource that one of
// some patterns matches; without patterns, on any.
func PossibleByText(p *policy.Policy, actions policy.ActionSet, resources []string) (Answer, error) {
	return byText([]*policy.Policy{p}, resources, func(s *space, a *Answer) {
		for _, alike := range s.actions() {
			i := slices.IndexFunc(alike, actions.Has)
			for _, c := range s.callers {
				if i < 0 || a.Verdict == Refuted {
					continue
				}
				can := s.and(s.allowed(p, c, alike[i]), s.possible(c, alike[i]))
				if can == no {
					continue
				}
				if w := s.witness(can, c, alike[i]); s.matches(p, w) {
					a.add(w, nil)
				} else {
					a.add(nil, s.doubts(can))
				}
			}
		}
	})
}

// PublicByText answers whether a key policy allows something to a stranger, as Public does,
// whichever key it is of.
func PublicByText(p *policy.Policy) (Answer, error) {
	return byText([]*policy.Policy{p}, nil, func(s *space, a *Answer) {
		untrusted := s.untrusted()
		s.each(func(c *caller, action policy.Action) {
			if c = s.stranger(c); c == nil {
				return
			}
			can := s.and(s.and(s.allowed(p, c, action), s.possible(c, action)), untrusted)
			if can == no {
				return
			}
			if w := s.witness(can, c, action); s.matches(p, w) {
				a.add(w, nil)
			} else {
				a.add(nil, s.doubts(can))
			}
		})
	})
}

// matches asks a document about a witness: whether it allows, and does not deny.
func (s *space) matches(p *policy.Policy, w *Witness) bool {
	r := p.Match(&policy.Request{Action: w.Action, Resource: w.Request.Resource, Who: &w.Request.Caller.Principal, Context: w.Request}, nil)
	return r.Deny == 0 && r.Allowed() != 0
}

// byText asks a question for each kind of resource that the documents can tell apart.
func byText(policies []*policy.Policy, about []string, ask func(*space, *Answer)) (a Answer, err error) {
	keys, doubts, err := resourcesOf(policies, about)
	if errors.Is(err, ErrUndecided) {
		return Answer{Verdict: Undecided, Doubts: []string{err.Error()}}, nil
	}
	if err != nil {
		return a, err
	}
	if doubts != nil {
		a.add(nil, doubts)
	}
	for _, key := range keys {
		var one Answer
		err := within(key, policies, &Known{byText: true}, func(s *space) { ask(s, &one) })
		if errors.Is(err, ErrUndecided) {
			one = Answer{Verdict: Undecided, Doubts: []string{err.Error()}}
		} else if err != nil {
			return a, err
		}
		for _, w := range one.Witnesses {
			a.add(w, nil)
		}
		if one.Verdict == Undecided {
			a.add(nil, one.Doubts)
		}
	}
	return a, nil
}

// resourcesOf are a resource for each way to match the patterns of some policies, and of about
// if there are any; and none, for actions without one.
func resourcesOf(policies []*policy.Policy, about []string) (keys []Key, doubts []string, err error) {
	var patterns []pattern
	var named []string
	var wanted []policy.Pattern
	for _, text := range about {
		wanted = append(wanted, policy.Glob(text))
		patterns = append(patterns, patternOf(policy.Glob(text).Pieces()))
	}
	for _, p := range policies {
		for _, r := range p.Rules() {
			shapes, variables := r.Resources()
			if len(variables) > 0 {
				doubts = append(doubts, "a policy variable in Resource")
			}
			for _, x := range shapes {
				if x.Kind == policy.TextShape {
					named = append(named, x.Text)
				} else {
					patterns = append(patterns, patternOf(x.Pieces))
				}
			}
		}
	}
	of := func(kind string, name class) pattern {
		return joined(literal("arn:aws:kms:"), some(word), literal(":"), repeat(digit, 12), literal(":"+kind+"/"), some(name))
	}
	universes := []pattern{of("key", word), of("alias", pathMark)}
	fresh, err := samples(universes, patterns, named)
	if err != nil {
		return nil, nil, err
	}
	for _, text := range append(distinct(named), fresh...) {
		fits := slices.ContainsFunc(universes, func(u pattern) bool { return u.matches(text) })
		about := len(wanted) == 0 || slices.ContainsFunc(wanted, func(p policy.Pattern) bool { return p.Match(text) })
		if fits && about {
			keys = append(keys, Key(text))
		}
	}
	if len(wanted) == 0 || slices.Contains(about, "*") {
		keys = append(keys, none)
	}
	return keys, doubts, nil
}

// about reports whether an action is asked about for a resource, by text.
func (key Key) about(a policy.Action) bool {
	name, ofKMS := strings.CutPrefix(a.String(), "kms:")
	parsed, _ := arn.Parse(string(key))
	switch {
	case !ofKMS:
		return false
	case key == none:
		return !authz.OnKeys.Has(a)
	case strings.HasPrefix(parsed.Resource, "alias/"):
		return strings.HasSuffix(name, "Alias")
	default:
		return authz.OnKeys.Has(a)
	}
}

// A Zone is whom the owner of a key trusts: accounts, or an organization.
type Zone struct {
	Accounts     []string
	Organization string // empty for none
}

// Outside finds the actions that a key policy allows to somebody outside of a zone, no AWS
// service among them, and whether to strangers of whom it names nothing; limits are resource
// control policies of the key's account. Undecided actions are among the doubtful.
func Outside(key Key, p *policy.Policy, zone Zone, limits []*policy.Policy) (actions, doubtful []policy.Action, err error) {
	known := &Known{Request: &authz.Request{}, Has: func(policy.ConditionKey) bool { return false }, Limits: limits}
	err = within(key, append([]*policy.Policy{p}, limits...), known, func(s *space) {
		outside := yes
		for i, part := range s.parts {
			if part.name == ofCallerOrg && zone.Organization != "" {
				outside = s.and(outside, s.is(i, s.only(part, func(j int) bool { return s.at(part.samples[j]).CallerOrg.Organization != zone.Organization })))
			}
		}
		for _, alike := range s.actions() {
			found, doubt := false, false
			for _, c := range s.callers {
				i := slices.IndexFunc(c.members, func(who *authz.Caller) bool {
					return who.Kind != policy.Service && !slices.Contains(zone.Accounts, who.Account)
				})
				if found || i < 0 {
					continue
				}
				foreign := *c
				foreign.who = *c.members[i]
				can := s.and(s.and(s.allowed(p, &foreign, alike[0]), s.possible(&foreign, alike[0])), outside)
				switch {
				case can == no:
				case s.witness(can, &foreign, alike[0]).allowed(p):
					found = true
				default:
					doubt = true
				}
			}
			if found {
				actions = append(actions, alike...)
			} else if doubt {
				doubtful = append(doubtful, alike...)
			}
		}
	})
	return actions, doubtful, err
}
