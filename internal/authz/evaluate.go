package authz

import (
	"cmp"

	"github.com/claviger/claviger/internal/policy"
)

// Policies are all that may bear on a request. What is absent is nil or empty;
// nothing absent allows.
type Policies struct {
	Resource *policy.Policy   // the key policy, or the role's trust policy
	Identity []*policy.Policy // of the user and its groups, or of the role
	Boundary *policy.Policy   // permissions boundary, if the user or role has one
	Session  []*policy.Policy // session policies
	// HasSession says that the session is limited by Session even when that is
	// empty, as a GetFederationToken session without a policy is.
	HasSession bool
	// HasBoundary says the same of Boundary: one is attached, even if it is gone.
	HasBoundary bool

	SCP      [][]*policy.Policy // one slice for each level of the organization; nil where SCPs do not apply
	RCP      []*policy.Policy   // of the resource's account
	Endpoint *policy.Policy     // of the VPC endpoint the call came through
	// ThroughEndpoint says that there is an endpoint, even if its policy is gone.
	ThroughEndpoint bool

	Grants []*policy.Policy // on the key, compiled by policy.Grant; who may retire one, by policy.Retirement
}

// votes is what each layer says about one request.
type votes struct {
	resource policy.Result
	named    By    // the first grant that names the caller, enough or not
	gap      Layer // what that grant lacks, if it is not enough
	grant    By    // the first that suffices
	shared   bool  // grant is to the caller's account, and an identity policy lets the caller share it

	identity, boundary, session, scp, rcp, endpoint layerVote

	sameAccount    bool
	identityAllows bool
	boundaryAllows bool // there is none, or it allows
	sessionAllows  bool // there is none, or it allows
	endpointAllows bool // there is none, or it allows
	scpMissing     bool // a level without an Allow
}

// layerVote is the first statement of a layer that denies, and that allows.
type layerVote struct {
	deny, allow By
}

// Evaluate decides. It allocates nothing when no policy variable must be filled in.
func Evaluate(req *Request, p *Policies) Decision { return decide(req, p, nil) }

// Explain decides exactly as Evaluate does and tells what became of every
// statement of every policy.
func Explain(req *Request, p *Policies) (Decision, []policy.Step) {
	var trace []policy.Step
	d := decide(req, p, &trace)
	return d, trace
}

func decide(req *Request, p *Policies, trace *[]policy.Step) Decision {
	if req.Caller.Kind == policy.Nobody || req.Action == 0 {
		return Decision{}
	}
	v := collect(req, p, trace)
	if d, ok := v.explicitDeny(p); ok {
		return d
	}
	if layer := v.guardrail(p); layer != NoLayer {
		return Decision{Missing: layer, Via: v.consent(p)}
	}
	if req.Guarded {
		return v.guarded(req, p)
	}
	return v.unguarded(req)
}

// collect asks every policy.
func collect(req *Request, p *Policies, trace *[]policy.Step) votes {
	q := policy.Request{Action: req.Action, Resource: req.Resource, Who: &req.Caller.Principal, Context: req}
	v := votes{sameAccount: sameAccount(req)}
	v.resource = p.Resource.Match(&q, trace)
	v.identity.ask(&q, trace, p.Identity)
	v.session.ask(&q, trace, p.Session)
	v.rcp.ask(&q, trace, p.RCP)
	v.boundary.askOne(&q, trace, p.Boundary)
	v.endpoint.askOne(&q, trace, p.Endpoint)
	for _, level := range p.SCP {
		var one layerVote
		one.ask(&q, trace, level)
		v.scpMissing = v.scpMissing || one.allow.Ref == 0
		v.scp.merge(one)
	}
	v.identityAllows = v.identity.allow.Ref != 0 || actsAsRoot(&req.Caller)
	v.boundaryAllows = !p.HasBoundary && p.Boundary == nil || v.boundary.allow.Ref != 0
	v.sessionAllows = !p.HasSession && len(p.Session) == 0 || v.session.allow.Ref != 0
	v.endpointAllows = !p.ThroughEndpoint && p.Endpoint == nil || v.endpoint.allow.Ref != 0
	for _, g := range p.Grants {
		r := g.Match(&q, trace)
		if v.named.Ref == 0 && r.Allowed() != 0 {
			v.named, v.gap = By{g, r.Allowed()}, v.limitGap()
			if r.Allow[policy.Limited] == 0 {
				v.gap = v.identityGap()
			}
		}
		if v.grant.Ref != 0 {
			continue
		}
		switch {
		case v.suffices(&r):
			v.grant = By{g, r.Allowed()}
		case r.Allow[policy.Account] != 0 && v.identityGap() == NoLayer: // the grantee is an account (AUTH-6.4, UNVERIFIED)
			v.grant, v.shared = By{g, r.Allow[policy.Account]}, true
		}
	}
	return v
}

