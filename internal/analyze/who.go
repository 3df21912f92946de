package analyze

import (
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A Row says that a statement of a key policy lets some callers do something, and what
// else has to be true. Each row is true; together they are everything that the policy allows,
// and none of them follows from another one alone.
type Row struct {
	Callers    []string
	Statement  policy.Ref
	Conditions []string // all of which must hold
}

// Who lists who may do an action by a key policy, whatever callers could exist but for those
// of some accounts and some services. What is known of the requests may be nil. ErrUndecided: the policy is too
// large.
func Who(key Key, p *policy.Policy, action policy.Action, known *Known, but ...string) (rows []Row, err error) {
	err = within(key, append([]*policy.Policy{p}, known.limits()...), known, func(s *space) {
		s.left = but
		type same struct {
			statement policy.Ref
			holds     node
			care      node
		}
		by := map[same][]*caller{}
		var order []same
		for _, c := range s.callers {
			care := s.possible(c, action)
			for _, w := range s.wayThrough(p, c, action, care) {
				k := same{w.rule.Ref, w.holds, care}
				if by[k] == nil {
					order = append(order, k)
				}
				by[k] = append(by[k], c)
			}
		}
		seen := map[string]int{}
		for _, k := range order {
			conditions := s.conditions(k.holds, k.care)
			callers := s.describe(by[k], action)
			if len(callers) == 0 {
				continue
			}
			name := fmt.Sprint(k.statement, conditions)
			if i, known := seen[name]; known {
				rows[i].Callers = distinct(append(rows[i].Callers, callers...))
				continue
			}
			seen[name] = len(rows)
			rows = append(rows, Row{callers, k.statement, conditions})
		}
	})
	return rows, err
}

// A way is a statement that lets a caller through, and when.
type way struct {
	rule  *rule
	holds node
}

// wayThrough are the statements that allow something to a class of callers, but for those
// that others make superfluous.
func (s *space) wayThrough(p *policy.Policy, c *caller, action policy.Action, care node) (out []way) {
	rules := s.rules[p]
	for _, r := range rules {
		if r.Effect != policy.Allow || c.reach[r.index] == policy.NoReach || !r.Has(action) {
			continue
		}
		alone := slices.DeleteFunc(slices.Clone(rules), func(o *rule) bool { return o.Effect == policy.Allow && o != r })
		if holds := s.and(s.allowedBy(alone, c, action), care); holds != no {
			out = append(out, way{r, holds})
		}
	}
	for i := 0; i < len(out); {
		superfluous := slices.ContainsFunc(out, func(o way) bool { return o.rule != out[i].rule && s.implies(out[i].holds, o.holds) })
		if superfluous {
			out = slices.Delete(out, i, i+1)
		} else {
			i++
		}
	}
	return out
}

// conditions say when a node is yes, for requests of which care is true: tests that must all
// hold, and at the end what cannot be said so.
func (s *space) conditions(n, care node) (out []string) {
	n = s.restrict(n, care)
	must := func(holds node, words string) {
		if n > yes && holds > yes && s.implies(n, holds) {
			out = append(out, words)
			n = s.restrict(n, holds)
		}
	}
	must(s.identity, identityName)
	must(s.limits, limitsName)
	asked := s.asks(n)
	related := slices.DeleteFunc(slices.Clone(s.order), func(t *test) bool { return !t.asks.meets(asked) })
	for _, t := range related {
		must(t.node, t.text)
	}
	for _, t := range related {
		must(s.not(t.node), "not "+t.text)
	}
	if n > yes {
		var ways []string
		for _, w := range s.ways(n) {
			ways = append(ways, strings.Join(w, " and "))
		}
		out = append(out, "either "+strings.Join(ways, ", or "))
	}
	return out
}

// maxWays bounds how many ways to yes are told.
const maxWays = 20

// ways are the ways to yes, each as conditions in words.
func (s *space) ways(n node) (out [][]string) {
	var walk func(n node, so []string)
	walk = func(n node, so []string) {
		switch {
		case n == no:
		case len(out) >= maxWays:
			out[maxWays-1] = []string{"more"}
		case n == yes:
			out = append(out, slices.Clone(so))
		default:
			b := s.branches[n]
			for _, e := range b.edges {
				walk(e.to, append(so[:len(so):len(so)], s.words(b.dim, e.classes)))
			}
		}
	}
	walk(n, nil)
	return out
}

// words say which classes of a dimension are meant: by a test, or else by samples.
func (s *space) words(dim int, classes set) string {
	p := s.parts[dim]
	all := s.only(p, func(int) bool { return true })
	absent := s.only(p, func(i int) bool { return p.samples[i].name == "" })
	switch {
	case all.less(absent).less(classes).empty() && classes.and(absent).empty():
		if len(p.tests) == 0 || len(p.samples) == 2 {
			return p.samples[len(p.samples)-1].name
		}
		return "with " + p.name
	case classes.less(absent).empty():
		return "without " + p.name
	}
	for _, t := range p.tests {
		if holds := s.holding(t, dim); holds != nil {
			if holds.less(classes).empty() && classes.less(holds).empty() {
				return t.text
			}
			if rest := all.less(holds); rest.less(classes).empty() && classes.less(rest).empty() {
				return "not " + t.text
			}
		}
	}
	var names []string
	for i, x := range p.samples {
		if classes.has(i) {
			if x.name == "" {
				x.name = "without it"
			}
			names = append(names, x.name)
		}
	}
	return "(such as " + strings.Join(names, " or ") + ")"
}

// holding is the classes of a dimension in which a test holds; nil if the test depends on
// other dimensions too.
func (s *space) holding(t *test, dim int) set {
	if t.node <= yes || s.branches[t.node].dim != dim {
		return nil
	}
	out := newSet(len(s.parts[dim].samples))
	for _, e := range s.branches[t.node].edges {
		if e.to > yes {
			return nil
		}
		if e.to == yes {
			out = out.or(e.classes)
		}
	}
	return out
}

var kinds = map[policy.PrincipalKind]string{policy.RootUser: "the root user", policy.User: "users", policy.RoleSession: "sessions of roles", policy.FederatedSession: "federated users"}

// describe is some classes of callers in words: those that are named, and of the others what
// they are, and who that is named is not among them.
func (s *space) describe(classes []*caller, action policy.Action) (out []string) {
	unnamed := map[string][]string{} // kinds, by the rest of what is said
	bounds := map[string]map[bool]bool{}
	say := func(text string, who *authz.Caller) {
		if bounds[text] == nil {
			bounds[text] = map[bool]bool{}
			out = append(out, text)
		}
		bounds[text][who.Bounded] = true
	}
	for _, c := range classes {
		for _, who := range c.members {
			switch {
			case who.Kind != policy.Service && slices.Contains(s.left, who.Account), who.Kind == policy.Service && slices.Contains(s.left, who.Service):
			case who.Kind == policy.Service && !slices.Contains(s.services, who.Service):
				text := "any other AWS service"
				if s.tellsServices() {
					text += ", such as " + who.Service
				}
				say(text, who)
			case who.EntityID != "" && slices.Contains(s.ids, who.EntityID):
				say(kinds[who.Kind]+" with the id "+who.EntityID, who)
			case who.Kind == policy.Service, s.arns.has(who.ARN):
				say(who.Shown(), who)
			case s.arns.has(who.EntityARN) && who.Kind == policy.RoleSession:
				say(who.EntityARN+s.except(classes, who), who)
			case s.arns.has(who.EntityARN):
				say("federated users of "+who.EntityARN+s.except(classes, who), who)
			default:
				kind := kinds[who.Kind]
				if who.Kind == policy.FederatedSession && who.EntityARN == "" {
					kind = "federated users of the root user"
				}
				rest := s.accountOf(who)
				for _, t := range s.order {
					if t.ofCaller && s.matters(t, c, action) {
						rest += map[bool]string{true: ", with ", false: ", without "}[c.holds[t.index]] + t.text
					}
				}
				rest += s.except(classes, who)
				unnamed[rest] = append(unnamed[rest], kind)
				name := kind + rest
				if bounds[name] == nil {
					bounds[name] = map[bool]bool{}
				}
				bounds[name][who.Bounded] = true
			}
		}
	}
	for i, text := range out {
		out[i] += s.boundary(bounds[text])
	}
	for _, rest := range sortedKeys(unnamed) {
		byBound := map[string][]string{}
		for _, kind := range distinct(unnamed[rest]) {
			end := ""
			if kind != kinds[policy.RootUser] && kind != "federated users of the root user" {
				end = s.boundary(bounds[kind+rest])
			}
			byBound[end] = append(byBound[end], kind)
		}
		for _, end := range sortedKeys(byBound) {
			out = append(out, strings.Join(byBound[end], ", ")+" of "+rest+end)
		}
	}
	return distinct(out)
}

// tellsServices reports whether a condition tells services apart that nobody names.
func (s *space) tellsServices() bool {
	return slices.ContainsFunc(s.order, func(t *test) bool {
		return t.Key().ID == policy.KeyPrincipalServiceName || t.Key().ID == policy.KeyPrincipalServiceNamesList
	})
}

// boundary says whether a permissions boundary is what callers are told apart by.
func (s *space) boundary(found map[bool]bool) string {
	switch {
	case !s.bounded || found[true] && found[false]:
		return ""
	case found[true]:
		return " with a permissions boundary"
	default:
		return " without a permissions boundary"
	}
}

// except names those who are like a caller, as far as is told of it, and are not in the
// classes: named sessions of its role, named users and roles of its account.
func (s *space) except(classes []*caller, who *authz.Caller) string {
	var out []string
	named := s.arns.has(who.EntityARN)
	for _, other := range s.inAccount[who.Account] {
		if !slices.Contains(classes, other.of) {
			session := other.Kind == who.Kind && other.EntityARN == who.EntityARN && s.arns.has(other.ARN)
			entity := !named && other.Kind == who.Kind && other.EntityARN != who.EntityARN && s.arns.has(other.EntityARN)
			switch {
			case who.EntityARN == "" || slices.Contains(s.ids, other.EntityID):
			case session:
				out = append(out, other.ARN)
			case entity && s.arns.has(other.ARN):
				out = append(out, other.ARN)
			case entity:
				out = append(out, other.EntityARN)
			}
		}
	}
	if out = distinct(out); out == nil {
		return ""
	}
	return ", except " + strings.Join(out, ", ")
}

func (s *space) accountOf(who *authz.Caller) string {
	if s.accounts.has(who.Account) {
		return "account " + who.Account
	}
	return "any other account"
}

// matters reports whether a statement that names the caller and the action asks a test.
func (s *space) matters(t *test, c *caller, action policy.Action) bool {
	for _, rules := range s.rules {
		for _, r := range rules {
			if c.reach[r.index] != policy.NoReach && r.Has(action) && slices.Contains(r.tests, t) {
				return true
			}
		}
	}
	return false
}
