package analyze

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A dice draws policies and requests that have much to do with each other: values of
// requests are those of policies, and their neighbours.
type dice struct{ *rand.Rand }

func roll[T any](d dice, of ...T) T { return of[d.IntN(len(of))] }

const here, there, elsewhere = "111122223333", "444455556666", "777788889999"

var principals = []string{
	`"*"`, `{"AWS":"*"}`, `{"AWS":"` + here + `"}`, `{"AWS":"arn:aws:iam::` + here + `:root"}`, `{"AWS":"arn:aws:iam::` + there + `:root"}`,
	`{"AWS":"arn:aws:iam::` + here + `:user/alice"}`, `{"AWS":["arn:aws:iam::` + here + `:role/admin","arn:aws:iam::` + there + `:role/team/app"]}`,
	`{"AWS":"arn:aws:sts::` + here + `:assumed-role/admin/carol"}`, `{"AWS":["arn:aws:iam::` + here + `:root","arn:aws:iam::` + here + `:role/admin","arn:aws:sts::` + here + `:assumed-role/admin/carol"]}`,
	`{"AWS":"AROAABCDEFGHIJKLMNOPQ"}`, `{"AWS":"arn:aws:sts::` + here + `:federated-user/bob"}`, `{"Service":"logs.us-east-1.amazonaws.com"}`, `{"Service":["s3.amazonaws.com","ec2.amazonaws.com"],"AWS":"` + there + `"}`,
}

