package policy

import (
	"maps"
	"slices"
)

// A GrantTerms is what a grant permits: operations for one grantee, within a
// constraint on the encryption context (AUTH-6.1, 6.5).
type GrantTerms struct {
	Name       string // for explanations
	Grantee    string // an ARN, as in a key policy's Principal
	Operations []string
	// Equals and Subset are the encryption-context constraints; at most one is
	// not nil.
	Equals, Subset map[string]string
	// SourceArn constrains the resource on whose behalf a service calls; empty
	// for none.
	SourceArn string
}

// unconstrained are the operations that ignore encryption-context constraints
// (AUTH-6.5.2).
var unconstrained = []string{"DescribeKey", "RetireGrant"}

// Grant compiles a grant into a policy that allows just what the grant does. In
// a constraint the keys of pairs are compared without regard to case, the
// values exactly: the recommended reading of AUTH-6.5.1 (UNVERIFIED), which is
// how condition keys compare them too.
func Grant(g GrantTerms) *Policy {
	constrained := Statement{Effect: Allow, Principal: awsPrincipal(g.Grantee), Resource: list("*"), Action: &List{Array: true}}
	free := constrained
	free.Action = &List{Array: true}
	for _, op := range g.Operations {
		to := constrained.Action
		if slices.Contains(unconstrained, op) {
			to = free.Action
		}
		to.Items = append(to.Items, Item{Text: "kms:" + op, Quoted: true})
	}
	constrained.Conditions = slices.Concat(contextConditions(g), sourceCondition(g))
	free.Conditions = sourceCondition(g)
	return Compile(&Document{Version: "2008-10-17", Statements: []Statement{constrained, free}}, Key, g.Name)
}

func awsPrincipal(who string) *Principals {
	return &Principals{Entries: []PrincipalEntry{{"AWS", *list(who)}}}
}

func list(texts ...string) *List {
	l := &List{Items: []Item{}, Array: len(texts) != 1}
	for _, t := range texts {
		l.Items = append(l.Items, Item{Text: t, Quoted: true})
	}
	return l
}

// contextConditions demand each pair and, for Equals, nothing else.
func contextConditions(g GrantTerms) (out []Condition) {
	pairs := g.Equals
	if pairs == nil {
		pairs = g.Subset
	}
	keys := slices.Sorted(maps.Keys(pairs))
	for _, k := range keys {
		out = append(out, Condition{Operator: "StringEquals", Key: "kms:EncryptionContext:" + k, Values: *list(pairs[k])})
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
	return []Condition{{Operator: "StringEquals", Key: "aws:SourceArn", Values: *list(g.SourceArn)}}
}
