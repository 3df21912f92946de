package authz_test

import (
	"strconv"
	"strings"
	"time"

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
// and temporary credentials are those of condition-keys.md §3; no session here
// was made with MFA.
func (q *question) callerFacts() map[string]string {
	c := &q.Caller
	f := map[string]string{
		"aws:principalarn": c.ARN, "aws:principalaccount": c.Account, "kms:calleraccount": c.Account,
		"aws:userid": c.UserID, "aws:username": c.UserName, "aws:sourceidentity": c.SourceIdentity,
		"aws:principalisawsservice": strconv.FormatBool(c.Kind == policy.Service), "aws:principalservicename": c.Service,
		"aws:principaltype": "", "aws:tokenissuetime": "", "aws:multifactorauthpresent": "",
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
	return f
}

// callFacts are the global keys of condition-keys.md §3 about the call itself.
func (q *question) callFacts() map[string]string {
	return map[string]string{
		"aws:resourceaccount": q.ResourceAccount, "aws:requestedregion": q.Region, "aws:sourceip": q.SourceIP,
		"aws:useragent": q.UserAgent, "aws:referer": q.Referer, "aws:securetransport": strconv.FormatBool(q.SecureTransport),
		"aws:currenttime": q.Now.UTC().Format(time.RFC3339), "aws:epochtime": strconv.FormatInt(q.Now.Unix(), 10),
		"aws:viaawsservice": "false",
	}
}
