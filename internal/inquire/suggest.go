package inquire

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Suggestion gathers what a key was used for, for a key policy that allows that alone.
type Suggestion struct {
	world *World
	key   string // ARN
	uses  []use
	seen  []Case // each use once

	Requests int          // that the key policy allows
	Unused   []Difference // requests on record that cannot be decided, or are refused, by now
}

// A use is requests by one principal for one action, let in in one way.
type use struct {
	who       string // the principal: a role instead of its sessions
	kind      string // AWS or Service
	delegated bool   // by its account, whose identity policies decide
	action    string
	via       string            // the service that all of them came by; empty if not all did
	context   map[string]string // the pairs that all of them had
	count     int
}

// Suggest begins to gather what a key was used for. ErrQuestion: there is no such key.
func (w *World) Suggest(ctx context.Context, key string) (*Suggestion, error) {
	arn, err := w.keyARN(ctx, key)
	return &Suggestion{world: w, key: arn}, err
}

// Add takes up a record. Those that are not of requests that were allowed for the key are
// left out, as are those that grants allow.
func (s *Suggestion) Add(ctx context.Context, record *audit.Record) error {
	cases, ok := Cases(record)
	if !ok || record.Claviger.Phase == audit.Intent {
		return nil
	}
	was := map[string]string{}
	for _, d := range decisions(record, nil) {
		was[d.Action] = d.Outcome
	}
	for _, c := range cases {
		if c.Key != s.key || was[c.Action] != "Allowed" {
			continue
		}
		err := s.world.view(ctx, func(tx *store.Tx) error { return s.add(tx, c) })
		if errors.Is(err, ErrQuestion) {
			note(&s.Unused, Difference{Caller: c.As, Action: c.Action, Was: "Allowed", Why: strings.TrimPrefix(err.Error(), ErrQuestion.Error()+": "), Count: 1,
				First: record.EventTime, Last: record.EventTime, RequestID: record.RequestID})
			err = nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Suggestion) add(tx *store.Tx, c Case) error {
	x, err := s.world.situation(tx, c)
	if err != nil {
		return err
	}
	d := x.evaluate()
	by := d.By
	if d.Via.Ref != 0 {
		by = d.Via
	}
	switch {
	case !d.Allowed():
		return fmt.Errorf("%w: it is refused by the policies of now", ErrQuestion)
	case by.Policy != x.policies.Resource:
		return nil // a grant, which goes on to allow it
	}
	r := x.request
	entry := principalEntry(&r.Caller)
	u := use{who: entry.Values.Items[0].Text, kind: entry.Type, action: r.Action.String(), context: maps.Clone(contextOf(c.Given)), count: 1}
	for _, rule := range by.Policy.Rules() {
		u.delegated = u.delegated || rule.Ref == by.Ref && rule.Reach(&r.Caller.Principal) == policy.Account
	}
	if n := len(r.Via); n > 0 {
		u.via = strings.TrimSuffix(r.Via[n-1], ".amazonaws.com") + "." + r.Region + ".amazonaws.com"
	}
	s.Requests++
	s.seen = append(s.seen, c)
	for i := range s.uses {
		o := &s.uses[i]
		if o.who != u.who || o.action != u.action || o.delegated != u.delegated {
			continue
		}
		o.count++
		if o.via != u.via {
			o.via = ""
		}
		maps.DeleteFunc(o.context, func(k, v string) bool { return u.context[k] != v })
		return nil
	}
	s.uses = append(s.uses, u)
	return nil
}

// contextOf is the encryption context that a case gives.
func contextOf(given []string) map[string]string {
	var c circumstances
	for _, pair := range given {
		_ = c.set(pair) // what it cannot be was told before
	}
	return c.hypothesis.Context
}

// A Suggested is a key policy that allows what was used, and how it compares.
type Suggested struct {
	Policy string // as JSON
	// Kept says whether every request that was gathered is allowed by it; Missing are those
	// that are not.
	Kept    bool
	Missing []string `json:",omitzero"`
	// Within is whether it allows nothing that the present policy does not: proven, refuted
	// or undecided.
	Within string
	// Dropped is whether the present policy allows what it does not: refuted, mostly.
	Dropped string
}

// Finish makes the policy, and compares it with the present one.
func (s *Suggestion) Finish(ctx context.Context) (out *Suggested, err error) {
	err = s.world.view(ctx, func(tx *store.Tx) error {
		out, err = s.finish(tx)
		return err
	})
	return out, err
}

func (s *Suggestion) finish(tx *store.Tx) (*Suggested, error) {
	a, err := arn.Parse(s.key)
	if err != nil {
		return nil, err
	}
	root, err := s.world.owner(tx, s.key)
	if err != nil {
		return nil, err
	}
	x, err := s.world.situation(tx, Case{As: root, Action: "DescribeKey", Key: s.key})
	if err != nil {
		return nil, err
	}
	names := newPlaces(tx, a.Partition)
	present, err := names.document(x.policies.Resource)
	if err != nil {
		return nil, err
	}
	doc := s.document(present, x.policies.Resource, a)
	text := doc.String()
	out := &Suggested{Policy: text, Kept: true}
	suggested := &Text{Name: "the suggestion", Document: text}
	for _, c := range s.seen {
		c.KeyPolicy = suggested
		y, err := s.world.situation(tx, c)
		if err != nil {
			return nil, err
		}
		if d := y.evaluate(); !d.Allowed() {
			out.Kept = false
			out.Missing = append(out.Missing, c.Action+" by "+c.As)
		}
	}
	old, new := policy.Compile(present, policy.Key, "the present policy"), policy.Compile(doc, policy.Key, "the suggestion")
	more, err := analyze.NewAccess(analyze.Key(s.key), old, new)
	if err != nil {
		return nil, err
	}
	less, err := analyze.NewAccess(analyze.Key(s.key), new, old)
	if err != nil {
		return nil, err
	}
	out.Within, out.Dropped = more.Verdict.String(), less.Verdict.String()
	return out, nil
}

// owner is the root user of a key's account, or of the first account if the key is named
// without one.
func (w *World) owner(tx *store.Tx, key string) (string, error) {
	if a, err := arn.Parse(key); err == nil {
		return arn.Root(iam.Partition, a.Account), nil
	}
	principals, _, err := iam.Everybody(tx)
	if err == nil && len(principals) == 0 {
		err = fmt.Errorf("%w: there is no account", ErrQuestion)
	}
	if err != nil {
		return "", err
	}
	return principals[0], nil
}

// document is a policy of what administrators may do, as now, of what was used, and of what
// is denied, as now.
func (s *Suggestion) document(present *policy.Document, compiled *policy.Policy, key arn.ARN) *policy.Document {
	doc := &policy.Document{Version: "2012-10-17"}
	var kept policy.ActionSet // of administrators that are accounts
	for _, rule := range compiled.Rules() {
		x := present.Statements[rule.Ref-1]
		if rule.Effect == policy.Allow && rule.Has(policy.MustAction("kms:PutKeyPolicy")) {
			var actions []string
			for a := policy.Action(1); int(a) < policy.NumActions; a++ {
				if rule.Has(a) && administrative(a) {
					actions = append(actions, a.String())
				}
			}
			x.Action, x.NotAction = texts(actions...), false
			doc.Statements = append(doc.Statements, x)
			if namesAccount(&x) && len(x.Conditions) == 0 {
				for _, name := range actions {
					kept.Add(policy.MustAction(name))
				}
			}
		}
	}
	for _, group := range s.grouped(kept) {
		first := group[0]
		x := policy.Statement{HasSid: true, Sid: fmt.Sprint("Use", len(doc.Statements)+1), Effect: policy.Allow, Resource: texts("*")}
		var actions []string
		for _, u := range group {
			actions = append(actions, u.action)
		}
		slices.Sort(actions)
		x.Action = texts(actions...)
		condition := func(operator, key, value string) {
			x.HasCondition = true
			x.Conditions = append(x.Conditions, policy.Condition{Operator: operator, Key: key, Values: *texts(value)})
		}
		account := key.Account
		if a, err := arn.Parse(first.who); err == nil {
			account = a.Account
		}
		whole := arn.Root(key.Partition, account)
		x.Principal = &policy.Principals{Entries: []policy.PrincipalEntry{{Type: first.kind, Values: *texts(first.who)}}}
		if first.delegated {
			x.Principal = &policy.Principals{Entries: []policy.PrincipalEntry{{Type: "AWS", Values: *texts(whole)}}}
			if first.who != whole {
				condition("ArnEquals", "aws:PrincipalArn", first.who)
			}
		}
		for _, k := range slices.Sorted(maps.Keys(first.context)) {
			condition("StringEquals", "kms:EncryptionContext:"+k, first.context[k])
		}
		if first.via != "" {
			condition("StringEquals", "kms:ViaService", first.via)
		}
		doc.Statements = append(doc.Statements, x)
	}
	for _, x := range present.Statements {
		if x.Effect == policy.Deny {
			doc.Statements = append(doc.Statements, x)
		}
	}
	return doc
}

// namesAccount reports whether a statement names an account.
func namesAccount(x *policy.Statement) bool {
	return x.Principal != nil && slices.ContainsFunc(x.Principal.Entries, func(e policy.PrincipalEntry) bool {
		return slices.ContainsFunc(e.Values.Items, func(v policy.Item) bool { return strings.HasSuffix(v.Text, ":root") })
	})
}

// grouped are the uses by what their statements say beside the action.
func (s *Suggestion) grouped(kept policy.ActionSet) (out [][]use) {
	at := map[string]int{}
	for _, u := range s.uses {
		if a := policy.MustAction(u.action); u.delegated && kept.Has(a) { // which administrators keep
			continue
		}
		name := fmt.Sprint(u.who, u.delegated, u.via, u.context)
		if i, known := at[name]; known {
			out[i] = append(out[i], u)
			continue
		}
		at[name] = len(out)
		out = append(out, []use{u})
	}
	return out
}

// administrative reports whether an action is about a key and does not use it.
func administrative(a policy.Action) bool {
	return authz.OnKeys.Has(a) && !slices.Contains(using, strings.TrimPrefix(a.String(), "kms:"))
}

// using are the actions that use a key, or let others use it.
var using = strings.Fields(`Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateDataKeyPair
	GenerateDataKeyPairWithoutPlaintext GenerateMac VerifyMac Sign Verify DeriveSharedSecret Encapsulate Decapsulate CreateGrant`)
