package policy

import (
	"strings"
	"unicode/utf8"
)

// A Pattern is a compiled glob: star stands for any run of characters, also
// none, mark for exactly one. Both are bytes that no valid UTF-8 text holds, so
// a literal asterisk in a pattern is just an asterisk.
type Pattern string

const (
	star = '\xff'
	mark = '\xfe'
)

// Glob compiles the policy language's wildcards.
func Glob(s string) Pattern {
	b := []byte(strings.ToValidUTF8(s, "\uFFFD"))
	for i, c := range b {
		switch c {
		case '*':
			b[i] = star
		case '?':
			b[i] = mark
		}
	}
	return Pattern(b)
}

// Literal makes a pattern that only s matches.
func Literal(s string) Pattern { return Pattern(strings.ToValidUTF8(s, "\uFFFD")) }

// Match reports whether all of s matches p. It takes at most len(p)·len(s)
// steps and no memory.
func (p Pattern) Match(s string) bool {
	i, j := 0, 0
	backP, backS := -1, 0
	for j < len(s) {
		switch {
		case i < len(p) && p[i] == star:
			backP, backS = i, j
			i++
			continue
		case i < len(p) && p[i] == mark:
			_, size := utf8.DecodeRuneInString(s[j:])
			i, j = i+1, j+size
			continue
		case i < len(p) && p[i] == s[j]:
			i, j = i+1, j+1
			continue
		case backP < 0:
			return false
		}
		_, size := utf8.DecodeRuneInString(s[backS:])
		backS += size
		i, j = backP+1, backS
	}
	for i < len(p) && p[i] == star {
		i++
	}
	return i == len(p)
}

// all reports whether p is nothing but stars.
func (p Pattern) all() bool {
	return p != "" && strings.Count(string(p), string([]byte{star})) == len(p)
}

// An arnPattern matches ARNs field by field: a wildcard stays within its field,
// except in the resource, which is everything after the fifth colon.
type arnPattern struct {
	fields [6]Pattern
	n      int
}

// usable reports whether a can match anything: it has six fields, or, where a
// short pattern may stand, its last ends in a star and so spans the rest.
func (a *arnPattern) usable(short bool) bool {
	return a.n == 6 || short && a.n > 0 && shortARNSpans(a.fields[a.n-1])
}

// shortARNSpans is the UNVERIFIED reading of AUTH-7.6: in a pattern of fewer
// than six fields a final star spans all that follows.
func shortARNSpans(last Pattern) bool {
	return len(last) > 0 && last[len(last)-1] == star
}

// match reports whether the ARN s matches. A text that is not an ARN never does.
func (a *arnPattern) match(s string) bool {
	for i := 0; i < a.n-1; i++ {
		field, rest, ok := strings.Cut(s, ":")
		if !ok || !a.fields[i].Match(field) {
			return false
		}
		s = rest
	}
	return a.fields[a.n-1].Match(s)
}

// An arnTemplate is an ARN pattern that may hold variables. A variable's value
// stays within the field the variable stands in, whatever it contains.
type arnTemplate struct {
	fixed     arnPattern
	short     bool       // fewer than six fields may stand for an ARN: in Resource (AUTH-7.6)
	fields    []template // nil without variables
	variables int        // how many leading fields hold a variable, as a bit set
}

func newARNTemplate(s string, variables, short bool) arnTemplate {
	t := arnTemplate{short: short}
	dynamic := false
	split := splitOutsideVariables
	if !variables {
		split = splitARN
	}
	for i, f := range split(s) {
		field := newTemplate(f, variables, Glob)
		t.fields = append(t.fields, field)
		t.fixed.fields[i] = field.fixed
		if field.parts != nil {
			dynamic = true
			t.variables |= 1 << i
		}
	}
	t.fixed.n = len(t.fields)
	if !dynamic {
		t.fields = nil
	}
	return t
}

// match reports whether s is an ARN that t matches, and whether t, with its
// variables filled in, is a pattern at all.
func (t *arnTemplate) match(s string, ctx Context) (matches, valid bool) {
	if t.fields == nil {
		valid = t.fixed.usable(t.short)
		return valid && t.fixed.match(s), valid
	}
	a := arnPattern{n: len(t.fields)}
	for i := range t.fields {
		f, ok := t.fields[i].expand(ctx)
		if !ok {
			return false, true // a variable without a value: no match, and its negation holds
		}
		a.fields[i] = f
	}
	if a.n < 6 {
		a = a.joined()
	}
	valid = a.usable(t.short)
	return valid && a.match(s), valid
}

// joined splits the fields again: a variable that is a whole ARN, or the better
// part of one, brings fields of its own.
func (a *arnPattern) joined() arnPattern {
	var text Pattern
	for i, f := range a.fields[:a.n] {
		if i > 0 {
			text += ":"
		}
		text += f
	}
	var out arnPattern
	parts := splitARN(string(text))
	for i, f := range parts {
		out.fields[i] = Pattern(f)
	}
	out.n = len(parts)
	return out
}

// splitARN cuts s at its first five colons.
func splitARN(s string) []string { return strings.SplitN(s, ":", 6) }

// splitOutsideVariables cuts s at its first five colons that are not inside ${…}.
func splitOutsideVariables(s string) []string {
	var out []string
	start, depth := 0, 0
	for i := 0; i < len(s) && len(out) < 5; i++ {
		switch {
		case strings.HasPrefix(s[i:], "${"):
			depth++
		case s[i] == '}' && depth > 0:
			depth--
		case s[i] == ':' && depth == 0:
			out = append(out, s[start:i])
			start = i + 1
		}
	}
	return append(out, s[start:])
}