// suffices reports whether a grant that answers r needs nothing more. A grant
// needs no policy (AUTH-6.9); what limits it is the UNVERIFIED reading of
// AUTH-6.10, the same as for a key policy that names the grantee.
func (v *votes) suffices(r *policy.Result) bool {
	return r.Allow[policy.Direct] != 0 || r.Allow[policy.Limited] != 0 && v.limitGap() == NoLayer
}

// sameAccount reports whether one account's policies suffice. Service principals
// and web identities have no account of their own: there is no second side to ask.
func sameAccount(req *Request) bool {
	return req.ResourceAccount == "" || req.ResourceAccount == req.Caller.Account || req.Caller.Kind == policy.Service ||
		req.Caller.Kind == policy.WebIdentity
}

// actsAsRoot reports whether the caller is the root user or a federated session
// the root user made: there are no identity policies to ask, and none needed.
func actsAsRoot(c *Caller) bool {
	return c.Kind == policy.RootUser || c.Kind == policy.FederatedSession && c.EntityARN == ""
}

func (l *layerVote) ask(q *policy.Request, trace *[]policy.Step, ps []*policy.Policy) {
	for _, p := range ps {
		l.askOne(q, trace, p)
	}
}

func (l *layerVote) askOne(q *policy.Request, trace *[]policy.Step, p *policy.Policy) {
	r := p.Match(q, trace)
	l.merge(layerVote{By{p, r.Deny}, By{p, r.Allowed()}})
}

func (l *layerVote) merge(o layerVote) {
	if l.deny.Ref == 0 && o.deny.Ref != 0 {
		l.deny = o.deny
	}
	if l.allow.Ref == 0 && o.allow.Ref != 0 {
		l.allow = o.allow
	}
}

// explicitDeny: a Deny anywhere wins (AUTH-1.3). The order decides only which
// one is named (authorization.md §11).
func (v *votes) explicitDeny(p *Policies) (Decision, bool) {
	for _, l := range [...]struct {
		layer Layer
		by    By
	}{
		{SCPLayer, v.scp.deny},
		{RCPLayer, v.rcp.deny},
		{EndpointLayer, v.endpoint.deny},
		{ResourceLayer, By{p.Resource, v.resource.Deny}},
		{BoundaryLayer, v.boundary.deny},
		{SessionLayer, v.session.deny},
		{IdentityLayer, v.identity.deny},
	} {
		if l.by.Ref != 0 {
			d := Decision{Outcome: ExplicitDeny, Layer: l.layer, By: l.by}
			if l.layer != ResourceLayer && l.layer != RCPLayer {
				d.Via = v.consent(p)
			}
			return d, true
		}
	}
	return Decision{}, false
}

// consent is the statement of the resource's side that allows, if one does: of
// its policy, or of a grant.
func (v *votes) consent(p *Policies) By {
	if ref := v.resource.Allowed(); ref != 0 {
		return By{p.Resource, ref}
	}
	if v.named.Ref != 0 {
		return v.named
	}
	return By{}
}

