package authz_test

import (
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// facts are the condition keys that a request does not answer itself, by their
// names in small letters. It stands in for the service.
type facts map[string]policy.Value

// Lookup implements policy.Context.
func (f facts) Lookup(key policy.ConditionKey) policy.Value { return f[strings.ToLower(key.String())] }

// value finds a condition key by its name, without regard to case, the suffix
// included (AUTH-8.2).
func (q *question) value(key string) policy.Value {
	name := strings.ToLower(key)
	if text, ok := q.callerFacts()[name]; ok {
		return present(text)
	}
	if text, ok := q.callFacts()[name]; ok {
		return present(text)
	}
	if list, ok := q.listFacts()[name]; ok {
		return policy.Value{Present: len(list) > 0, Multi: len(list) > 0, List: list}
	}
	if tag, ok := strings.CutPrefix(name, "aws:principaltag/"); ok {
		for k, v := range q.Caller.Tags {
			if strings.EqualFold(k, tag) {
				return policy.Value{Present: true, Text: v}
			}
		}
		return policy.Value{}
	}
	if f, ok := q.ServiceCondition.(facts); ok {
		return f[name]
	}
	return policy.Value{}
}

// present is a value that is absent when empty.
func present(text string) policy.Value { return policy.Value{Present: text != "", Text: text} }

// callerFacts is the table of AUTH §2.20 with AUTH-4.7. The keys about services
// and temporary credentials are those of condition-keys.md §3.
func (q *question) callerFacts() map[string]string {
	c := &q.Caller
	f := map[string]string{
		"aws:principalarn": c.ARN, "aws:principalaccount": c.Account, "kms:calleraccount": c.Account,
		"aws:userid": c.UserID, "aws:username": c.UserName, "aws:sourceidentity": c.SourceIdentity,
		"aws:principalisawsservice": strconv.FormatBool(c.Kind == policy.Service), "aws:principalservicename": c.Service,
		"aws:principaltype": "", "aws:tokenissuetime": "", "aws:multifactorauthpresent": "",
		"aws:multifactorauthage": "", "aws:federatedprovider": c.Provider, "aws:principalorgid": q.CallerOrg.Organization,
	}
	switch c.Kind {
	case policy.RootUser:
		f["aws:principaltype"] = "Account"
	case policy.User:
		f["aws:principaltype"] = "User"
	case policy.RoleSession:
		f["aws:principaltype"], f["aws:principalarn"] = "AssumedRole", c.EntityARN
	case policy.FederatedSession:
		f["aws:principaltype"] = "FederatedUser"
	}
	if !c.TokenIssued.IsZero() {
		f["aws:tokenissuetime"], f["aws:multifactorauthpresent"] = c.TokenIssued.UTC().Format(time.RFC3339), "false"
	}
	if !c.MFA.IsZero() {
		f["aws:multifactorauthpresent"], f["aws:multifactorauthage"] = "true", strconv.FormatInt(q.Now.Unix()-c.MFA.Unix(), 10)
	}
	return f
}

// callFacts are the global keys of condition-keys.md §3 about the call itself.
func (q *question) callFacts() map[string]string {
	f := map[string]string{
		"aws:resourceaccount": q.ResourceAccount, "aws:requestedregion": q.Region, "aws:sourceip": q.SourceIP,
		"aws:useragent": q.UserAgent, "aws:referer": q.Referer, "aws:securetransport": strconv.FormatBool(q.SecureTransport),
		"aws:currenttime": q.Now.UTC().Format(time.RFC3339), "aws:epochtime": strconv.FormatInt(q.Now.Unix(), 10),
		"aws:viaawsservice": strconv.FormatBool(len(q.Via) > 0), "aws:sourcearn": q.SourceArn, "aws:sourceaccount": q.SourceAccount,
		"aws:sourceorgid": q.SourceOrg.Organization, "aws:resourceorgid": q.ResourceOrg.Organization,
		"aws:calledviafirst": "", "aws:calledvialast": "", "kms:viaservice": "",
		"aws:sourcevpce": "", "aws:sourcevpc": "", "aws:vpcsourceip": "", "aws:vpceaccount": "", "aws:vpceorgid": "",
	}
	if n := len(q.Via); n > 0 { // AUTH-5.10
		f["aws:calledviafirst"], f["aws:calledvialast"] = q.Via[0], q.Via[n-1]
		f["kms:viaservice"] = strings.Split(q.Via[n-1], ".")[0] + "." + q.Region + ".amazonaws.com"
	}
	if e := q.Through; e != nil { // then there is no aws:SourceIp
		f["aws:vpcsourceip"], f["aws:sourceip"] = q.SourceIP, ""
		f["aws:sourcevpce"], f["aws:sourcevpc"], f["aws:vpceaccount"] = e.ID, e.VPC, e.Account
		f["aws:vpceorgid"] = e.Membership.Organization
	}
	return f
}

// listFacts are the multi-valued global keys.
func (q *question) listFacts() map[string][]string {
	f := map[string][]string{
		"aws:calledvia": q.Via, "aws:principalorgpaths": q.CallerOrg.Paths, "aws:resourceorgpaths": q.ResourceOrg.Paths,
		"aws:sourceorgpaths": q.SourceOrg.Paths, "aws:principalservicenameslist": nil, "aws:vpceorgpaths": nil,
	}
	if s := q.Caller.Service; s != "" {
		label := strings.Split(s, ".")[0]
		f["aws:principalservicenameslist"] = []string{label + ".amazonaws.com", label + "." + q.Region + ".amazonaws.com"}
	}
	if q.Through != nil {
		f["aws:vpceorgpaths"] = q.Through.Membership.Paths
	}
	return f
}

// onto puts into a request the facts that it answers itself.
func (f facts) onto(req *authz.Request) {
	req.SourceArn, req.SourceAccount = f["aws:sourcearn"].Text, f["aws:sourceaccount"].Text
	for name, m := range map[string]*authz.Membership{"principal": &req.CallerOrg, "resource": &req.ResourceOrg, "source": &req.SourceOrg} {
		*m = authz.Membership{Organization: f["aws:"+name+"orgid"].Text, Paths: f["aws:"+name+"orgpaths"].List}
	}
	req.Via = f["aws:calledvia"].List
	if service, _, ok := strings.Cut(f["kms:viaservice"].Text, "."); ok {
		req.Via = append(req.Via, service+".amazonaws.com")
	}
	if f["aws:sourcevpce"].Present || f["aws:sourcevpc"].Present {
		req.Through = &authz.Endpoint{ID: f["aws:sourcevpce"].Text, VPC: f["aws:sourcevpc"].Text, Account: home}
	}
}
