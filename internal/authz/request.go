// Package authz decides requests: from a key policy, identity policies and the
// policies that limit them to one Decision. It is pure: no I/O, no clock; the
// time is in the request. It promises that nothing absent ever allows.
//
// Its specification is reference/authorization.md (AUTH-x.y); §0 there is
// Evaluate, step by step.
package authz

import (
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/policy"
)

// A Caller is who asks, with the attributes that condition keys tell (AUTH-2.20).
type Caller struct {
	policy.Principal
	UserID         string            // aws:userid
	UserName       string            // IAM users only
	Tags           map[string]string // aws:PrincipalTag; session tags override the role's
	TokenIssued    time.Time         // zero for long-term credentials
	SourceIdentity string            // set at AssumeRole, may be empty
}

// Temporary reports whether the caller uses temporary credentials.
func (c *Caller) Temporary() bool { return !c.TokenIssued.IsZero() }

// A Request is what is asked: by whom, to do what, with which resource, and how
// the call came in. It answers the global condition keys itself and passes
// those of the service on to Service.
//
// A Request belongs to one goroutine.
type Request struct {
	Caller   Caller
	Action   policy.Action
	Resource string // an ARN, or "*" for actions without a resource

	// Guarded says that the resource is one that must have a resource policy,
	// a KMS key or a role to assume: then identity policies alone never allow.
	Guarded bool
	// ResourceAccount owns the resource; empty when there is none.
	ResourceAccount string
	// CrossAccount says that the action may work across accounts (AUTH-4.3).
	CrossAccount bool

	Now              time.Time
	Region           string // of the endpoint
	SourceIP         string
	UserAgent        string
	Referer          string
	SecureTransport  bool
	ServiceCondition policy.Context // the service's own keys; may be nil
}

// Lookup answers a condition key (condition-keys.md §3).
func (r *Request) Lookup(key policy.ConditionKey) policy.Value {
	c := &r.Caller
	switch key.ID {
	case policy.KeyUnknown:
		return policy.Value{}
	case policy.KeyPrincipalArn:
		return r.principalARN()
	case policy.KeyPrincipalAccount, policy.KeyKMSCallerAccount:
		return policy.Optional(c.Account)
	case policy.KeyPrincipalTag:
		return FoldLookup(c.Tags, key.Suffix)
	case policy.KeyPrincipalType:
		return policy.Optional(principalTypes[c.Kind])
	case policy.KeyPrincipalIsAWSService:
		return policy.Truth(c.Kind == policy.Service)
	case policy.KeyPrincipalServiceName:
		return policy.Optional(c.Service)
	case policy.KeyUserid:
		return policy.Optional(c.UserID)
	case policy.KeyUsername:
		return policy.Optional(c.UserName)
	case policy.KeySourceIdentity:
		return policy.Optional(c.SourceIdentity)
	case policy.KeyTokenIssueTime:
		if !c.Temporary() {
			return policy.Value{}
		}
		return policy.One(c.TokenIssued.UTC().Format(time.RFC3339))
	case policy.KeyMultiFactorAuthPresent:
		if !c.Temporary() {
			return policy.Value{}
		}
		return policy.Truth(false) // no session is made with MFA
	case policy.KeyResourceAccount:
		return policy.Optional(r.ResourceAccount)
	case policy.KeyCurrentTime:
		return policy.One(r.Now.UTC().Format(time.RFC3339))
	case policy.KeyEpochTime:
		return policy.One(strconv.FormatInt(r.Now.Unix(), 10))
	case policy.KeyRequestedRegion:
		return policy.Optional(r.Region)
	case policy.KeySecureTransport:
		return policy.Truth(r.SecureTransport)
	case policy.KeySourceIP:
		return policy.Optional(r.SourceIP)
	case policy.KeyUserAgent:
		return policy.Optional(r.UserAgent)
	case policy.KeyReferer:
		return policy.Optional(r.Referer)
	case policy.KeyViaAWSService:
		return policy.Truth(false) // no service forwards calls yet
	}
	if r.ServiceCondition == nil {
		return policy.Value{}
	}
	return r.ServiceCondition.Lookup(key)
}

var principalTypes = [...]string{
	policy.RootUser: "Account", policy.User: "User", policy.RoleSession: "AssumedRole", policy.FederatedSession: "FederatedUser",
	policy.Service: "",
}

// principalARN is the role for its sessions, the caller itself otherwise.
func (r *Request) principalARN() policy.Value {
	if r.Caller.Kind == policy.RoleSession {
		return policy.Optional(r.Caller.EntityARN)
	}
	return policy.Optional(r.Caller.ARN)
}

// FoldLookup finds a pair by its key without regard to case, as condition keys
// with a suffix do (AUTH-8.2). If several keys differ only in case, the first
// in order of their bytes counts (UNVERIFIED).
func FoldLookup(m map[string]string, key string) policy.Value {
	if v, ok := m[key]; ok {
		return policy.One(v)
	}
	best, found := "", false
	for k := range m {
		if strings.EqualFold(k, key) && (!found || k < best) {
			best, found = k, true
		}
	}
	if !found {
		return policy.Value{}
	}
	return policy.One(m[best])
}
