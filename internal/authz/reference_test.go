package authz_test

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// papers are the documents that bear on a request, as they were written.
type papers struct {
	key             *policy.Document
	identity        []*policy.Document
	boundary        *policy.Document
	hasBoundary     bool
	session         []*policy.Document
	hasSession      bool
	scp             [][]*policy.Document
	rcp             []*policy.Document
	endpoint        *policy.Document
	throughEndpoint bool
	grants          []policy.GrantTerms
}

// question is one request with the papers it is decided on. Its methods are the
// rules of authorization.md, written to be read and not to be quick; they share
// nothing with the code under test but the parsed documents.
type question struct {
	*authz.Request
	papers *papers
}

// referenceOutcome decides as AUTH §0 does. Explicit denies come first (§11).
func referenceOutcome(req *authz.Request, p *papers) authz.Outcome {
	q := &question{req, p}
	switch {
	case q.denied():
		return authz.ExplicitDeny
	case q.guardrails() && q.allowed():
		return authz.Allowed
	default:
		return authz.ImplicitDeny
	}
}

// denied reports whether a Deny applies in any document (AUTH-1.3). However the
// statement came to name the caller, it denies (AUTH-3.5).
func (q *question) denied() bool {
	p := q.papers
	return q.denies(policy.Key, q.keyPolicy()) ||
		q.denies(policy.Identity, p.identity...) || q.denies(policy.Identity, p.boundary) || q.denies(policy.Identity, p.session...) ||
		q.denies(policy.SCP, slices.Concat(p.scp...)...) ||
		q.rcpApplies() && q.denies(policy.RCP, p.rcp...) ||
		q.denies(policy.Endpoint, p.endpoint)
}

// keyPolicy is the key policy where it has a say: not over kms:RetireGrant (AUTH-6.6).
func (q *question) keyPolicy() *policy.Document {
	if q.Action.String() == "kms:RetireGrant" {
		return nil
	}
	return q.papers.key
}

// rcpApplies: RCPs bear on actions that authorize a key, except kms:RetireGrant (AUTH-5.6).
func (q *question) rcpApplies() bool {
	return q.Guarded && q.Action.String() != "kms:RetireGrant"
}

// guardrails are what must allow besides (AUTH §0, step 2): every level of SCPs
// (AUTH-5.5) and the endpoint (AUTH-5.8). RCPs always allow (AUTH-5.6).
func (q *question) guardrails() bool {
	for _, level := range q.papers.scp {
		if !q.allows(policy.SCP, level...) {
			return false
		}
	}
	return q.papers.endpoint == nil && !q.papers.throughEndpoint || q.allows(policy.Endpoint, q.papers.endpoint)
}

// allowed is AUTH §0, steps 0 and 3 to 5.
func (q *question) allowed() bool {
	if q.foreign() && !q.CrossAccount { // AUTH-4.3
		return false
	}
	if !q.Guarded {
		return q.identitySide()
	}
	named := q.namings(policy.Key, q.keyPolicy())
	switch {
	case q.permits(q.granted()): // in any account (AUTH-6.9)
		return true
	case q.Caller.Kind == policy.Service: // no identity side exists
		return slices.Contains(named, direct) || slices.Contains(named, everyone)
	case q.foreign(): // two allows, whatever the key policy names (AUTH-4.2, 5.2)
		return len(named) > 0 && q.identitySide()
	default:
		return q.permits(named)
	}
}

// foreign: the caller is of another account than the key or alias (AUTH-4.1). A
// service is of none.
func (q *question) foreign() bool {
	return q.Caller.Kind != policy.Service && q.ResourceAccount != "" && q.Caller.Account != q.ResourceAccount
}

// permits is the table of AUTH-5.1: what else an Allow needs that names the
// caller in these ways. A grant to an account acts like the account in a key
// policy (AUTH-6.4), and other grants as the row of their grantee (AUTH-6.10).
func (q *question) permits(named []naming) bool {
	return slices.Contains(named, direct) || slices.Contains(named, everyone) ||
		slices.Contains(named, entity) && q.boundaryAllows() && q.sessionAllows() ||
		slices.Contains(named, account) && q.identitySide()
}

// identitySide is identity ∩ boundary ∩ session policy (AUTH-5.3).
func (q *question) identitySide() bool {
	return q.identityAllows() && q.boundaryAllows() && q.sessionAllows()
}

// identityAllows: the root user has no identity policies and needs none (AUTH
// §0). The rules do not speak of federated sessions that the root user made;
// they are taken to act as the root user.
func (q *question) identityAllows() bool {
	rootMade := q.Caller.Kind == policy.FederatedSession && q.Caller.EntityARN == ""
	return q.Caller.Kind == policy.RootUser || rootMade || q.allows(policy.Identity, q.papers.identity...)
}

// boundaryAllows: there is no boundary, or it allows (AUTH-5.4).
func (q *question) boundaryAllows() bool {
	return q.papers.boundary == nil && !q.papers.hasBoundary || q.allows(policy.Identity, q.papers.boundary)
}

