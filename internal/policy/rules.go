package policy

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// A Rule is a compiled statement laid open, for those who reason about every request that
// it can meet: what it asks of the caller and the resource, and its conditions. What it
// answers is what Match would.
type Rule struct {
	Ref       Ref
	Effect    Effect
	Statement *Statement
	s         *statement
}

// Rules lists the statements of a policy; of nil there are none.
func (p *Policy) Rules() (out []Rule) {
	if p == nil {
		return nil
	}
	for i := range p.statements {
		out = append(out, Rule{Ref(i + 1), p.statements[i].effect, &p.Document.Statements[i], &p.statements[i]})
	}
	return out
}

// Has reports whether the statement names an action.
func (r Rule) Has(a Action) bool { return r.s.actions.Has(a) }

// Reach is how the statement names a caller.
func (r Rule) Reach(who *Principal) Reach { return r.s.reach(who) }

// Covers reports whether the statement takes in a resource.
func (r Rule) Covers(resource string, ctx Context) bool {
	return r.s.covers(&Request{Resource: resource, Context: ctx})
}

// Resources are the shapes of the resources that the statement names, but for "*".
func (r Rule) Resources() (shapes []Shape, variables []ConditionKey) {
	for i := range r.s.resources {
		s, v := r.s.resources[i].shapes()
		shapes, variables = append(shapes, s...), append(variables, v...)
	}
	return shapes, variables
}

// Tests are the statement's conditions, all of which have to hold.
func (r Rule) Tests() (out []Test) {
	for i := range r.s.conditions {
		out = append(out, Test{&r.s.conditions[i]})
	}
	return out
}

// A Test is a compiled condition laid open.
type Test struct{ c *condition }

// Source is the condition as it was written.
func (t Test) Source() *Condition { return t.c.source }

// Key is the condition key that it asks for.
func (t Test) Key() ConditionKey { return t.c.key }

// Holds evaluates the condition.
func (t Test) Holds(ctx Context) bool { return t.c.holds(ctx) }

// A Quantifier is what a condition asks of a key with several values.
type Quantifier uint8

// The quantifiers.
const (
	Single  Quantifier = iota // nothing: it is for keys with one value
	All                       // that each value passes
	Any                       // that one value passes
	Absence                   // whether there are values at all
	Never                     // it holds for no request
)

// Quantifier is what the condition asks of several values.
func (t Test) Quantifier() Quantifier {
	switch {
	case !t.c.known:
		return Never
	case t.c.op.family == null:
		return Absence
	case t.c.op.prefix == forAllValues:
		return All
	case t.c.op.prefix == forAnyValue:
		return Any
	default:
		return Single
	}
}

// Passes reports whether one value passes, as All and Any ask of each.
func (t Test) Passes(text string, ctx Context) bool {
	if t.c.op.prefix == forAllValues && len(t.c.operands) == 0 {
		return false
	}
	return t.c.test(text, ctx)
}

// Empty is the outcome for a key without values; of Absence it is that too.
func (t Test) Empty() bool {
	switch {
	case !t.c.known:
		return false
	case t.c.op.family == null:
		return t.c.null(Value{})
	default:
		return t.c.absent()
	}
}

// Present is the outcome of Absence for a key with values.
func (t Test) Present() bool { return t.c.null(One("x")) }

// A ShapeKind says which values a Shape tells from others.
type ShapeKind uint8

// The kinds of shapes.
const (
	TextShape    ShapeKind = iota // one text
	PatternShape                  // texts that match Pieces
	NumberShape                   // texts that are numbers, by how they compare with Number
	InstantShape                  // texts that are dates, by how they compare with Instant
	AddressShape                  // texts that are addresses, by whether Prefix has them
	OtherShape                    // something that is told here no further
)

// A Shape is one operand of a condition, or one resource: all it can tell apart are the
// values that fit it and those that do not.
type Shape struct {
	Kind    ShapeKind
	Text    string
	Pieces  []Piece
	Number  float64
	Instant time.Time
	Prefix  netip.Prefix
}

