package analyze

import (
	"flag"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

var rounds = flag.Int("analyze.rounds", 300, "how many random policies are drawn")

func keyActions() (out []policy.Action) {
	for a := policy.Action(1); int(a) < policy.NumActions; a++ {
		if authz.OnKeys.Has(a) {
			out = append(out, a)
		}
	}
	return out
}

// What one random policy allows and another does not is found, with a request that the
// evaluation confirms; when nothing is, no random request contradicts it.
func TestRandomPairs(t *testing.T) {
	const requests = 400
	key := testKey(here)
	actions := keyActions()
	var count [3]int
	for seed := range uint64(*rounds) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		statements := d.statements()
		old, new := policyOf(statements), d.policy()
		if seed%3 > 0 { // most questions are about an edit
			new = d.edited(statements)
		}
		a, err := NewAccess(key, old, new)
		if err != nil {
			t.Fatal(err)
		}
		count[a.Verdict]++
		for _, w := range a.Witnesses {
			if is := unreal(w); is != "" {
				t.Errorf("seed %d: %s: %+v\nold %s\nnew %s", seed, is, w.Request, old.Name, new.Name)
			}
		}
		if a.Verdict != Proven {
			continue
		}
		for range requests {
			w := d.request(key, roll(d, actions...))
			if w.allowed(new) && !w.allowed(old) {
				t.Errorf("seed %d: nothing new is claimed, but %+v (identity %v, limits %v) is allowed\nold %s\nnew %s", seed, w.Request, w.Identity, w.Limits, old.Name, new.Name)
				break
			}
		}
	}
	t.Logf("%d proven, %d refuted, %d undecided", count[Proven], count[Refuted], count[Undecided])
}

// unreal says why there can be no such request; empty: there can.
func unreal(w *Witness) string {
	r, who := w.Request, w.Request.Caller
	at := (*situation)(r.ServiceCondition.(*service))
	name := strings.TrimPrefix(w.Action.String(), "kms:")
	with, _ := carries(ofContext, name)
	tagged, _ := carries(ofTags, name)
	switch {
	case len(who.Tags) > 0 && (who.Kind == policy.RootUser || who.Kind == policy.Service):
		return "tags of who has none"
	case who.Kind == policy.Service && (r.CallerOrg.Organization != "" || len(r.Via) > 0):
		return "a service with an organization, or through another one"
	case who.Kind != policy.Service && (r.SourceArn != "" || r.SourceAccount != ""):
		return "a source of who is no service"
	case who.SourceIdentity != "" && who.Kind != policy.RoleSession:
		return "a source identity of no session"
	case who.TokenIssued.IsZero() && (who.Kind == policy.RoleSession || who.Kind == policy.FederatedSession):
		return "a session without a token"
	case !who.MFA.IsZero() && who.TokenIssued.IsZero():
		return "a second factor without a token"
	case len(at.context) > 0 && !with, len(at.tags.Set) > 0 && !tagged:
		return "an encryption context or tags of an action without"
	}
	return ""
}

