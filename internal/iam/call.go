package iam

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Call is one authenticated request on its way through a service. It belongs
// to that request's goroutine.
type Call struct {
	Credential *Credential
	RequestID  string
	Region     string
	Now        time.Time
	SourceIP   string
	UserAgent  string
	Referer    string
	Secure     bool // over TLS
	// Via are the services that forward the caller's request, the last to us.
	Via []string
	// SourceArn and SourceAccount are on whose behalf a service calls.
	SourceArn, SourceAccount string
	// MFA is when the call itself brought a second factor; zero if it did not.
	MFA time.Time
	// Through is the VPC endpoint the call came through; nil without one.
	Through *Endpoint
	Entry   *audit.Entry
	// Observe is told how long each decision took. Nil ignores it.
	Observe func(time.Duration)

	request authz.Request // reused from decision to decision
}

// An Endpoint is a VPC endpoint with its policy. It does not change.
type Endpoint struct {
	authz.Endpoint
	Policy *policy.Policy
}

// Account is the caller's account; empty for a service.
func (c *Call) Account() string { return c.Credential.Account }

// A Query is what one authorization asks.
type Query struct {
	Action          policy.Action
	Resource        string // an ARN, or "*"
	ResourceAccount string // empty without a resource
	Guarded         bool   // see authz.Request
	CrossAccount    bool
	ResourcePolicy  *policy.Policy
	Conditions      policy.Context // the service's condition keys; may be nil
	// Grants finds the grants on the resource that may serve a caller. Nil: no
	// grant can allow the action.
	Grants func(*policy.Principal) ([]*policy.Policy, error)
	// Unlimited leaves out resource control policies, which have no say over the
	// action.
	Unlimited bool
}

// Decide authorizes the caller and notes the decision and its reasons for the
// audit log. Everything it reads becomes a condition of tx's commit. An error
// means that no decision could be made, which refuses too. The Request is valid
// until the next Decide.
func (c *Call) Decide(tx *store.Tx, q Query) (authz.Decision, *authz.Request, error) {
	begin := time.Now()
	policies, closed, err := c.gather(tx, q)
	if err != nil {
		return authz.Decision{}, nil, err
	}
	d := authz.Evaluate(&c.request, &policies)
	closed = closed && d.Allowed()
	if closed {
		d = authz.Decision{Missing: authz.ResourceLayer}
	}
	if c.Observe != nil {
		c.Observe(time.Since(begin))
	}
	c.note(&d, closed)
	return d, &c.request, nil
}

// Situation returns what Decide would ask authz, without deciding or noting anything.
// closed: one of the accounts is closed, and nothing is allowed. The Request is the
// caller's own.
func (c *Call) Situation(tx *store.Tx, q Query) (req *authz.Request, policies authz.Policies, closed bool, err error) {
	policies, closed, err = c.gather(tx, q)
	copied := c.request
	return &copied, policies, closed, err
}

// gather reads who the caller is and all policies that bear on a query, and fills in the
// request.
func (c *Call) gather(tx *store.Tx, q Query) (policies authz.Policies, closed bool, err error) {
	caller, policies, err := c.principal(tx)
	if err != nil {
		return policies, false, err
	}
	policies.Resource = q.ResourcePolicy
	c.fill(caller, q)
	if closed, err = c.guardrails(tx, q, &policies); err != nil {
		return policies, false, err
	}
	if q.Grants != nil {
		policies.Grants, err = q.Grants(&c.request.Caller.Principal)
	}
	return policies, closed, err
}