// A Piece is a part of a pattern: a character, or, if Wild, any one, or, if Run too, any
// number of any.
type Piece struct {
	Rune   rune
	Fold   bool // of Rune, whatever its case
	Wild   bool
	Run    bool
	Within bool // of Wild: but no colon
}

// Shapes are the operands of a condition without variables, and the variables of those
// that have some.
func (t Test) Shapes() (shapes []Shape, variables []ConditionKey) {
	for i := range t.c.operands {
		s, v := t.c.operands[i].shapes(t.c.op.family)
		shapes, variables = append(shapes, s...), append(variables, v...)
	}
	return shapes, variables
}

func (o *operand) shapes(f family) (shapes []Shape, variables []ConditionKey) {
	if !o.valid {
		return nil, nil
	}
	switch f {
	case stringEquals, stringEqualsIgnoreCase, stringLike, boolean:
		if o.text.nothing() {
			return nil, nil
		}
		if o.text.parts != nil {
			return nil, o.text.variables()
		}
		return []Shape{o.text.fixed.shape(f)}, nil
	case arnLike:
		return o.arn.shapes()
	case null:
		return nil, nil
	case binary:
		return []Shape{{Kind: OtherShape}}, nil
	case ipAddress:
		return []Shape{{Kind: AddressShape, Prefix: o.prefix}}, nil
	case dateEquals, dateLess, dateLessEquals, dateGreater, dateGreaterEquals:
		return []Shape{{Kind: InstantShape, Instant: o.time}}, nil
	default:
		return []Shape{{Kind: NumberShape, Number: o.number}}, nil
	}
}

// nothing reports whether a template has a variable that no request has a value for: then
// it matches nothing.
func (t *template) nothing() bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.isKey && p.key.ID == KeyUnknown && !p.hasElse })
}

// variables are those of a template.
func (t *template) variables() (out []ConditionKey) {
	for i := range t.parts {
		if t.parts[i].isKey {
			out = append(out, t.parts[i].key)
		}
	}
	return out
}

func (p Pattern) shape(f family) Shape {
	pieces := p.pieces(false)
	literal := !slices.ContainsFunc(pieces, func(x Piece) bool { return x.Wild })
	switch {
	case f == stringEqualsIgnoreCase || f == boolean:
		for i := range pieces {
			pieces[i].Fold = true
		}
		return Shape{Kind: PatternShape, Pieces: pieces}
	case literal:
		return Shape{Kind: TextShape, Text: string(p)}
	default:
		return Shape{Kind: PatternShape, Pieces: pieces}
	}
}

// pieces take a pattern apart.
func (p Pattern) pieces(within bool) (out []Piece) {
	for i := 0; i < len(p); {
		switch p[i] {
		case star:
			out = append(out, Piece{Wild: true, Run: true, Within: within})
			i++
		case mark:
			out = append(out, Piece{Wild: true, Within: within})
			i++
		default:
			r, size := utf8.DecodeRuneInString(string(p[i:]))
			out = append(out, Piece{Rune: r})
			i += size
		}
	}
	return out
}

// shapes of an ARN pattern: none if nothing matches it.
func (t *arnTemplate) shapes() (shapes []Shape, variables []ConditionKey) {
	for i := range t.fields {
		if t.fields[i].nothing() {
			return nil, nil
		}
		variables = append(variables, t.fields[i].variables()...)
	}
	if variables != nil || !t.fixed.usable(t.short) {
		return nil, variables
	}
	var pieces []Piece
	var text strings.Builder
	for i, f := range t.fixed.fields[:t.fixed.n] {
		if i > 0 {
			pieces = append(pieces, Piece{Rune: ':'})
			text.WriteByte(':')
		}
		pieces = append(pieces, f.pieces(i < t.fixed.n-1)...)
		text.WriteString(string(f))
	}
	if !slices.ContainsFunc(pieces, func(x Piece) bool { return x.Wild }) {
		return []Shape{{Kind: TextShape, Text: text.String()}}, nil
	}
	return []Shape{{Kind: PatternShape, Pieces: pieces}}, nil
}

// Pieces are the parts of a pattern.
func (p Pattern) Pieces() []Piece { return p.pieces(false) }
