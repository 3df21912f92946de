package authz_test

import (
	"fmt"
	"testing"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
	"pgregory.net/rapid"
)

// compiled is what the code under test is given for the same papers.
func (p *papers) compiled() *authz.Policies {
	one := func(doc *policy.Document, kind policy.Kind) *policy.Policy {
		if doc == nil {
			return nil
		}
		return policy.Compile(doc, kind, "test")
	}
	several := func(docs []*policy.Document, kind policy.Kind) (out []*policy.Policy) {
		for _, doc := range docs {
			out = append(out, one(doc, kind))
		}
		return out
	}
	out := &authz.Policies{
		Resource: one(p.key, policy.Key), Identity: several(p.identity, policy.Identity),
		Boundary: one(p.boundary, policy.Identity), HasBoundary: p.hasBoundary,
		Session: several(p.session, policy.Identity), HasSession: p.hasSession,
		RCP: several(p.rcp, policy.RCP), Endpoint: one(p.endpoint, policy.Endpoint), ThroughEndpoint: p.throughEndpoint,
	}
	for _, level := range p.scp {
		out.SCP = append(out.SCP, several(level, policy.SCP))
	}
	for _, g := range p.grants {
		out.Grants = append(out.Grants, policy.Grant(g))
	}
	return out
}

// String shows the papers in failures.
func (p *papers) String() string {
	text := fmt.Sprintf("boundary=%t session=%t endpoint=%t grants=%+v", p.hasBoundary, p.hasSession, p.throughEndpoint, p.grants)
	show := func(name string, docs ...*policy.Document) {
		for _, doc := range docs {
			if doc != nil {
				text += "\n" + name + " " + doc.Compact()
			}
		}
	}
	show("key policy", p.key)
	show("identity", p.identity...)
	show("boundary", p.boundary)
	show("session", p.session...)
	for i, level := range p.scp {
		show(fmt.Sprint("SCP level ", i), level...)
	}
	show("RCP", p.rcp...)
	show("endpoint", p.endpoint)
	return text
}

// agree fails if Evaluate, Explain and the reference do not decide alike.
func agree(t rapid.TB, req *authz.Request, p *papers, compiled *authz.Policies) authz.Outcome {
	t.Helper()
	got := authz.Evaluate(req, compiled)
	if explained, _ := authz.Explain(req, compiled); explained != got {
		t.Fatalf("Explain = %+v, Evaluate = %+v\n%v", explained, got, p)
	}
	if want := referenceOutcome(req, p); got.Outcome != want {
		t.Fatalf("%s %v on %s: Evaluate = %v, the rules say %v\nfacts %+v from %q\n%v",
			req.Caller.ARN+req.Caller.Service, req.Action, req.Resource, got.Outcome, want, req.ServiceCondition, req.SourceIP, p)
	}
	return got.Outcome
}

// agreeOnAll lets all callers ask and counts the outcomes.
func agreeOnAll(t rapid.TB, s *scene, asks []ask) (count [3]int) {
	t.Helper()
	for req, p := range s.questions(asks) {
		count[agree(t, req, p, p.compiled())]++
	}
	return count
}

// TestAgreementOnEverything asks all questions of policies of all types.
func TestAgreementOnEverything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) { agreeOnAll(rt, drawScene(rt), asks) })
}

// TestAgreementOnConditions asks about one Condition element at a time, on which
// alone the outcome depends.
func TestAgreementOnConditions(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := &scene{facts: drawFacts(rt), call: drawCall(rt)}
		for range 150 {
			s.papers.key = drawConditioned(rt)
			req, p := s.of(pick(rt, "caller", callers()), asks[0])
			agree(rt, req, p, p.compiled())
		}
	})
}

// TestAgreementOnStatements asks about one statement at a time, of a key policy
// and of an identity policy.
func TestAgreementOnStatements(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := &scene{facts: drawFacts(rt), call: drawCall(rt)}
		for range 20 {
			effect := pick(rt, "effect", []string{"Allow", "Deny"})
			s.papers.hasBoundary = chance(rt, "boundary", 30)
			s.papers.key = document(rt, "2012-10-17", []map[string]any{drawStatement(rt, effect, true)})
			s.papers.identity = []*policy.Document{document(rt, "2012-10-17", []map[string]any{drawStatement(rt, effect, false)})}
			agreeOnAll(rt, s, []ask{pick(rt, "ask", asks)})
		}
	})
}

// TestAgreementOnGrants asks about grants, with little beside them.
func TestAgreementOnGrants(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := &scene{facts: drawFacts(rt), call: drawCall(rt)}
		s.papers.hasBoundary = chance(rt, "boundary", 30)
		s.papers.identity = drawDocuments(rt, "identity policies", 1, 1, false)
		for range 3 {
			s.papers.grants = drawGrants(rt, 1, 2)
			agreeOnAll(rt, s, asks[:6]) // those about the key
		}
	})
}

// TestAgreementSamplesEveryOutcome guards the generators: agreement says little
// if everything drawn is refused.
func TestAgreementSamplesEveryOutcome(t *testing.T) {
	t.Parallel()
	var everything, conditions [3]int
	for seed := range 40 {
		for outcome, n := range agreeOnAll(t, rapid.Custom(drawScene).Example(seed), asks) {
			everything[outcome] += n
		}
		s := rapid.Custom(func(rt *rapid.T) *scene {
			return &scene{facts: drawFacts(rt), call: drawCall(rt), papers: papers{key: drawConditioned(rt)}}
		}).Example(seed)
		for _, c := range callers() {
			req, p := s.of(c, asks[0])
			p.identity = []*policy.Document{document(t, "", []map[string]any{fullAccess})}
			conditions[agree(t, req, p, p.compiled())]++
		}
	}
	for _, tt := range []struct {
		name    string
		count   [3]int
		outcome authz.Outcome
		percent int // at least
	}{
		{"policies of all types allow", everything, authz.Allowed, 10},
		{"policies of all types deny", everything, authz.ExplicitDeny, 5},
		{"policies of all types say nothing", everything, authz.ImplicitDeny, 10},
		{"conditions hold", conditions, authz.Allowed, 15},
		{"conditions do not hold", conditions, authz.ImplicitDeny, 15},
	} {
		t.Run(tt.name, func(t *testing.T) {
			total := tt.count[0] + tt.count[1] + tt.count[2]
			t.Logf("%d of %d", tt.count[tt.outcome], total)
			if tt.count[tt.outcome]*100 < total*tt.percent {
				t.Errorf("%v is less than %d%% of the sample", tt.outcome, tt.percent)
			}
		})
	}
}
