//go:build differential

package authz_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
	"pgregory.net/rapid"
)

// simple is the alphabet of policies that both engines read alike. Left out is
// what the other is known to do otherwise than AWS documents: variables under
// Version 2008-10-17 and unresolvable ones, NotPrincipal, principals of endpoint
// policies, unique ids, paths of roles, short ARNs, keys of several values
// without a set operator, empty lists, grants.
var simple = struct {
	principals, actions []any
	conditions          []map[string]map[string]any
}{
	principals: []any{"*", map[string]any{"AWS": "*"}, map[string]any{"AWS": home}, map[string]any{"AWS": "arn:aws:iam::" + home + ":root"},
		map[string]any{"AWS": aliceARN}, map[string]any{"AWS": []string{aliceARN, "arn:aws:iam::" + home + ":role/worker"}},
		map[string]any{"AWS": "arn:aws:iam::" + home + ":role/worker"}, map[string]any{"AWS": "arn:aws:sts::" + home + ":assumed-role/worker/one"},
		map[string]any{"AWS": abroad}, map[string]any{"AWS": []string{home, abroad}}, map[string]any{"AWS": "arn:aws:iam::" + abroad + ":user/eve"}},
	actions: []any{"kms:*", "*", "kms:Encrypt", "kms:encrypt", "kms:Enc*", "kms:Decrypt", []string{"kms:Encrypt", "kms:Decrypt"}, "kms:?ncrypt", "s3:*", "kms:DescribeKey"},
	conditions: []map[string]map[string]any{
		{"StringEquals": {"kms:EncryptionContext:app": "a"}}, {"StringEquals": {"kms:EncryptionContext:App": []string{"a", "b"}}},
		{"StringNotEquals": {"kms:EncryptionContext:app": []string{"a", "b"}}}, {"StringLike": {"kms:EncryptionContext:app": "?*"}},
		{"StringNotLike": {"kms:EncryptionContext:app": "a*"}}, {"StringEqualsIfExists": {"kms:EncryptionContext:app": "b"}},
		{"StringNotEqualsIfExists": {"kms:EncryptionContext:app": "b"}}, {"StringEqualsIgnoreCase": {"kms:EncryptionContext:app": "A"}},
		{"Null": {"kms:EncryptionContext:app": "true"}}, {"Null": {"kms:EncryptionContextKeys": "false"}},
		{"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": []string{"app"}}}, {"ForAnyValue:StringEquals": {"kms:EncryptionContextKeys": []string{"app", "x"}}},
		{"ForAllValues:StringNotEquals": {"kms:EncryptionContextKeys": []string{"app"}}}, {"ForAnyValue:StringNotEquals": {"kms:EncryptionContextKeys": []string{"app"}}},
		{"StringEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}}, {"StringNotEquals": {"kms:ViaService": "s3.us-east-1.amazonaws.com"}},
		{"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}, {"ArnNotLike": {"aws:PrincipalArn": aliceARN}}, {"ArnEquals": {"aws:PrincipalArn": []string{aliceARN, "arn:aws:iam::" + home + ":root"}}},
		{"StringEquals": {"aws:PrincipalAccount": home}}, {"StringNotEquals": {"kms:CallerAccount": abroad}}, {"StringEquals": {"aws:PrincipalAccount": "${aws:ResourceAccount}"}},
		{"Bool": {"aws:SecureTransport": "true"}}, {"Bool": {"aws:ViaAWSService": "false"}}, {"BoolIfExists": {"aws:MultiFactorAuthPresent": "false"}},
		{"IpAddress": {"aws:SourceIp": []string{"10.0.0.0/8", "192.0.2.1"}}}, {"NotIpAddress": {"aws:SourceIp": "10.1.0.0/16"}},
		{"DateLessThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}}, {"DateGreaterThan": {"aws:CurrentTime": "2030-01-01T00:00:00Z"}},
		{"StringLike": {"aws:userid": "AROA*:one"}}, {"StringEquals": {"aws:PrincipalType": []string{"User", "Account"}}},
		{"StringEquals": {"aws:PrincipalOrgID": "o-a"}}, {"StringNotEqualsIfExists": {"aws:PrincipalOrgID": "o-a"}},
		{"ForAnyValue:StringLike": {"aws:PrincipalOrgPaths": "o-a/r-1/*"}}, {"StringEquals": {"kms:EncryptionContext:app": "a", "kms:EncryptionContext:b": "1"}},
	},
}

// drawSimple draws a document of that alphabet.
func drawSimple(t *rapid.T, named bool, effects ...string) map[string]any {
	var statements []map[string]any
	for range rapid.IntRange(1, 4).Draw(t, "statements") {
		s := map[string]any{"Effect": pick(t, "effect", effects), "Action": pick(t, "action", simple.actions), "Resource": "*"}
		if !named && chance(t, "resource", 30) {
			s["Resource"] = pick(t, "resource", []any{keyARN, otherKey, "arn:aws:kms:*:" + home + ":key/*", []string{otherKey, keyARN}, aliasARN})
		}
		if named {
			s["Principal"] = pick(t, "principal", simple.principals)
		}
		if chance(t, "condition", 50) {
			s["Condition"] = pick(t, "conditions", simple.conditions)
		}
		statements = append(statements, s)
	}
	return map[string]any{"Version": "2012-10-17", "Statement": statements}
}

// A difference is one question in the form the other engine takes.
type difference struct {
	Principal string             `json:"principal"`
	Action    string             `json:"action"`
	Resource  string             `json:"resource"`
	Account   string             `json:"account"`
	Context   map[string]any     `json:"context"`
	Key       map[string]any     `json:"key"`
	Identity  []map[string]any   `json:"identity"`
	Session   []map[string]any   `json:"session,omitempty"`
	Boundary  map[string]any     `json:"boundary,omitempty"`
	SCPs      [][]map[string]any `json:"scps,omitempty"`
	RCPs      []map[string]any   `json:"rcps,omitempty"`

	caller authz.Caller
	facts  facts
	https  bool
	ip     string
	ours   authz.Outcome
}

func drawDifference(t *rapid.T) *difference {
	callers := []authz.Caller{root(home), user(home, aliceARN, "alice", aliceID), user(home, bobARN, "bob", "AIDABOB00000000000001"),
		session(home, "worker", "one", "arn:aws:iam::"+home+":role/worker", workerID), session(home, "worker", "two", "arn:aws:iam::"+home+":role/worker", workerID),
		user(abroad, "arn:aws:iam::"+abroad+":user/eve", "eve", "AIDAEVE00000000000001")}
	d := &difference{caller: pick(t, "caller", callers), Action: pick(t, "action", []string{"kms:Encrypt", "kms:Decrypt", "kms:DescribeKey"}), Resource: keyARN, Account: home,
		Key: drawSimple(t, true, "Allow", "Allow", "Deny"), facts: facts{}, https: chance(t, "TLS", 50), ip: pick(t, "address", []string{"10.0.0.1", "10.1.2.3", "192.0.2.1"})}
	d.Principal = d.caller.ARN
	if d.caller.Kind != policy.RootUser {
		for range rapid.IntRange(0, 2).Draw(t, "identity policies") {
			d.Identity = append(d.Identity, drawSimple(t, false, "Allow", "Allow", "Deny"))
		}
		if chance(t, "boundary", 25) {
			d.Boundary = drawSimple(t, false, "Allow", "Allow", "Deny")
		}
		if d.caller.Kind == policy.RoleSession && chance(t, "session policy", 25) {
			d.Session = []map[string]any{drawSimple(t, false, "Allow", "Allow", "Deny")}
		}
	}
	if chance(t, "SCP", 30) {
		d.SCPs = [][]map[string]any{{drawSimple(t, false, "Allow", "Deny")}, {{"Version": "2012-10-17", "Statement": []map[string]any{fullAccess}}}}
	}
	if chance(t, "RCP", 20) {
		deny := drawSimple(t, false, "Deny")
		for _, s := range deny["Statement"].([]map[string]any) {
			s["Principal"] = "*"
		}
		d.RCPs = []map[string]any{deny}
	}
	d.describe(t)
	return d
}

// describe draws the request's condition keys and tells them to both.
func (d *difference) describe(t *rapid.T) {
	text := func(name, value string) { d.facts[strings.ToLower(name)] = policy.One(value) }
	var keys []string
	if chance(t, "app", 60) {
		text("kms:EncryptionContext:app", pick(t, "app", []string{"a", "A", "b", "ab"}))
		keys = append(keys, "app")
	}
	if chance(t, "b", 30) {
		text("kms:EncryptionContext:b", "1")
		keys = append(keys, "b")
	}
	if keys != nil {
		d.facts["kms:encryptioncontextkeys"] = policy.Many(keys)
	}
	if chance(t, "organization", 50) {
		text("aws:PrincipalOrgID", pick(t, "organization", []string{"o-a", "o-b"}))
		d.facts["aws:principalorgpaths"] = policy.Many([]string{pick(t, "path", []string{"o-a/r-1/ou-1/", "o-b/r-1/"})})
	}
	if chance(t, "via", 25) {
		text("kms:ViaService", pick(t, "service", []string{"s3.us-east-1.amazonaws.com", "ec2.us-east-1.amazonaws.com"}))
	}
	req := d.request()
	d.Context = map[string]any{}
	for _, name := range []string{"aws:PrincipalArn", "aws:PrincipalAccount", "kms:CallerAccount", "aws:ResourceAccount", "aws:SecureTransport", "aws:ViaAWSService", "aws:SourceIp",
		"aws:CurrentTime", "aws:userid", "aws:PrincipalType", "aws:PrincipalOrgID", "aws:PrincipalOrgPaths", "kms:ViaService", "kms:EncryptionContextKeys",
		"kms:EncryptionContext:app", "kms:EncryptionContext:b", "aws:MultiFactorAuthPresent"} {
		switch v := req.Lookup(policy.KeyNamed(name)); {
		case v.Multi:
			d.Context[name] = v.List
		case v.Present:
			d.Context[name] = v.Text
		}
	}
}

func (d *difference) request() *authz.Request {
	caller := d.caller
	caller.Bounded = d.Boundary != nil
	req := &authz.Request{Caller: caller, Action: policy.MustAction(d.Action), Resource: keyARN, Guarded: true, ResourceAccount: home, CrossAccount: true,
		Now: time.Unix(1.8e9, 0), Region: "us-east-1", SourceIP: d.ip, SecureTransport: d.https, ServiceCondition: d.facts}
	d.facts.onto(req)
	return req
}

func (d *difference) papers(t *rapid.T) *papers {
	all := func(ms []map[string]any) (out []*policy.Document) {
		for _, m := range ms {
			out = append(out, parsed(t, m))
		}
		return out
	}
	p := &papers{key: parsed(t, d.Key), identity: all(d.Identity), session: all(d.Session), hasSession: d.Session != nil, hasBoundary: d.Boundary != nil, rcp: all(d.RCPs)}
	if d.Boundary != nil {
		p.boundary = parsed(t, d.Boundary)
	}
	for _, level := range d.SCPs {
		p.scp = append(p.scp, all(level))
	}
	return p
}

func parsed(t *rapid.T, m map[string]any) *policy.Document {
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := policy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// known says why the two engines are expected to differ, or is empty. Each reason
// is settled by a source of AWS's and a scenario of ours.
func (d *difference) known(p *papers) string {
	named := (&question{d.request(), p}).namings(policy.Key, p.key)
	direct := false
	for _, n := range named {
		direct = direct || n != account && n != entity
	}
	switch {
	case d.Session != nil && direct && d.ours == authz.Allowed:
		return "a session policy does not limit whom the key policy names as a session or as everybody (AUTH-5.1)"
	default:
		return ""
	}
}

const (
	differentialCases = 20_000
	perBatch          = 2_000
)

// TestDifferential asks another implementation. Its folder is in NODE_FOLDER.
func TestDifferential(t *testing.T) {
	script, err := filepath.Abs("testdata/differential.mjs")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]int{}
	outcomes := [3]int{}
	for seed := 0; seed < differentialCases; seed += perBatch {
		var asked []*difference
		var bodies []*papers
		var in bytes.Buffer
		for i := range perBatch {
			d := rapid.Custom(func(rt *rapid.T) *difference {
				d := drawDifference(rt)
				p := d.papers(rt)
				bodies = append(bodies, p)
				d.ours = authz.Evaluate(d.request(), p.compiled()).Outcome
				return d
			}).Example(seed + i)
			bodies = bodies[:len(asked)+1]
			asked = append(asked, d)
			outcomes[d.ours]++
			if err := json.NewEncoder(&in).Encode(d); err != nil {
				t.Fatal(err)
			}
		}
		node := exec.Command("node", script)
		node.Dir, node.Stdin, node.Stderr = os.Getenv("NODE_FOLDER"), &in, os.Stderr
		out, err := node.Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(bytes.NewReader(out))
		for i, d := range asked {
			if !lines.Scan() {
				t.Fatal("too few answers")
			}
			want := map[authz.Outcome]string{authz.Allowed: "Allowed", authz.ExplicitDeny: "ExplicitlyDenied", authz.ImplicitDeny: "ImplicitlyDenied"}[d.ours]
			if got := lines.Text(); got != want {
				if why := d.known(bodies[i]); why != "" {
					known[why]++
					continue
				}
				text, err := json.Marshal(d)
				t.Fatalf("case %d: ours %s, theirs %s\n%s %v", seed+i, want, got, text, err)
			}
		}
	}
	t.Logf("%d cases, outcomes %v; known differences: %v", differentialCases, outcomes, known)
}
