package policy

import (
	"bytes"
	"encoding/json/jsontext"
	"fmt"
	"io"
)

// A SyntaxError says where a document breaks the grammar.
type SyntaxError struct {
	Pos Position
	Msg string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("policy: line %d, column %d: %s", e.Pos.Line, e.Pos.Column, e.Msg)
}

// MaxStatements bounds a document; the largest legal document cannot hold more.
const MaxStatements = 2000

// Parse reads a policy document. It refuses what is not JSON, repeated and
// unknown members, and values of the wrong type (policy-document.md §2); what a
// kind of policy further demands is for Validate.
func Parse(text []byte) (*Document, error) {
	p := &parser{text: text, d: jsontext.NewDecoder(bytes.NewReader(text))}
	doc := &Document{}
	err := p.object(func(name string) error {
		switch name {
		case "Version":
			return p.str(&doc.Version)
		case "Id":
			doc.HasID = true
			return p.str(&doc.ID)
		case "Statement":
			return p.each(func() error { return p.statement(doc) })
		default:
			return p.fail("unknown element " + name)
		}
	})
	if err != nil {
		return nil, err
	}
	if _, err := p.d.ReadToken(); err != io.EOF {
		return nil, p.fail("text after the policy")
	}
	return doc, nil
}

type parser struct {
	text []byte
	d    *jsontext.Decoder

	at, line, lineStart int // how far lines have been counted
}

// pos is the position of the next value.
func (p *parser) pos() Position {
	p.d.PeekKind() // skips to the value, not over it
	at := int(p.d.InputOffset())
	for at < len(p.text) && bytes.IndexByte([]byte(" \t\r\n,:"), p.text[at]) >= 0 {
		at++
	}
	for ; p.at < at; p.at++ { // positions only grow, so every byte is looked at once
		if p.text[p.at] == '\n' {
			p.line, p.lineStart = p.line+1, p.at+1
		}
	}
	return Position{Line: p.line + 1, Column: at - p.lineStart + 1}
}

func (p *parser) fail(msg string) error { return &SyntaxError{p.pos(), msg} }

func (p *parser) syntax(err error) error {
	if _, ok := err.(*SyntaxError); ok {
		return err
	}
	return &SyntaxError{p.pos(), "not valid JSON"}
}

// object reads an object and calls member with each name; member reads the value.
func (p *parser) object(member func(name string) error) error {
	if p.d.PeekKind() != '{' {
		return p.fail("an object is needed here")
	}
	if _, err := p.d.ReadToken(); err != nil {
		return p.syntax(err)
	}
	for p.d.PeekKind() != '}' {
		name, err := p.d.ReadToken()
		if err != nil {
			return p.syntax(err)
		}
		if err := member(name.String()); err != nil {
			return p.syntax(err)
		}
	}
	_, err := p.d.ReadToken()
	return err
}

// each calls item once for a single value, or for each element of an array.
func (p *parser) each(item func() error) error {
	if p.d.PeekKind() != '[' {
		return item()
	}
	if _, err := p.d.ReadToken(); err != nil {
		return p.syntax(err)
	}
	for p.d.PeekKind() != ']' {
		if err := item(); err != nil {
			return err
		}
	}
	_, err := p.d.ReadToken()
	return err
}

func (p *parser) str(out *string) error {
	if p.d.PeekKind() != '"' {
		return p.fail("a string is needed here")
	}
	tok, err := p.d.ReadToken()
	if err != nil {
		return p.syntax(err)
	}
	*out = tok.String()
	return nil
}

// list reads scalars: strings, and with loose also numbers and booleans.
func (p *parser) list(loose bool) (*List, error) {
	l := &List{Items: []Item{}, Array: p.d.PeekKind() == '['}
	err := p.each(func() error {
		pos := p.pos()
		switch kind := p.d.PeekKind(); {
		case kind == '"', loose && (kind == '0' || kind == 't' || kind == 'f'):
			tok, err := p.d.ReadToken()
			if err != nil {
				return p.syntax(err)
			}
			l.Items = append(l.Items, Item{tok.String(), kind == '"', pos})
			return nil
		default:
			return p.fail("a string is needed here")
		}
	})
	return l, err
}

func (p *parser) statement(doc *Document) error {
	if len(doc.Statements) == MaxStatements {
		return p.fail("too many statements")
	}
	s := Statement{Pos: p.pos()}
	hasEffect := false
	err := p.object(func(name string) (err error) {
		switch name {
		case "Sid":
			s.HasSid = true
			return p.str(&s.Sid)
		case "Effect":
			hasEffect = true
			return p.effect(&s.Effect)
		case "Principal", "NotPrincipal":
			return p.principals(&s, name == "NotPrincipal")
		case "Action", "NotAction":
			return p.element(&s.Action, &s.NotAction, name, "NotAction")
		case "Resource", "NotResource":
			return p.element(&s.Resource, &s.NotResource, name, "NotResource")
		case "Condition":
			s.HasCondition = true
			s.Conditions, err = p.conditions()
			return err
		default:
			return p.fail("unknown element " + name)
		}
	})
	if err != nil {
		return err
	}
	if !hasEffect {
		return &SyntaxError{s.Pos, "the statement has no Effect"}
	}
	doc.Statements = append(doc.Statements, s)
	return nil
}

func (p *parser) effect(e *Effect) error {
	var text string
	pos := p.pos()
	if err := p.str(&text); err != nil {
		return err
	}
	switch text {
	case "Allow":
		*e = Allow
	case "Deny":
		*e = Deny
	default:
		return &SyntaxError{pos, "Effect is neither Allow nor Deny"}
	}
	return nil
}

// element reads X or NotX; both in one statement are refused.
func (p *parser) element(l **List, not *bool, name, notName string) (err error) {
	if *l != nil {
		return p.fail("an element stands beside its Not form")
	}
	*not = name == notName
	*l, err = p.list(false)
	return err
}

func (p *parser) principals(s *Statement, not bool) error {
	if s.Principal != nil {
		return p.fail("an element stands beside its Not form")
	}
	ps := &Principals{Pos: p.pos()}
	s.Principal, s.NotPrincipal = ps, not
	if p.d.PeekKind() == '"' {
		var text string
		if err := p.str(&text); err != nil {
			return err
		}
		if text != "*" {
			return &SyntaxError{ps.Pos, `a Principal that is a string must be "*"`}
		}
		ps.Everyone = true
		return nil
	}
	return p.object(func(name string) error {
		switch name {
		case "AWS", "Service", "Federated", "CanonicalUser":
			l, err := p.list(false)
			if err != nil {
				return err
			}
			ps.Entries = append(ps.Entries, PrincipalEntry{name, *l})
			return nil
		default:
			return p.fail("unknown kind of principal " + name)
		}
	})
}

func (p *parser) conditions() (out []Condition, err error) {
	err = p.object(func(operator string) error {
		before := len(out)
		err := p.object(func(key string) error {
			pos := p.pos()
			l, err := p.list(true)
			if err != nil {
				return err
			}
			out = append(out, Condition{operator, key, *l, pos})
			return nil
		})
		if err == nil && len(out) == before {
			return p.fail("the operator " + operator + " has no condition") // or its statement would apply without one
		}
		return err
	})
	return out, err
}
