package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
)

// An exitStatus makes claviger exit with that after what it has printed.
type exitStatus int

func (e exitStatus) Error() string { return fmt.Sprint("exit status ", int(e)) }

// misuse is the exit status of a question that could not be asked; the others are those of
// an answer: 0 proven, 1 refuted, 2 undecided.
const misuse exitStatus = 3

// A policyCommand answers a question about key policies in files.
type policyCommand struct {
	key, account, region, output string
	stdout                       io.Writer
	flags                        *flag.FlagSet
	kind, reading                string // of policies to compare
	names                        []string
	docs                         []*policy.Document
	policies                     []*policy.Policy
}

// policyCommandOf makes a command that takes n policies and then answers ask.
func policyCommandOf(name string, n int, flags func(*policyCommand), ask func(*policyCommand) error) func(context.Context, []string, io.Writer, io.Writer) error {
	return func(_ context.Context, args []string, stdout, stderr io.Writer) error {
		c := &policyCommand{stdout: stdout, flags: newFlags(name, stderr)}
		c.flags.StringVar(&c.key, "key", "", "ARN of the KMS key (default one that the policies name, or else some key of the account)")
		c.flags.StringVar(&c.account, "account", "", "account of the key, 12 digits (default the one whose root user the policies name)")
		c.flags.StringVar(&c.region, "region", "", "Region of the key (default the one that the policies name)")
		c.flags.StringVar(&c.output, "output", "text", "text or json")
		if flags != nil {
			flags(c)
		}
		err := c.read(args, n)
		if err == nil {
			err = ask(c)
		}
		var status exitStatus
		if err == nil || errors.As(err, &status) || errors.Is(err, flag.ErrHelp) {
			return err
		}
		if !errors.Is(err, errUsage) { // which has been told
			fmt.Fprintln(stderr, "claviger:", err)
		}
		if errors.Is(err, analyze.ErrUndecided) {
			return exitStatus(analyze.Undecided)
		}
		return misuse
	}
}

