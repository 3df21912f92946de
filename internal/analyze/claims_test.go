package analyze

import (
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/policy"
)

const harmless = `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:PutKeyPolicy","Resource":"*"}`

// everybody lets everybody decrypt on a condition.
func everybody(condition string) string {
	return `{"Effect":"Allow","Principal":{"AWS":"*"},"Action":"kms:Decrypt","Resource":"*","Condition":` + condition + `}`
}

func of(statements ...string) *policy.Policy {
	return compiled(`{"Version":"2012-10-17","Statement":[` + strings.Join(append([]string{harmless}, statements...), ",") + `]}`)
}

// TestNothingIsOverlooked: what is allowed by the second policy and not by the first is found,
// or is said to be in doubt.
func TestNothingIsOverlooked(t *testing.T) {
	federated := func(condition string) string {
		return `{"Effect":"Allow","Principal":{"AWS":"AIDAABCDEFGHIJKLMNOPQ"},"Action":"kms:Decrypt","Resource":"*","Condition":` + condition + `}`
	}
	tags := func(condition string) []string {
		return []string{`{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["kms:TagResource","kms:UntagResource"],"Resource":"*"}`,
			`{"Effect":"Deny","Principal":{"AWS":"*"},"Action":"kms:UntagResource","Resource":"*","Condition":` + condition + `}`}
	}
	service := func(name string) string {
		return `{"Effect":"Allow","Principal":{"Service":"` + name + `"},"Action":"kms:Decrypt","Resource":"*"}`
	}
	bob := `{"Effect":"Allow","Principal":{"AWS":"arn:aws:sts::111122223333:federated-user/bob"},"Action":"kms:Decrypt","Resource":"*"}`
	butBob := `{"Effect":"Deny","NotPrincipal":{"AWS":["arn:aws:sts::111122223333:federated-user/bob","arn:aws:iam::111122223333:root"]},"Action":"kms:Decrypt","Resource":"*"}`
	for name, pair := range map[string][2][]string{
		"a role with a long path":      {nil, {everybody(`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/aws-reserved/sso.amazonaws.com/us-east-1/AWSReservedSSO_Admin_*"}}`)}},
		"a user with a long path":      {nil, {everybody(`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::111122223333:user/div/team/*"}}`)}},
		"values with commas":           {{everybody(`{"StringEquals":{"kms:EncryptionContext:app":["a, b"]}}`)}, {everybody(`{"StringEquals":{"kms:EncryptionContext:app":["a","b"]}}`)}},
		"keys with spaces":             {{everybody(`{"StringEquals":{"aws:PrincipalTag/Cost":"Center 1"}}`)}, {everybody(`{"StringEquals":{"aws:PrincipalTag/Cost Center":"1"}}`)}},
		"no values":                    {{everybody(`{"StringNotEquals":{"kms:EncryptionContext:app":[""]}}`)}, {everybody(`{"StringNotEquals":{"kms:EncryptionContext:app":[]}}`)}},
		"two spellings of a key":       {nil, {everybody(`{"StringEquals":{"kms:EncryptionContext:app":"prod"},"StringLike":{"kms:EncryptionContext:App":"dev"}}`)}},
		"another spelling of a key":    {{everybody(`{"StringEquals":{"kms:EncryptionContext:app":"prod"},"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"app"}}`)}, {everybody(`{"StringEquals":{"kms:EncryptionContext:app":"prod"},"ForAllValues:StringEqualsIgnoreCase":{"kms:EncryptionContextKeys":"app"},"ForAnyValue:StringEquals":{"kms:EncryptionContextKeys":"app"}}`)}},
		"tags that are taken away":     {tags(`{"ForAnyValue:StringEquals":{"aws:TagKeys":"env"}}`), tags(`{"StringLike":{"aws:RequestTag/env":"*"}}`)},
		"organizations by their end":   {nil, {everybody(`{"StringLike":{"aws:PrincipalOrgID":"o-a*z"}}`)}},
		"federated users by id":        {{federated(`{"StringEquals":{"aws:PrincipalType":"User"}}`)}, {federated(`{}`)}},
		"federated users with a bound": {{bob, butBob}, {bob}},
		"accounts as numbers":          {nil, {everybody(`{"NumericEquals":{"aws:PrincipalAccount":"444455556666"}}`)}},
		"names as bytes":               {nil, {everybody(`{"BinaryEquals":{"aws:username":"YWxpY2U="}}`)}},
		"the time as text":             {nil, {everybody(`{"StringEquals":{"aws:EpochTime":"1893456000"}}`)}},
		"another name of a service":    {{service("logs.us-east-1.amazonaws.com")}, {everybody(`{"ForAnyValue:StringEquals":{"aws:PrincipalServiceNamesList":"logs.us-east-1.amazonaws.com"}}`)}},
		"services in China":            {nil, {everybody(`{"StringLike":{"aws:PrincipalServiceName":"*.amazonaws.com.cn"}}`)}},
		"a forwarder's other name":     {nil, {everybody(`{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"},"StringNotLike":{"aws:CalledViaLast":"s3.amazonaws.com"}}`)}},
		"a text read as a date":        {nil, {everybody(`{"DateEquals":{"aws:PrincipalTag/x":"2030-01-01T00:00:00Z"},"StringNotEquals":{"aws:PrincipalTag/x":"2030-01-01T00:00:00Z"}}`)}},
		"a text read as two things":    {nil, {everybody(`{"NumericGreaterThan":{"aws:PrincipalTag/x":"5"},"DateGreaterThan":{"aws:PrincipalTag/x":"1970-01-01T00:01:40Z"}}`)}},
		"a second factor and the time": {nil, {everybody(`{"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"},"DateGreaterThan":{"aws:CurrentTime":"2027-01-01T00:00:00Z"}}`)}},
	} {
		old, new := of(pair[0]...), of(pair[1]...)
		a, err := NewAccess(testKey(here), old, new)
		if err != nil || a.Verdict == Proven {
			t.Errorf("%s: %v, %v", name, a.Verdict, err)
		}
		for _, w := range a.Witnesses {
			if w.allowed(old) || !w.allowed(new) {
				t.Errorf("%s: no witness: %+v", name, w.Request)
			}
		}
	}
}

