// Package authz decides requests: from a key policy, identity policies and the
// policies that limit them to one Decision. It is pure: no I/O, no clock; the
// time is in the request. It promises that nothing absent ever allows.
//
// Its specification is reference/authorization.md (AUTH-x.y); §0 there is
// Evaluate, step by step.
package authz

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
)

// A Caller is who asks, with the attributes that condition keys tell (AUTH-2.20).
type Caller struct {
	policy.Principal
	UserID         string            // aws:userid
	UserName       string            // IAM users only
	Tags           map[string]string // aws:PrincipalTag; session tags override the role's
	TokenIssued    time.Time         // zero for long-term credentials
	MFA            time.Time         // when the second factor was given; zero without one
	SourceIdentity string            // set at AssumeRole, may be empty
	Provider       string            // the identity provider of a federated session: aws:FederatedProvider
}

// Temporary reports whether the caller uses temporary credentials.
func (c *Caller) Temporary() bool { return !c.TokenIssued.IsZero() }

// A Membership is where in an organization an account is. The zero Membership is
// nowhere.
type Membership struct {
	Organization string   // o-…
	Paths        []string // o-…/r-…/ou-…/, one
}

// An Endpoint is the VPC endpoint that a call came through.
type Endpoint struct {
	ID         string // vpce-…
	VPC        string // vpc-…, may be empty
	Account    string // its owner, may be empty
	Membership Membership
}

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

	CallerOrg   Membership
	ResourceOrg Membership

	// SourceArn and SourceAccount name the resource on whose behalf a service
	// calls, if it says so; SourceOrg is where that account is.
	SourceArn, SourceAccount string
	SourceOrg                Membership
	// Via are the services that forward the caller's request, the last of them
	// to us (AUTH-5.10). Empty for direct calls.
	Via []string
	// Through is the VPC endpoint, if the call came through one.
	Through *Endpoint

	Now              time.Time
	Region           string // of the endpoint
	SourceIP         string
	UserAgent        string
	Referer          string
	SecureTransport  bool
	ServiceCondition policy.Context // the service's own keys; may be nil

	// Given answers keys in place of the request, for simulations; it reports false for those
	// that the request is to answer. Nil for requests that are made.
	Given func(policy.ConditionKey) (v policy.Value, given bool)
}

// Lookup answers a condition key (condition-keys.md §3).
func (r *Request) Lookup(key policy.ConditionKey) policy.Value {
	if r.Given != nil {
		if v, given := r.Given(key); given {
			return v
		}
	}
	if v, ok := r.ofCaller(key); ok {
		return v
	}
	if v, ok := r.ofCall(key); ok {
		return v
	}
	if r.ServiceCondition == nil {
		return policy.Value{}
	}
	return r.ServiceCondition.Lookup(key)
}

// ofCaller answers the keys about who asks; ok is false for other keys.
func (r *Request) ofCaller(key policy.ConditionKey) (v policy.Value, ok bool) {
	c := &r.Caller
	switch key.ID {
	case policy.KeyPrincipalArn:
		return r.principalARN(), true
	case policy.KeyPrincipalAccount, policy.KeyKMSCallerAccount:
		return policy.Optional(c.Account), true
	case policy.KeyPrincipalOrgID:
		return policy.Optional(r.CallerOrg.Organization), true
	case policy.KeyPrincipalOrgPaths:
		return policy.OptionalMany(r.CallerOrg.Paths), true
	case policy.KeyPrincipalTag:
		return FoldLookup(c.Tags, key.Suffix), true
	case policy.KeyPrincipalType:
		return policy.Optional(principalTypes[c.Kind]), true
	case policy.KeyPrincipalIsAWSService:
		return policy.Truth(c.Kind == policy.Service), true
	case policy.KeyPrincipalServiceName:
		return policy.Optional(c.Service), true
	case policy.KeyPrincipalServiceNamesList:
		return policy.OptionalMany(r.serviceNames()), true
	case policy.KeyUserid:
		return policy.Optional(c.UserID), true
	case policy.KeyUsername:
		return policy.Optional(c.UserName), true
	case policy.KeySourceIdentity:
		return policy.Optional(c.SourceIdentity), true
	case policy.KeyFederatedProvider:
		return policy.Optional(c.Provider), true
	case policy.KeyTokenIssueTime:
		if !c.Temporary() {
			return v, true
		}
		return policy.One(c.TokenIssued.UTC().Format(time.RFC3339)), true
	case policy.KeyMultiFactorAuthPresent:
		if !c.Temporary() && c.MFA.IsZero() {
			return v, true
		}
		return policy.Truth(!c.MFA.IsZero()), true
	case policy.KeyMultiFactorAuthAge:
		if c.MFA.IsZero() {
			return v, true
		}
		return policy.One(strconv.Itoa(int(r.Now.Sub(c.MFA) / time.Second))), true
	}
	return v, false
}