// sessionAllows: there is no session policy, or one of them allows (AUTH-5.3).
func (q *question) sessionAllows() bool {
	return len(q.papers.session) == 0 && !q.papers.hasSession || q.allows(policy.Identity, q.papers.session...)
}

// denies reports whether a Deny of the documents applies.
func (q *question) denies(kind policy.Kind, docs ...*policy.Document) bool {
	return len(q.find(policy.Deny, kind, docs)) > 0
}

// allows reports whether an Allow of the documents applies.
func (q *question) allows(kind policy.Kind, docs ...*policy.Document) bool {
	return len(q.find(policy.Allow, kind, docs)) > 0
}

// namings are all the ways in which Allow statements of a document that apply name the caller.
func (q *question) namings(kind policy.Kind, docs ...*policy.Document) []naming {
	return q.find(policy.Allow, kind, docs)
}

// find asks every statement of an effect. Their order is irrelevant (AUTH-10.3),
// and so are Id and Sid (AUTH-10.2).
func (q *question) find(effect policy.Effect, kind policy.Kind, docs []*policy.Document) (found []naming) {
	for _, doc := range docs {
		if doc == nil {
			continue
		}
		for i := range doc.Statements {
			s := &doc.Statements[i]
			if named := q.principalMatches(s, kind); s.Effect == effect && len(named) > 0 &&
				q.actionMatches(s) && q.resourceMatches(s, kind, doc.Version) && q.conditionsHold(s, doc.Version) {
				found = append(found, named...)
			}
		}
	}
	return found
}

// actionMatches: names without regard to case, with wildcards (AUTH-7.1). A
// statement without Action is inert (AUTH-7.3).
func (q *question) actionMatches(s *policy.Statement) bool {
	if s.Action == nil {
		return false
	}
	action := strings.ToLower(q.Action.String())
	listed := slices.ContainsFunc(s.Action.Items, func(i policy.Item) bool {
		return like(globGlyphs(strings.ToLower(i.Text)), action)
	})
	return listed != s.NotAction
}

// resourceMatches: a statement without Resource is inert (AUTH-7.3). In a key
// policy the key's own ARN matches and others do not (AUTH-7.2); patterns, of
// which that rule does not speak, are taken as elsewhere.
func (q *question) resourceMatches(s *policy.Statement, kind policy.Kind, version string) bool {
	if s.Resource == nil {
		return false
	}
	listed := slices.ContainsFunc(s.Resource.Items, func(i policy.Item) bool {
		switch {
		case i.Text == "*":
			return true
		case q.Resource == "*": // actions without a resource need "*" (AUTH-7.7)
			return false
		default:
			return q.resourceLike(i.Text, version)
		}
	})
	return listed != s.NotResource
}

// resourceLike compares field by field; the sixth is the rest (AUTH-7.6). Only
// there are variables (AUTH-8.11). In a pattern of fewer fields a final "*" spans
// what is left; the rule has it alone in its field, here it may end the field.
// Other short texts, like a bare key id, match nothing (AUTH-7.5).
func (q *question) resourceLike(pattern, version string) bool {
	fields := strings.SplitN(pattern, ":", 6)
	last := len(fields) - 1
	if last < 5 && !strings.HasSuffix(fields[last], "*") {
		return false
	}
	parts := strings.SplitN(q.Resource, ":", 6)
	if len(parts) != 6 {
		return false
	}
	for i, f := range fields[:last] {
		if !like(globGlyphs(f), parts[i]) {
			return false
		}
	}
	rest, ok := globGlyphs(fields[last]), true
	if last == 5 {
		rest, ok = q.expand(fields[last], version, true)
	}
	return ok && like(rest, strings.Join(parts[last:], ":"))
}

// A naming is how a Principal element comes to name a caller; AUTH-5.1 depends on it.
type naming int

// The namings.
const (
	account  naming = iota // its account: delegation (AUTH-3.1)
	entity                 // the role of a session, the user of a federated session
	direct                 // itself
	everyone               // "*"
)

// principalMatches is AUTH §2. Policies without principals apply to whom they
// are attached to (AUTH-2.19).
func (q *question) principalMatches(s *policy.Statement, kind policy.Kind) []naming {
	switch {
	case kind == policy.Identity || kind == policy.SCP:
		return []naming{direct}
	case s.Principal == nil:
		return nil
	case s.NotPrincipal && s.Effect == policy.Deny && q.exempt(s.Principal):
		return nil
	case s.NotPrincipal && s.Effect == policy.Allow && len(q.listed(s.Principal)) > 0: // everyone except the listed
		return nil
	case s.NotPrincipal:
		return []naming{everyone}
	default:
		return q.listed(s.Principal)
	}
}