// guardrails adds the policies that bind the caller's and the resource's
// accounts, and the endpoint's, and tells the request where the accounts are
// (AUTH-5.5, 5.6, 5.8). closed: one of the accounts was closed.
func (c *Call) guardrails(tx *store.Tx, q Query, p *authz.Policies) (closed bool, err error) {
	own, err := place(tx, c.request.Caller.Account)
	if err != nil {
		return false, err
	}
	if p.SCP, err = own.levels(tx, SCPType); err != nil {
		return false, err
	}
	owner := own
	if q.ResourceAccount != c.request.Caller.Account {
		if owner, err = place(tx, q.ResourceAccount); err != nil {
			return false, err
		}
	}
	if q.Guarded && !q.Unlimited {
		levels, err := owner.levels(tx, RCPType)
		if err != nil {
			return false, err
		}
		p.RCP = slices.Concat(levels...)
	}
	source, err := place(tx, c.SourceAccount)
	if err != nil {
		return false, err
	}
	closed = own.closed() || owner.closed()
	c.request.CallerOrg, c.request.ResourceOrg, c.request.SourceOrg = own.membership(), owner.membership(), source.membership()
	if c.Through == nil {
		return closed, nil
	}
	p.ThroughEndpoint, p.Endpoint = true, c.Through.Policy
	of, err := place(tx, c.Through.Account)
	endpoint := c.Through.Endpoint
	endpoint.Membership = of.membership()
	c.request.Through = &endpoint
	return closed, err
}

// WouldReach reports how q's resource policy alone answers the caller: whether
// it denies, and whether it allows by naming the caller or its account.
func (c *Call) WouldReach(tx *store.Tx, q Query) (policy.Result, error) {
	caller, err := c.Who(tx)
	if err != nil {
		return policy.Result{}, err
	}
	c.fill(caller, q)
	if _, err := c.guardrails(tx, q, &authz.Policies{}); err != nil {
		return policy.Result{}, err
	}
	return q.ResourcePolicy.Match(&policy.Request{
		Action: q.Action, Resource: q.Resource, Who: &c.request.Caller.Principal, Context: &c.request}, nil), nil
}

func (c *Call) fill(caller authz.Caller, q Query) {
	c.request = authz.Request{
		Caller: caller, Action: q.Action, Resource: q.Resource, Guarded: q.Guarded, ResourceAccount: q.ResourceAccount,
		CrossAccount: q.CrossAccount, Now: c.Now, Region: c.Region, SourceIP: c.SourceIP, UserAgent: c.UserAgent,
		Referer: c.Referer, SecureTransport: c.Secure, ServiceCondition: q.Conditions,
		Via: c.Via, SourceArn: c.SourceArn, SourceAccount: c.SourceAccount,
	}
}

func (c *Call) note(d *authz.Decision, closed bool) {
	if c.Entry == nil {
		return
	}
	by := d.By.String()
	if closed {
		by = "the account is closed"
	}
	c.Entry.Claviger.Decisions = append(c.Entry.Claviger.Decisions, audit.Decision{
		Action: c.request.Action.String(), Resource: c.request.Resource, Outcome: d.Outcome.String(),
		Layer: d.Layer.String(), By: by, Via: d.Via.String(), Missing: d.Missing.String(),
	})
}

// principal reads who the caller is now: a deleted user or role, or a deleted or
// inactive access key, is nobody.
func (c *Call) principal(tx *store.Tx) (authz.Caller, authz.Policies, error) {
	if s := c.Credential.Session; s != nil {
		caller, policies, err := s.principal(tx)
		if !c.MFA.IsZero() {
			caller.MFA = c.MFA
		}
		return caller, policies, err
	}
	if w := c.Credential.WebIdentity; w != nil {
		return authz.Caller{Principal: policy.Principal{Kind: policy.WebIdentity, Partition: Partition, ARN: w.Provider, Federated: w.Provider},
			UserID: w.Subject, Provider: w.Issuer}, authz.Policies{}, nil
	}
	if name := c.Credential.Service; name != "" {
		return authz.Caller{Principal: policy.Principal{Kind: policy.Service, Partition: Partition, Service: name}}, authz.Policies{}, nil
	}
	k, err := store.Get(tx, accessKeyKind, accessKeyKey(c.Credential.AccessKeyID))
	if errors.Is(err, store.ErrNotFound) || err == nil && !k.Active {
		return authz.Caller{}, authz.Policies{}, ErrUnknownCredential
	}
	if err != nil {
		return authz.Caller{}, authz.Policies{}, err
	}
	if k.User == "" {
		return rootCaller(k.Account), authz.Policies{}, nil
	}
	e, err := entityOf(tx, k.Account, UserClass, k.User, k.UserID)
	if err != nil {
		return authz.Caller{}, authz.Policies{}, err
	}
	policies, err := entityPolicies(tx, e)
	caller := userCaller(e)
	caller.MFA = c.MFA
	return caller, policies, err
}

