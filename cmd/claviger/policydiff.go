package main

import (
	"fmt"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/foreign"
	"github.com/claviger/claviger/internal/policy"
)

// policyKinds are those of policies, by what --type calls them.
var policyKinds = map[string]policy.Kind{"key": policy.Key, "grants": policy.Key, "identity": policy.Identity, "scp": policy.SCP, "rcp": policy.RCP}

// byText reports whether policies are read by what they say alone, about any key.
func (c *policyCommand) byText() bool {
	return c.kind != "" && c.kind != "key" || c.reading == "document"
}

func diffFlags(c *policyCommand) {
	c.flags.StringVar(&c.kind, "type", "key", "key, identity, scp, rcp, or grants: what aws kms list-grants prints")
	c.flags.StringVar(&c.reading, "reading", "kms", "of key policies: kms, where naming an account delegates to it, or document, where it means everybody in it")
}

// grantsAsPolicy makes a key policy of grants that allows the same.
func grantsAsPolicy(text []byte) ([]byte, error) {
	grants, err := foreign.ReadGrants(text)
	if err != nil {
		return nil, err
	}
	doc := &policy.Document{Version: "2008-10-17", Statements: []policy.Statement{}}
	for _, g := range grants {
		for _, s := range policy.Grant(g).Document.Statements {
			s.HasSid, s.Sid, s.HasCondition = true, g.Name, len(s.Conditions) > 0
			doc.Statements = append(doc.Statements, s)
		}
	}
	return []byte(doc.String()), nil
}

// showByText is show for policies that are read by what they say alone.
func showByText(a analyze.Answer, p, before *policy.Policy) answered {
	out := answered{Verdict: a.Verdict.String(), Doubts: a.Doubts}
	known := map[string]*shownWitness{}
	for _, w := range a.Witnesses {
		r := &policy.Request{Action: w.Action, Resource: w.Request.Resource, Who: &w.Request.Caller.Principal, Context: w.Request}
		now, was := p.Match(r, nil), before.Match(r, nil)
		s := &shownWitness{Caller: w.Request.Caller.Shown(), Account: w.Request.Caller.Account, Given: append([]string{"on " + w.Request.Resource}, w.Given...), By: place(now.Allowed(), p), Before: "nothing allows it"}
		if was.Deny != 0 {
			s.Before = place(was.Deny, before) + " denies it"
		}
		for _, action := range w.Alike {
			s.Actions = append(s.Actions, action.String())
		}
		out.alike(known, s)
	}
	return out
}

// alike adds a witness, or its caller to one that differs in the caller alone.
func (a *answered) alike(known map[string]*shownWitness, s *shownWitness) {
	same := fmt.Sprint(s.Actions, s.Given, s.By, s.Before)
	if first := known[same]; first != nil {
		first.Also = append(first.Also, s.Caller)
		return
	}
	known[same] = s
	a.Witnesses = append(a.Witnesses, s)
}

func policyDiff(c *policyCommand) error {
	old, new := c.policies[0], c.policies[1]
	ask, show := func(old, new *policy.Policy) (analyze.Answer, error) {
		return analyze.NewAccess(analyze.Key(c.key), old, new)
	}, show
	if c.byText() {
		ask, show = analyze.NewAccessByText, showByText
	}
	more, err := ask(old, new)
	if err != nil {
		return err
	}
	less, err := ask(new, old)
	if err != nil {
		return err
	}
	gained, lost := show(more, new, old), show(less, old, new)
	if c.output == "json" {
		if err := writeJSON(c.stdout, struct{ New, Lost answered }{gained, lost}); err != nil {
			return err
		}
	} else {
		_ = c.print(gained, map[analyze.Verdict]string{analyze.Proven: "Proven: " + new.Name + " allows nothing that " + old.Name + " does not.",
			analyze.Refuted: new.Name + " allows what " + old.Name + " does not:", analyze.Undecided: "Undecided whether " + new.Name + " allows something new."}, more.Verdict, "before")
		fmt.Fprintln(c.stdout)
		_ = c.print(lost, map[analyze.Verdict]string{analyze.Proven: "It still allows all that " + old.Name + " does.",
			analyze.Refuted: "It refuses what " + old.Name + " allows:", analyze.Undecided: "Undecided whether it still allows all that " + old.Name + " does."}, less.Verdict, "now")
	}
	if more.Verdict == analyze.Proven {
		return nil
	}
	return exitStatus(more.Verdict)
}
