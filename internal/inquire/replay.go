package inquire

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/store"
)

// A Replay decides the requests of an audit log again, by another key policy.
type Replay struct {
	world  *World
	key    string // ARN
	policy *Text  // nil: the key's own

	Requests int // that are about the key
	Changed  []Difference
	Unknown  []Difference // those that cannot be decided any more
}

// A Difference is some requests that are decided otherwise, or not at all, alike.
type Difference struct {
	Caller, Action string
	Was            string // as on record: Allowed, ImplicitDeny or ExplicitDeny
	Why            string // they are decided so now
	Count          int
	First, Last    time.Time
	RequestID      string // of the last one
}

// Replay begins a replay of requests about a key. ErrQuestion: there is no such key, or the
// policy is none.
func (w *World) Replay(ctx context.Context, key string, p *Text) (*Replay, error) {
	arn, err := w.keyARN(ctx, key)
	if err != nil {
		return nil, err
	}
	if p != nil {
		err = w.view(ctx, func(tx *store.Tx) error {
			_, err := keyPolicy(tx, arn, *p)
			return err
		})
	}
	return &Replay{world: w, key: arn, policy: p}, err
}

// keyARN finds the key of an id, ARN or alias.
func (w *World) keyARN(ctx context.Context, key string) (arn string, err error) {
	err = w.view(ctx, func(tx *store.Tx) error {
		root, err := w.owner(tx, key)
		if err != nil {
			return err
		}
		s, err := w.situation(tx, Case{As: root, Action: "DescribeKey", Key: key})
		if err == nil {
			arn = s.request.Resource
		}
		return err
	})
	return arn, err
}

// Add takes up a record. Records that are not about the key are left out.
func (r *Replay) Add(ctx context.Context, record *audit.Record) error {
	cases, ok := Cases(record)
	if !ok || record.Claviger.Phase == audit.Intent {
		return nil
	}
	was := map[string]string{}
	for _, d := range decisions(record, nil) {
		was[d.Action] = d.Outcome
	}
	for _, c := range cases {
		if c.Key != r.key {
			continue
		}
		c.KeyPolicy = r.policy
		r.Requests++
		now, why, err := r.world.decide(ctx, c)
		d := Difference{Caller: c.As, Action: c.Action, Was: was[c.Action], Why: why, Count: 1, First: record.EventTime, Last: record.EventTime, RequestID: record.RequestID}
		switch {
		case errors.Is(err, ErrQuestion):
			d.Why = strings.TrimPrefix(err.Error(), ErrQuestion.Error()+": ")
			note(&r.Unknown, d)
		case err != nil:
			return err
		case (now == "Allowed") != (d.Was == "Allowed"):
			note(&r.Changed, d)
		}
	}
	return nil
}

// decide tells how a case is decided, and why.
func (w *World) decide(ctx context.Context, c Case) (outcome, why string, err error) {
	err = w.view(ctx, func(tx *store.Tx) error {
		s, err := w.situation(tx, c)
		if err != nil {
			return err
		}
		e, err := explain(tx, s)
		if err == nil {
			outcome, why = e.Outcome, e.Why
		}
		return err
	})
	return outcome, why, err
}

// note adds a difference to those that are alike.
func note(all *[]Difference, d Difference) {
	i := slices.IndexFunc(*all, func(o Difference) bool {
		return o.Caller == d.Caller && o.Action == d.Action && o.Was == d.Was && o.Why == d.Why
	})
	if i < 0 {
		*all = append(*all, d)
		return
	}
	o := &(*all)[i]
	o.Count++
	if d.First.Before(o.First) {
		o.First = d.First
	}
	if !d.Last.Before(o.Last) {
		o.Last, o.RequestID = d.Last, d.RequestID
	}
}

// Sorted puts the differences in order: most frequent first.
func Sorted(all []Difference) []Difference {
	slices.SortStableFunc(all, func(a, b Difference) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Caller, b.Caller), cmp.Compare(a.Action, b.Action))
	})
	return all
}

// String is the difference in a line.
func (d Difference) String() string {
	return fmt.Sprintf("%d × %s by %s, last at %s (%s)", d.Count, d.Action, d.Caller, d.Last.Format(time.RFC3339), d.RequestID)
}
