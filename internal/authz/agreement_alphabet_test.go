package authz_test

import (
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// The two accounts, the key and the alias everything here is about.
const (
	home       = "111122223333"
	abroad     = "444455556666"
	keyARN     = "arn:aws:kms:us-east-1:" + home + ":key/mrk-1"
	otherKey   = "arn:aws:kms:us-east-1:" + home + ":key/mrk-2"
	aliasARN   = "arn:aws:kms:us-east-1:" + home + ":alias/blue"
	logs       = "logs.us-east-1.amazonaws.com"
	aliceARN   = "arn:aws:iam::" + home + ":user/alice"
	bobARN     = "arn:aws:iam::" + home + ":user/team/bob"
	workerARN  = "arn:aws:iam::" + home + ":role/jobs/worker"
	strangeARN = "arn:aws:iam::" + abroad + ":role/worker"
	aliceID    = "AIDAALICE000000000001"
	workerID   = "AROAWORKER00000000001"
	strangeID  = "AROASTRANGE0000000001"
)

// callers are one of each kind, and some that differ little.
func callers() []authz.Caller {
	alice := tagged(user(home, aliceARN, "alice", aliceID), "Team", "a")
	return []authz.Caller{
		root(home),
		root(abroad),
		alice,
		tagged(user(home, bobARN, "bob", "AIDABOB00000000000001"), "team", "*"),
		user(abroad, "arn:aws:iam::"+abroad+":user/alice", "alice", "AIDAABROAD00000000001"),
		session(home, "worker", "one", workerARN, workerID),
		session(home, "worker", "two", workerARN, workerID),
		session(abroad, "worker", "one", strangeARN, strangeID),
		federated(home, "fay", alice),
		federated(home, "ray", root(home)),
		service(logs),
	}
}

// root is the root user of an account.
func root(account string) authz.Caller {
	return authz.Caller{Principal: policy.Principal{Kind: policy.RootUser, Partition: "aws", Account: account,
		ARN: "arn:aws:iam::" + account + ":root"}, UserID: account}
}

// user is a user.
func user(account, arn, name, id string) authz.Caller {
	return authz.Caller{Principal: policy.Principal{Kind: policy.User, Partition: "aws", Account: account,
		ARN: arn, EntityARN: arn, EntityID: id}, UserID: id, UserName: name}
}

// tagged is a caller with a tag.
func tagged(c authz.Caller, key, value string) authz.Caller {
	c.Tags = map[string]string{key: value}
	return c
}

// session is a session of a role.
func session(account, role, name, arn, id string) authz.Caller {
	return authz.Caller{Principal: policy.Principal{Kind: policy.RoleSession, Partition: "aws", Account: account,
		ARN:       "arn:aws:sts::" + account + ":assumed-role/" + role + "/" + name,
		EntityARN: arn, EntityID: id}, UserID: id + ":" + name, TokenIssued: time.Unix(1.79e9, 0)}
}

// federated is a GetFederationToken session that a user made, or the root user.
func federated(account, name string, by authz.Caller) authz.Caller {
	return authz.Caller{Principal: policy.Principal{Kind: policy.FederatedSession, Partition: "aws", Account: account,
		ARN:       "arn:aws:sts::" + account + ":federated-user/" + name,
		EntityARN: by.EntityARN, EntityID: by.EntityID}, UserID: account + ":" + name, TokenIssued: time.Unix(1.79e9, 0)}
}

// service is an AWS service that calls for itself.
func service(name string) authz.Caller {
	return authz.Caller{Principal: policy.Principal{Kind: policy.Service, Partition: "aws", Service: name}}
}

// An ask is an action on a resource; crossAccount is what AUTH-4.3 says of it.
type ask struct {
	action, resource string
	crossAccount     bool
}

// asks are a few of each kind.
var asks = []ask{
	{"kms:Encrypt", keyARN, true}, {"kms:Decrypt", keyARN, true}, {"kms:DescribeKey", keyARN, true}, {"kms:DisableKey", keyARN, false},
	{"kms:CreateGrant", keyARN, true}, {"kms:RetireGrant", keyARN, true},
	{"kms:ListKeys", "*", false}, {"kms:CreateKey", "*", false}, {"kms:CreateAlias", aliasARN, false},
}

// fullAccess is the policy that organizations start with.
var fullAccess = map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*"}

// principals are what Principal elements are drawn from.
var principals = []any{
	"*", map[string]any{"AWS": "*"}, map[string]any{"AWS": home}, map[string]any{"AWS": "arn:aws:iam::" + home + ":root"},
	map[string]any{"AWS": []string{"arn:aws:iam::" + abroad + ":root", aliceARN}}, map[string]any{"AWS": abroad},
	map[string]any{"AWS": aliceARN}, map[string]any{"AWS": bobARN}, map[string]any{"AWS": workerARN}, map[string]any{"AWS": strangeARN},
	map[string]any{"AWS": []string{home, workerARN}}, map[string]any{"AWS": []string{aliceARN, workerARN, strangeARN}},
	map[string]any{"AWS": "arn:aws:sts::" + home + ":assumed-role/worker/one"}, map[string]any{"AWS": "arn:aws:sts::" + home + ":federated-user/fay"},
	map[string]any{"AWS": []string{"arn:aws:sts::" + home + ":assumed-role/worker/one", workerARN, home}},
	map[string]any{"AWS": []string{aliceARN, home}}, map[string]any{"AWS": []string{"arn:aws:sts::" + home + ":federated-user/fay", aliceARN, home}},
	map[string]any{"AWS": workerID}, map[string]any{"AWS": aliceID}, map[string]any{"Service": logs},
	map[string]any{"AWS": strangeARN, "Service": []string{"s3.amazonaws.com", logs}},
}

// exemptions list every representation of a caller, as NotPrincipal needs them
// (AUTH-2.18), or all but one.
var exemptions = []any{
	map[string]any{"AWS": []string{aliceARN, home}},
	map[string]any{"AWS": []string{aliceID, "arn:aws:iam::" + home + ":root"}}, map[string]any{"Service": logs},
	map[string]any{"AWS": []string{home, workerARN, "arn:aws:sts::" + home + ":assumed-role/worker/one"}}, map[string]any{"AWS": []string{home, abroad}},
	map[string]any{"AWS": []string{home, "arn:aws:sts::" + home + ":federated-user/fay"}, "Service": logs},
	map[string]any{"AWS": aliceARN}, map[string]any{"AWS": []string{workerARN, home}}, "*", map[string]any{"AWS": "*"},
	map[string]any{"AWS": []string{workerARN, "arn:aws:sts::" + home + ":assumed-role/worker/one"}},
	map[string]any{"AWS": []string{}},
}

// oddPrincipals name nobody here, or nobody at all.
var oddPrincipals = []any{
	map[string]any{"Service": "s3.amazonaws.com"}, map[string]any{"Service": "*"}, map[string]any{"Federated": "*"},
	map[string]any{"CanonicalUser": "*"},
	map[string]any{"AWS": "arn:aws:iam::" + home + ":role/worker"}, map[string]any{"AWS": "arn:aws:iam::" + home + ":role/jobs/*"},
	map[string]any{"AWS": "arn:aws:iam::" + home + ":user/Alice"}, map[string]any{"AWS": "arn:aws:iam::" + home + ":*"},
	map[string]any{"AWS": "arn:aws-cn:iam::" + home + ":root"}, map[string]any{"AWS": "arn:aws:iam:us-east-1:" + home + ":root"},
	map[string]any{"AWS": "arn:aws:sts::" + home + ":assumed-role/worker/*"},
	map[string]any{"AWS": "arn:aws:sts::" + home + ":assumed-role/jobs/worker/one"},
	map[string]any{"AWS": "arn:aws:iam::" + home + ":group/staff"}, map[string]any{"AWS": "AROADELETED0000000001"}, map[string]any{"AWS": "1111"},
	map[string]any{"AWS": "arn:aws:iam::" + home + ":Root"}, map[string]any{"AWS": "arn:aws:iam::" + home + ":user/*"},
	map[string]any{"AWS": []string{}}, map[string]any{"AWS": ""}, map[string]any{},
}

// actions are what Action elements are drawn from, wide ones more often.
var actions = []any{
	"kms:*", "*", "kms:*", []string{"kms:Encrypt", "kms:Decrypt"}, "kms:*crypt", "KMS:enCRYPT", "kms:?ncrypt", "kms:De*", "kms:D*s*",
	[]string{"kms:Create*", "kms:List*"}, "kms:Retire*", "kms:Encrypt?", "kms:Descript", "iam:*", "kms:EncryptAll", "kms:**", []string{}, "kms:",
}

// resources are what Resource elements are drawn from.
var resources = []any{
	"*", "*", keyARN, otherKey, aliasARN, []string{otherKey, keyARN}, "arn:aws:kms:*:" + home + ":key/*", "arn:aws:kms:us-east-1:" + home + ":*",
	"arn:aws:kms:*", "arn:aws:kms:${aws:RequestedRegion}:*", "arn:*", "arn:aws:kms:us-east-?:*", "arn:aws:kms:us-east-1:" + home + "*", "arn:aws:kms:*:key/mrk-1", "arn:aws:kms:*:*:*",
	"arn:aws:s3:::*", "mrk-1", "key/*", "alias/blue", "ARN:aws:kms:*", "arn:*:*:*:*:key/mrk-?", "arn:aws:kms:us-east-1:" + home + ":key/${kms:RequestAlias}",
	"arn:aws:kms:us-east-1:" + home + ":key/${kms:RequestAlias, 'mrk-1'}", "arn:aws:kms:us-east-1:" + home + ":key/${aws:PrincipalTag/team}",
	"arn:aws:kms:us-east-1:${aws:PrincipalAccount}:key/mrk-1", "arn:aws:kms:us-east-1:" + home + ":*/${aws:username}", []string{}, "arn:aws:kms:us-east-1:" + home + ":",
}

// A subject is a condition key with what policies and requests say about it.
type subject struct {
	key      string
	multi    bool
	families []string // the operators that suit it; others are drawn as well
	policy   []any
	request  []string
}

// families are the operators by what they compare.
var families = map[string][]string{
	"string": {"StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", "StringLike", "StringNotLike"},
	"numeric": {"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan",
		"NumericGreaterThanEquals"},
	"date":  {"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"},
	"bool":  {"Bool", "bOOL"},
	"other": {"BinaryEquals", "StringMatches", "StringEqualsIfPresent", "ForSomeValues:StringEquals", "stringequals", "NULL"},
	"ip":    {"IpAddress", "NotIpAddress"},
	"arn":   {"ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike"},
}

// subjects are the condition keys.
var subjects = []subject{
	{"kms:EncryptionContext:App", false, []string{"string"},
		[]any{"a", "A", "a*", "?", "b", "*", "", "é", "ß", "YQ==", "YR==", 7, true},
		[]string{"a", "A", "b", "ab", "*", "alice", "é", "", "bx", "${a}", "${aws:username}", "xalice", "?", "7", "true", "ss", "YQ==", "${"}},
	{"KMS:encryptioncontext:APP", false, []string{"string"},
		[]any{"${aws:username}", "${aws:username, 'a'}", "${AWS:PrincipalTag/TEAM}", "${kms:RequestAlias, ''}", "${*}", "${?}*", "${$}{a}",
			"b${aws:TagKeys}", "${aws:TagKeys, 'b'}", "${no:such, 'b'}x", "x${aws:username}*", "${aws:username,'a'}", "${", "${a}"}, nil},
	{"kms:RequestAlias", false, []string{"string"}, []any{"alias/*", "alias/blue", "mrk-1"}, []string{"alias/blue", "mrk-1", "*", ""}},
	{"kms:ResourceAliases", true, []string{"string"}, []any{"alias/a", "alias/b", "alias/*", "${aws:username}"}, []string{"alias/a", "alias/b", "alice"}},
	{"kms:GrantOperations", true, []string{"string"}, []any{"Encrypt", "Decrypt", "*"}, []string{"Encrypt", "DescribeKey", "CreateGrant", "Sign"}},
	{"kms:GrantConstraintType", false, []string{"string"}, []any{"EncryptionContextEquals", "*Subset"}, []string{"EncryptionContextEquals", "EncryptionContextSubset"}},
	{"kms:GrantConstraintSourceArn", false, []string{"arn"}, []any{aliceARN, "*"}, []string{aliceARN, "arn:aws:logs:*:*:*"}},
	{"aws:PrincipalOrgPaths", true, []string{"string"}, []any{"o-a/r-1/*", "o-a/r-1/ou-2/"}, []string{"o-a/r-1/ou-2/", "o-a/r-1/"}},
	{"aws:PrincipalOrgID", false, []string{"string"}, []any{"o-a", "${aws:ResourceOrgID}"}, []string{"o-a", "o-b"}},
	{"aws:ResourceOrgID", false, []string{"string"}, []any{"o-a"}, []string{"o-a"}},
	{"aws:SourceVpce", false, []string{"string"}, []any{"vpce-1", "vpce-*"}, []string{"vpce-1", "vpce-2"}},
	{"kms:ViaService", false, []string{"string"}, []any{"s3.us-east-1.amazonaws.com", "s3.*"}, []string{"s3.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com"}},
	{"aws:CalledVia", true, []string{"string"}, []any{"s3.amazonaws.com", "cloudformation.amazonaws.com"}, []string{"cloudformation.amazonaws.com", "s3.amazonaws.com"}},
	{"aws:ViaAWSService", false, []string{"bool"}, []any{true, "false"}, nil},
	{"aws:TagKeys", true, []string{"string"}, []any{"a", "A", "b", ""}, []string{"a", "b", "A", ""}},
	{"kms:GrantIsForAWSResource", false, []string{"bool"}, []any{true, "true", "FALSE", false, "yes"}, []string{"true", "false", "True", "1"}},
	{"kms:RotationPeriodInDays", false, []string{"numeric"}, []any{90, "90.0", 100, "-1", "1e2", "x", ""}, []string{"90", "100", "7", "365", "x", ""}},
	{"kms:ValidTo", false, []string{"date", "numeric"},
		[]any{"2027-01-15T08:00:00Z", "2027", "2027-01", "2027-01-15", "2027-01-15T08:00Z", "2027-01-15T09:00:00+01:00", 1800000000, "soon"},
		[]string{"1800000000", "2027-01-15T08:00:00Z", "2027", "2027-01-01T00:00:00Z", "2026-12-31T23:59:59.5Z", "never"}},
	{"aws:CurrentTime", false, []string{"date"}, []any{"2027-01-15T08:00:00Z", "2027-01-16", 1800000000}, nil},
	{"aws:SourceIp", false, []string{"ip"}, []any{"10.0.0.0/8", "10.0.0.1", "10.0.0.7/8", "::/0", "2001:db8::1", "0.0.0.0/0", "10.0.0.0/33", "here"}, nil},
	{"aws:SourceArn", false, []string{"arn", "string"},
		[]any{"arn:aws:logs:us-east-1:" + home + ":group:a", "arn:aws:logs:*:" + home + ":*", "arn:aws:logs:*:group:a", "*", "arn:aws:logs:us-east-?:*:group*",
			"arn:aws:logs:us-east-1:${aws:PrincipalAccount}:group:*", "arn:*", "${aws:PrincipalArn}", "arn:aws:iam::" + home + ":user/${aws:username, 'x'}",
			"arn:aws:iam::${aws:SourceArn}:user/alice", "${aws:PrincipalArn}*", "*:*:*:*:*:*",
			"arn:aws:iam:${no:such, ':" + home + ":user/alice'}"},
		[]string{"arn:aws:logs:us-east-1:" + home + ":group:a", "arn:aws:logs:us-east-1:" + home + ":group", aliceARN, "nonsense", ""}},
	{"aws:PrincipalArn", false, []string{"arn", "string"},
		[]any{"arn:aws:iam::" + home + ":root", aliceARN, workerARN, "arn:aws:iam::*:role/*", "arn:aws:iam::*:*", "arn:aws:sts::*:*"}, nil},
	{"aws:PrincipalTag/team", false, []string{"string"}, []any{"a", "*", "?"}, nil},
	{"aws:PrincipalType", false, []string{"string"}, []any{"User", "Account", "AssumedRole", "*User"}, nil},
	{"aws:userid", false, []string{"string"}, []any{workerID + ":*", aliceID, home, "${aws:userid}"}, nil},
	{"aws:username", false, []string{"string"}, []any{"alice", "b*"}, nil},
	{"aws:PrincipalIsAWSService", false, []string{"bool"}, []any{"true", false}, nil},
	{"aws:TokenIssueTime", false, []string{"date"}, []any{"2026-01-01", "2030-01-01"}, nil},
	{"kms:EncryptionContextKeys", true, []string{"string"}, []any{"App", "app", "b", "*", "?"}, nil},
	{"kms:CallerAccount", false, []string{"string"}, []any{home, abroad, "${aws:ResourceAccount}"}, nil},
	{"KMS:callerACCOUNT", false, []string{"string", "numeric"}, []any{home, abroad}, nil},
	{"acme:Unknown", false, []string{"string"}, []any{"a"}, nil},
}
