package wire

import (
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
)

// record is what is known about a request once it is authenticated.
func record(x *exchange, call *iam.Call) audit.Record {
	r := audit.Record{
		UserIdentity: identity(call.Credential), EventTime: call.Now.Truncate(time.Second), EventSource: x.service.name + ".amazonaws.com",
		EventName: x.operation.name, AWSRegion: call.Region, SourceIPAddress: call.SourceIP, UserAgent: call.UserAgent,
		RequestID: call.RequestID, ReadOnly: x.operation.readOnly, RecipientAccountID: call.Account(),
	}
	service := call.Credential.Service
	if n := len(call.Via); n > 0 {
		service = call.Via[n-1]
	}
	if service != "" { // CloudTrail names the service instead of an address
		r.UserIdentity.InvokedBy, r.SourceIPAddress, r.UserAgent = service, service, service
	}
	if call.Through != nil {
		r.VPCEndpointID = call.Through.ID
	}
	r.Claviger.Plain, r.Claviger.Around = !call.Secure, around(call)
	return r
}

// around is what policies can ask about a call that its record does not tell otherwise; nil
// if that is nothing.
func around(call *iam.Call) *audit.Around {
	s := call.Credential.Session
	said := s != nil && (s.Limited || len(s.Tags) > 0 || s.Provider != "" || !s.MFA.IsZero())
	if !said && call.MFA.IsZero() && len(call.Via) == 0 && call.SourceArn == "" && call.SourceAccount == "" && call.Referer == "" && call.Through == nil {
		return nil
	}
	a := &audit.Around{Via: call.Via, Referer: audit.Bounded(call.Referer), SourceArn: audit.Bounded(call.SourceArn), SourceAccount: audit.Bounded(call.SourceAccount), MFA: call.MFA}
	if len(call.Via) > 0 {
		a.SourceIP, a.UserAgent = call.SourceIP, audit.Bounded(call.UserAgent)
	}
	if s != nil {
		a.Provider, a.Tags, a.Limited, a.Policies, a.PolicyARNs = s.Provider, s.Tags, s.Limited, s.Policies, s.PolicyARNs
		if a.MFA.IsZero() {
			a.MFA = s.MFA
		}
	}
	if call.Through != nil {
		a.VPC, a.VPCEAccount = call.Through.VPC, call.Through.Account
	}
	return a
}

// identity is who signed, as CloudTrail tells it.
func identity(c *iam.Credential) *audit.Identity {
	id := &audit.Identity{AccountID: c.Account, AccessKeyID: c.AccessKeyID}
	if s := c.Session; s != nil {
		ofSession(id, s)
		return id
	}
	if c.WebIdentity != nil {
		return &audit.Identity{Type: "WebIdentityUser"} // completed when the token is verified
	}
	if c.Service != "" {
		return &audit.Identity{Type: "AWSService", AccessKeyID: c.AccessKeyID, InvokedBy: c.Service}
	}
	if name, userID := c.User(); name != "" {
		id.Type, id.UserName, id.PrincipalID, id.ARN = "IAMUser", name, userID, c.UserARN()
		return id
	}
	id.Type, id.PrincipalID, id.ARN = "Root", c.Account, arn.Root(iam.Partition, c.Account)
	return id
}

func ofSession(id *audit.Identity, s *iam.Session) {
	id.SessionContext = &audit.Session{SourceIdentity: s.SourceIdentity, Attributes: map[string]any{
		"creationDate": s.Issued.UTC().Format(time.RFC3339), "mfaAuthenticated": strconv.FormatBool(!s.MFA.IsZero())}}
	issuer := &audit.Issuer{Type: "Role", PrincipalID: s.EntityID, AccountID: s.Account, UserName: s.Entity, ARN: s.EntityARN}
	switch s.Kind {
	case policy.RoleSession:
		id.Type, id.PrincipalID = "AssumedRole", s.EntityID+":"+s.Name
		id.ARN = arn.STS(iam.Partition, s.Account, "assumed-role/"+s.Entity+"/"+s.Name)
		id.SessionContext.SessionIssuer = issuer
	case policy.FederatedSession:
		id.Type, id.PrincipalID = "FederatedUser", s.Account+":"+s.Name
		id.ARN = arn.STS(iam.Partition, s.Account, "federated-user/"+s.Name)
		issuer.Type = "IAMUser"
		id.SessionContext.SessionIssuer = issuer
	case policy.User:
		id.Type, id.PrincipalID, id.UserName, id.ARN = "IAMUser", s.EntityID, s.Entity, s.EntityARN
	default:
		id.Type, id.PrincipalID, id.ARN = "Root", s.Account, arn.Root(iam.Partition, s.Account)
	}
}

// record writes the audit record before anything leaves. The answer to a
// request that cannot be recorded is an internal fault.
func (x *exchange) record(call *iam.Call, failed error) error {
	e := call.Entry
	if w := call.Credential.WebIdentity; failed != nil && w != nil && w.Provider == "" {
		return nil // nobody: strangers must not be able to fill the log
	}
	if failed != nil {
		f := x.service.fault(failed)
		e.ErrorCode, e.ErrorMessage = strings.TrimSuffix(f.Code, "Exception"), audit.Bounded(f.Message)
		if f.Code != "AccessDeniedException" {
			e.ErrorCode = f.Code
		}
	}
	return e.End()
}
