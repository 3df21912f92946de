package policy

import (
	"encoding/json/jsontext"
	"strings"
)

// String prints the document the way GetKeyPolicy does (policy-document.md §6):
// members in a fixed order, two spaces of indent, a list of one as a plain
// value in principals, everything else in the order it was written.
func (d *Document) String() string {
	w := &printer{}
	w.open("{")
	if d.Version != "" {
		w.member("Version", quote(d.Version))
	}
	if d.HasID {
		w.member("Id", quote(d.ID))
	}
	w.key("Statement")
	w.text("[ ")
	for i := range d.Statements {
		if i > 0 {
			w.text(", ")
		}
		w.statement(&d.Statements[i])
	}
	w.text(" ]")
	w.close("}")
	return w.b.String()
}

type printer struct {
	b      strings.Builder
	depth  int
	filled bool // the current object has a member already
}

func (w *printer) text(s string) { w.b.WriteString(s) }

func (w *printer) open(s string) {
	w.text(s)
	w.depth++
	w.filled = false
}

func (w *printer) close(s string) {
	w.depth--
	if w.filled {
		w.newline()
	}
	w.text(s)
	w.filled = true
}

func (w *printer) newline() {
	w.text("\n")
	w.text(strings.Repeat("  ", w.depth))
}

func (w *printer) key(name string) {
	if w.filled {
		w.text(",")
	}
	w.newline()
	w.text(quote(name) + " : ")
	w.filled = true
}

func (w *printer) member(name, value string) {
	w.key(name)
	w.text(value)
}

func (w *printer) statement(s *Statement) {
	w.open("{")
	if s.HasSid {
		w.member("Sid", quote(s.Sid))
	}
	w.member("Effect", quote(s.Effect.String()))
	if s.Principal != nil {
		w.key(not(s.NotPrincipal) + "Principal")
		w.principals(s.Principal)
	}
	if s.Action != nil {
		w.member(not(s.NotAction)+"Action", s.Action.print())
	}
	if s.Resource != nil {
		w.member(not(s.NotResource)+"Resource", s.Resource.print())
	}
	if s.HasCondition {
		w.key("Condition")
		w.conditions(s.Conditions)
	}
	w.close("}")
}

func (w *printer) principals(p *Principals) {
	if p.Everyone {
		w.text(`"*"`)
		return
	}
	w.open("{")
	for _, e := range p.Entries {
		l := e.Values
		l.Array = l.Array && len(l.Items) != 1
		w.member(e.Type, l.print())
	}
	w.close("}")
}

func (w *printer) conditions(cs []Condition) {
	w.open("{")
	for i := 0; i < len(cs); {
		w.key(cs[i].Operator)
		w.open("{")
		operator := cs[i].Operator
		for ; i < len(cs) && cs[i].Operator == operator; i++ {
			w.member(cs[i].Key, cs[i].Values.print())
		}
		w.close("}")
	}
	w.close("}")
}

func not(negated bool) string {
	if negated {
		return "Not"
	}
	return ""
}

func (l *List) print() string {
	if !l.Array {
		return l.Items[0].print()
	}
	parts := make([]string, len(l.Items))
	for i, item := range l.Items {
		parts[i] = item.print()
	}
	return "[ " + strings.Join(parts, ", ") + " ]"
}

func (i Item) print() string {
	if i.Quoted {
		return quote(i.Text)
	}
	return i.Text
}

func quote(s string) string {
	b, _ := jsontext.AppendQuote(nil, s) // fails only on invalid UTF-8, and then quotes the repaired text
	return string(b)
}
