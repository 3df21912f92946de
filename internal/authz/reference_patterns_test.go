package authz_test

import (
	"regexp"
	"slices"
	"strings"
)

// A glyph is one character of a pattern; a wild one is * or ?. A filled one
// comes from a variable.
type glyph struct {
	r            rune
	wild, filled bool
}

// globGlyphs reads a pattern without variables.
func globGlyphs(s string) []glyph { return glyphs(s, true) }

// glyphs reads text in which * and ? are wild, or not.
func glyphs(s string, wildcards bool) []glyph {
	p := make([]glyph, 0, len(s))
	for _, r := range s {
		p = append(p, glyph{r: r, wild: wildcards && (r == '*' || r == '?')})
	}
	return p
}

// lower makes the letters of a pattern small.
func lower(p []glyph) []glyph {
	out := slices.Clone(p)
	for i, g := range p {
		out[i].r = []rune(strings.ToLower(string(g.r)))[0]
	}
	return out
}

// like is what a pattern means: * is any run, ? exactly one character, on the entire value.
func like(p []glyph, s string) bool { return likeRunes(p, []rune(s)) }

// likeRunes is like, on characters.
func likeRunes(p []glyph, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0].wild && p[0].r == '*':
		return likeRunes(p[1:], s) || len(s) > 0 && likeRunes(p, s[1:])
	default:
		return len(s) > 0 && (p[0].wild || p[0].r == s[0]) && likeRunes(p[1:], s[1:])
	}
}

// segments splits a pattern at its first five colons. The rules do not say
// whether a colon in the value of a variable counts: here it does only where the
// policy's own text has fewer than five, so that a variable can be a whole ARN
// but never shifts the segments of one.
func segments(p []glyph) [][]glyph {
	colon := func(g glyph) bool { return g.r == ':' && !g.filled }
	if fields := splitFive(p, colon); len(fields) == 6 {
		return fields
	}
	return splitFive(p, func(g glyph) bool { return g.r == ':' })
}

// splitFive splits a pattern at no more than five separators.
func splitFive(p []glyph, separates func(glyph) bool) (fields [][]glyph) {
	for len(fields) < 5 {
		i := slices.IndexFunc(p, separates)
		if i < 0 {
			break
		}
		fields, p = append(fields, p[:i]), p[i+1:]
	}
	return append(fields, p)
}

// variable is one policy variable.
var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// withDefault is the inside of a variable with a default: comma, one space, single quotes (AUTH-8.12).
var withDefault = regexp.MustCompile(`^(.*?), '(.*)'$`)

// expand fills in the variables of a text, in policies of 2012 only
// (AUTH-8.10). What is filled in is literal (AUTH-8.13). It fails if a variable
// has neither a single value nor a default (AUTH-8.12).
func (q *question) expand(s, version string, wildcards bool) (p []glyph, ok bool) {
	if version != "2012-10-17" {
		return glyphs(s, wildcards), true
	}
	from := 0
	for _, at := range variable.FindAllStringIndex(s, -1) {
		text, ok := q.fill(s[at[0]+len("${") : at[1]-len("}")])
		if !ok {
			return nil, false
		}
		p = append(p, glyphs(s[from:at[0]], wildcards)...)
		for _, r := range text {
			p = append(p, glyph{r: r, filled: true})
		}
		from = at[1]
	}
	return append(p, glyphs(s[from:], wildcards)...), true
}

// fill is the text for the inside of one variable.
func (q *question) fill(inside string) (string, bool) {
	if inside == "*" || inside == "?" || inside == "$" {
		return inside, true // AUTH-8.13
	}
	key, otherwise := inside, withDefault.FindStringSubmatch(inside)
	if otherwise != nil {
		key = otherwise[1]
	}
	v := q.value(key)
	switch {
	case v.Present:
		return v.Text, !v.Multi
	case otherwise != nil:
		return otherwise[2], true
	default:
		return "", false
	}
}
