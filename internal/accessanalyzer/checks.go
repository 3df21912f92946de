package accessanalyzer

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/findings"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/analyzerapi"
	"github.com/claviger/claviger/internal/policy"
)

// ValidatePolicy checks a policy (policy-document.md §8).
func (s *Service) ValidatePolicy(ctx context.Context, call *iam.Call, in *analyzerapi.ValidatePolicyRequest) (*analyzerapi.ValidatePolicyResponse, error) {
	if err := s.allowed(ctx, call, "ValidatePolicy"); err != nil {
		return nil, err
	}
	found, next, err := page(findings.Validate(*in.PolicyDocument, kinds[*in.PolicyType]), in.NextToken, in.MaxResults, 100)
	if err != nil {
		return nil, err
	}
	out := &analyzerapi.ValidatePolicyResponse{Findings: []analyzerapi.ValidatePolicyFinding{}, NextToken: next}
	for _, f := range found {
		location := analyzerapi.Location{Path: []analyzerapi.PathElement{}, Span: &analyzerapi.Span{Start: wirePosition(f.Start), End: wirePosition(f.End)}}
		for _, step := range f.Path {
			switch {
			case step.Index != nil:
				location.Path = append(location.Path, analyzerapi.PathElement{Index: new(int32(*step.Index))})
			case step.Name != "":
				location.Path = append(location.Path, analyzerapi.PathElement{Key: new(step.Name)})
			default:
				location.Path = append(location.Path, analyzerapi.PathElement{Value: new(step.Member)})
			}
		}
		out.Findings = append(out.Findings, analyzerapi.ValidatePolicyFinding{FindingDetails: new(f.Details), FindingType: new(string(f.Severity)), IssueCode: new(f.Code),
			LearnMoreLink: new(f.LearnMore()), Locations: []analyzerapi.Location{location}})
	}
	return out, nil
}

func wirePosition(p findings.Position) *analyzerapi.Position {
	return &analyzerapi.Position{Line: new(int32(p.Line)), Column: new(int32(p.Column)), Offset: new(int32(p.Offset))}
}

// verdict is the answer of a check: PASS is a proof, and anything else is FAIL.
func verdict(a analyze.Answer, p *policy.Policy, passed, failed string) (result, message string, reasons []analyzerapi.ReasonSummary) {
	if a.Verdict == analyze.Proven {
		return "PASS", passed, nil
	}
	if len(a.Witnesses) > 0 {
		w := a.Witnesses[0]
		r := p.Match(&policy.Request{Action: w.Action, Resource: w.Request.Resource, Who: &w.Request.Caller.Principal, Context: w.Request}, nil)
		reason := analyzerapi.ReasonSummary{Description: new("The policy allows " + request(w) + ".")}
		if ref := r.Allowed(); ref != 0 {
			reason.StatementIndex = new(int32(ref) - 1)
			if sid := p.Statement(ref).Sid; sid != "" {
				reason.StatementId = &sid
			}
			where := "in the statement with index " + strconv.Itoa(int(ref)-1)
			if reason.StatementId != nil {
				where = "in the statement with sid " + *reason.StatementId
			}
			reason.Description = new(failed + " " + where + ": it allows " + request(w) + ".")
		}
		return "FAIL", failed, []analyzerapi.ReasonSummary{reason}
	}
	return "FAIL", "It could not be decided, and might be so.", []analyzerapi.ReasonSummary{{Description: new("Not decided because of: " + strings.Join(a.Doubts, "; ") + ".")}}
}

// request is a witness in a line.
func request(w *analyze.Witness) string {
	text := w.Action.String() + " on " + w.Request.Resource + " by " + w.Request.Caller.Shown()
	if len(w.Given) > 0 {
		text += " (" + strings.Join(w.Given, "; ") + ")"
	}
	return text
}

const undecidedActions = "the action %s, of which nothing is known here"

// CheckNoNewAccess proves that a policy allows nothing that another one does not.
func (s *Service) CheckNoNewAccess(ctx context.Context, call *iam.Call, in *analyzerapi.CheckNoNewAccessRequest) (*analyzerapi.CheckNoNewAccessResponse, error) {
	if err := s.allowed(ctx, call, "CheckNoNewAccess"); err != nil {
		return nil, err
	}
	kind := kinds[*in.PolicyType]
	old, err := document("existing policy document", *in.ExistingPolicyDocument, kind)
	if err != nil {
		return nil, err
	}
	new, err := document("new policy document", *in.NewPolicyDocument, kind)
	if err != nil {
		return nil, err
	}
	a, err := analyze.NewAccessByText(old, new)
	if err != nil {
		return nil, err
	}
	if action := foreign(new); a.Verdict == analyze.Proven && action != "" && new.Document.Compact() != old.Document.Compact() {
		a = analyze.Answer{Verdict: analyze.Undecided, Doubts: []string{fmt.Sprintf(undecidedActions, action)}}
	}
	result, message, reasons := verdict(a, new, "The modified permissions do not grant new access compared to your existing policy.",
		"The modified permissions grant new access compared to your existing policy")
	return &analyzerapi.CheckNoNewAccessResponse{Result: &result, Message: &message, Reasons: reasons}, nil
}

