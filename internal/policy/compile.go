// Package policy is the policy language: it parses documents, checks their
// grammar, compiles them and matches requests against them. It is pure: no
// I/O, no clock. What a set of policies together decides is for authz.
//
// Its specification is reference/authorization.md §§2, 7 and 8 (AUTH-2.x,
// AUTH-7.x, AUTH-8.x) and policy-document.md.
package policy

import (
	"slices"
	"strings"
)

// A Policy is a compiled document. It is immutable and safe for concurrent use.
// A nil *Policy matches nothing.
type Policy struct {
	// Name says where the policy came from, for explanations: a file, a
	// managed policy's ARN, "key policy".
	Name     string
	Document *Document

	statements []statement
	group      [NumActions]uint16 // which of groups an action's statements are
	groups     []group            // groups[0] is empty
}

// A group is the statements that name an action, as indexes in order. Those that
// name callers one by one are found by the caller, and others that name resources without
// wildcards by resource.
type group struct {
	general    []uint16
	byCaller   map[string][]uint16 // by each name of a caller that a statement has
	byResource map[string][]uint16
}

// A statement is one statement, ready to match.
type statement struct {
	effect        Effect
	actions       ActionSet
	hasPrincipal  bool
	notPrincipal  bool
	principals    principals
	anyResource   bool // matches every resource
	notResource   bool
	resources     []arnTemplate
	literal       []string // the resources, if none of them is a pattern
	allOfResource bool     // one of the resource patterns is "*"
	conditions    []condition
}

// Compile prepares a document of the given kind. It does not judge it: what
// Validate would refuse compiles to statements that match nothing.
func Compile(doc *Document, kind Kind, name string) *Policy {
	p := &Policy{Name: name, Document: doc, statements: make([]statement, len(doc.Statements))}
	variables := doc.Version == "2012-10-17" // AUTH-8.10
	for i := range doc.Statements {
		p.statements[i] = compileStatement(&doc.Statements[i], kind, variables)
	}
	p.index()
	return p
}

// Without is the policy without one of its statements; those behind it move up.
func (p *Policy) Without(r Ref) *Policy {
	doc := *p.Document
	doc.Statements = slices.Delete(slices.Clone(doc.Statements), int(r)-1, int(r))
	out := &Policy{Name: p.Name, Document: &doc, statements: slices.Delete(slices.Clone(p.statements), int(r)-1, int(r))}
	out.index()
	return out
}

// With is the policy, of the given kind, with a statement more at its end.
func (p *Policy) With(s Statement, kind Kind) *Policy {
	doc := *p.Document
	doc.Statements = append(slices.Clone(doc.Statements), s)
	out := &Policy{Name: p.Name, Document: &doc, statements: append(slices.Clone(p.statements), compileStatement(&s, kind, doc.Version == "2012-10-17"))}
	out.index()
	return out
}

func compileStatement(s *Statement, kind Kind, variables bool) statement {
	out := statement{effect: s.Effect, hasPrincipal: kind.hasPrincipal(), anyResource: kind == Trust}
	if s.Action != nil {
		for _, a := range s.Action.Items {
			out.actions.addPattern(a.Text)
		}
		if s.NotAction {
			out.actions.complement()
		}
	}
	if out.hasPrincipal && s.Principal != nil {
		out.principals, out.notPrincipal = compilePrincipals(s.Principal), s.NotPrincipal
	}
	if s.Resource != nil {
		out.notResource = s.NotResource
		out.literal = literals(s)
		for _, r := range s.Resource.Items {
			if Glob(r.Text).all() {
				out.allOfResource = true
				continue
			}
			t := newARNTemplate(r.Text, variables, true)
			if t.variables&0b11111 == 0 { // AUTH-8.11: only after the fifth colon
				out.resources = append(out.resources, t)
			}
		}
	}
	if kind.hasPrincipal() && s.Principal == nil || s.Resource == nil && kind != Trust {
		out.actions = ActionSet{} // inert (AUTH-7.3)
	}
	for i := range s.Conditions {
		out.conditions = append(out.conditions, compileCondition(&s.Conditions[i], variables))
	}
	return out
}

// literals are the resources of a statement that names whole ARNs, each once; nil
// if one of them is a pattern, or if the statement is about others.
func literals(s *Statement) (out []string) {
	if s.NotResource {
		return nil
	}
	for _, r := range s.Resource.Items {
		if strings.ContainsAny(r.Text, "*?$") || strings.Count(r.Text, ":") < 5 {
			return nil
		}
		if !slices.Contains(out, r.Text) {
			out = append(out, r.Text)
		}
	}
	return out
}

// index groups actions that the same statements name.
func (p *Policy) index() {
	p.groups = []group{{}}
	seen := map[string]uint16{"": 0}
	list := make([]uint16, 0, len(p.statements))
	key := make([]byte, 0, 2*len(p.statements))
	for a := Action(1); int(a) < NumActions; a++ {
		list, key = list[:0], key[:0]
		for i := range p.statements {
			if p.statements[i].actions.Has(a) {
				list = append(list, uint16(i))
				key = append(key, byte(i>>8), byte(i))
			}
		}
		g, ok := seen[string(key)]
		if !ok {
			g = uint16(len(p.groups))
			seen[string(key)] = g
			p.groups = append(p.groups, p.grouped(list))
		}
		p.group[a] = g
	}
}

func (p *Policy) grouped(list []uint16) (g group) {
	file := func(index *map[string][]uint16, names []string, i uint16) {
		if *index == nil {
			*index = map[string][]uint16{}
		}
		for _, name := range names {
			(*index)[name] = append((*index)[name], i)
		}
	}
	for _, i := range list {
		s := &p.statements[i]
		switch {
		case s.hasPrincipal && !s.notPrincipal && s.principals.oneByOne():
			file(&g.byCaller, s.principals.names(), i)
		case s.literal != nil:
			file(&g.byResource, s.literal, i)
		default:
			g.general = append(g.general, i)
		}
	}
	return g
}
