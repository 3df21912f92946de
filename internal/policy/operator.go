package policy

import (
	"encoding/base64"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// A family is a kind of comparison; the operators of a family differ in sign,
// set prefix and IfExists.
type family uint8

const (
	stringEquals family = iota + 1
	stringEqualsIgnoreCase
	stringLike
	numericEquals
	numericLess
	numericLessEquals
	numericGreater
	numericGreaterEquals
	dateEquals
	dateLess
	dateLessEquals
	dateGreater
	dateGreaterEquals
	boolean
	binary
	ipAddress
	arnLike
	null
)

// operators maps each operator, in lower case, to its family and sign.
var operators = map[string]struct {
	family  family
	negated bool
}{
	"stringequals":              {stringEquals, false},
	"stringnotequals":           {stringEquals, true},
	"stringequalsignorecase":    {stringEqualsIgnoreCase, false},
	"stringnotequalsignorecase": {stringEqualsIgnoreCase, true},
	"stringlike":                {stringLike, false},
	"stringnotlike":             {stringLike, true},
	"numericequals":             {numericEquals, false},
	"numericnotequals":          {numericEquals, true},
	"numericlessthan":           {numericLess, false},
	"numericlessthanequals":     {numericLessEquals, false},
	"numericgreaterthan":        {numericGreater, false},
	"numericgreaterthanequals":  {numericGreaterEquals, false},
	"dateequals":                {dateEquals, false},
	"datenotequals":             {dateEquals, true},
	"datelessthan":              {dateLess, false},
	"datelessthanequals":        {dateLessEquals, false},
	"dategreaterthan":           {dateGreater, false},
	"dategreaterthanequals":     {dateGreaterEquals, false},
	"bool":                      {boolean, false},
	"binaryequals":              {binary, false},
	"ipaddress":                 {ipAddress, false},
	"notipaddress":              {ipAddress, true},
	"arnequals":                 {arnLike, false},
	"arnlike":                   {arnLike, false},
	"arnnotequals":              {arnLike, true},
	"arnnotlike":                {arnLike, true},
	"null":                      {null, false},
}

// A setPrefix is how an operator treats a multi-valued key.
type setPrefix uint8

const (
	noPrefix setPrefix = iota
	forAllValues
	forAnyValue
)

// An operator is a condition operator taken apart.
type operator struct {
	family   family
	negated  bool
	prefix   setPrefix
	ifExists bool
}

// parseOperator reads an operator's name. ok is false for one that does not
// exist; Null takes neither IfExists nor variables (AUTH-8 operators table).
func parseOperator(name string) (op operator, ok bool) {
	name = operatorCase(name)
	if rest, found := strings.CutPrefix(name, "forallvalues:"); found {
		name, op.prefix = rest, forAllValues
	} else if rest, found := strings.CutPrefix(name, "foranyvalue:"); found {
		name, op.prefix = rest, forAnyValue
	}
	name, op.ifExists = strings.CutSuffix(name, "ifexists")
	o, ok := operators[name]
	op.family, op.negated = o.family, o.negated
	return op, ok && !(op.family == null && op.ifExists)
}

// operatorCase is the UNVERIFIED half of AUTH-8.2: operator names are compared
// without regard to case.
func operatorCase(name string) string { return strings.ToLower(name) }

// takesVariables reports whether policy variables count in the family's values (AUTH-8.11).
func (f family) takesVariables() bool {
	return f <= stringLike || f == boolean || f == arnLike
}

// An operand is one value of a condition, parsed for its family. An operand
// that does not parse is not valid and no value matches it.
type operand struct {
	valid  bool
	text   template
	arn    arnTemplate
	number float64
	time   time.Time
	prefix netip.Prefix
	truth  bool
	binary string
}

func newOperand(f family, text string, variables bool) operand {
	o := operand{valid: true}
	switch f {
	case stringEquals, stringEqualsIgnoreCase, boolean:
		o.text = newTemplate(text, variables, Literal)
	case stringLike:
		o.text = newTemplate(text, variables, Glob)
	case arnLike:
		o.arn = newARNTemplate(text, variables, false)
	case numericEquals, numericLess, numericLessEquals, numericGreater, numericGreaterEquals:
		o.number, o.valid = parseNumber(text)
	case dateEquals, dateLess, dateLessEquals, dateGreater, dateGreaterEquals:
		o.time, o.valid = parseDate(text)
	case ipAddress:
		o.prefix, o.valid = parsePrefix(text)
	case binary:
		b, err := base64.StdEncoding.DecodeString(text)
		o.binary, o.valid = string(b), err == nil
	case null:
		o.truth, o.valid = parseBool(text)
	}
	return o
}

// match compares one value of the request with o. valid is false if either
// side cannot be read as the family's type, and then neither the operator nor
// its negation holds.
func (o *operand) match(f family, text string, ctx Context) (matches, valid bool) {
	if !o.valid {
		return false, false
	}
	switch f {
	case stringEquals, stringEqualsIgnoreCase, stringLike:
		p, ok := o.text.expand(ctx)
		return ok && matchString(f, p, text), true
	case arnLike:
		matches, valid = o.arn.match(text, ctx)
		return matches, valid
	case boolean:
		p, ok := o.text.expand(ctx)
		want, ok1 := parseBool(string(p))
		got, ok2 := parseBool(text)
		valid = ok && ok1 && ok2
		return valid && want == got, valid
	case binary:
		b, err := base64.StdEncoding.DecodeString(text)
		return err == nil && string(b) == o.binary, err == nil
	case ipAddress:
		ip, err := netip.ParseAddr(text)
		return err == nil && o.prefix.Contains(ip.Unmap().WithZone("")), err == nil
	case dateEquals, dateLess, dateLessEquals, dateGreater, dateGreaterEquals:
		t, ok := parseDate(text)
		return ok && ordered(f-dateEquals, t.Compare(o.time)), ok
	default:
		n, ok := parseNumber(text)
		return ok && ordered(f-numericEquals, compareNumbers(n, o.number)), ok
	}
}

func matchString(f family, p Pattern, text string) bool {
	switch f {
	case stringEquals:
		return string(p) == text
	case stringEqualsIgnoreCase:
		return strings.EqualFold(string(p), text)
	default:
		return p.Match(text)
	}
}

// ordered reports whether c, the sign of value minus operand, satisfies the
// relation at the given place in a family: equals, less, less or equal, greater,
// greater or equal.
func ordered(relation family, c int) bool {
	switch relation {
	case 0:
		return c == 0
	case 1:
		return c < 0
	case 2:
		return c <= 0
	case 3:
		return c > 0
	default:
		return c >= 0
	}
}

func compareNumbers(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	default:
		return 0
	}
}

