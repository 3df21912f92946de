package analyze

import (
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A space is all requests about one key, as far as some policies can tell them apart:
// classes of callers and, for each part of a request that is independent of the others, a
// dimension of classes of what that part can be.
type space struct {
	*diagram
	key       Key
	account   string // the key's
	region    string
	parts     []*dimension // the diagram's dimensions, in its order
	given     []*policy.Policy
	known     *Known
	asking    *situation // to ask one caller after another with
	rules     map[*policy.Policy][]*rule
	ruleCount int              // of all policies
	tests     map[string]*test // by what they say
	order     []*test          // as the policies have them
	callers   []*caller
	inAccount map[string][]member // of classes of callers
	kinds     [][]policy.Action   // of actions; see actions
	// accounts are the key's and those that the policies name.
	accounts *names
	arns     *names   // of callers that the policies name
	ids      []string // unique ids that they name
	bounded  bool     // whether they have a permissions boundary matters
	services []string // that the policies name
	left     []string // accounts whose callers are not told of

	identity, limits node // whether the caller's own policies allow
}

// What the caller's own policies say, in words.
const (
	identityName = "an identity policy allows it"
	limitsName   = "boundary and session policies allow it"
)

// A dimension is a part of a request. Its samples stand for all that the part can be.
type dimension struct {
	name    string
	samples []sample // one for each class
	tests   []*test  // that ask it
}

// A sample is one thing that a part of a request can be.
type sample struct {
	name string // for people; empty: the part is absent
	set  func(*situation)
	// apart is what some callers can have and others not; it keeps samples apart.
	apart string
	// elements are the values that the sample adds to a key with several.
	elements []string
	// trusted says that the policies name the value of something that says who or where the
	// caller is, and of every other such value in the class.
	trusted bool
	at      *situation // the sample alone; narrow makes it
}

// A rule is a statement with what it asks.
type rule struct {
	policy.Rule
	index  int // among all rules of the space
	tests  []*test
	doubt  string // why it is not known whether it takes in the key
	covers node   // whether it does, if there is a doubt
}

// A test is a condition, which all statements that say the same share. How it depends on
// the dimensions is in node; one about the caller has its answers by caller instead.
type test struct {
	policy.Test
	index    int // in the space's order
	text     string
	ofCaller bool
	node     node
	asks     set // the dimensions that node depends on
	// doubt says why the analysis does not know what the test holds for: it may hold or not,
	// whatever the request. Empty: it knows.
	doubt string
}

// A caller is a class of callers: those that no statement and no condition tells apart.
type caller struct {
	who     authz.Caller
	members []*authz.Caller // that were found to be in the class
	holds   []bool          // by test; those about callers
	reach   []policy.Reach  // by rule
	facts   node            // what else is true of requests by such callers
}

// names are texts in the order in which they were met, each once.
type names struct {
	list []string
	set  map[string]bool
}

func (n *names) has(text string) bool { return n.set[text] }

func (n *names) add(text string) {
	if !n.set[text] {
		n.set[text] = true
		n.list = append(n.list, text)
	}
}

func newNames() *names { return &names{set: map[string]bool{}} }

// A member is one caller of a class.
type member struct {
	*authz.Caller
	of *caller
}

// newSpace makes the space of what some policies ask about requests for a key. With a known
// caller it has no others.
func newSpace(key Key, known *Known, policies ...*policy.Policy) (s *space, err error) {
	a, err := arn.Parse(string(key))
	if key == none {
		a, err = arn.ARN{Partition: "aws", Region: "us-east-1"}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("analyze: the key: %w", err)
	}
	s = &space{diagram: newDiagram(), key: key, asking: newSituation(key), known: known, account: a.Account, region: a.Region, rules: map[*policy.Policy][]*rule{}, tests: map[string]*test{}}
	for _, p := range policies {
		if _, known := s.rules[p]; known || p == nil {
			continue
		}
		s.given = append(s.given, p)
		for _, r := range p.Rules() {
			if known != nil && known.meets != nil && !known.meets(r) {
				continue
			}
			x := &rule{Rule: r, index: s.ruleCount}
			s.ruleCount++
			for _, t := range r.Tests() {
				x.tests = append(x.tests, s.test(t, p.Document.Version))
			}
			s.rules[p] = append(s.rules[p], x)
		}
	}
	s.identity, s.limits = s.either(identityName), s.either(limitsName)
	for _, p := range s.given {
		for _, r := range s.rules[p] {
			if _, variables := r.Resources(); slices.ContainsFunc(variables, func(k policy.ConditionKey) bool { return known == nil || known.byText || !known.Has(k) }) {
				r.doubt, r.covers = "a policy variable in Resource", s.either("the resources of a statement")
			}
		}
	}
	if known != nil && known.byText && s.viaRegion() != "" {
		s.region = s.viaRegion()
	}
	s.divide()
	if s.hasCaller() {
		return s, nil
	}
	if err := s.findCallers(a.Partition); err != nil {
		return nil, err
	}
	return s, nil
}

// hasCaller reports whether it is known who calls.
func (s *space) hasCaller() bool {
	return s.known != nil && s.known.Request != nil && s.known.Request.Caller.Kind != policy.Nobody
}

// test finds or makes the test that a condition is. What it says depends on the policy's
// version only by its variables.
func (s *space) test(t policy.Test, version string) *test {
	text := describe(t.Source())
	name := fmt.Sprintf("%q %q", t.Source().Operator, t.Source().Key)
	for _, v := range t.Source().Values.Items {
		name += fmt.Sprintf(" %q", v.Text)
	}
	if strings.Contains(text, "${") {
		name += " " + version
	}
	if known := s.tests[name]; known != nil {
		return known
	}
	x := &test{Test: t, index: len(s.order), text: text}
	s.tests[name] = x
	s.order = append(s.order, x)
	return x
}

// describe is a condition as a line of text.
func describe(c *policy.Condition) string {
	var values []string
	for _, v := range c.Values.Items {
		values = append(values, v.Text)
	}
	return c.Operator + " " + c.Key + " " + strings.Join(values, ", ")
}

// either is a fact that may be true or not.
func (s *space) either(name string) node {
	p := &dimension{name: name, samples: []sample{{}, {name: name}}}
	return s.is(s.add(p), s.only(p, func(i int) bool { return i == 1 }))
}

func (s *space) add(p *dimension) int {
	s.parts = append(s.parts, p)
	return s.dimension(len(p.samples))
}

func (s *space) only(p *dimension, which func(i int) bool) set {
	out := newSet(len(p.samples))
	for i := range p.samples {
		if which(i) {
			out.add(i)
		}
	}
	return out
}

// divide makes the dimensions and the tests' nodes.
func (s *space) divide() {
	groups := map[string][]*test{}
	var names []string
	for _, t := range s.order {
		group := groupOf(t.Key())
		switch _, variables := t.Shapes(); {
		case t.Quantifier() == policy.Never:
			t.node = no
			continue
		case t.Key().ID == policy.KeyUnknown: // which no request has (AUTH-8.5)
			t.node = constant(t.Holds(newSituation(s.key)))
			continue
		case group == ofCaller && t.read():
			s.doubted(t, "an operator that reads what callers are called as something else")
			continue
		case s.ofResource(t):
			s.doubted(t, "it depends on which key is meant")
			continue
		case s.known.decides(t.Test):
			t.node = constant(t.Holds(s.known.Request))
			continue
		case group == ofCaller && variables == nil, accounts[t.Key().ID] && ofAccounts(variables):
			t.ofCaller = true
			continue
		case variables != nil:
			s.doubted(t, "a policy variable")
			continue
		case group == ofKey:
			t.node = constant(t.Holds(newSituation(s.key)))
			continue
		}
		if groups[group] == nil {
			names = append(names, group)
		}
		groups[group] = append(groups[group], t)
	}
	slices.SortStableFunc(names, func(a, b string) int { return len(earlier[b]) - len(earlier[a]) })
	for _, name := range names {
		s.divideGroup(name, groups[name])
	}
	for _, t := range s.order {
		t.asks = s.asks(t.node)
	}
}

// ofResource reports whether a test depends on where the key is, which is not known of
// documents by their text.
func (s *space) ofResource(t *test) bool {
	if s.known == nil || !s.known.byText {
		return false
	}
	switch t.Key().ID {
	case policy.KeyRequestedRegion, policy.KeyResourceAccount, policy.KeyResourceOrgID, policy.KeyResourceOrgPaths:
		return true
	case policy.KeyKMSViaService:
		return s.viaRegion() == ""
	default:
		_, variables := t.Shapes()
		return slices.ContainsFunc(variables, func(k policy.ConditionKey) bool { return k.ID == policy.KeyResourceAccount })
	}
}

// viaRegion is the one Region that all tests of kms:ViaService name; empty if there is no such.
func (s *space) viaRegion() (region string) {
	for _, t := range s.order {
		if t.Key().ID != policy.KeyKMSViaService {
			continue
		}
		shapes, variables := t.Shapes()
		if len(variables) > 0 {
			return ""
		}
		for _, x := range shapes {
			parts := strings.Split(x.Text, ".")
			if x.Kind != policy.TextShape || len(parts) < 4 || region != "" && region != parts[1] {
				return ""
			}
			region = parts[1]
		}
	}
	return region
}

// earlier are the groups that others depend on when a request is put together.
var earlier = map[string]string{ofTime: "how long ago a second factor was given"}

// read reports whether the condition reads texts as numbers, dates, addresses or bytes.
func (t *test) read() bool {
	shapes, _ := t.Shapes()
	return slices.ContainsFunc(shapes, func(x policy.Shape) bool { return x.Kind != policy.TextShape && x.Kind != policy.PatternShape })
}

func constant(b bool) node {
	if b {
		return yes
	}
	return no
}

// accounts are condition keys that are accounts: the caller's and the key's. A test that
// compares them with each other, by variables, depends on whether they are the same.
var accounts = map[policy.KeyID]bool{policy.KeyPrincipalAccount: true, policy.KeyKMSCallerAccount: true, policy.KeyResourceAccount: true}

func ofAccounts(variables []policy.ConditionKey) bool {
	return !slices.ContainsFunc(variables, func(k policy.ConditionKey) bool { return !accounts[k.ID] })
}

// doubted makes a test one of which it is not known when it holds.
func (s *space) doubted(t *test, why string) {
	t.doubt, t.node = why, s.either(t.text)
}

// divideGroup makes the dimensions of a group of keys that belong together. Tests that make
// them too hard are doubted, and the rest is tried again.
func (s *space) divideGroup(name string, tests []*test) {
	parts, err := s.partsOf(name, tests)
	if err != nil {
		hard := func(t *test) bool {
			shapes, _ := t.Shapes()
			return slices.ContainsFunc(shapes, func(x policy.Shape) bool { return x.Kind == policy.PatternShape || x.Kind == policy.OtherShape })
		}
		if !slices.ContainsFunc(tests, hard) {
			hard = func(*test) bool { return true }
		}
		var rest []*test
		for _, t := range tests {
			if hard(t) {
				s.doubted(t, err.Error())
			} else {
				rest = append(rest, t)
			}
		}
		if len(rest) > 0 {
			s.divideGroup(name, rest)
		}
		return
	}
	var dims []int
	for _, p := range parts {
		p.tests = tests
		s.narrow(p, tests)
		dims = append(dims, s.add(p))
	}
	for _, t := range tests {
		t.node = s.nodeOf(t, parts, dims)
	}
}

// narrow leaves one sample of those that no test tells apart.
func (s *space) narrow(p *dimension, tests []*test) {
	seen := map[string]int{}
	var kept []sample
	for _, x := range p.samples {
		var ways strings.Builder
		ways.WriteString(x.apart)
		ways.WriteByte(digitOf(x.name == ""))
		at := s.at(x)
		x.at = at
		for _, t := range tests {
			if severalParts(t.Key().ID) {
				ways.WriteByte(digitOf(x.some(t, at)))
				ways.WriteByte(digitOf(x.all(t, at)))
				ways.WriteByte(digitOf(len(x.elements) > 0))
				continue
			}
			ways.WriteByte(digitOf(t.Holds(at)))
		}
		x.trusted = slices.ContainsFunc(tests, func(t *test) bool { return trusted[t.Key().ID] && s.names(t, x) })
		if i, known := seen[ways.String()]; !known {
			seen[ways.String()] = len(kept)
			kept = append(kept, x)
		} else if kept[i].trusted && !x.trusted {
			kept[i] = x // who does not distrust it does not distrust the other
		}
	}
	p.samples = kept
}

// some reports whether an element that the sample adds passes, and all whether each does.
func (x sample) some(t *test, at *situation) bool {
	return slices.ContainsFunc(x.elements, func(e string) bool { return t.Passes(e, at) })
}

func (x sample) all(t *test, at *situation) bool {
	return !slices.ContainsFunc(x.elements, func(e string) bool { return !t.Passes(e, at) })
}

// at is a situation of which nothing is known but one sample.
func (s *space) at(x sample) *situation {
	at := newSituation(s.key)
	at.Region = s.region
	if x.set != nil {
		x.set(at)
	}
	return at
}

// nodeOf is how a test depends on the parts of its group.
func (s *space) nodeOf(t *test, parts []*dimension, dims []int) node {
	if !severalParts(t.Key().ID) {
		for i, p := range parts {
			holds := s.only(p, func(j int) bool { return t.Holds(p.samples[j].at) })
			if one := s.is(dims[i], holds); one > yes || len(parts) == 1 {
				return one
			}
		}
		return constant(t.Empty()) // no part has the key
	}
	all, some, empty := yes, no, yes
	for i, p := range parts {
		all = s.and(all, s.is(dims[i], s.only(p, func(j int) bool { return p.samples[j].all(t, p.samples[j].at) })))
		some = s.or(some, s.is(dims[i], s.only(p, func(j int) bool { return p.samples[j].some(t, p.samples[j].at) })))
		empty = s.and(empty, s.is(dims[i], s.only(p, func(j int) bool { return len(p.samples[j].elements) == 0 })))
	}
	switch t.Quantifier() {
	case policy.All:
		return all
	case policy.Any:
		return some
	case policy.Absence:
		return s.or(s.and(empty, constant(t.Empty())), s.minus(constant(t.Present()), empty))
	default:
		return s.and(empty, constant(t.Empty()))
	}
}