// TestStrangers: which conditions keep strangers out.
func TestStrangers(t *testing.T) {
	for condition, want := range map[string]Verdict{
		`{"StringLike":{"aws:PrincipalOrgID":"o-a*"}}`:                           Refuted,
		`{"StringEqualsIgnoreCase":{"aws:PrincipalOrgID":"o-acme"}}`:             Proven,
		`{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-acme/r-1/*"}}`:    Proven,
		`{"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-a*/r-*/*"}}`:      Refuted,
		`{"IpAddress":{"aws:SourceIp":["0.0.0.0/1","128.0.0.0/1"]}}`:             Refuted,
		`{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}`:                            Proven,
		`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::444455556666:role/*"}}`:    Proven,
		`{"StringLike":{"aws:PrincipalArn":"arn:aws:iam::444455556666:*"}}`:      Proven,
		`{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/a/b/*"}}`:           Refuted,
		`{"StringEqualsIgnoreCase":{"aws:PrincipalAccount":"444455556666"}}`:     Proven,
		`{"StringEqualsIgnoreCase":{"aws:SourceVpce":"vpce-0123456789abcdef0"}}`: Proven,
		`{"StringLike":{"aws:userid":"AROAABCDEFGHIJKLMNOPQ:*"}}`:                Proven,
		`{"StringEquals":{"aws:PrincipalOrg":"o-acme"}}`:                         Proven, // a key that no request has
		`{"NumericGreaterThan":{"aws:PrincipalAccount":"777788880000"}}`:         Undecided,
	} {
		if a, err := Public(testKey(here), of(everybody(condition))); err != nil || a.Verdict != want {
			t.Errorf("%s: %v, %v", condition, a.Verdict, err)
		}
	}
}

// TestWhoElse: who is not among those that are listed is said.
func TestWhoElse(t *testing.T) {
	deny := func(who string) string {
		return `{"Effect":"Deny",` + who + `,"Action":"kms:Decrypt","Resource":"*"}`
	}
	allow := func(who string) string {
		return `{"Effect":"Allow","Principal":{"AWS":"` + who + `"},"Action":"kms:Decrypt","Resource":"*"}`
	}
	const user, role, session = "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:role/R", "arn:aws:sts::111122223333:assumed-role/R/carol"
	for _, test := range []struct {
		policy *policy.Policy
		want   string
	}{
		{of(allow("arn:aws:iam::111122223333:root"), deny(`"Principal":{"AWS":"`+user+`"}`)), "users of account 111122223333, except " + user},
		{of(allow(role), deny(`"Principal":{"AWS":"`+session+`"}`)), role + ", except " + session},
		{of(allow(user), deny(`"NotPrincipal":{"AWS":["`+user+`","arn:aws:iam::111122223333:root"]}`)), user + " without a permissions boundary"},
		{of(allow("AROAABCDEFGHIJKLMNOPQ")), "sessions of roles with the id AROAABCDEFGHIJKLMNOPQ"},
	} {
		rows, err := Who(testKey(here), test.policy, policy.MustAction("kms:Decrypt"), nil)
		if text := fmt.Sprint(rows); err != nil || !strings.Contains(text, test.want) {
			t.Errorf("%s is not in %s, %v", test.want, text, err)
		}
	}
}