// parseNumber reads a decimal number; infinities, hexadecimal and NaN are not numbers.
func parseNumber(s string) (float64, bool) {
	if s == "" || strings.Trim(s, "0123456789+-.eE") != "" {
		return 0, false
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

func parseBool(s string) (value, ok bool) {
	switch {
	case strings.EqualFold(s, "true"):
		return true, true
	case strings.EqualFold(s, "false"):
		return false, true
	default:
		return false, false
	}
}

// dateForms are those of the W3C profile of ISO 8601.
var dateForms = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05Z0700", "2006-01-02", "2006-01", "2006",
}

// parseDate reads an ISO 8601 date or epoch seconds. Four digits are a year.
func parseDate(s string) (time.Time, bool) {
	for _, form := range dateForms {
		if t, err := time.Parse(form, s); err == nil {
			return t, true
		}
	}
	n, ok := parseNumber(s)
	if !ok || n < -62135596800 || n > 253402300799 {
		return time.Time{}, false
	}
	whole := int64(n)
	return time.Unix(whole, int64((n-float64(whole))*1e9)).UTC(), true
}

// parsePrefix reads a CIDR block or a single address; bits beyond the mask do
// not matter.
func parsePrefix(s string) (netip.Prefix, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked(), true
	}
	ip, err := netip.ParseAddr(s)
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(ip, ip.BitLen()), true
}
