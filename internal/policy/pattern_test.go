package policy

import (
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// slow is the definition of a glob.
func slow(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return slow(p[1:], s) || len(s) > 0 && slow(p, s[1:])
	default:
		return len(s) > 0 && (p[0] == '?' || p[0] == s[0]) && slow(p[1:], s[1:])
	}
}

func TestMatchIsTheDefinition(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p := rapid.StringMatching(`[ab€*?]{0,8}`).Draw(rt, "pattern")
		s := rapid.StringMatching(`[ab€]{0,10}`).Draw(rt, "s")
		if got, want := Glob(p).Match(s), slow([]rune(p), []rune(s)); got != want {
			rt.Fatalf("Glob(%q).Match(%q) = %t, want %t", p, s, got, want)
		}
	})
}

func TestLiteralMatchesItselfAlone(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		p, s := rapid.String().Draw(rt, "p"), rapid.String().Draw(rt, "s")
		if !utf8.ValidString(p) || !utf8.ValidString(s) {
			rt.Skip()
		}
		if got := Literal(p).Match(s); got != (p == s) {
			rt.Fatalf("Literal(%q).Match(%q) = %t", p, s, got)
		}
	})
}

func TestARNPattern(t *testing.T) {
	const key = "arn:aws:kms:us-east-1:111122223333:key/a:b"
	tests := []struct {
		pattern string
		want    bool
	}{
		{key, true},
		{"arn:aws:kms:*:111122223333:key/*", true},
		{"arn:*:kms:us-east-?:*:*", true},
		{"arn:aws:kms:*", true},
		{"arn:*", true},
		{"arn:aws:kms", false},
		{"arn:aws:kms:us-east-1:111122223333:key/a", false},
		{"arn:aws:*:111122223333:key/a:b", false}, // a star does not cross a colon
		{"arn:aws:kms:us-east-1:*key/a:b", false},
		{"arn:aws:kms:us-east-1::key/*", false},
	}
	for _, tt := range tests {
		t.Run(tt.pattern, func(t *testing.T) {
			a := newARNTemplate(tt.pattern, true, true)
			if got, _ := a.match(key, nil); got != tt.want {
				t.Errorf("match = %t, want %t", got, tt.want)
			}
		})
	}
}