// CheckAccessNotGranted proves that a policy allows none of some actions.
func (s *Service) CheckAccessNotGranted(ctx context.Context, call *iam.Call, in *analyzerapi.CheckAccessNotGrantedRequest) (*analyzerapi.CheckAccessNotGrantedResponse, error) {
	if err := s.allowed(ctx, call, "CheckAccessNotGranted"); err != nil {
		return nil, err
	}
	p, err := document("policy document", *in.PolicyDocument, kinds[*in.PolicyType])
	if err != nil {
		return nil, err
	}
	answer := analyze.Answer{}
	for _, access := range in.Access {
		actions := access.Actions
		if actions == nil {
			actions = []string{"kms:*"}
		}
		if len(access.Actions) == 0 && len(access.Resources) == 0 {
			return nil, invalid("An access has actions, resources or both.")
		}
		var set policy.ActionSet
		doubt := ""
		for _, pattern := range actions {
			if service, _, _ := strings.Cut(strings.ToLower(pattern), ":"); service != "kms" && mentions(p, service) {
				doubt = pattern
			}
			for _, a := range policy.ActionsNamed(pattern).All() {
				if strings.HasPrefix(a.String(), "kms:") {
					set.Add(a)
				}
			}
		}
		if action := foreign(p); access.Actions == nil && action != "" {
			doubt = action
		}
		if doubt != "" && answer.Verdict == analyze.Proven {
			answer = analyze.Answer{Verdict: analyze.Undecided, Doubts: []string{fmt.Sprintf(undecidedActions, doubt)}}
		}
		a, err := analyze.PossibleByText(p, set, access.Resources)
		if err != nil {
			return nil, err
		}
		if a.Verdict == analyze.Refuted || answer.Verdict == analyze.Proven {
			answer = a
		}
		if a.Verdict == analyze.Refuted {
			break
		}
	}
	result, message, reasons := verdict(answer, p, "The policy document does not grant access to perform the listed actions or resources.",
		"The policy document grants access to perform one or more of the listed actions or resources")
	return &analyzerapi.CheckAccessNotGrantedResponse{Result: &result, Message: &message, Reasons: reasons}, nil
}

// mentions reports whether a statement that allows may be about actions of a service, which may
// be a pattern.
func mentions(p *policy.Policy, service string) bool {
	wild := func(s string) bool { return strings.ContainsAny(s, "*?") }
	for _, s := range p.Document.Statements {
		if s.Effect != policy.Allow || s.Action == nil {
			continue
		}
		if s.NotAction {
			return true
		}
		for _, a := range s.Action.Items {
			of, _, _ := strings.Cut(strings.ToLower(a.Text), ":")
			if of == service || wild(of) || wild(service) && of != "kms" {
				return true
			}
		}
	}
	return false
}

// CheckNoPublicAccess proves that a key policy lets no stranger in.
func (s *Service) CheckNoPublicAccess(ctx context.Context, call *iam.Call, in *analyzerapi.CheckNoPublicAccessRequest) (*analyzerapi.CheckNoPublicAccessResponse, error) {
	if err := s.allowed(ctx, call, "CheckNoPublicAccess"); err != nil {
		return nil, err
	}
	if *in.ResourceType != analyzerapi.AccessCheckResourceTypeAwsKmsKey {
		return nil, analyzerapi.UnprocessableEntityException("Only policies of resources of type AWS::KMS::Key can be checked here.")
	}
	p, err := document("policy document", *in.PolicyDocument, policy.Key)
	if err != nil {
		return nil, err
	}
	a, err := analyze.PublicByText(p)
	if err != nil {
		return nil, err
	}
	result, message, reasons := verdict(a, p, "The resource policy does not grant public access for the given resource type.",
		"The resource policy grants public access for the given resource type")
	return &analyzerapi.CheckNoPublicAccessResponse{Result: &result, Message: &message, Reasons: reasons}, nil
}
