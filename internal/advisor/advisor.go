// Package advisor is Claviger's own API of questions about policies: why a request is decided
// as it is, who may do something, what somebody may do. It answers about the asker's account
// and, if that manages an organization, about the accounts in it.
package advisor

import (
	"context"
	"errors"
	"slices"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// TargetPrefix is what X-Amz-Target puts before the operation.
const TargetPrefix = "Claviger"

// Operations are those of the API, sorted.
var Operations = []string{"Explain", "ExplainRequest", "What", "Who"}

// A Service is the API. It is safe for concurrent use.
type Service struct {
	world *inquire.World
	find  func(ctx context.Context, request string) (*audit.Record, error)
}

// New makes the API about what a store holds. find finds the record of a request, which is
// nil if there is none.
func New(w *inquire.World, find func(ctx context.Context, request string) (*audit.Record, error)) *Service {
	return &Service{w, find}
}

// An ExplainInput is a case.
type ExplainInput inquire.Case

// Check finds what is missing.
func (in *ExplainInput) Check(v *model.Violations, path string) {
	missing(v, path, map[string]string{"As": in.As, "Action": in.Action})
}

// An ExplainRequestInput names a request on record.
type ExplainRequestInput struct{ RequestID string }

// Check finds what is missing.
func (in *ExplainRequestInput) Check(v *model.Violations, path string) {
	missing(v, path, map[string]string{"RequestID": in.RequestID})
}

// A WhoInput asks who may do an action.
type WhoInput inquire.WhoQuestion

// Check finds what is missing.
func (in *WhoInput) Check(v *model.Violations, path string) {
	missing(v, path, map[string]string{"Key": in.Key, "Action": in.Action})
}

// A WhatInput asks what a principal may do, with one key or with all of its account.
type WhatInput struct {
	As    string
	Key   string
	Given []string
}

// Check finds what is missing.
func (in *WhatInput) Check(v *model.Violations, path string) {
	missing(v, path, map[string]string{"As": in.As, "Key": in.Key})
}

func missing(v *model.Violations, path string, members map[string]string) {
	for name, value := range members {
		if value == "" {
			v.Missing(model.Join(path, name))
		}
	}
}

// A WhoOutput lists who may.
type WhoOutput struct{ Rows []inquire.Row }

// A WhatOutput lists what may be done.
type WhatOutput struct{ Rights []inquire.Right }

// allowed authorizes a question about some principals and keys, named by ARN; a key that is
// not is the asker's own.
func (s *Service) allowed(ctx context.Context, call *iam.Call, action string, about ...string) error {
	return call.View(ctx, s.world.DB, func(tx *store.Tx) error {
		d, req, err := call.Decide(tx, iam.Query{Action: policy.MustAction("claviger:" + action), Resource: "*", ResourceAccount: call.Account()})
		if err != nil {
			return err
		}
		if !d.Allowed() {
			return model.NewFault("AccessDeniedException", 400, d.Refusal(req))
		}
		for _, text := range about {
			a, err := arn.Parse(text)
			if err != nil || a.Account == call.Account() || a.Account == "aws" || iam.IsServicePrincipal(text) {
				continue
			}
			o, err := iam.OrganizationOf(tx, a.Account)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			if err != nil || o.Management != call.Account() {
				return model.NewFault("AccessDeniedException", 400, "What is allowed in account "+a.Account+" is told to that account, and to the one that manages its organization.")
			}
		}
		return nil
	})
}

// fault words what goes wrong with a question.
func fault(err error) error {
	if errors.Is(err, inquire.ErrQuestion) || errors.Is(err, analyze.ErrUndecided) {
		return model.NewFault("ValidationException", 400, err.Error())
	}
	return err
}

// Explain decides a case, and tells why.
func (s *Service) Explain(ctx context.Context, call *iam.Call, in *ExplainInput) (*inquire.Explanation, error) {
	about := append([]string{in.As, in.Of, in.Key}, in.SessionARNs...)
	if err := s.allowed(ctx, call, "Explain", about...); err != nil {
		return nil, err
	}
	c := s.here(call, inquire.Case(*in))
	out, err := s.world.Explain(ctx, c)
	if err != nil {
		return nil, fault(err)
	}
	return out, s.redact(ctx, call, out)
}

// redact takes out what the policies of an organization say, unless the asker manages one:
// that they refuse is told to members, and no more.
func (s *Service) redact(ctx context.Context, call *iam.Call, explanations ...*inquire.Explanation) error {
	return call.View(ctx, s.world.DB, func(tx *store.Tx) error {
		o, err := iam.OrganizationOf(tx, call.Account())
		if errors.Is(err, store.ErrNotFound) || err == nil && o.Management == call.Account() {
			return nil
		}
		for _, e := range explanations {
			for i := range e.Layers {
				if e.Layers[i].OfOrganization {
					e.Layers[i].Statements, e.Changes, e.Needs = nil, nil, nil
				}
			}
		}
		return err
	})
}

// here fills in the Region of a question.
func (s *Service) here(call *iam.Call, c inquire.Case) inquire.Case {
	if c.Region == "" {
		c.Region = call.Region
	}
	return c
}

// ExplainRequest tells why a request on record was decided as it was, and how it would be now.
func (s *Service) ExplainRequest(ctx context.Context, call *iam.Call, in *ExplainRequestInput) (*inquire.Recorded, error) {
	if err := s.allowed(ctx, call, "ExplainRequest"); err != nil {
		return nil, err
	}
	found, err := s.find(ctx, in.RequestID)
	if err != nil {
		return nil, err
	}
	none := model.NewFault("ResourceNotFoundException", 404, "There is no request "+in.RequestID+" on record.")
	if found == nil {
		return nil, none
	}
	about := []string{found.UserIdentity.ARN}
	for _, r := range found.Resources {
		about = append(about, r.ARN)
	}
	if err := s.allowed(ctx, call, "ExplainRequest", about...); err != nil {
		return nil, none // whether there is one is not told either
	}
	out, err := s.world.Recorded(ctx, found)
	if err != nil {
		return nil, fault(err)
	}
	return out, s.redact(ctx, call, out.Now...)
}

// Who lists who may do an action with a key.
func (s *Service) Who(ctx context.Context, call *iam.Call, in *WhoInput) (*WhoOutput, error) {
	if err := s.allowed(ctx, call, "Who", in.Key); err != nil {
		return nil, err
	}
	q := inquire.WhoQuestion(*in)
	if _, err := arn.Parse(q.Key); err != nil { // an id or an alias is of the asker's account
		return nil, model.NewFault("ValidationException", 400, "Key is the ARN of a key.")
	}
	rows, err := s.world.Who(ctx, q)
	if err != nil {
		return nil, fault(err)
	}
	out := &WhoOutput{Rows: []inquire.Row{}}
	for _, r := range rows {
		var told []string
		foreign := map[string]bool{}
		for _, who := range r.Principals {
			a, err := arn.Parse(who)
			if r.Open || err != nil || s.allowed(ctx, call, "Who", who) == nil {
				told = append(told, who)
			} else {
				foreign[a.Account] = true
			}
		}
		if told != nil {
			r.Principals = told
			out.Rows = append(out.Rows, r)
		}
		for account := range foreign { // who it is there, and by which policies, is theirs to know
			row := inquire.Row{Principals: []string{"somebody of account " + account}, By: "the key policy or a grant, and policies of that account"}
			if !slices.ContainsFunc(out.Rows, func(o inquire.Row) bool { return slices.Equal(o.Principals, row.Principals) }) {
				out.Rows = append(out.Rows, row)
			}
		}
	}
	return out, nil
}

// What lists what a principal may do with a key.
func (s *Service) What(ctx context.Context, call *iam.Call, in *WhatInput) (*WhatOutput, error) {
	if err := s.allowed(ctx, call, "What", in.As, in.Key); err != nil {
		return nil, err
	}
	rights, err := s.world.What(ctx, in.As, in.Key, in.Given)
	return &WhatOutput{rights}, fault(err)
}
