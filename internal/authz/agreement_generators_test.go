package authz_test

import (
	"encoding/json"
	"iter"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
	"pgregory.net/rapid"
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

// oddPrincipals name nobody here, or nobody at all.
var oddPrincipals = []any{
	map[string]any{"Service": "s3.amazonaws.com"}, map[string]any{"Service": "*"}, map[string]any{"Federated": "*"}, map[string]any{"CanonicalUser": "*"},
	map[string]any{"AWS": "arn:aws:iam::" + home + ":role/worker"}, map[string]any{"AWS": "arn:aws:iam::" + home + ":role/jobs/*"},
	map[string]any{"AWS": "arn:aws:iam::" + home + ":user/Alice"}, map[string]any{"AWS": "arn:aws:iam::" + home + ":*"}, map[string]any{"AWS": "arn:aws-cn:iam::" + home + ":root"},
	map[string]any{"AWS": "arn:aws:sts::" + home + ":assumed-role/worker/*"}, map[string]any{"AWS": "arn:aws:sts::" + home + ":assumed-role/jobs/worker/one"},
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
	"arn:aws:kms:*", "arn:*", "arn:aws:kms:us-east-?:*", "arn:aws:kms:us-east-1:" + home + "*", "arn:aws:kms:*:key/mrk-1", "arn:aws:kms:*:*:*",
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
		[]any{"a", "A", "a*", "?", "b", "*", "", "é", "${aws:username}", "${aws:username, 'a'}", "${AWS:PrincipalTag/TEAM}", "${kms:RequestAlias, ''}",
			"${*}", "${?}*", "${$}{a}", "${aws:TagKeys}", "${no:such, 'b'}x", "x${aws:username}*", 7, true, "${aws:username,'a'}", "${", "${a}",
			"ß", "YQ==", "YR=="},
		[]string{"a", "A", "b", "ab", "*", "alice", "é", "", "bx", "${a}", "${aws:username}", "xalice", "?", "7", "true", "ss", "YQ==", "${"}},
	{"kms:RequestAlias", false, []string{"string"}, []any{"alias/*", "alias/blue", "mrk-1"}, []string{"alias/blue", "mrk-1", "*", ""}},
	{"kms:ResourceAliases", true, []string{"string"}, []any{"alias/a", "alias/b", "alias/*", "${aws:username}"}, []string{"alias/a", "alias/b", "alice"}},
	{"aws:TagKeys", true, []string{"string"}, []any{"a", "A", "b", ""}, []string{"a", "b", "A", ""}},
	{"kms:GrantIsForAWSResource", false, []string{"bool"}, []any{true, "true", "FALSE", false, "yes"}, []string{"true", "false", "True", "1"}},
	{"kms:RotationPeriodInDays", false, []string{"numeric"}, []any{90, "90.0", 100, "-1", "1e2", "x", ""}, []string{"90", "100", "7", "365", "x", ""}},
	{"kms:ValidTo", false, []string{"date", "numeric"},
		[]any{"2027-01-15T08:00:00Z", "2027", "2027-01", "2027-01-15", "2027-01-15T08:00Z", "2027-01-15T09:00:00+01:00", 1800000000, "soon"},
		[]string{"1800000000", "2027-01-15T08:00:00Z", "2027-01-01T00:00:00Z", "2026-12-31T23:59:59.5Z", "never"}},
	{"aws:CurrentTime", false, []string{"date"}, []any{"2027-01-15T08:00:00Z", "2027-01-16", 1800000000}, nil},
	{"aws:SourceIp", false, []string{"ip"}, []any{"10.0.0.0/8", "10.0.0.1", "10.0.0.7/8", "::/0", "2001:db8::1", "0.0.0.0/0", "10.0.0.0/33", "here"}, nil},
	{"aws:SourceArn", false, []string{"arn", "string"},
		[]any{"arn:aws:logs:us-east-1:" + home + ":group:a", "arn:aws:logs:*:" + home + ":*", "arn:aws:logs:*:group:a", "*", "arn:aws:logs:us-east-?:*:group*",
			"arn:aws:logs:us-east-1:${aws:PrincipalAccount}:group:*", "arn:*", "${aws:PrincipalArn}", "arn:aws:iam::" + home + ":user/${aws:username, 'x'}",
			"arn:aws:iam::${aws:SourceArn}:user/alice", "${aws:PrincipalArn}*", "*:*:*:*:*:*"},
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

// pick draws one of several values.
func pick[T any](t *rapid.T, label string, from []T) T { return rapid.SampledFrom(from).Draw(t, label) }

// chance is true in about n of a hundred cases, and shrinks to false.
func chance(t *rapid.T, label string, n int) bool {
	return rapid.IntRange(0, 99).Draw(t, label) >= 100-n
}

// drawOperator draws an operator, mostly one that suits the key.
func drawOperator(t *rapid.T, s subject) string {
	family := pick(t, "family", s.families)
	switch {
	case chance(t, "null", 8):
		return "Null"
	case chance(t, "unsuited", 10):
		family = pick(t, "other family", []string{"string", "numeric", "date", "bool", "ip", "arn", "other"})
	}
	operator := pick(t, "operator", families[family])
	if chance(t, "IfExists", 25) {
		operator += "IfExists"
	}
	withSet := 12
	if s.multi {
		withSet = 85
	}
	if chance(t, "set", withSet) {
		operator = pick(t, "set operator", []string{"ForAllValues:", "ForAnyValue:", "forallvalues:"}) + operator
	}
	return operator
}

// drawCondition draws one operator with one key.
func drawCondition(t *rapid.T) (operator, key string, values any) {
	s := pick(t, "key", subjects)
	operator, key = drawOperator(t, s), s.key
	from := s.policy
	if operator == "Null" {
		from = []any{true, "true", false, "False", "maybe"}
	}
	if chance(t, "single", 50) {
		return operator, key, pick(t, "value", from)
	}
	return operator, key, rapid.SliceOfN(rapid.SampledFrom(from), 0, 3).Draw(t, "values")
}

// drawConditions draws a Condition element.
func drawConditions(t *rapid.T) map[string]map[string]any {
	block := map[string]map[string]any{}
	for range rapid.IntRange(1, 2).Draw(t, "conditions") {
		operator, key, values := drawCondition(t)
		if block[operator] == nil {
			block[operator] = map[string]any{}
		}
		block[operator][key] = values
	}
	return block
}

// isEveryone reports whether a Principal element is one of the spellings of "*".
func isEveryone(element any) bool {
	list, _ := element.(map[string]any)
	return element == "*" || list["AWS"] == "*"
}

// drawStatement draws a statement, for a document that names principals or not.
func drawStatement(t *rapid.T, effect string, named bool) map[string]any {
	s := map[string]any{"Effect": effect}
	not := func(name string, percent int) string {
		if chance(t, "Not"+name, percent) {
			return "Not" + name
		}
		return name
	}
	s[not("Action", 12)] = pick(t, "action", actions)
	s[not("Resource", 10)] = pick(t, "resource", resources)
	if named && chance(t, "any resource", 70) {
		delete(s, "NotResource")
		s["Resource"] = "*"
	}
	if named {
		from := principals
		if chance(t, "odd principal", 15) {
			from = oddPrincipals
		}
		s["Principal"] = pick(t, "principal", from)
		if !isEveryone(s["Principal"]) && chance(t, "NotPrincipal", 15) {
			s["NotPrincipal"] = s["Principal"]
			delete(s, "Principal")
		}
	}
	if chance(t, "conditions", 40) {
		s["Condition"] = drawConditions(t)
	}
	return s
}

// drawDocument draws a document of up to n statements; more than one in four is a Deny.
func drawDocument(t *rapid.T, n int, named bool) *policy.Document {
	var statements []map[string]any
	if !named && chance(t, "full access", 50) {
		statements = append(statements, fullAccess)
	}
	for range rapid.IntRange(0, n).Draw(t, "statements") {
		effect := "Allow"
		if chance(t, "deny", 28) {
			effect = "Deny"
		}
		statements = append(statements, drawStatement(t, effect, named))
	}
	return document(t, pick(t, "version", []string{"2012-10-17", "2012-10-17", "2008-10-17", ""}), statements)
}

// drawConditioned draws a key policy that allows everything under a condition.
func drawConditioned(t *rapid.T) *policy.Document {
	return document(t, pick(t, "version", []string{"2012-10-17", "2008-10-17"}), []map[string]any{{
		"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*", "Condition": drawConditions(t)}})
}

// document makes a document of statements.
func document(t rapid.TB, version string, statements []map[string]any) *policy.Document {
	t.Helper()
	d := map[string]any{"Statement": statements}
	if version != "" {
		d["Version"] = version
	}
	if statements == nil {
		d["Statement"] = []any{}
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatalf("marshal %v: %v", d, err)
	}
	doc, err := policy.Parse(text)
	if err != nil {
		t.Fatalf("parse %s: %v", text, err)
	}
	return doc
}

// drawFacts draws what the request says about the keys it does not answer itself.
func drawFacts(t *rapid.T) facts {
	f := facts{}
	for _, s := range subjects {
		switch name := strings.ToLower(s.key); {
		case s.request == nil || chance(t, "absent", 25):
		case s.multi:
			f[name] = policy.Value{Present: true, Multi: true, List: rapid.SliceOfN(rapid.SampledFrom(s.request), 0, 3).Draw(t, s.key)}
		default:
			f[name] = policy.Value{Present: true, Text: pick(t, s.key, s.request)}
		}
	}
	drawContextKeys(t, f)
	return f
}

// drawContextKeys adds a pair to the encryption context, perhaps, and lists the keys of its pairs.
func drawContextKeys(t *rapid.T, f facts) {
	var keys []string
	if f["kms:encryptioncontext:app"].Present {
		keys = append(keys, pick(t, "context key", []string{"App", "app"}))
	}
	if chance(t, "second pair", 40) {
		keys = append(keys, "b")
		f["kms:encryptioncontext:b"] = policy.Value{Present: true, Text: "1"}
	}
	if keys != nil || chance(t, "no pairs", 30) {
		f["kms:encryptioncontextkeys"] = policy.Value{Present: true, Multi: true, List: keys}
	}
}

// A scene is what is drawn once and asked about by every caller.
type scene struct {
	papers papers // with everything; who has no session, say, gets no session policy
	facts  facts
	call   authz.Request // how the call came in
}

// drawScene draws all types of policies.
func drawScene(t *rapid.T) *scene {
	s := &scene{facts: drawFacts(t), call: drawCall(t)}
	p := &s.papers
	if chance(t, "key policy", 95) {
		p.key = drawDocument(t, 5, true)
	}
	p.identity = drawDocuments(t, "identity policies", 2, 3, false)
	p.hasBoundary = chance(t, "boundary", 40)
	if p.hasBoundary && !chance(t, "boundary is gone", 10) {
		p.boundary = drawDocument(t, 2, false)
	}
	p.hasSession = chance(t, "session policy", 40)
	p.session = drawDocuments(t, "session policies", 2, 2, false)
	for range rapid.IntRange(-3, 2).Draw(t, "SCP levels") {
		p.scp = append(p.scp, append(drawDocuments(t, "SCPs", 1, 2, false), drawFull(t)...))
	}
	p.rcp = drawDenials(t)
	p.throughEndpoint = chance(t, "endpoint", 25)
	if p.throughEndpoint && !chance(t, "endpoint is gone", 10) {
		p.endpoint = drawDocument(t, 3, true)
		if chance(t, "default endpoint policy", 50) {
			p.endpoint = document(t, "", []map[string]any{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}})
		}
	}
	p.grants = drawGrants(t)
	return s
}

// drawDocuments draws up to count documents of up to n statements.
func drawDocuments(t *rapid.T, label string, count, n int, named bool) (docs []*policy.Document) {
	for range rapid.IntRange(0, count).Draw(t, label) {
		docs = append(docs, drawDocument(t, n, named))
	}
	return docs
}

// drawFull draws FullAWSAccess, mostly.
func drawFull(t *rapid.T) []*policy.Document {
	if chance(t, "without FullAWSAccess", 20) {
		return nil
	}
	return []*policy.Document{document(t, "2012-10-17", []map[string]any{fullAccess})}
}

// drawDenials draws RCPs: they only deny, and everybody (AUTH-5.6).
func drawDenials(t *rapid.T) (docs []*policy.Document) {
	for range rapid.IntRange(-3, 1).Draw(t, "RCPs") {
		s := drawStatement(t, "Deny", false)
		s["Principal"] = "*"
		docs = append(docs, document(t, "2012-10-17", []map[string]any{s}))
	}
	return docs
}

// drawGrants draws grants on the key. CreateGrant under a constraint is left
// out: what a child grant may be (AUTH-6.7) is not decided from conditions.
func drawGrants(t *rapid.T) (grants []policy.GrantTerms) {
	for range rapid.IntRange(-3, 2).Draw(t, "grants") {
		g := policy.GrantTerms{Name: "grant", Grantee: pick(t, "grantee", []string{
			aliceARN, bobARN, workerARN, strangeARN, "arn:aws:iam::" + home + ":root", "arn:aws:iam::" + abroad + ":root",
			"arn:aws:sts::" + home + ":assumed-role/worker/one", "arn:aws:sts::" + home + ":federated-user/fay"})}
		g.Operations = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"Encrypt", "Decrypt", "DescribeKey", "RetireGrant"}), 1, 4, rapid.ID).Draw(t, "operations")
		pairs := pick(t, "pairs", []map[string]string{{"app": "a"}, {"App": "a"}, {"app": "A", "b": "1"}, {}})
		switch pick(t, "constraint", []string{"", "Equals", "Subset"}) {
		case "Equals":
			g.Equals = pairs
		case "Subset":
			g.Subset = pairs
		default:
			g.Operations = append(g.Operations, "CreateGrant")
		}
		if chance(t, "source", 15) {
			g.SourceArn = pick(t, "source", []string{aliceARN, "arn:aws:logs:*:*:*"})
		}
		grants = append(grants, g)
	}
	return grants
}

