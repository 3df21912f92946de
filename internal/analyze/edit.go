package analyze

import (
	"slices"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
)

// A request that one policy allows and another one does not is one that a new Allow applies
// to, or a Deny that is gone: what is in both cannot make the difference. So a comparison is
// one question for each such statement, of which only the statements matter that can apply to
// a request that it applies to.

// maxEdits is how many changed statements are asked about one by one.
const maxEdits = 8

// edits are the statements by which new can allow what old does not: those of new that allow
// and that old does not have, and those of old that deny and that new does not have.
func edits(old, new *policy.Policy) (out []changed) {
	said := func(p *policy.Policy) map[string]bool {
		all := map[string]bool{}
		for i := range p.Document.Statements {
			all[canonical(p, i)] = true
		}
		return all
	}
	before, after := said(old), said(new)
	ofOld, ofNew := old.Rules(), new.Rules()
	for i, s := range new.Document.Statements {
		if s.Effect == policy.Allow && !before[canonical(new, i)] {
			out = append(out, changed{new, ofNew[i]})
		}
	}
	for i, s := range old.Document.Statements {
		if s.Effect == policy.Deny && !after[canonical(old, i)] {
			out = append(out, changed{old, ofOld[i]})
		}
	}
	return out
}

// A changed is a statement that only one of two policies has.
type changed struct {
	in   *policy.Policy
	rule policy.Rule
}

// canonical is what a statement says.
func canonical(p *policy.Policy, i int) string {
	s := p.Document.Statements[i]
	s.Sid, s.HasSid = "", false
	return p.Document.Version + s.JSON()
}

// meets reports whether a statement can apply to a request that the changed one applies to. If
// it is not plain that it cannot, it does.
func (c changed) meets(r policy.Rule) bool {
	mine := c.rule
	for a := policy.Action(1); int(a) < policy.NumActions; a++ {
		if mine.Has(a) && r.Has(a) {
			return !apart(mine.Statement, r.Statement)
		}
	}
	return false
}

// apart reports whether two statements name users and roles alone, none of them in common.
func apart(a, b *policy.Statement) bool {
	ofA, ok := entities(a)
	ofB, also := entities(b)
	return ok && also && !slices.ContainsFunc(ofA, func(s string) bool { return slices.Contains(ofB, s) })
}

// entities are the users and roles that a statement names; ok is false if it names anybody
// else.
func entities(s *policy.Statement) (names []string, ok bool) {
	if s.Principal == nil || s.NotPrincipal || s.Principal.Everyone {
		return nil, false
	}
	for _, e := range s.Principal.Entries {
		for _, v := range e.Values.Items {
			a, err := arn.Parse(v.Text)
			kind, _ := a.Split()
			if err != nil || e.Type != "AWS" || a.Service != "iam" || kind != "user" && kind != "role" {
				return nil, false
			}
			names = append(names, v.Text)
		}
	}
	return names, true
}