// read reads flags and n policies, in any order.
func (c *policyCommand) read(args []string, n int) error {
	var err error
	if c.names, err = interspersed(c.flags, args); err != nil {
		return err
	}
	if len(c.names) != n {
		return fmt.Errorf("%s takes %d files with policies", strings.TrimPrefix(c.flags.Name(), "claviger "), n)
	}
	for _, name := range c.names {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if c.kind == "grants" {
			if text, err = grantsAsPolicy(text); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		kind, known := policyKinds[cmp.Or(c.kind, "key")]
		if !known {
			return errors.New("--type is key, identity, scp, rcp or grants")
		}
		doc, err := policy.Parse(text)
		if err == nil && c.kind != "grants" {
			err = policy.Validate(doc, kind)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		c.docs = append(c.docs, doc)
		if kind == policy.RCP { // beside the one that allows everything
			doc.Statements = append(doc.Statements, iam.FullAccess(iam.RCPType).Document().Statements...)
		}
		c.policies = append(c.policies, policy.Compile(doc, kind, name))
	}
	if c.byText() {
		return nil
	}
	return c.findKey()
}

// findKey finds out which key is meant.
func (c *policyCommand) findKey() error {
	if c.key != "" {
		if a, err := arn.Parse(c.key); err != nil || a.Service != "kms" || !strings.HasPrefix(a.Resource, "key/") {
			return fmt.Errorf("--key: %q is not the ARN of a KMS key", c.key)
		}
		return nil
	}
	var accounts, keys []string
	for _, doc := range c.docs {
		for _, s := range doc.Statements {
			if s.Resource == nil {
				continue
			}
			for _, r := range s.Resource.Items {
				if a, err := arn.Parse(r.Text); err == nil && a.Service == "kms" && strings.HasPrefix(a.Resource, "key/") && !strings.ContainsAny(r.Text, "*?$") {
					keys = append(keys, r.Text)
				}
			}
		}
		_ = doc.EachPrincipal(func(_ string, entry *policy.Item) error {
			if a, err := arn.Parse(entry.Text); err == nil && a.Resource == "root" {
				accounts = append(accounts, a.Account)
			} else if arn.IsAccount(entry.Text) {
				accounts = append(accounts, entry.Text)
			}
			return nil
		})
	}
	slices.Sort(keys)
	if keys = slices.Compact(keys); len(keys) > 1 {
		return fmt.Errorf("which key is meant is not plain from the policies, which name %s: give --key", strings.Join(keys, ", "))
	}
	if regions := c.regions(); len(keys) == 1 && c.account == "" && len(regions) < 2 {
		c.key = keys[0]
		return nil
	}
	slices.Sort(accounts)
	accounts = slices.Compact(accounts)
	switch {
	case c.account == "" && len(accounts) == 1:
		c.account = accounts[0]
	case c.account == "":
		return fmt.Errorf("which account the key is in is not plain from the policies, which name %d: give --key or --account", len(accounts))
	case !arn.IsAccount(c.account):
		return fmt.Errorf("--account: %q is not a 12-digit account id", c.account)
	}
	if c.region == "" {
		regions := c.regions()
		if len(regions) > 1 {
			return fmt.Errorf("which Region the key is in is not plain from the policies, which name %s: give --key or --region", strings.Join(regions, ", "))
		}
		c.region = cmp.Or(append(regions, "us-east-1")...)
	}
	c.key = "arn:" + arn.Partition(c.region) + ":kms:" + c.region + ":" + c.account + ":key/00000000-0000-0000-0000-000000000000"
	return nil
}

// regionName finds Regions in the values of conditions.
var regionName = regexp.MustCompile(`\b[a-z]{2}(-[a-z]+)+-[0-9]\b`)

// regions are those that the policies name in Resource, and in conditions about the Region:
// kms:ViaService and aws:RequestedRegion.
func (c *policyCommand) regions() (out []string) {
	for _, doc := range c.docs {
		for _, s := range doc.Statements {
			if s.Resource != nil {
				for _, r := range s.Resource.Items {
					if a, err := arn.Parse(r.Text); err == nil && a.Service == "kms" && regionName.MatchString(a.Region) {
						out = append(out, a.Region)
					}
				}
			}
			for _, condition := range s.Conditions {
				if id := policy.KeyNamed(condition.Key).ID; id != policy.KeyKMSViaService && id != policy.KeyRequestedRegion {
					continue
				}
				for _, v := range condition.Values.Items {
					out = append(out, regionName.FindAllString(v.Text, -1)...)
				}
				if s.Effect == policy.Deny || strings.Contains(condition.Operator, "Not") || strings.Contains(condition.Operator, "IfExists") {
					out = append(out, "others") // it makes a difference where they are
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A shownWitness is a witness as it is printed.
type shownWitness struct {
	Actions []string
	Caller  string
	Account string
	Given   []string `json:",omitzero"`
	By      string   // what allows it
	Before  string   `json:",omitzero"` // why it was refused
	Also    []string `json:",omitzero"` // other callers of whom the same is true
}

// An answered is an answer as it is printed.
type answered struct {
	Verdict   string
	Witnesses []*shownWitness `json:",omitzero"`
	Doubts    []string        `json:",omitzero"`
}

// show puts an answer into words: p allows the witnesses, and before, if it is not nil,
// refuses them. Witnesses that differ in the caller alone are shown as one.
func show(a analyze.Answer, p, before *policy.Policy) answered {
	out := answered{Verdict: a.Verdict.String(), Doubts: a.Doubts}
	known := map[string]*shownWitness{}
	for _, w := range a.Witnesses {
		d := w.Decide(p)
		s := &shownWitness{Caller: w.Request.Caller.Shown(), Account: w.Request.Caller.Account, Given: w.Given, By: place(cmp.Or(d.Via.Ref, d.By.Ref), p)}
		for _, action := range w.Alike {
			s.Actions = append(s.Actions, action.String())
		}
		if before != nil {
			refused := w.Decide(before)
			s.Before = refused.Refusal(w.Request)
			if _, why, ok := strings.Cut(s.Before, " because "); ok {
				s.Before = why
			} else if _, why, ok := strings.Cut(s.Before, " with "); ok {
				s.Before = why + ": " + place(refused.By.Ref, before)
			}
		}
		out.alike(known, s)
	}
	return out
}

// place is where a statement is.
func place(ref policy.Ref, p *policy.Policy) string {
	s := p.Statement(ref)
	if s == nil {
		return p.Name
	}
	text := fmt.Sprintf("%s:%d:%d, statement %d", p.Name, s.Pos.Line, s.Pos.Column, ref)
	if s.Sid != "" {
		text += " " + s.Sid
	}
	return text
}

// print prints an answer, under a title for each verdict, and returns its exit status. when
// is when the other policy was, or is, in force.
func (c *policyCommand) print(a answered, titles map[analyze.Verdict]string, v analyze.Verdict, when string) error {
	if c.output == "json" {
		if err := writeJSON(c.stdout, a); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(c.stdout, titles[v])
		for _, w := range a.Witnesses {
			fmt.Fprintf(c.stdout, "\n%s by %s\n", strings.Join(w.Actions, ", "), w.Caller)
			if w.Given != nil {
				fmt.Fprintf(c.stdout, "  if %s\n", strings.Join(w.Given, "; "))
			}
			fmt.Fprintf(c.stdout, "  allowed by %s\n", w.By)
			if w.Before != "" {
				fmt.Fprintf(c.stdout, "  refused %s: %s\n", when, w.Before)
			}
			if w.Also != nil {
				fmt.Fprintf(c.stdout, "  as well by %s\n", strings.Join(w.Also, ", "))
			}
		}
		for _, doubt := range a.Doubts {
			fmt.Fprintf(c.stdout, "\nnot known: %s\n", doubt)
		}
	}
	if v == analyze.Proven {
		return nil
	}
	return exitStatus(v)
}

func policyPublic(c *policyCommand) error {
	a, err := analyze.Public(analyze.Key(c.key), c.policies[0])
	if err != nil {
		return err
	}
	return c.print(show(a, c.policies[0], nil), map[analyze.Verdict]string{
		analyze.Proven: "Proven: nobody is allowed anything of whose account, organization or network the policy names nothing.", analyze.Refuted: "Public:",
		analyze.Undecided: "Undecided whether it is public."}, a.Verdict, "")
}

var neverTitles = map[analyze.Verdict]string{analyze.Proven: "Proven: never.", analyze.Refuted: "It can happen:", analyze.Undecided: "Undecided."}

// policyNever asks whether actions are never allowed.
func policyNever() func(context.Context, []string, io.Writer, io.Writer) error {
	var actions fileList
	var forbidden string
	return policyCommandOf("policy never", 1, func(c *policyCommand) {
		actions, forbidden = nil, ""
		c.flags.StringVar(&forbidden, "forbidden", "", "file with a policy that allows just what must never be: actions, resources, principals, conditions")
		c.flags.Var(&actions, "action", "action that nobody may do, as kms:Decrypt or kms:*; may be repeated")
	}, func(c *policyCommand) error {
		if forbidden != "" && len(actions) == 0 {
			return c.never(forbidden)
		}
		if len(actions) == 0 || forbidden != "" {
			return errors.New("policy never needs --action or --forbidden")
		}
		var set policy.ActionSet
		for _, pattern := range actions {
			some := policy.ActionsNamed(pattern)
			if some == (policy.ActionSet{}) {
				return fmt.Errorf("--action: %q names no action", pattern)
			}
			set = set.Or(some)
		}
		if !slices.ContainsFunc(set.All(), analyze.Decides) {
			return fmt.Errorf("key policies have no say about %s", strings.Join(actions, ", "))
		}
		a, err := analyze.Possible(analyze.Key(c.key), c.policies[0], set)
		if err != nil {
			return err
		}
		return c.print(show(a, c.policies[0], nil), neverTitles, a.Verdict, "")
	})
}

// never asks whether nothing that a policy in a file allows is allowed: whether it would make
// no difference to deny that.
func (c *policyCommand) never(forbidden string) error {
	text, err := os.ReadFile(forbidden)
	if err != nil {
		return err
	}
	doc, err := policy.Parse(text)
	if err == nil {
		err = policy.Validate(doc, policy.Key)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", forbidden, err)
	}
	p := c.policies[0]
	without := *p.Document
	without.Statements = slices.Clone(without.Statements)
	for _, s := range doc.Statements {
		if s.Effect != policy.Allow || doc.Version != p.Document.Version {
			return fmt.Errorf("%s: it has statements that allow, of the Version %q", forbidden, p.Document.Version)
		}
		s.Effect = policy.Deny
		without.Statements = append(without.Statements, s)
	}
	a, err := analyze.NewAccess(analyze.Key(c.key), policy.Compile(&without, policy.Key, p.Name), p)
	if err != nil {
		return err
	}
	return c.print(show(a, p, nil), neverTitles, a.Verdict, "")
}

// policyWho lists who may do something.
func policyWho() func(context.Context, []string, io.Writer, io.Writer) error {
	var action string
	return policyCommandOf("policy who", 1, func(c *policyCommand) { c.flags.StringVar(&action, "action", "kms:Decrypt", "the action") }, func(c *policyCommand) error {
		rows, err := c.who(action)
		if err == nil && len(rows) == 0 && c.output != "json" {
			fmt.Fprintln(c.stdout, "nobody")
		}
		return err
	})
}

// who prints who may do an action.
func (c *policyCommand) who(name string) ([]analyze.Row, error) {
	if !strings.Contains(name, ":") {
		name = "kms:" + name
	}
	action, ok := policy.ActionNamed(name)
	if !ok {
		return nil, fmt.Errorf("there is no action %q", name)
	}
	if !analyze.Decides(action) {
		return nil, fmt.Errorf("key policies have no say about %s", name)
	}
	rows, err := analyze.Who(analyze.Key(c.key), c.policies[0], action, nil)
	if err != nil {
		return nil, err
	}
	if c.output == "json" {
		return rows, writeJSON(c.stdout, rows)
	}
	for _, r := range rows {
		fmt.Fprintln(c.stdout, strings.Join(r.Callers, "\n"))
		fmt.Fprintln(c.stdout, "  by", place(r.Statement, c.policies[0]))
		for _, condition := range r.Conditions {
			fmt.Fprintln(c.stdout, "  if", condition)
		}
	}
	return rows, nil
}

// policyLockout lists who could still change the policy.
func policyLockout(c *policyCommand) error {
	rows, err := c.who("kms:PutKeyPolicy")
	if err != nil || len(rows) > 0 {
		return err
	}
	fmt.Fprintln(c.stdout, "Nobody could change this policy any more.")
	return exitStatus(analyze.Refuted)
}

// policyLint lists statements that could be left out.
func policyLint(c *policyCommand) error {
	found, err := analyze.Redundant(analyze.Key(c.key), c.policies[0])
	if err != nil {
		return err
	}
	type lint struct{ Statement, Finding string }
	lints := []lint{}
	for _, l := range found {
		what := "redundant: without it everything is decided as with it"
		if l.Dead {
			what = "dead: it applies to no request"
		}
		lints = append(lints, lint{place(l.Statement, c.policies[0]), what})
	}
	if c.output == "json" {
		err = writeJSON(c.stdout, lints)
	} else {
		for _, l := range lints {
			fmt.Fprintf(c.stdout, "%s: %s\n", l.Statement, l.Finding)
		}
	}
	if err == nil && len(lints) > 0 {
		err = exitStatus(analyze.Refuted)
	}
	return err
}