// drawCall draws how a call came in.
func drawCall(t *rapid.T) authz.Request {
	return authz.Request{
		Now: time.Unix(1.8e9, 0), Region: "us-east-1", SecureTransport: true,
		SourceIP: pick(t, "address", []string{"10.0.0.1", "10.1.2.3", "192.0.2.1", "2001:db8::1", ""}),
	}
}

// questions are the requests of all callers, each with the papers that bear on it.
func (s *scene) questions() iter.Seq2[*authz.Request, *papers] {
	return func(yield func(*authz.Request, *papers) bool) {
		for _, c := range callers() {
			for _, a := range asks {
				if !yield(s.of(c, a)) {
					return
				}
			}
		}
	}
}

// of is one request of the scene and the papers that bear on it: a service has
// no identity side and no SCPs (AUTH-5.1), only users and roles have a boundary
// (AUTH-5.4), only sessions have session policies, and only keys have a
// key policy and grants.
func (s *scene) of(c authz.Caller, a ask) (*authz.Request, *papers) {
	req, p := s.call, s.papers
	c.Bounded = p.hasBoundary && c.EntityARN != ""
	switch c.Kind {
	case policy.RootUser:
		c.Bounded = false
		p.identity, p.boundary, p.hasBoundary, p.session, p.hasSession = nil, nil, false, nil, false
	case policy.Service:
		c.Bounded = false
		p.identity, p.boundary, p.hasBoundary, p.session, p.hasSession, p.scp = nil, nil, false, nil, false, nil
	case policy.User:
		p.session, p.hasSession = nil, false
	}
	req.Caller, req.Action, req.Resource, req.CrossAccount = c, policy.MustAction(a.action), a.resource, a.crossAccount
	req.ServiceCondition, req.ResourceAccount = s.facts, home
	req.Guarded = a.resource == keyARN
	if !req.Guarded {
		p.key, p.grants, p.rcp = nil, nil, nil
	}
	if a.action == "kms:RetireGrant" { // they have no say over it (AUTH-5.6, 6.6)
		p.key, p.rcp = nil, nil
	}
	if a.resource == "*" {
		req.ResourceAccount = ""
	}
	return &req, &p
}
