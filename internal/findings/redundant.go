package findings

import (
	"slices"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
)

// redundantStatements notes statements of a key policy that could be left out, proved for a key
// of the account that the policy names. Policies about particular keys or of several accounts
// are left alone: it depends on the key.
func (c *checker) redundantStatements(root *node) {
	doc, err := policy.Parse([]byte(c.text))
	if err != nil || c.kind != policy.Key || policy.Validate(doc, policy.Key) != nil {
		return
	}
	account := ""
	several := false
	_ = doc.EachPrincipal(func(_ string, entry *policy.Item) error {
		if a, err := arn.Parse(entry.Text); err == nil && arn.IsAccount(a.Account) {
			several = several || account != "" && account != a.Account
			account = a.Account
		}
		return nil
	})
	particular := func(s policy.Statement) bool {
		return s.NotResource || slices.ContainsFunc(s.Resource.Items, func(x policy.Item) bool { return x.Text != "*" })
	}
	if account == "" || several || slices.ContainsFunc(doc.Statements, particular) {
		return
	}
	key := analyze.Key("arn:aws:kms:us-east-1:" + account + ":key/00000000-0000-0000-0000-000000000000")
	lints, err := analyze.Redundant(key, policy.Compile(doc, policy.Key, "policy"))
	if err != nil {
		return // it is not known
	}
	i := slices.IndexFunc(root.members, func(m member) bool { return m.name == "Statement" })
	statements, array := root.members[i].value.list()
	for _, l := range lints {
		what := "Other statements say the same: without it every request is decided as with it."
		if l.Dead {
			what = "It applies to no request that there could be."
		}
		n := int(l.Statement) - 1
		c.add("REDUNDANT_STATEMENT", at(in(nil, "Statement"), n, array), statements[n], "%s", what)
	}
}
