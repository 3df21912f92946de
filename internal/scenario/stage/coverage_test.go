package stage

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// A section is a section of reference/authorization.md whose rules are numbered
// from 1 to last.
type section struct{ number, last int }

// covered are the sections whose rules must stand in a claim's name.
var covered = []section{{1, 9}, {2, 20}, {3, 8}, {4, 8}, {5, 10}, {6, 14}, {7, 9}, {8, 22}, {9, 8}, {10, 4}}

// exempt are rules that no claim can make, and why.
var exempt = map[string]string{
	"4.4":  "which Regions an account has enabled is no part of this world",
	"5.9":  "service-linked roles do not exist here, and whether policies apply to a caller is settled before a decision",
	"6.12": "what becomes of grants later is in internal/kms, TestGrantsOutlast and TestDeletionTakesGrants",
	"9.3":  "a reserved alias is refused by its name, before any decision: internal/wire, TestRefusals",
	"9.5":  "there is no ReplicateKey yet",
	"9.7":  "there are no custom key stores yet",
	"9.8":  "the lockout check asks about a policy that is not in force: internal/kms, TestLockout",
}

const examples = 30 // of authorization.md §12

// shallow are rules whose claims cannot all be said in a request, and why.
var shallow = map[string]string{
	"2.8":  unsaved,
	"2.9":  unsaved,
	"2.12": unsaved,
	"2.14": unsaved,
	"7.3":  unsaved + "; what was saved before August 2025 stays inert",
	"7.5":  "IAM saves no policy with such a resource",
}

const unsaved = "CreateKey and PutKeyPolicy refuse such a policy: internal/wire, TestRefusals"

// claims counts the claims about each rule and example: all, those through the
// service, and those over HTTP.
func claims(t *testing.T) map[string][3]int {
	t.Helper()
	found := map[string][3]int{}
	for _, f := range files(t) {
		for _, c := range f.Claims {
			rules := c.Rules()
			if len(rules) == 0 || !strings.HasPrefix(c.Name, rules[0]) {
				t.Errorf("%s:%d: the name %q does not begin with a rule or an example", f.Name, c.Line, c.Name)
			}
			service, http := Depths(f, c)
			for _, name := range rules {
				n := found[name]
				n[0]++
				if service {
					n[1]++
				}
				if http {
					n[2]++
				}
				found[name] = n
			}
		}
	}
	return found
}

func TestCoverage(t *testing.T) {
	found := claims(t)
	rules := map[string]bool{}
	for _, s := range covered {
		for i := range s.last {
			rule := fmt.Sprintf("%d.%d", s.number, i+1)
			rules[rule] = true
			claimed, reason := found["AUTH-"+rule][0] > 0, exempt[rule]
			switch {
			case !claimed && reason == "":
				t.Errorf("no claim is named after AUTH-%s", rule)
			case claimed && reason != "":
				t.Errorf("AUTH-%s is exempt and has claims", rule)
			case claimed && (found["AUTH-"+rule][2] == 0) != (shallow[rule] != ""):
				t.Errorf("AUTH-%s has %d claims, %d through the service and %d over HTTP", rule, found["AUTH-"+rule][0], found["AUTH-"+rule][1], found["AUTH-"+rule][2])
			}
		}
	}
	for i := range examples {
		if name := fmt.Sprintf("Example %d", i+1); found[name][0] == 0 {
			t.Errorf("no claim is named %s", name)
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(exempt)) {
		if !rules[rule] {
			t.Errorf("AUTH-%s is exempt and no rule", rule)
		}
	}
}