// conditions are operators and keys with what they are compared with.
var conditions = []struct {
	operators, keys string
	values          []string
}{
	{"StringEquals StringNotEquals StringEqualsIgnoreCase StringNotEqualsIgnoreCase StringLike StringNotLike StringEqualsIfExists StringNotLikeIfExists ForAnyValue:StringLike ForAllValues:StringEquals",
		"kms:EncryptionContext:app kms:EncryptionContext:App kms:EncryptionContext:tenant kms:RequestAlias aws:PrincipalTag/team aws:userid kms:KeySpec",
		[]string{"prod", "prod-*", "*", "Prod", "p?od", "dev", "alias/a*", "alias/app", "alias/team/*", "*od*", ""}},
	{"StringEquals StringLike StringNotLike ArnLike ArnNotLike ArnEquals", "aws:PrincipalArn aws:SourceArn",
		[]string{"arn:aws:iam::" + here + ":role/*", "arn:aws:iam::*:role/admin", "arn:aws:iam::" + there + ":role/a*", "arn:aws:iam::4*:role/*a*", "arn:aws:iam::" + here + ":user/alice", "arn:aws:iam::*:user/team/*", "arn:aws:*", "*:role/a*", "arn:aws:sts::*:federated-user/*", "arn:aws:iam::${aws:PrincipalAccount}:role/a*"}},
	{"StringEquals StringNotEquals StringLike StringNotEqualsIfExists", "aws:PrincipalAccount kms:CallerAccount aws:SourceAccount aws:ResourceAccount", []string{here, there, "1111*", "${aws:PrincipalAccount}", "*3"}},
	{"ForAnyValue:StringEquals ForAllValues:StringEquals ForAnyValue:StringLike ForAllValues:StringLike ForAnyValue:StringNotEquals StringEquals StringNotEquals",
		"kms:EncryptionContextKeys kms:GrantOperations aws:CalledVia aws:PrincipalOrgPaths aws:TagKeys aws:SourceVpcArn", []string{"app", "App", "tenant", "t*", "*", "Encrypt", "Decrypt", "s3.amazonaws.com", "o-acme/r-1/*", "o-acme/*"}},
	{"Null", "kms:EncryptionContextKeys kms:EncryptionContext:app aws:SourceVpce kms:ViaService aws:PrincipalTag/team aws:MultiFactorAuthAge aws:PrincipalOrgID kms:GrantOperations", []string{"true", "false"}},
	{"StringEquals StringNotEquals StringLike StringNotEqualsIfExists", "aws:SourceVpce aws:SourceVpc kms:ViaService aws:PrincipalOrgID aws:CalledViaLast aws:username aws:PrincipalType",
		[]string{"vpce-1", "vpce-*", "vpc-9", "s3.us-east-1.amazonaws.com", "*.us-east-1.amazonaws.com", "s*.amazonaws.com", "*3*", "?c2.us-*", "o-acme", "s3.amazonaws.com", "alice", "a*", "User", "AssumedRole"}},
	{"NumericEquals NumericNotEquals NumericLessThan NumericGreaterThanEquals NumericLessThanIfExists", "aws:MultiFactorAuthAge kms:ScheduleKeyDeletionPendingWindowInDays aws:EpochTime aws:PrincipalTag/level",
		[]string{"7", "30", "7.5", "1767268800", "x"}},
	{"DateLessThan DateGreaterThan DateEquals DateNotEquals", "aws:CurrentTime aws:TokenIssueTime aws:EpochTime", []string{"2026-01-01T12:00:00Z", "2026-06-01", "1767268800"}},
	{"Bool BoolIfExists", "aws:SecureTransport aws:MultiFactorAuthPresent aws:ViaAWSService aws:PrincipalIsAWSService kms:GrantIsForAWSResource", []string{"true", "false", "TRUE", "maybe"}},
	{"IpAddress NotIpAddress IpAddressIfExists", "aws:SourceIp aws:VpcSourceIp", []string{"10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "2001:db8::/32", "203.0.113.10"}},
	{"BinaryEquals StringFoo", "kms:EncryptionContext:app", []string{"cHJvZA=="}},
}

var randomActions = []string{"kms:*", "kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey*", "kms:CreateGrant", "kms:PutKeyPolicy", "kms:ScheduleKeyDeletion", "kms:Get*", "kms:TagResource", "*"}

func (d dice) policy() *policy.Policy { return policyOf(d.statements()) }

// edited is a policy in which one statement is another one than in that of the statements.
func (d dice) edited(statements []string) *policy.Policy {
	out := slices.Clone(statements)
	out[d.IntN(len(out))] = d.statements()[0]
	return policyOf(out)
}

func (d dice) statements() (statements []string) {
	for range 1 + d.IntN(4) {
		effect, who := "Allow", "Principal"
		if d.IntN(3) == 0 {
			effect = "Deny"
			if d.IntN(4) == 0 {
				who = "NotPrincipal"
			}
		}
		named := roll(d, principals...)
		if who == "NotPrincipal" && strings.Contains(named, "*") {
			named = principals[7]
		}
		list := map[string][]string{}
		for range d.IntN(3) {
			c := roll(d, conditions...)
			values := []string{`"` + roll(d, c.values...) + `"`}
			if d.IntN(3) == 0 {
				values = append(values, `"`+roll(d, c.values...)+`"`)
			}
			operator := roll(d, strings.Fields(c.operators)...)
			list[operator] = append(list[operator], `"`+roll(d, strings.Fields(c.keys)...)+`":[`+strings.Join(values, ",")+`]`)
		}
		condition := ""
		for _, operator := range sortedKeys(list) {
			if condition != "" {
				condition += ","
			}
			condition += `"` + operator + `":{` + strings.Join(distinct(list[operator])[:1], ",") + `}`
		}
		statements = append(statements, fmt.Sprintf(`{"Effect":%q,%q:%s,"`+roll(d, "Action", "Action", "NotAction")+`":%q,"Resource":%q,"Condition":{%s}}`, effect, who, named, roll(d, randomActions...),
			roll(d, "*", "*", "*", "*", string(testKey(here)), "arn:aws:kms:*:*:key/1*", "arn:aws:kms:us-east-1:"+here+":key/other", "arn:aws:kms:us-east-1:${aws:PrincipalAccount}:key/*"), condition))
	}
	return statements
}

func policyOf(statements []string) *policy.Policy {
	return compiled(`{"Version":"` + []string{"2012-10-17", "2008-10-17"}[len(statements)%2] + `","Statement":[` + strings.Join(statements, ",") + `]}`)
}

func compiled(text string) *policy.Policy {
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		panic(text + ": " + err.Error())
	}
	return policy.Compile(doc, policy.Key, text)
}

func (d dice) caller() authz.Caller {
	account := roll(d, here, here, there, elsewhere)
	user := func(name string) authz.Caller {
		arn := "arn:aws:iam::" + account + ":user/" + name
		return authz.Caller{Principal: policy.Principal{Kind: policy.User, Partition: "aws", Account: account, ARN: arn, EntityARN: arn, EntityID: "AIDAABCDEFGHIJKLMNOPQ"},
			UserName: name[strings.LastIndexByte(name, '/')+1:], UserID: roll(d, "AIDA", "prod")}
	}
	session := func(role, name string) authz.Caller {
		return authz.Caller{Principal: policy.Principal{Kind: policy.RoleSession, Partition: "aws", Account: account, ARN: "arn:aws:sts::" + account + ":assumed-role/" + role[strings.LastIndexByte(role, '/')+1:] + "/" + name,
			EntityARN: "arn:aws:iam::" + account + ":role/" + role, EntityID: roll(d, "AROAABCDEFGHIJKLMNOPQ", "AROAZZZZZZZZZZZZZZZZZ")}, TokenIssued: fixed, UserID: "AROA:x"}
	}
	var c authz.Caller
	switch d.IntN(8) {
	case 0:
		c = authz.Caller{Principal: policy.Principal{Kind: policy.RootUser, Partition: "aws", Account: account, ARN: "arn:aws:iam::" + account + ":root"}}
	case 1, 2:
		c = user(roll(d, "alice", "bob", "team/alice", "zed"))
	case 3, 4, 5:
		c = session(roll(d, "admin", "team/app", "app", "other", "team/admin"), roll(d, "carol", "dave"))
	case 6:
		c = authz.Caller{Principal: policy.Principal{Kind: policy.FederatedSession, Partition: "aws", Account: account, ARN: "arn:aws:sts::" + account + ":federated-user/" + roll(d, "bob", "eve"),
			EntityARN: roll(d, "", "arn:aws:iam::"+account+":user/alice")}, TokenIssued: fixed}
	default:
		c = authz.Caller{Principal: policy.Principal{Kind: policy.Service, Partition: "aws", Service: roll(d, "logs.us-east-1.amazonaws.com", "s3.amazonaws.com", "new.amazonaws.com")}}
	}
	c.Bounded = d.IntN(3) == 0 && (c.Kind == policy.User || c.Kind == policy.RoleSession)
	if d.IntN(2) == 0 {
		c.Tags = map[string]string{roll(d, "team", "Team", "level"): roll(d, "prod", "dev", "7", "7.0", "30", "prod-1")}
	}
	return c
}

// request draws a request by anybody for an action.
func (d dice) request(key Key, a policy.Action) *Witness {
	s := newSituation(key)
	s.Caller, s.Action, s.CrossAccount = d.caller(), a, authz.AcrossAccounts.Has(a)
	s.SecureTransport = d.IntN(4) > 0
	s.Now = roll(d, fixed, fixed.Add(time.Second), fixed.Add(-time.Hour), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	s.SourceIP = roll(d, "10.1.2.3", "10.255.255.255", "9.255.255.255", "192.0.2.1", "2001:db8::7", "2001:db9::", "203.0.113.10")
	maybe := func(do func()) {
		if d.IntN(2) == 0 {
			do()
		}
	}
	maybe(func() { s.context[roll(d, "app", "App", "APP")] = roll(d, "prod", "prod-7", "Prod", "dev", "", "xod") })
	maybe(func() { s.context[roll(d, "tenant", "other", "t")] = roll(d, "prod", "dev") })
	maybe(func() { s.tags.Set[roll(d, "app", "tenant", "zone")] = "x" })
	maybe(func() {
		s.values["kms:requestalias"] = policy.One(roll(d, "alias/app", "alias/a", "alias/z", "alias/team/app"))
	})
	s.values["kms:keyspec"] = policy.One(roll(d, "SYMMETRIC_DEFAULT", "prod")) // which every key has
	maybe(func() { s.values["kms:grantisforawsresource"] = policy.Truth(d.IntN(2) == 0) })
	maybe(func() {
		s.values["kms:schedulekeydeletionpendingwindowindays"] = policy.One(roll(d, "7", "8", "30", "29"))
	})
	maybe(func() {
		s.values["kms:grantoperations"] = policy.Many(roll(d, []string{"Encrypt"}, []string{"Encrypt", "Decrypt"}, []string{"Sign"}))
	})
	maybe(func() {
		s.Via = roll(d, []string{"s3.amazonaws.com"}, []string{"s3.amazonaws.com", "ec2.amazonaws.com"}, []string{"x.amazonaws.com"}, []string{"ec2.amazonaws.com", "s3.amazonaws.com", "x.amazonaws.com"}, []string{"x.amazonaws.com", "s3.amazonaws.com", "ec2.amazonaws.com"})
	})
	maybe(func() {
		s.Through = &authz.Endpoint{ID: roll(d, "vpce-1", "vpce-2"), VPC: roll(d, "vpc-9", "vpc-8"), Account: here}
	})
	maybe(func() {
		org := roll(d, "o-acme", "o-other")
		s.CallerOrg = authz.Membership{Organization: org, Paths: []string{org + roll(d, "/r-1/", "/r-1/ou-2/", "/r-2/")}}
	})
	if s.Caller.Kind == policy.Service { // what services do not have, and only they have
		s.Via, s.CallerOrg, s.Caller.Tags = nil, authz.Membership{}, nil
		maybe(func() {
			s.SourceArn, s.SourceAccount = roll(d, "arn:aws:iam::"+here+":role/x", "arn:aws:s3:::b"), roll(d, here, there)
		})
	} else {
		maybe(func() {
			s.Caller.MFA, s.Caller.TokenIssued = s.Now.Add(-roll(d, 7*time.Second, 8*time.Second, 31*time.Second)), fixed
		})
	}
	if s.Caller.Kind == policy.RootUser {
		s.Caller.Tags = nil
	}
	name := strings.TrimPrefix(a.String(), "kms:")
	for key := range s.values { // what requests for the action do not have
		if can, _ := carries(key, name); !can {
			delete(s.values, key)
		}
	}
	if can, _ := carries(ofContext, name); !can {
		clear(s.context)
	}
	if can, _ := carries(ofTags, name); !can {
		clear(s.tags.Set)
	}
	return &Witness{Action: a, Request: &s.Request, Identity: d.IntN(2) == 0, Limits: d.IntN(3) > 0 || s.Caller.Kind == policy.RootUser}
}