// The ways in which statements let callers through are together what the policy allows, and
// none of them follows from another one.
func TestRandomWays(t *testing.T) {
	for seed := range uint64(*rounds) {
		d := dice{rand.New(rand.NewPCG(seed, 3))}
		p := d.policy()
		err := within(testKey(here), []*policy.Policy{p}, nil, func(s *space) {
			s.each(func(c *caller, action policy.Action) {
				care := s.possible(c, action)
				ways := s.wayThrough(p, c, action, care)
				var all node
				for i, w := range ways {
					all = s.or(all, w.holds)
					for j, o := range ways {
						if i != j && s.minus(w.holds, o.holds) == no {
							t.Errorf("seed %d: statement %d follows from %d for %+v under %s", seed, w.rule.Ref, o.rule.Ref, c.who, p.Name)
						}
					}
				}
				if all != s.and(s.allowed(p, c, action), care) {
					t.Errorf("seed %d: the ways are not all for %+v and %v under %s", seed, c.who, action, p.Name)
				}
			})
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Every random request is in a class of callers and, for each dimension, in a class; and
// what its diagram says there is what the evaluation says.
func TestPointwise(t *testing.T) {
	const requests = 200
	key := testKey(here)
	actions := keyActions()
	compared, doubted := 0, 0
	for seed := range uint64(*rounds) {
		d := dice{rand.New(rand.NewPCG(seed, 2))}
		p := d.policy()
		err := within(key, []*policy.Policy{p}, nil, func(s *space) {
			for range requests {
				w := d.request(key, roll(d, actions...))
				c, classes, ok := s.locate(t, w)
				if !ok {
					t.Errorf("seed %d: %+v is in no class of %s", seed, w.Request, p.Name)
					return
				}
				n := s.allowed(p, c, w.Action)
				if n > yes && s.doubtful(n) {
					doubted++
					continue
				}
				compared++
				if got, want := s.walk(n, classes), w.allowed(p); got != want {
					t.Errorf("seed %d: the diagram says %v and the evaluation %v of %+v (identity %v, limits %v) under %s", seed, got, want, w.Request, w.Identity, w.Limits, p.Name)
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d compared, %d of doubt", compared, doubted)
}

func (s *space) doubtful(n node) bool {
	d := s.doubts(n)
	return len(d) > 0 && d[0] != "a request was found that the evaluation does not confirm"
}

func (s *space) walk(n node, classes []set) bool {
	for n > yes {
		b := s.branches[n]
		for _, e := range b.edges {
			if !e.classes.and(classes[b.dim]).empty() {
				n = e.to
				break
			}
		}
	}
	return n == yes
}

// locate finds the classes that a request is in.
func (s *space) locate(t *testing.T, w *Witness) (c *caller, classes []set, ok bool) {
	t.Helper()
	mine := s.classOf(w.Request.Caller)
	for _, known := range s.callers {
		if s.wayOf(known) == s.wayOf(mine) {
			c = known
		}
	}
	if c == nil {
		t.Logf("no class of callers for %+v", w.Request.Caller)
		return nil, nil, false
	}
	at := (*situation)(w.Request.ServiceCondition.(*service))
	for _, p := range s.parts {
		in := newSet(len(p.samples))
		switch {
		case p.name == identityName:
			in.add(map[bool]int{true: 1}[w.Identity])
		case p.name == limitsName:
			in.add(map[bool]int{true: 1}[w.Limits])
		case len(p.tests) == 0:
			in.add(0) // a doubt
		default:
			i := s.classIn(p, at)
			if i < 0 {
				t.Logf("no class of %s", p.name)
				return nil, nil, false
			}
			in.add(i)
		}
		classes = append(classes, in)
	}
	return c, classes, true
}

// classIn is the class of a dimension that a situation is in; -1 if there is none.
func (s *space) classIn(p *dimension, at *situation) int {
	about, pair := keyOfPair(p)
	var mine sample
	for _, e := range s.elements(p, at) {
		switch {
		case pair && strings.EqualFold(e, about), !pair && !s.isPair(p, e) && s.indistinct(p, p.samples[len(p.samples)-1].elements[0], e, at):
			mine.elements = append(mine.elements, e)
		}
	}
	return slices.IndexFunc(p.samples, func(x sample) bool {
		for _, t := range p.tests {
			switch {
			case severalParts(t.Key().ID):
				if len(x.elements) > 0 != (len(mine.elements) > 0) || x.some(t, s.at(x)) != mine.some(t, at) || x.all(t, s.at(x)) != mine.all(t, at) {
					return false
				}
			case pair && !strings.EqualFold(t.Key().Suffix, about), !pair && slices.Contains([]string{ofContext, ofTags}, groupOf(t.Key())):
			case t.Holds(s.at(x)) != t.Holds(at):
				return false
			}
		}
		return true
	})
}

// keyOfPair is the key of the pair that a dimension is about.
func keyOfPair(p *dimension) (string, bool) {
	k := policy.KeyNamed(p.name)
	return k.Suffix, k.ID == policy.KeyKMSEncryptionContext || k.ID == policy.KeyRequestTag
}

// isPair reports whether a dimension of the same group is about the pair with that key.
func (s *space) isPair(of *dimension, element string) bool {
	return slices.ContainsFunc(s.parts, func(p *dimension) bool {
		about, pair := keyOfPair(p)
		return pair && strings.EqualFold(about, element) && len(p.tests) > 0 && groupOf(p.tests[0].Key()) == groupOf(of.tests[0].Key())
	})
}

// indistinct reports whether no test tells two elements apart.
func (s *space) indistinct(p *dimension, a, b string, at *situation) bool {
	return !slices.ContainsFunc(p.tests, func(t *test) bool {
		return severalParts(t.Key().ID) && t.Passes(a, at) != t.Passes(b, at)
	})
}

// elements are those that a situation has for the key with several values of a dimension.
func (s *space) elements(p *dimension, at *situation) []string {
	switch key := p.tests[0].Key(); {
	case groupOf(key) == ofContext:
		return at.Lookup(policy.ConditionKey{ID: policy.KeyKMSEncryptionContextKeys}).List
	case groupOf(key) == ofTags:
		return at.Lookup(policy.ConditionKey{ID: policy.KeyTagKeys}).List
	case severalParts(key.ID):
		return at.Lookup(key).List
	default:
		return nil
	}
}
