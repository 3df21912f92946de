package authz_test

import (
	"slices"
	"testing"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
	"pgregory.net/rapid"
)

// documents are the places of all documents of the papers, none of them empty.
func (p *papers) documents() (places []**policy.Document) {
	several := func(docs []*policy.Document) {
		for i := range docs {
			places = append(places, &docs[i])
		}
	}
	several(p.identity)
	several(p.session)
	several(p.rcp)
	for _, level := range p.scp {
		several(level)
	}
	for _, place := range []**policy.Document{&p.key, &p.boundary, &p.endpoint} {
		if *place != nil {
			places = append(places, place)
		}
	}
	return places
}

// replaced is a copy of the document with other statements.
func replaced(doc *policy.Document, statements []policy.Statement) *policy.Document {
	out := *doc
	out.Statements = statements
	return &out
}

// outcomes are Evaluate's answers to all questions of a scene.
func (s *scene) outcomes() (out []authz.Outcome) {
	for req, p := range s.questions(asks) {
		out = append(out, authz.Evaluate(req, p.compiled()).Outcome)
	}
	return out
}

// neverAllowsMore changes a scene and fails if that allowed what was refused.
func neverAllowsMore(t *rapid.T, s *scene, change func()) {
	t.Helper()
	before := s.outcomes()
	change()
	for i, after := range s.outcomes() {
		if after == authz.Allowed && before[i] != authz.Allowed {
			t.Fatalf("%s %v was %v and is allowed", callers()[i/len(asks)].ARN, asks[i%len(asks)], before[i])
		}
	}
}

// TestAddingADenyNeverAllows adds a Deny to any document.
func TestAddingADenyNeverAllows(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScene(rt)
		places := s.papers.documents()
		if len(places) == 0 {
			return
		}
		place := pick(rt, "place", places)
		named := slices.ContainsFunc((*place).Statements, func(s policy.Statement) bool { return s.Principal != nil })
		added := document(rt, (*place).Version, []map[string]any{drawStatement(rt, "Deny", named)}).Statements
		neverAllowsMore(rt, s, func() {
			at := rapid.IntRange(0, len((*place).Statements)).Draw(rt, "at")
			*place = replaced(*place, slices.Insert(slices.Clone((*place).Statements), at, added...))
		})
	})
}

// TestRemovingAnAllowNeverAllowsMore removes one from any document.
func TestRemovingAnAllowNeverAllowsMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScene(rt)
		var places []**policy.Document
		var at []int
		for _, place := range s.papers.documents() {
			for i := range (*place).Statements {
				if (*place).Statements[i].Effect == policy.Allow {
					places, at = append(places, place), append(at, i)
				}
			}
		}
		if len(places) == 0 {
			return
		}
		n := rapid.IntRange(0, len(places)-1).Draw(rt, "statement")
		neverAllowsMore(rt, s, func() {
			doc := *places[n]
			*places[n] = replaced(doc, slices.Delete(slices.Clone(doc.Statements), at[n], at[n]+1))
		})
	})
}

// TestOrderNeverMatters puts statements, identity policies and grants in another order (AUTH-10.3).
func TestOrderNeverMatters(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		s := drawScene(rt)
		before := s.outcomes()
		for _, place := range s.papers.documents() {
			*place = replaced(*place, rapid.Permutation((*place).Statements).Draw(rt, "order"))
		}
		s.papers.identity = rapid.Permutation(s.papers.identity).Draw(rt, "identity policies")
		s.papers.grants = rapid.Permutation(s.papers.grants).Draw(rt, "grants")
		if after := s.outcomes(); !slices.Equal(after, before) {
			rt.Fatalf("outcomes in another order = %v, want %v\n%v", after, before, &s.papers)
		}
	})
}

// TestAbsenceNeverAllows leaves out policies. The root user needs no identity
// policy for what is not a key; nobody may use a key without one.
func TestAbsenceNeverAllows(t *testing.T) {
	t.Parallel()
	empty := &policy.Document{Version: "2012-10-17"}
	tests := []struct {
		name   string
		papers papers
	}{
		{"no policies", papers{}},
		{"a key policy without statements", papers{key: empty}},
		{"identity policies without statements", papers{identity: []*policy.Document{empty, nil}}},
		{"policies of all types without statements", papers{key: empty, identity: []*policy.Document{empty}, boundary: empty,
			session: []*policy.Document{empty}, scp: [][]*policy.Document{{empty}}, rcp: []*policy.Document{empty}, endpoint: empty}},
		{"a boundary that is gone", papers{hasBoundary: true}},
		{"an endpoint that is gone", papers{throughEndpoint: true}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for req, p := range (&scene{papers: tt.papers, call: authz.Request{Region: "us-east-1"}}).questions(asks) {
				asRoot := req.Caller.Kind == policy.RootUser || req.Caller.Kind == policy.FederatedSession && req.Caller.EntityARN == ""
				if d := authz.Evaluate(req, p.compiled()); d.Allowed() && (req.Guarded || !asRoot) {
					t.Errorf("%s may %v on %s", req.Caller.ARN+req.Caller.Service, req.Action, req.Resource)
				}
			}
		})
	}
}

// TestNilPoliciesNeverAllow: they are a mistake of the program, which may panic.
func TestNilPoliciesNeverAllow(t *testing.T) {
	t.Parallel()
	for req := range (&scene{call: authz.Request{Region: "us-east-1"}}).questions(asks) {
		func() {
			defer func() { _ = recover() }()
			if d := authz.Evaluate(req, nil); d.Allowed() {
				t.Errorf("%s may %v on %s", req.Caller.ARN+req.Caller.Service, req.Action, req.Resource)
			}
		}()
	}
}

// TestNoQuestionIsRefused: without a caller or an action nothing is allowed.
func TestNoQuestionIsRefused(t *testing.T) {
	t.Parallel()
	open := document(t, "", []map[string]any{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}})
	p := (&papers{key: open, identity: []*policy.Document{open}}).compiled()
	full := authz.Request{Caller: callers()[2], Action: policy.MustAction("kms:Encrypt"), Resource: keyARN, Guarded: true, ResourceAccount: home}
	if d := authz.Evaluate(&full, p); !d.Allowed() {
		t.Fatalf("Evaluate = %+v, want it allowed", d)
	}
	tests := []struct {
		name   string
		change func(*authz.Request)
	}{
		{"the zero request", func(r *authz.Request) { *r = authz.Request{} }},
		{"no caller", func(r *authz.Request) { r.Caller = authz.Caller{} }},
		{"no action", func(r *authz.Request) { r.Action = 0 }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			req := full
			tt.change(&req)
			if d := authz.Evaluate(&req, p); d.Outcome != authz.ImplicitDeny {
				t.Errorf("Evaluate = %+v, want an implicit deny", d)
			}
		})
	}
}
