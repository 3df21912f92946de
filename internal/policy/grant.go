package policy

import (
	"maps"
	"slices"
	"strings"
)

// A GrantTerms is what a grant permits: operations for one grantee, within a
// constraint on the encryption context and the source (AUTH-6.1, 6.5).
type GrantTerms struct {
	Name       string `json:",omitzero"` // for explanations
	Grantee    string // as in a key policy's Principal: an ARN, a unique id, or a service principal
	Operations []string
	// Equals and Subset are the encryption-context constraints; at most one is
	// not nil.
	Equals map[string]string `json:",omitzero"`
	Subset map[string]string `json:",omitzero"`
	// SourceArn constrains the resource on whose behalf a service calls; empty
	// for none.
	SourceArn string `json:",omitzero"`
}

// Grant compiles a grant into a policy that allows just what the grant does. In
// a constraint the keys of pairs are compared without regard to case, the
// values exactly: the recommended reading of AUTH-6.5.1 (UNVERIFIED), which is
// how condition keys compare them too. RetireGrant is not in it: who may retire
// a grant is for Retirement.
func Grant(g GrantTerms) *Policy {
	var free, create, constrained []string // DescribeKey ignores the encryption context (AUTH-6.5.2)
	for _, op := range g.Operations {
		switch op {
		case "DescribeKey":
			free = append(free, op)
		case "CreateGrant":
			create = append(create, op)
		case "RetireGrant":
		default:
			constrained = append(constrained, op)
		}
	}
	context, source := contextConditions(g), sourceCondition(g)
	var statements []Statement
	for _, s := range []struct {
		operations []string
		conditions []Condition
	}{{constrained, slices.Concat(context, source)}, {free, source}, {create, slices.Concat(context, source, childConditions(g))}} {
		if len(s.operations) > 0 {
			statements = append(statements, permit([]string{g.Grantee}, s.operations, s.conditions))
		}
	}
	return Compile(&Document{Version: "2008-10-17", Statements: statements}, Key, g.Name)
}

// Retirement compiles who may retire a grant (AUTH-6.6): the principals may,
// and accounts among them let their identity policies decide.
func Retirement(name string, principals ...string) *Policy {
	s := permit(principals, []string{"RetireGrant"}, nil)
	return Compile(&Document{Version: "2008-10-17", Statements: []Statement{s}}, Key, name)
}

func permit(principals, operations []string, conditions []Condition) Statement {
	actions := list()
	for _, op := range operations {
		actions.Items = append(actions.Items, Item{Text: "kms:" + op, Quoted: true})
	}
	who := &Principals{}
	for _, p := range principals {
		kind := "AWS"
		if !strings.HasPrefix(p, "arn:") && !IsUniqueID(p) {
			kind = "Service"
		}
		who.Entries = append(who.Entries, PrincipalEntry{kind, *list(p)})
	}
	return Statement{Effect: Allow, Principal: who, Action: actions, Resource: list("*"), Conditions: conditions}
}

func list(texts ...string) *List {
	l := &List{Items: []Item{}, Array: len(texts) != 1}
	for _, t := range texts {
		l.Items = append(l.Items, Item{Text: t, Quoted: true})
	}
	return l
}

func equals(key, value string) Condition {
	return Condition{Operator: "StringEquals", Key: key, Values: *list(value)}
}

// contextConditions demand each pair and, for Equals, nothing else.
func contextConditions(g GrantTerms) (out []Condition) {
	pairs := g.Equals
	if pairs == nil {
		pairs = g.Subset
	}
	keys := slices.Sorted(maps.Keys(pairs))
	for _, k := range keys {
		out = append(out, equals("kms:EncryptionContext:"+k, pairs[k]))
	}
	if g.Equals != nil {
		out = append(out, Condition{Operator: "ForAllValues:StringEqualsIgnoreCase", Key: "kms:EncryptionContextKeys", Values: *list(keys...)})
	}
	return out
}

// sourceCondition is fail-closed: a call without aws:SourceArn does not satisfy
// it, and wildcards in it are literal (both UNVERIFIED, AUTH-6.5.3).
func sourceCondition(g GrantTerms) []Condition {
	if g.SourceArn == "" {
		return nil
	}
	return []Condition{equals("aws:SourceArn", g.SourceArn)}
}

// childConditions keep a grant that a grantee makes within this one (AUTH-6.7.2):
// no further operation, no looser constraint. That its pairs hold is for
// contextConditions: the pairs of CreateGrant's request are those of the
// constraint it asks for. The source must be kept (UNVERIFIED).
func childConditions(g GrantTerms) []Condition {
	out := []Condition{{Operator: "ForAllValues:StringEquals", Key: "kms:GrantOperations", Values: *list(g.Operations...)}}
	if g.Equals != nil {
		out = append(out, equals("kms:GrantConstraintType", "EncryptionContextEquals"))
	}
	if g.SourceArn != "" {
		out = append(out, equals("kms:GrantConstraintSourceArn", g.SourceArn))
	}
	return out
}
