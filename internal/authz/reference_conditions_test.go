package authz_test

import (
	"encoding/base64"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/policy"
)

// conditionsHold: operators and keys are all to hold (AUTH-8.1).
func (q *question) conditionsHold(s *policy.Statement, version string) bool {
	for i := range s.Conditions {
		if !q.conditionHolds(&s.Conditions[i], version) {
			return false
		}
	}
	return true
}

// test is an operator taken apart.
type test struct {
	set      string // "", "forallvalues:" or "foranyvalue:"
	relation string // the positive operator, in small letters
	negated  bool
	ifExists bool
}

// relations gives for every operator of AUTH §8.2 the positive one it is made
// from. ArnEquals and ArnLike are the same.
var relations = map[string]string{
	"stringequals": "stringequals", "stringequalsignorecase": "stringequalsignorecase", "stringlike": "stringlike",
	"numericequals": "numericequals", "numericlessthan": "numericlessthan", "numericlessthanequals": "numericlessthanequals",
	"numericgreaterthan": "numericgreaterthan", "numericgreaterthanequals": "numericgreaterthanequals",
	"dateequals": "dateequals", "datelessthan": "datelessthan", "datelessthanequals": "datelessthanequals",
	"dategreaterthan": "dategreaterthan", "dategreaterthanequals": "dategreaterthanequals",
	"bool": "bool", "binaryequals": "binaryequals", "ipaddress": "ipaddress", "arnequals": "arnlike", "arnlike": "arnlike", "null": "null",
}

// negatedRelations are the negated operators of AUTH §8.2.
var negatedRelations = map[string]string{
	"stringnotequals": "stringequals", "stringnotequalsignorecase": "stringequalsignorecase", "stringnotlike": "stringlike",
	"numericnotequals": "numericequals", "datenotequals": "dateequals", "notipaddress": "ipaddress",
	"arnnotequals": "arnlike", "arnnotlike": "arnlike",
}

// takeApart reads an operator's name, without regard to case (AUTH-8.2). Null
// takes no IfExists; a set operator before it, of which the rules do not speak,
// makes no difference.
func takeApart(name string) (t test, ok bool) {
	name = strings.ToLower(name)
	for _, set := range []string{"forallvalues:", "foranyvalue:"} {
		if rest, found := strings.CutPrefix(name, set); found {
			t.set, name = set, rest
			break
		}
	}
	name, t.ifExists = strings.CutSuffix(name, "ifexists")
	t.relation, ok = relations[name]
	if !ok {
		t.relation, t.negated = negatedRelations[name], true
	}
	return t, t.relation != "" && !(t.relation == "null" && t.ifExists)
}

// conditionHolds is AUTH-8.1, 8.3 to 8.7 and 8.9.
func (q *question) conditionHolds(c *policy.Condition, version string) bool {
	t, ok := takeApart(c.Operator)
	if !ok {
		return false // AUTH-8.5
	}
	v := q.value(c.Key)
	switch {
	case t.relation == "null":
		return nullHolds(c, v)
	case !v.Present && t.ifExists:
		return true
	case t.set == "forallvalues:":
		return q.all(t, c, v, version)
	case t.set == "foranyvalue:":
		return q.any(t, c, v, version)
	case !v.Present:
		return t.negated // AUTH-8.3
	case v.Multi:
		return false // AUTH-8.7
	default:
		return q.satisfies(t, c, v.Text, version)
	}
}

// empty: absent, and what counts as null besides (AUTH-8.4).
func empty(v policy.Value) bool {
	return !v.Present || v.Multi && len(v.List) == 0 || !v.Multi && v.Text == ""
}

// nullHolds: "true" is for absent, "false" for present and not empty; other texts hold never.
func nullHolds(c *policy.Condition, v policy.Value) bool {
	return slices.ContainsFunc(c.Values.Items, func(i policy.Item) bool {
		return strings.EqualFold(i.Text, strconv.FormatBool(empty(v)))
	})
}

// set is a key's values; a single one is a set of one (AUTH-8.7).
func set(v policy.Value) []string {
	switch {
	case !v.Present:
		return nil
	case v.Multi:
		return v.List
	default:
		return []string{v.Text}
	}
}

// all is ForAllValues (AUTH-8.6); what counts as null is an empty set (AUTH-8.4).
// Against an empty list it holds only then, negated or not (AUTH-8.9).
func (q *question) all(t test, c *policy.Condition, v policy.Value, version string) bool {
	if empty(v) {
		return true
	}
	return len(c.Values.Items) > 0 && !slices.ContainsFunc(set(v), func(text string) bool { return !q.satisfies(t, c, text, version) })
}

// any is ForAnyValue (AUTH-8.6).
func (q *question) any(t test, c *policy.Condition, v policy.Value, version string) bool {
	return slices.ContainsFunc(set(v), func(text string) bool { return q.satisfies(t, c, text, version) })
}

// An answer is what comparing two values comes to.
type answer int

// The answers. What cannot be compared neither matches nor, negated, holds.
const (
	differs answer = iota
	matches
	incomparable
)

// yes is the answer to a question that has one.
func yes(b bool) answer {
	if b {
		return matches
	}
	return differs
}