// listed are the ways in which an element lists the caller; its members are alternatives (AUTH-2.13).
func (q *question) listed(ps *policy.Principals) (found []naming) {
	if ps.Everyone {
		return []naming{everyone}
	}
	for _, e := range ps.Entries {
		for _, i := range e.Values.Items {
			switch {
			case e.Type == "AWS" && i.Text == "*":
				found = append(found, everyone)
			case e.Type == "AWS" && q.isAccount(i.Text):
				found = append(found, account)
			case e.Type == "AWS":
				found = append(found, q.itself(i.Text)...)
			case e.Type == "Service" && q.Caller.Kind == policy.Service && i.Text == q.Caller.Service: // AUTH-2.7
				found = append(found, direct)
			}
			// Federated and CanonicalUser never match (AUTH-2.8, 2.9).
		}
	}
	return found
}

// isAccount: the root ARN, of the key's partition (AUTH-2.14), or the bare number (AUTH-2.2).
func (q *question) isAccount(text string) bool {
	a := q.Caller.Account
	return a != "" && (text == a || text == "arn:"+q.Caller.Partition+":iam::"+a+":root")
}

// itself matches ARNs and unique ids (AUTH-2.3 to 2.6, 2.11); nothing in them is a wildcard (AUTH-2.12).
func (q *question) itself(text string) []naming {
	c := &q.Caller
	entityNamed := text != "" && (text == c.EntityARN || text == c.EntityID)
	switch {
	case text != "" && text == c.ARN && c.Kind != policy.RootUser:
		return []naming{direct}
	case entityNamed && c.Kind == policy.User:
		return []naming{direct}
	case entityNamed && (c.Kind == policy.RoleSession || c.Kind == policy.FederatedSession):
		return []naming{entity}
	}
	return nil
}

// exempt is the calculus of AUTH-2.18 for Deny with NotPrincipal: every representation
// that could be denied is listed, and there is no boundary.
func (q *question) exempt(ps *policy.Principals) bool {
	named := q.listed(ps)
	has := func(ns ...naming) bool {
		return !slices.ContainsFunc(ns, func(n naming) bool { return !slices.Contains(named, n) })
	}
	switch {
	case q.Caller.Bounded:
		return false
	case has(everyone):
		return true
	}
	switch q.Caller.Kind {
	case policy.RootUser:
		return has(account)
	case policy.User:
		return has(account, direct)
	case policy.RoleSession:
		return has(account, entity, direct)
	case policy.FederatedSession: // the rule does not name federated users
		return has(account, direct)
	case policy.Service:
		return has(direct)
	}
	return false
}

// granted are the ways in which grants that list the operation, and whose
// constraints hold, name the caller (AUTH-6.3, 6.4).
func (q *question) granted() (found []naming) {
	operation, _ := strings.CutPrefix(q.Action.String(), "kms:")
	for _, g := range q.papers.grants {
		if !slices.Contains(g.Operations, operation) || !q.constraintHolds(&g, operation) || !q.sourceHolds(&g) {
			continue
		}
		if operation == "RetireGrant" || operation == "CreateGrant" && !q.narrows(&g) { // retiring is AUTH-6.6
			continue
		}
		if q.isAccount(g.Grantee) {
			found = append(found, account)
		}
		found = append(found, q.itself(g.Grantee)...)
	}
	return found
}

// sourceHolds is AUTH-6.5.3, fail-closed and literal.
func (q *question) sourceHolds(g *policy.GrantTerms) bool {
	v := q.value("aws:SourceArn")
	return g.SourceArn == "" || v.Present && v.Text == g.SourceArn
}

// constraintHolds is AUTH-6.5.1 and 6.5.2: the keys of pairs without regard to case, the values exactly.
func (q *question) constraintHolds(g *policy.GrantTerms, operation string) bool {
	if operation == "DescribeKey" || operation == "RetireGrant" {
		return true
	}
	pairs := g.Subset
	if g.Equals != nil {
		pairs = g.Equals
		for _, k := range q.value("kms:EncryptionContextKeys").List {
			if !slices.ContainsFunc(mapKeys(pairs), func(p string) bool { return strings.EqualFold(p, k) }) {
				return false // one more than the constraint's pairs
			}
		}
	}
	for k, want := range pairs {
		if v := q.value("kms:EncryptionContext:" + k); !v.Present || v.Text != want {
			return false
		}
	}
	return true
}

// narrows is AUTH-6.7.2: a child grant has no further operation, is as exact as
// its parent and keeps its source. Its pairs are the request's encryption context.
func (q *question) narrows(parent *policy.GrantTerms) bool {
	for _, op := range q.value("kms:GrantOperations").List {
		if !slices.Contains(parent.Operations, op) {
			return false
		}
	}
	if parent.Equals != nil && q.value("kms:GrantConstraintType").Text != "EncryptionContextEquals" {
		return false
	}
	return parent.SourceArn == "" || q.value("kms:GrantConstraintSourceArn").Text == parent.SourceArn
}

// mapKeys lists the keys of a map in any order.
func mapKeys(m map[string]string) (keys []string) {
	for k := range m {
		keys = append(keys, k)
	}
	return keys
}
