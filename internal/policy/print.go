package policy

import (
	"encoding/json/jsontext"
	"fmt"
	"strings"
	"unicode/utf16"
)

// String prints the document the way GetKeyPolicy does (policy-document.md §6):
// members in a fixed order, two spaces of indent, a list of one as a plain
// value in principals, everything else in the order it was written.
func (d *Document) String() string { return d.print(&printer{}) }

// Compact prints the document without white space.
func (d *Document) Compact() string { return d.print(&printer{compact: true}) }

// JSON prints a statement by itself, without white space.
func (s *Statement) JSON() string {
	w := &printer{compact: true}
	w.statement(s)
	return w.b.String()
}

func (d *Document) print(w *printer) string {
	w.open("{")
	if d.Version != "" {
		w.member("Version", quote(d.Version))
	}
	if d.HasID {
		w.member("Id", quote(d.ID))
	}
	w.key("Statement")
	w.array(len(d.Statements), func(i int) { w.statement(&d.Statements[i]) })
	w.close("}")
	return w.b.String()
}

type printer struct {
	b       strings.Builder
	depth   int
	filled  bool // the current object has a member already
	compact bool
}

func (w *printer) text(s string) { w.b.WriteString(s) }

// gap writes white space, unless it is left out.
func (w *printer) gap(s string) {
	if !w.compact {
		w.text(s)
	}
}

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
	w.gap("\n")
	w.gap(strings.Repeat("  ", w.depth))
}

func (w *printer) key(name string) {
	if w.filled {
		w.text(",")
	}
	w.newline()
	w.text(quote(name))
	w.gap(" ")
	w.text(":")
	w.gap(" ")
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
		w.key(not(s.NotAction) + "Action")
		w.list(s.Action)
	}
	if s.Resource != nil {
		w.key(not(s.NotResource) + "Resource")
		w.list(s.Resource)
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
		w.key(e.Type)
		w.list(&l)
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
			w.key(cs[i].Key)
			w.list(&cs[i].Values)
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

// array writes n elements on one line.
func (w *printer) array(n int, element func(int)) {
	w.text("[")
	w.gap(" ")
	for i := range n {
		if i > 0 {
			w.text(",")
			w.gap(" ")
		}
		element(i)
	}
	w.gap(" ")
	w.text("]")
}

func (w *printer) list(l *List) {
	if !l.Array {
		w.text(l.Items[0].print())
		return
	}
	w.array(len(l.Items), func(i int) { w.text(l.Items[i].print()) })
}

func (i Item) print() string {
	if i.Quoted {
		return quote(i.Text)
	}
	return i.Text
}

// quote quotes s in the characters that a policy may hold: those above U+00FF are
// escaped.
func quote(s string) string {
	b, _ := jsontext.AppendQuote(nil, s) // fails only on invalid UTF-8, and then quotes the repaired text
	var out strings.Builder
	for _, c := range string(b) {
		switch {
		case c <= 0xff:
			out.WriteRune(c)
		case c <= 0xffff:
			fmt.Fprintf(&out, `\u%04x`, c)
		default:
			high, low := utf16.EncodeRune(c)
			fmt.Fprintf(&out, `\u%04x\u%04x`, high, low)
		}
	}
	return out.String()
}