// guardrail returns the guardrail that lacks the Allow it must have (AUTH-5.5, 5.8).
func (v *votes) guardrail(p *Policies) Layer {
	switch {
	case p.SCP != nil && v.scpMissing:
		return SCPLayer
	case !v.endpointAllows:
		return EndpointLayer
	default:
		return NoLayer
	}
}

// unguarded decides for what has no resource policy: identity policies within
// their limits (authorization.md §0, step 3).
func (v *votes) unguarded(req *Request) Decision {
	if !v.sameAccount {
		return Decision{Missing: ResourceLayer}
	}
	if layer := v.identityGap(); layer != NoLayer {
		return Decision{Missing: layer}
	}
	return Decision{Outcome: Allowed, Layer: IdentityLayer, By: v.identity.allow, Root: actsAsRoot(&req.Caller)}
}

// guarded decides for a key, or a role to assume (authorization.md §0, steps 4 to 6).
func (v *votes) guarded(req *Request, p *Policies) Decision {
	if !v.sameAccount && !req.CrossAccount {
		return Decision{Missing: ResourceLayer} // AUTH-4.3
	}
	switch {
	case v.shared:
		return Decision{Outcome: Allowed, Layer: IdentityLayer, By: v.identity.allow, Via: v.grant, Root: actsAsRoot(&req.Caller)}
	case v.grant.Ref != 0:
		return Decision{Outcome: Allowed, Layer: GrantLayer, By: v.grant, Root: actsAsRoot(&req.Caller)}
	}
	d := v.byPolicy(req, p)
	if !d.Allowed() && v.named.Ref != 0 { // a grant names the caller, whose own side falls short
		return Decision{Missing: v.gap, Via: v.named}
	}
	return d
}

// byPolicy decides by the resource's policy, without grants.
func (v *votes) byPolicy(req *Request, p *Policies) Decision {
	if !v.sameAccount {
		return v.across(p)
	}
	if ref := cmp.Or(v.resource.Allow[policy.Direct], v.resource.Allow[policy.Everyone]); ref != 0 {
		return Decision{Outcome: Allowed, Layer: ResourceLayer, By: By{p.Resource, ref}}
	}
	limited := v.resource.Allow[policy.Limited]
	if limited != 0 && v.boundaryAllows && v.sessionAllows {
		return Decision{Outcome: Allowed, Layer: ResourceLayer, By: By{p.Resource, limited}}
	}
	delegation := By{p.Resource, v.resource.Allow[policy.Account]}
	if delegation.Ref != 0 {
		gap := v.identityGap()
		if gap == NoLayer {
			return Decision{Outcome: Allowed, Layer: IdentityLayer, By: v.identity.allow, Via: delegation, Root: actsAsRoot(&req.Caller)}
		}
		if limited == 0 {
			return Decision{Missing: gap, Via: delegation}
		}
	}
	if limited != 0 {
		return Decision{Missing: v.limitGap()} // the role is named, its limits refuse
	}
	return Decision{Missing: ResourceLayer}
}

// across needs both accounts: the key policy naming the caller or its account,
// and an identity policy within its limits (AUTH-4.2, 5.2).
func (v *votes) across(p *Policies) Decision {
	by := By{p.Resource, v.resource.Allowed()}
	if by.Ref == 0 {
		return Decision{Missing: ResourceLayer}
	}
	if gap := v.identityGap(); gap != NoLayer {
		return Decision{Missing: gap, Via: by}
	}
	return Decision{Outcome: Allowed, Layer: IdentityLayer, By: v.identity.allow, Via: by}
}

// identityGap is the layer of the caller's own side that lacks an Allow.
func (v *votes) identityGap() Layer {
	if !v.identityAllows {
		return IdentityLayer
	}
	return v.limitGap()
}

func (v *votes) limitGap() Layer {
	switch {
	case !v.boundaryAllows:
		return BoundaryLayer
	case !v.sessionAllows:
		return SessionLayer
	default:
		return NoLayer
	}
}
