package authz_test

import (
	"iter"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
	"pgregory.net/rapid"
)

// A scene is what is drawn once and asked about by every caller.
type scene struct {
	papers papers // with everything; who has no session, say, gets no session policy
	facts  facts
	call   authz.Request // how the call came in
}

// drawScene draws all types of policies.
func drawScene(t *rapid.T) *scene {
	s := &scene{facts: drawFacts(t), call: drawCall(t)}
	p := &s.papers
	if chance(t, "key policy", 95) {
		p.key = drawDocument(t, 5, true)
	}
	p.identity = drawDocuments(t, "identity policies", 2, 3, false)
	p.hasBoundary = chance(t, "boundary", 40)
	if p.hasBoundary && !chance(t, "boundary is gone", 10) {
		p.boundary = drawDocument(t, 2, false)
	}
	p.hasSession = chance(t, "session policy", 40)
	p.session = drawDocuments(t, "session policies", 2, 2, false)
	for range rapid.IntRange(-3, 2).Draw(t, "SCP levels") {
		p.scp = append(p.scp, append(drawDocuments(t, "SCPs", 1, 2, false), drawFull(t)...))
	}
	p.rcp = drawDenials(t)
	p.throughEndpoint = chance(t, "endpoint", 40)
	if p.throughEndpoint && !chance(t, "endpoint is gone", 10) {
		p.endpoint = drawDocument(t, 3, true)
		if chance(t, "default endpoint policy", 60) {
			allow := document(t, "", []map[string]any{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}})
			p.endpoint = replaced(p.endpoint, append(allow.Statements, p.endpoint.Statements...))
		}
	}
	p.grants = drawGrants(t, -3, 2)
	return s
}

// drawDocuments draws up to count documents of up to n statements.
func drawDocuments(t *rapid.T, label string, count, n int, named bool) (docs []*policy.Document) {
	for range rapid.IntRange(0, count).Draw(t, label) {
		docs = append(docs, drawDocument(t, n, named))
	}
	return docs
}

// drawFull draws FullAWSAccess, mostly.
func drawFull(t *rapid.T) []*policy.Document {
	if chance(t, "without FullAWSAccess", 20) {
		return nil
	}
	return []*policy.Document{document(t, "2012-10-17", []map[string]any{fullAccess})}
}

// drawDenials draws RCPs: they only deny, and everybody (AUTH-5.6).
func drawDenials(t *rapid.T) (docs []*policy.Document) {
	for range rapid.IntRange(-3, 1).Draw(t, "RCPs") {
		s := drawStatement(t, "Deny", false)
		s["Principal"] = "*"
		docs = append(docs, document(t, "2012-10-17", []map[string]any{s}))
	}
	return docs
}

// drawGrants draws grants on the key; less than none is none.
func drawGrants(t *rapid.T, least, most int) (grants []policy.GrantTerms) {
	for range rapid.IntRange(least, most).Draw(t, "grants") {
		g := policy.GrantTerms{Name: "grant", Grantee: pick(t, "grantee", []string{
			aliceARN, bobARN, workerARN, strangeARN, "arn:aws:iam::" + home + ":root", "arn:aws:iam::" + abroad + ":root",
			"arn:aws:sts::" + home + ":assumed-role/worker/one", "arn:aws:sts::" + home + ":federated-user/fay"})}
		g.Operations = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Encrypt", "Decrypt", "DescribeKey", "RetireGrant", "CreateGrant"}), 1, 4, rapid.ID).Draw(t, "operations")
		pairs := pick(t, "pairs", []map[string]string{{"app": "a"}, {"App": "a"}, {"app": "A", "b": "1"}, {}})
		switch pick(t, "constraint", []string{"", "Equals", "Subset"}) {
		case "Equals":
			g.Equals = pairs
		case "Subset":
			g.Subset = pairs
		}
		if chance(t, "source", 15) {
			g.SourceArn = pick(t, "source", []string{aliceARN, "arn:aws:logs:*:*:*"})
		}
		grants = append(grants, g)
	}
	return grants
}

// drawCall draws how a call came in.
func drawCall(t *rapid.T) authz.Request {
	return authz.Request{
		Now: time.Unix(1.8e9, 0), Region: "us-east-1", SecureTransport: true,
		SourceIP: pick(t, "address", []string{"10.0.0.1", "10.1.2.3", "192.0.2.1", "2001:db8::1", ""}),
	}
}

// questions are what all callers ask, each with the papers that bear on it.
func (s *scene) questions(asks []ask) iter.Seq2[*authz.Request, *papers] {
	return func(yield func(*authz.Request, *papers) bool) {
		for _, c := range callers() {
			for _, a := range asks {
				if !yield(s.of(c, a)) {
					return
				}
			}
		}
	}
}

// of is one request of the scene and the papers that bear on it: only users and
// roles have identity policies and a boundary (AUTH-5.4), only sessions have
// session policies, SCPs do not apply to services (AUTH-5.5), and only keys have
// a key policy, grants and RCPs (AUTH-5.6).
func (s *scene) of(c authz.Caller, a ask) (*authz.Request, *papers) {
	req, p := s.call, s.papers
	c.Bounded = p.hasBoundary
	if c.EntityARN == "" {
		c.Bounded, p.identity, p.boundary, p.hasBoundary = false, nil, nil, false
	}
	if c.Kind != policy.RoleSession && c.Kind != policy.FederatedSession {
		p.session, p.hasSession = nil, false
	}
	if c.Kind == policy.Service {
		p.scp = nil
	}
	req.Caller, req.Action, req.Resource, req.CrossAccount = c, policy.MustAction(a.action), a.resource, a.crossAccount
	req.ServiceCondition, req.ResourceAccount = s.facts, home
	s.facts.onto(&req)
	req.Guarded = a.resource == keyARN
	if !req.Guarded {
		p.key, p.grants, p.rcp = nil, nil, nil
	}
	if a.action == "kms:RetireGrant" { // they have no say over it (AUTH-5.6, 6.6)
		p.key, p.rcp = nil, nil
	}
	if a.resource == "*" {
		req.ResourceAccount = ""
	}
	return &req, &p
}