// entityOf finds an entity that must still be the one with the given id.
func entityOf(tx *store.Tx, account string, c Class, name, id string) (*Entity, error) {
	e, err := FindEntity(tx, account, c, name)
	if errors.Is(err, store.ErrNotFound) || err == nil && e.ID != id {
		return nil, ErrUnknownCredential
	}
	return e, err
}

func rootCaller(account string) authz.Caller {
	return authz.Caller{
		Principal: policy.Principal{Kind: policy.RootUser, Partition: Partition, Account: account, ARN: arn.Root(Partition, account)},
		UserID:    account,
	}
}

func userCaller(e *Entity) authz.Caller {
	return authz.Caller{
		Principal: policy.Principal{Kind: policy.User, Partition: Partition, Account: e.Account, ARN: e.ARN(),
			EntityARN: e.ARN(), EntityID: e.ID, Bounded: e.Boundary != ""},
		UserID: e.ID, UserName: e.Name, Tags: e.TagMap(),
	}
}

// entityPolicies collects an entity's policies and boundary.
func entityPolicies(tx *store.Tx, e *Entity) (p authz.Policies, err error) {
	p.Identity, err = identityPolicies(tx, e)
	if err == nil && e.Boundary != "" {
		p.HasBoundary = true
		p.Boundary, err = managedPolicy(tx, e.Boundary)
	}
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("policies of %s: %w", e.ARN(), store.ErrDamaged) // they cannot be deleted while in use
	}
	return p, err
}

// principal is Call.principal for a session.
func (s *Session) principal(tx *store.Tx) (authz.Caller, authz.Policies, error) {
	caller, policies := rootCaller(s.Account), authz.Policies{}
	if s.EntityID != "" {
		e, err := FindUnique(tx, s.EntityID) // it may have another name by now
		if errors.Is(err, store.ErrNotFound) {
			err = ErrUnknownCredential
		}
		if err != nil {
			return caller, policies, err
		}
		caller = userCaller(e)
		if policies, err = entityPolicies(tx, e); err != nil {
			return caller, policies, err
		}
	}
	caller.Kind, caller.TokenIssued, caller.SourceIdentity, caller.Provider = s.Kind, s.Issued, s.SourceIdentity, s.Provider
	caller.MFA = s.MFA
	switch s.Kind {
	case policy.RoleSession:
		caller.ARN = arn.STS(Partition, s.Account, "assumed-role/"+s.Entity+"/"+s.Name)
		caller.UserID, caller.UserName = s.EntityID+":"+s.Name, ""
	case policy.FederatedSession:
		caller.ARN = arn.STS(Partition, s.Account, "federated-user/"+s.Name)
		caller.UserID, caller.UserName = s.Account+":"+s.Name, ""
	}
	caller.Tags = merged(caller.Tags, s.Tags)
	return caller, policies, s.limit(tx, &policies)
}

// limit adds the session policies.
func (s *Session) limit(tx *store.Tx, p *authz.Policies) error {
	p.HasSession = s.Limited
	p.Session = append(p.Session, s.compiled...)
	for _, a := range s.PolicyARNs {
		m, err := managedPolicy(tx, a)
		if errors.Is(err, store.ErrNotFound) {
			return ErrUnknownCredential // what would limit the session is gone
		}
		if err != nil {
			return err
		}
		p.Session = append(p.Session, m)
	}
	return nil
}

// merged lays session tags over the entity's; a tag key counts without regard
// to case.
func merged(base, over map[string]string) map[string]string {
	if len(over) == 0 {
		return base
	}
	out := maps.Clone(over)
	for k, v := range base {
		if !authz.FoldLookup(over, k).Present {
			out[k] = v
		}
	}
	return out
}

// CallerARN is the ARN of the caller as of the last decision; empty for a service.
func (c *Call) CallerARN() string { return c.request.Caller.ARN }

// Who returns the caller as it is now, without deciding anything.
func (c *Call) Who(tx *store.Tx) (authz.Caller, error) {
	caller, _, err := c.principal(tx)
	return caller, err
}
