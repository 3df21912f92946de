package scenario

import (
	"fmt"
	"maps"
	"regexp"
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

// named finds rules and examples in claims' names.
var named = regexp.MustCompile(`AUTH-\d+(\.\d+)?|Example \d+`)

// names counts the rules and examples that claims name.
func names(t *testing.T) map[string]int {
	t.Helper()
	found := map[string]int{}
	for _, f := range files(t) {
		for _, c := range f.Claims {
			all := named.FindAllString(c.Name, -1)
			if len(all) == 0 || !strings.HasPrefix(c.Name, all[0]) {
				t.Errorf("%s:%d: the name %q does not begin with a rule or an example", f.Name, c.line, c.Name)
			}
			for _, name := range all {
				found[name]++
			}
		}
	}
	return found
}

func TestCoverage(t *testing.T) {
	found := names(t)
	rules := map[string]bool{}
	for _, s := range covered {
		for i := range s.last {
			rule := fmt.Sprintf("%d.%d", s.number, i+1)
			rules[rule] = true
			claimed, reason := found["AUTH-"+rule] > 0, exempt[rule]
			switch {
			case !claimed && reason == "":
				t.Errorf("no claim is named after AUTH-%s", rule)
			case claimed && reason != "":
				t.Errorf("AUTH-%s is exempt and has claims", rule)
			}
		}
	}
	for i := range examples {
		if name := fmt.Sprintf("Example %d", i+1); found[name] == 0 {
			t.Errorf("no claim is named %s", name)
		}
	}
	for _, rule := range slices.Sorted(maps.Keys(exempt)) {
		if !rules[rule] {
			t.Errorf("AUTH-%s is exempt and no rule", rule)
		}
	}
}
