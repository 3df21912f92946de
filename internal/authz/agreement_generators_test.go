package authz_test

import (
	"encoding/json"
	"strings"

	"github.com/claviger/claviger/internal/policy"
	"pgregory.net/rapid"
)

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
		return pick(t, "operator", []string{"Null", "Null", "Null", "NullIfExists", "ForAllValues:Null"})
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
	if strings.Contains(operator, "Null") {
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
		if chance(t, "odd principal", 25) {
			from = oddPrincipals
		}
		if name := not("Principal", 15); name == "NotPrincipal" {
			s[name] = pick(t, "exempt", exemptions)
		} else {
			s[name] = pick(t, "principal", from)
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
