package scenario

import (
	"fmt"
	"maps"
	"slices"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A Verdict is what became of a claim.
type Verdict struct {
	Claim
	Failure string // empty: the claim is true
}

// A Coverage is how the claims of a file exercise one statement of its policies.
type Coverage struct {
	File         string // of the policy
	Statement    int    // counting from 1
	Sid          string
	Line, Column int
	Applied      int // to how many claims
	Mutants      []Mutant
}

// A Mutant is a statement changed in one way.
type Mutant struct {
	What    string
	Noticed bool // a claim is not true any more
}

// Judge decides the claims of a file by authz, and tells which statements applied. It reads
// no files.
func (f *File) Judge() (verdicts []Verdict, covered []Coverage, err error) {
	covered, err = f.statements()
	if err != nil {
		return nil, nil, err
	}
	at := map[string]int{}
	for i, c := range covered {
		at[fmt.Sprint(c.File, "#", c.Statement)] = i
	}
	worlds := worldsOf{file: f, made: map[int]*Pure{}, applied: func(file string, statement policy.Ref) {
		if i, ok := at[fmt.Sprint(file, "#", statement)]; ok {
			covered[i].Applied++
		}
	}}
	for _, c := range f.Claims {
		failure, err := worlds.judge(c)
		if err != nil {
			return nil, nil, fmt.Errorf("%s:%d: %w", f.Name, c.Line, err)
		}
		verdicts = append(verdicts, Verdict{c, failure})
	}
	return verdicts, covered, nil
}

// worldsOf are the worlds of a file's claims: those with the same things share one.
type worldsOf struct {
	file    *File
	made    map[int]*Pure
	changed string
	change  func(*policy.Document)
	applied func(string, policy.Ref)
}

// judge tells why a claim is not true; empty if it is.
func (w *worldsOf) judge(c Claim) (failure string, err error) {
	p := w.made[c.Things]
	if p == nil {
		if p, err = NewPure(w.file, c.Things); err != nil {
			return "", err
		}
		p.changed, p.change, p.applied = w.changed, w.change, w.applied
		w.made[c.Things] = p
	}
	d, err := p.Decide(c)
	if err != nil {
		return "", err
	}
	if err := c.Check(d.Allowed(), Told(d), func(s string) string { return s }); err != nil {
		return err.Error(), nil
	}
	return "", nil
}

// Told is a decision in the words of claims.
func Told(d authz.Decision) Reason {
	return Reason{Outcome: d.Outcome.String(), By: d.By.String(), Via: d.Via.String(), Missing: d.Missing.String()}
}

// statements are those of all policies of a file.
func (f *File) statements() (out []Coverage, err error) {
	p, err := NewPure(f, len(f.Things))
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(f.Texts)) {
		doc, err := policy.Parse([]byte(f.Text(name, p)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for i, s := range doc.Statements {
			out = append(out, Coverage{File: name, Statement: i + 1, Sid: s.Sid, Line: s.Pos.Line, Column: s.Pos.Column})
		}
	}
	return out, nil
}

// Mutate changes each statement of the policies in every way that widens it, and takes it
// away, and tells whether a claim notices. The claims must be true.
func (f *File) Mutate(covered []Coverage) error {
	p, err := NewPure(f, len(f.Things))
	if err != nil {
		return err
	}
	for i := range covered {
		c := &covered[i]
		doc, err := policy.Parse([]byte(f.Text(c.File, p)))
		if err != nil {
			return fmt.Errorf("%s: %w", c.File, err)
		}
		for _, m := range mutations(doc, c.Statement-1) {
			worlds := worldsOf{file: f, made: map[int]*Pure{}, changed: c.File, change: m.change}
			noticed := slices.ContainsFunc(f.Claims, func(claim Claim) bool {
				failure, err := worlds.judge(claim)
				return failure != "" || err != nil
			})
			c.Mutants = append(c.Mutants, Mutant{m.what, noticed})
		}
	}
	return nil
}

// A mutation is a change of a document.
type mutation struct {
	what   string
	change func(*policy.Document)
}

// mutations are the ways to change a statement, which count from 0.
func mutations(doc *policy.Document, i int) (out []mutation) {
	s := &doc.Statements[i]
	everything := func() *policy.List { return &policy.List{Items: []policy.Item{{Text: "*", Quoted: true}}} }
	isAll := func(l *policy.List) bool {
		return slices.ContainsFunc(l.Items, func(x policy.Item) bool { return x.Text == "*" || x.Text == "kms:*" })
	}
	out = append(out, mutation{"without it", func(d *policy.Document) { d.Statements = slices.Delete(d.Statements, i, i+1) }})
	for j, c := range s.Conditions {
		out = append(out, mutation{"without its condition " + c.Operator + " " + c.Key, func(d *policy.Document) {
			x := &d.Statements[i]
			x.Conditions = slices.Delete(x.Conditions, j, j+1)
		}})
	}
	if s.Action != nil && (s.NotAction || !isAll(s.Action)) {
		out = append(out, mutation{"for every action", func(d *policy.Document) { d.Statements[i].Action, d.Statements[i].NotAction = everything(), false }})
	}
	if s.Action != nil && len(s.Action.Items) > 1 {
		for j, a := range s.Action.Items {
			out = append(out, mutation{"without the action " + a.Text, func(d *policy.Document) {
				x := d.Statements[i].Action
				x.Items = slices.Delete(x.Items, j, j+1)
			}})
		}
	}
	if s.Principal != nil && (s.NotPrincipal || !s.Principal.Everyone && !isEveryone(s.Principal)) {
		out = append(out, mutation{"for every principal", func(d *policy.Document) {
			d.Statements[i].Principal, d.Statements[i].NotPrincipal = &policy.Principals{Everyone: true}, false
		}})
	}
	if s.Resource != nil && (s.NotResource || !isAll(s.Resource)) {
		out = append(out, mutation{"for every resource", func(d *policy.Document) { d.Statements[i].Resource, d.Statements[i].NotResource = everything(), false }})
	}
	return out
}

func isEveryone(p *policy.Principals) bool {
	return slices.ContainsFunc(p.Entries, func(e policy.PrincipalEntry) bool {
		return slices.ContainsFunc(e.Values.Items, func(x policy.Item) bool { return x.Text == "*" })
	})
}
