package policy

import "strings"

// A template is a policy text with its variables: literal patterns between
// ${key} references. Without references it is one fixed pattern.
type template struct {
	fixed Pattern
	parts []part // nil without references
}

type part struct {
	text     Pattern
	key      ConditionKey // asked for when text is empty and isKey
	isKey    bool
	fallback string
	hasElse  bool
}

// newTemplate compiles s; compile turns literal text into a pattern. Variables
// count only where the document's version has them (AUTH-8.10); ${*}, ${?} and
// ${$} are the literal characters (AUTH-8.13).
func newTemplate(s string, variables bool, compile func(string) Pattern) template {
	if !variables || !strings.Contains(s, "${") {
		return template{fixed: compile(s)}
	}
	var parts []part
	var text Pattern
	for s != "" {
		open := strings.Index(s, "${")
		end := strings.IndexByte(s[max(open, 0):], '}')
		if open < 0 || end < 0 {
			text += compile(s)
			break
		}
		text += compile(s[:open])
		name := s[open+2 : open+end]
		s = s[open+end+1:]
		if name == "*" || name == "?" || name == "$" {
			text += Literal(name)
			continue
		}
		if text != "" {
			parts, text = append(parts, part{text: text}), ""
		}
		parts = append(parts, newReference(name))
	}
	if len(parts) == 0 {
		return template{fixed: text}
	}
	if text != "" {
		parts = append(parts, part{text: text})
	}
	return template{parts: parts}
}

// newReference reads the inside of ${…}: a key, or "key, 'default'" (AUTH-8.12).
func newReference(name string) part {
	p := part{isKey: true}
	if key, rest, ok := strings.Cut(name, ", '"); ok && strings.HasSuffix(rest, "'") {
		name, p.fallback, p.hasElse = key, strings.TrimSuffix(rest, "'"), true
	}
	p.key = KeyNamed(name)
	return p
}

// expand fills the references in. It reports false if one has no single value:
// then nothing can match (AUTH-8.12).
func (t *template) expand(ctx Context) (Pattern, bool) {
	if t.parts == nil {
		return t.fixed, true
	}
	var b strings.Builder
	for i := range t.parts {
		p := &t.parts[i]
		if !p.isKey {
			b.WriteString(string(p.text))
			continue
		}
		v := ctx.Lookup(p.key)
		switch {
		case v.Present && !v.Multi:
			b.WriteString(string(substituted(v.Text)))
		case !v.Present && p.hasElse:
			b.WriteString(string(Literal(p.fallback)))
		default:
			return "", false
		}
	}
	return Pattern(b.String()), true
}

// substituted is the UNVERIFIED half of AUTH-8.13: wildcards inside a
// substituted value are literal characters.
func substituted(value string) Pattern { return Literal(value) }
