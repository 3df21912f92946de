package policy

// A Request is what one policy is asked.
type Request struct {
	Action   Action
	Resource string // an ARN, or "*" for actions without a resource
	Who      *Principal
	Context  Context
}

// A Ref names a statement of a policy, counting from 1; 0 is none.
type Ref uint16

// A Result is what one policy says about one request: the first statement that
// denies, and the first that allows by each reach. Policies without principals
// allow directly. The zero Result says nothing.
type Result struct {
	Deny  Ref
	Allow [numReach]Ref
}

// Allowed reports the statement of the strongest reach that allows, if any.
func (r *Result) Allowed() Ref {
	for reach := Everyone; reach > NoReach; reach-- {
		if r.Allow[reach] != 0 {
			return r.Allow[reach]
		}
	}
	return 0
}

// A Step is what became of one statement.
type Step struct {
	Policy    *Policy
	Statement Ref
	Effect    Effect
	Applies   bool
	Reach     Reach
	Because   Obstacle   // why it does not apply
	Condition *Condition // the condition that fails, if that is why
	Value     Value      // what the request had for it
}

// An Obstacle is the part of a statement that keeps it from applying.
type Obstacle uint8

// The obstacles. The zero Obstacle is none.
const (
	NoObstacle Obstacle = iota
	OtherAction
	OtherPrincipal
	OtherResource
	FailedCondition
)

// Match evaluates the policy. With a nil trace it looks only at the statements
// that name the action and allocates nothing, unless a variable must be filled
// in. With a trace it looks at every statement and appends a Step for each.
func (p *Policy) Match(req *Request, trace *[]Step) Result {
	var r Result
	if p == nil || req.Action == 0 || int(req.Action) >= NumActions {
		return r
	}
	if trace != nil {
		for i := range p.statements {
			step := p.statements[i].explain(req)
			step.Policy, step.Statement = p, Ref(i+1)
			if step.Applies {
				r.note(step.Effect, step.Reach, step.Statement)
			}
			*trace = append(*trace, step)
		}
		return r
	}
	g := &p.groups[p.group[req.Action]]
	p.ask(g.general, req, &r)
	if g.byCaller != nil {
		for _, name := range req.Who.names() {
			if name != "" {
				p.ask(g.byCaller[name], req, &r)
			}
		}
	}
	if g.byResource != nil {
		p.ask(g.byResource[req.Resource], req, &r)
	}
	return r
}

// ask looks at statements that may change r.
func (p *Policy) ask(list []uint16, req *Request, r *Result) {
	for _, i := range list {
		s, ref := &p.statements[i], Ref(i+1)
		reach := s.reach(req.Who)
		if reach == NoReach || !r.lacks(s.effect, reach, ref) {
			continue
		}
		if s.covers(req) && s.failing(req.Context) == nil {
			r.note(s.effect, reach, ref)
		}
	}
}

// lacks reports whether no statement before ref does what it would do.
func (r *Result) lacks(e Effect, reach Reach, ref Ref) bool {
	known := r.Deny
	if e == Allow {
		known = r.Allow[reach]
	}
	return known == 0 || ref < known
}

func (r *Result) note(e Effect, reach Reach, ref Ref) {
	switch {
	case !r.lacks(e, reach, ref):
	case e == Deny:
		r.Deny = ref
	default:
		r.Allow[reach] = ref
	}
}

// reach is how the statement names who; without principals it is direct.
func (s *statement) reach(who *Principal) Reach {
	if !s.hasPrincipal {
		return Direct
	}
	if !s.notPrincipal {
		return s.principals.reach(who)
	}
	if who.Kind == Nobody || s.excepts(who) {
		return NoReach
	}
	return Everyone
}

// excepts reports whether the statement's NotPrincipal leaves who out. An Allow
// leaves out whoever it names in any way: AUTH-2.18 counts representations for
// Deny only, and counting them here would allow whom it excludes (UNVERIFIED).
func (s *statement) excepts(who *Principal) bool {
	if s.effect == Allow {
		return s.principals.reach(who) != NoReach
	}
	return s.principals.exempts(who)
}

// covers reports whether the statement's Resource or NotResource takes in the
// request's resource (AUTH-7.2 to 7.9).
func (s *statement) covers(req *Request) bool {
	if s.anyResource {
		return true
	}
	found := s.allOfResource
	for i := 0; i < len(s.resources) && !found; i++ {
		found, _ = s.resources[i].match(req.Resource, req.Context)
	}
	return found != s.notResource
}

// failing returns the first condition that does not hold, or nil.
func (s *statement) failing(ctx Context) *condition {
	for i := range s.conditions {
		if !s.conditions[i].holds(ctx) {
			return &s.conditions[i]
		}
	}
	return nil
}

func (s *statement) explain(req *Request) Step {
	step := Step{Effect: s.effect, Reach: s.reach(req.Who)}
	switch {
	case !s.actions.Has(req.Action):
		step.Because = OtherAction
	case step.Reach == NoReach:
		step.Because = OtherPrincipal
	case !s.covers(req):
		step.Because = OtherResource
	default:
		if c := s.failing(req.Context); c != nil {
			step.Because, step.Condition, step.Value = FailedCondition, c.source, req.Context.Lookup(c.key)
			return step
		}
		step.Applies = true
	}
	return step
}

// Statement returns the statement a Ref names, or nil for none.
func (p *Policy) Statement(r Ref) *Statement {
	if p == nil || r == 0 || int(r) > len(p.Document.Statements) {
		return nil
	}
	return &p.Document.Statements[r-1]
}
