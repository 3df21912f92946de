// Package accessanalyzer is what there is of the IAM Access Analyzer API: checks of policies,
// analyzers of external access to KMS keys with their findings, and access previews. Findings
// are made when they are asked for, so that they are of the present.
package accessanalyzer

import (
	"context"
	"strings"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/model/analyzerapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Service is the API. It is safe for concurrent use.
type Service struct {
	db    *store.DB
	world *inquire.World
}

// New makes the API about what a store holds.
func New(w *inquire.World) *Service { return &Service{w.DB, w} }

// authorize asks the caller's identity policies for an action.
func authorize(tx *store.Tx, call *iam.Call, action, resource string) error {
	d, req, err := call.Decide(tx, iam.Query{Action: policy.MustAction("access-analyzer:" + action), Resource: resource, ResourceAccount: call.Account()})
	if err == nil && !d.Allowed() {
		err = analyzerapi.AccessDeniedException(d.Refusal(req))
	}
	return err
}

func (s *Service) allowed(ctx context.Context, call *iam.Call, action string) error {
	return call.View(ctx, s.db, func(tx *store.Tx) error { return authorize(tx, call, action, "*") })
}

// invalid is the fault for a value that the constraints of the model let through.
func invalid(message string) error {
	return analyzerapi.ValidationException(message).For(analyzerapi.ValidationExceptionReasonFieldValidationFailed)
}

// kinds are those of policies, by what the API calls them.
var kinds = map[string]policy.Kind{analyzerapi.PolicyTypeIdentityPolicy: policy.Identity, analyzerapi.PolicyTypeResourcePolicy: policy.Key,
	analyzerapi.PolicyTypeServiceControlPolicy: policy.SCP, analyzerapi.PolicyTypeResourceControlPolicy: policy.RCP}

// document reads a policy that is to be checked.
func document(name, text string, kind policy.Kind) (*policy.Policy, error) {
	doc, err := policy.Parse([]byte(text))
	if err == nil {
		err = policy.Validate(doc, kind)
	}
	if err != nil {
		return nil, analyzerapi.UnprocessableEntityException("The " + name + " cannot be read: " + err.Error())
	}
	return policy.Compile(doc, kind, name), nil
}

// foreign names an action that a statement of a policy allows and of which nothing is known
// here; empty if there is none. Policies that allow what others do not, there, are in doubt.
func foreign(p *policy.Policy) string {
	for _, s := range p.Document.Statements {
		if s.Effect != policy.Allow || s.Action == nil {
			continue
		}
		if s.NotAction {
			return "NotAction"
		}
		for _, a := range s.Action.Items {
			if service, _, _ := strings.Cut(strings.ToLower(a.Text), ":"); service != "kms" {
				return a.Text
			}
		}
	}
	return ""
}

// page cuts a list: after is how many entries came before, by the token that was given.
func page[T any](list []T, token *string, most *int32, usual int) (part []T, next *string, err error) {
	after := 0
	if token != nil {
		if after, err = readToken(*token); err != nil || after > len(list) {
			return nil, nil, invalid("The next token is not valid.")
		}
	}
	n := usual
	if most != nil {
		if *most < 1 || *most > 1000 {
			return nil, nil, invalid("maxResults must be between 1 and 1000.")
		}
		n = int(*most)
	}
	end := min(after+n, len(list))
	if end < len(list) {
		next = new(writeToken(end))
	}
	return list[after:end], next, nil
}