// ofCall answers the keys about how the call came and what it is about; ok is
// false for other keys.
func (r *Request) ofCall(key policy.ConditionKey) (v policy.Value, ok bool) {
	switch key.ID {
	case policy.KeyResourceAccount:
		return policy.Optional(r.ResourceAccount), true
	case policy.KeyResourceOrgID:
		return policy.Optional(r.ResourceOrg.Organization), true
	case policy.KeyResourceOrgPaths:
		return policy.OptionalMany(r.ResourceOrg.Paths), true
	case policy.KeyCurrentTime:
		return policy.One(r.Now.UTC().Format(time.RFC3339)), true
	case policy.KeyEpochTime:
		return policy.One(strconv.FormatInt(r.Now.Unix(), 10)), true
	case policy.KeyRequestedRegion:
		return policy.Optional(r.Region), true
	case policy.KeySecureTransport:
		return policy.Truth(r.SecureTransport), true
	case policy.KeySourceIP:
		if r.Through != nil {
			return v, true
		}
		return policy.Optional(r.SourceIP), true
	case policy.KeyUserAgent:
		return policy.Optional(r.UserAgent), true
	case policy.KeyReferer:
		return policy.Optional(r.Referer), true
	case policy.KeySourceArn:
		return policy.Optional(r.SourceArn), true
	case policy.KeySourceAccount:
		return policy.Optional(r.SourceAccount), true
	case policy.KeySourceOrgID:
		return policy.Optional(r.SourceOrg.Organization), true
	case policy.KeySourceOrgPaths:
		return policy.OptionalMany(r.SourceOrg.Paths), true
	}
	if v, ok := r.ofVia(key); ok {
		return v, true
	}
	return r.Through.lookup(key, r)
}

// ofVia answers the keys about services that forward calls.
func (r *Request) ofVia(key policy.ConditionKey) (v policy.Value, ok bool) {
	switch key.ID {
	case policy.KeyViaAWSService:
		return policy.Truth(len(r.Via) > 0), true
	case policy.KeyCalledVia:
		return policy.OptionalMany(r.Via), true
	case policy.KeyCalledViaFirst, policy.KeyCalledViaLast, policy.KeyKMSViaService:
		ok = true
	}
	switch {
	case !ok || len(r.Via) == 0:
	case key.ID == policy.KeyCalledViaFirst:
		v = policy.One(r.Via[0])
	case key.ID == policy.KeyCalledViaLast:
		v = policy.One(r.Via[len(r.Via)-1])
	default:
		v = policy.One(r.serviceBase(r.Via[len(r.Via)-1]) + "." + r.Region + ".amazonaws.com")
	}
	return v, ok
}

// lookup answers the keys about the VPC endpoint. A nil Endpoint has none.
func (e *Endpoint) lookup(key policy.ConditionKey, r *Request) (v policy.Value, ok bool) {
	switch key.ID {
	case policy.KeySourceVpce, policy.KeySourceVpc, policy.KeySourceVpcArn, policy.KeyVpcSourceIP, policy.KeyVpceAccount, policy.KeyVpceOrgID, policy.KeyVpceOrgPaths:
	default:
		return v, false
	}
	if e == nil {
		return v, true
	}
	switch key.ID {
	case policy.KeySourceVpce:
		v = policy.Optional(e.ID)
	case policy.KeySourceVpc:
		v = policy.Optional(e.VPC)
	case policy.KeySourceVpcArn:
		if e.VPC != "" && e.Account != "" {
			v = policy.One("arn:" + arn.Partition(r.Region) + ":ec2:" + r.Region + ":" + e.Account + ":vpc/" + e.VPC)
		}
	case policy.KeyVpcSourceIP:
		v = policy.Optional(r.SourceIP)
	case policy.KeyVpceAccount:
		v = policy.Optional(e.Account)
	case policy.KeyVpceOrgID:
		v = policy.Optional(e.Membership.Organization)
	case policy.KeyVpceOrgPaths:
		v = policy.OptionalMany(e.Membership.Paths)
	}
	return v, true
}

// serviceNames are all the names of the calling service: everywhere, in the
// Region, and the one it calls by.
func (r *Request) serviceNames() []string {
	principal := r.Caller.Service
	if principal == "" {
		return nil
	}
	base := r.serviceBase(principal)
	names := []string{base + ".amazonaws.com", base + "." + r.Region + ".amazonaws.com"}
	if !slices.Contains(names, principal) {
		names = append(names, principal)
	}
	return names
}

// serviceBase is a service principal without its domain and Region: delivery.logs of
// delivery.logs.amazonaws.com, logs of logs.us-east-1.amazonaws.com.
func (r *Request) serviceBase(principal string) string {
	base := strings.TrimSuffix(strings.TrimSuffix(principal, ".cn"), ".amazonaws.com")
	return strings.TrimSuffix(base, "."+r.Region)
}

var principalTypes = [...]string{
	policy.RootUser: "Account", policy.User: "User", policy.RoleSession: "AssumedRole", policy.FederatedSession: "FederatedUser",
	policy.WebIdentity: "",
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