// satisfies compares one value with those of the policy: any of them, or with
// a negated operator none (AUTH-8.1).
func (q *question) satisfies(t test, c *policy.Condition, text, version string) bool {
	var seen [3]bool
	for _, i := range c.Values.Items {
		seen[q.compare(t.relation, i.Text, text, version)] = true
	}
	if t.negated {
		return !seen[matches] && !seen[incomparable]
	}
	return seen[matches]
}

// compare is the table of AUTH §8.2.
func (q *question) compare(relation, want, got, version string) answer {
	switch {
	case relation == "bool":
		return q.compareBools(want, got, version)
	case relation == "ipaddress":
		return compareAddresses(want, got)
	case relation == "binaryequals":
		return compareBinary(want, got)
	case relation == "arnlike":
		return q.compareARNs(want, got, version)
	case strings.HasPrefix(relation, "numeric"):
		return compareNumbers(strings.TrimPrefix(relation, "numeric"), want, got)
	case strings.HasPrefix(relation, "date"):
		return compareDates(strings.TrimPrefix(relation, "date"), want, got)
	}
	pattern, ok := q.expand(want, version, relation == "stringlike")
	if !ok {
		return differs // a variable without a value matches nothing (AUTH-8.12)
	}
	if relation == "stringequalsignorecase" {
		return yes(like(lower(pattern), strings.ToLower(got)))
	}
	return yes(like(pattern, got))
}

// compareBools: other texts than true and false match nothing. Variables count,
// as one page has it (AUTH-8.11).
func (q *question) compareBools(want, got, version string) answer {
	pattern, ok := q.expand(want, version, false)
	got = strings.ToLower(got)
	return yes(ok && (got == "true" || got == "false") && like(lower(pattern), got))
}

// compareBinary compares bytes. The rule has the policy's value in base64; the
// request's is taken to be so as well.
func compareBinary(want, got string) answer {
	w, err1 := base64.StdEncoding.DecodeString(want)
	g, err2 := base64.StdEncoding.DecodeString(got)
	return yes(err1 == nil && err2 == nil && string(w) == string(g))
}

// compareAddresses: an address is in a range of its own family; without a prefix the range is the address.
func compareAddresses(want, got string) answer {
	if !strings.Contains(want, "/") {
		bits := "/32"
		if strings.Contains(want, ":") {
			bits = "/128"
		}
		want += bits
	}
	_, ipRange, err := net.ParseCIDR(want)
	if err != nil {
		return incomparable
	}
	ip := net.ParseIP(got)
	if ip == nil {
		return incomparable
	}
	return yes(strings.Contains(want, ":") == strings.Contains(got, ":") && ipRange.Contains(ip))
}

// decimal is how numbers are written.
var decimal = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// compareNumbers compares decimal numbers exactly.
func compareNumbers(order, want, got string) answer {
	if !decimal.MatchString(want) || !decimal.MatchString(got) {
		return incomparable
	}
	w, _ := new(big.Rat).SetString(want)
	g, _ := new(big.Rat).SetString(got)
	return yes(inOrder(order, g.Cmp(w)))
}

// compareDates compares instants.
func compareDates(order, want, got string) answer {
	w, ok1 := instant(want)
	g, ok2 := instant(got)
	if !ok1 || !ok2 {
		return incomparable
	}
	return yes(inOrder(order, g.Cmp(w)))
}

// inOrder reports whether the request's value stands to the policy's as the operator wants.
func inOrder(order string, sign int) bool {
	switch order {
	case "equals":
		return sign == 0
	case "lessthan":
		return sign < 0
	case "lessthanequals":
		return sign <= 0
	case "greaterthan":
		return sign > 0
	default:
		return sign >= 0
	}
}

// instant reads a date of the W3C profile of ISO 8601 or seconds since 1970, as
// a number of seconds. The rules do not say how seconds are written nor how many
// there may be: here they are decimal, up to the end of the year 9999.
func instant(s string) (*big.Rat, bool) {
	for _, layout := range []string{"2006", "2006-01", "2006-01-02", "2006-01-02T15:04Z07:00", time.RFC3339} {
		if t, err := time.Parse(layout, s); err == nil {
			nanoseconds := big.NewRat(int64(t.Nanosecond()), 1e9)
			return nanoseconds.Add(nanoseconds, big.NewRat(t.Unix(), 1)), true
		}
	}
	if !decimal.MatchString(s) {
		return nil, false
	}
	seconds, _ := new(big.Rat).SetString(s)
	return seconds, seconds.Cmp(big.NewRat(253402300799, 1)) <= 0 && seconds.Cmp(big.NewRat(-62135596800, 1)) >= 0
}

// compareARNs compares six segments; the sixth is the rest, and no other
// wildcard crosses a colon. A policy's text that is no ARN matches nothing, nor
// does it hold negated.
func (q *question) compareARNs(want, got, version string) answer {
	pattern, ok := q.expand(want, version, true)
	if !ok {
		return differs
	}
	fields := segments(pattern)
	if len(fields) < 6 {
		return incomparable
	}
	parts := strings.SplitN(got, ":", 6)
	if len(parts) < 6 {
		return differs
	}
	for i, f := range fields {
		if !like(f, parts[i]) {
			return differs
		}
	}
	return matches
}
