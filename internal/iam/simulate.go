package iam

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A simulation is what a policy simulator is asked. Condition keys are as its entries say; of
// the others, those of the caller are there, and no more.
type simulation struct {
	caller    authz.Caller
	policies  authz.Policies
	actions   []string
	resources []string
	owner     string // of the resources; empty: by their ARNs
	entries   map[string]policy.Value
	call      *Call
}

// SimulatePrincipalPolicy decides about actions by the policies of a user, a group or a role,
// and by further ones. Key policies count as far as ResourcePolicy gives one.
func (s *Service) SimulatePrincipalPolicy(ctx context.Context, call *Call, in *iamapi.SimulatePrincipalPolicyRequest) (out *iamapi.SimulatePolicyResponse, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := s.allow(tx, call, policy.MustAction("iam:SimulatePrincipalPolicy"), *in.PolicySourceArn, nil); err != nil {
			return err
		}
		if in.PolicyExclusionList != nil {
			return iamapi.InvalidInputException("PolicyExclusionList is not supported: simulate a custom policy.")
		}
		m := &simulation{actions: in.ActionNames, resources: in.ResourceArns, owner: model.Value(in.ResourceOwner), call: call}
		if m.caller, m.policies, err = simulated(tx, call, *in.PolicySourceArn); err != nil {
			return err
		}
		if of := model.Value(in.CallerArn); of != "" {
			if m.caller, _, err = simulated(tx, call, of); err != nil {
				return err
			}
		}
		own, err := place(tx, m.caller.Account)
		if err != nil {
			return err
		}
		if m.policies.SCP, err = own.levels(tx, SCPType); err != nil {
			return err
		}
		out, err = m.run(in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ResourcePolicy, in.ContextEntries, in.MaxItems, in.Marker)
		return err
	})
	return out, err
}

// SimulateCustomPolicy decides about actions by the policies that are given alone.
func (s *Service) SimulateCustomPolicy(ctx context.Context, call *Call, in *iamapi.SimulateCustomPolicyRequest) (out *iamapi.SimulatePolicyResponse, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := s.allow(tx, call, policy.MustAction("iam:SimulateCustomPolicy"), "*", nil); err != nil {
			return err
		}
		m := &simulation{actions: in.ActionNames, resources: in.ResourceArns, owner: model.Value(in.ResourceOwner), call: call}
		who := arn.IAM(Partition, call.Account(), "user/simulated")
		m.caller = authz.Caller{Principal: policy.Principal{Kind: policy.User, Partition: Partition, Account: call.Account(), ARN: who, EntityARN: who}, UserName: "simulated"}
		if of := model.Value(in.CallerArn); of != "" {
			if m.caller, _, err = simulated(tx, call, of); err != nil {
				return err
			}
		}
		out, err = m.run(in.PolicyInputList, in.PermissionsBoundaryPolicyInputList, in.ResourcePolicy, in.ContextEntries, in.MaxItems, in.Marker)
		return err
	})
	return out, err
}

// simulated is who an ARN names, with the policies attached.
func simulated(tx *store.Tx, call *Call, who string) (authz.Caller, authz.Policies, error) {
	a, err := arn.Parse(who)
	if err == nil && a.Service == "iam" && a.Account == call.Account() && strings.HasPrefix(a.Resource, "group/") {
		g, err := FindEntity(tx, a.Account, GroupClass, a.Resource[strings.LastIndexByte(a.Resource, '/')+1:])
		if err == nil && g.ARN() == who {
			policies, err := entityPolicies(tx, g)
			return authz.Caller{Principal: policy.Principal{Kind: policy.User, Partition: Partition, Account: a.Account, ARN: who}}, policies, err
		}
	}
	c, err := Suppose(tx, who, "")
	if errors.Is(err, ErrNobody) || err == nil && (c.Session == nil || c.Account != call.Account()) {
		return authz.Caller{}, authz.Policies{}, iamapi.NoSuchEntityException("The entity " + who + " cannot be found.")
	}
	if err != nil {
		return authz.Caller{}, authz.Policies{}, err
	}
	return c.Session.principal(tx)
}

// run decides about every action on every resource.
func (m *simulation) run(policies, boundaries []string, resourcePolicy *string, entries []iamapi.ContextEntry, most *int32, marker *string) (*iamapi.SimulatePolicyResponse, error) {
	for i, text := range policies {
		p, err := input(text, policy.Identity, "PolicyInputList."+strconv.Itoa(i+1))
		if err != nil {
			return nil, err
		}
		m.policies.Identity = append(slices.Clip(m.policies.Identity), p)
	}
	for i, text := range boundaries {
		p, err := input(text, policy.Identity, "PermissionsBoundaryPolicyInputList."+strconv.Itoa(i+1))
		if err != nil {
			return nil, err
		}
		m.policies.Boundary, m.policies.HasBoundary = p, true
	}
	if resourcePolicy != nil {
		p, err := input(*resourcePolicy, policy.Key, "ResourcePolicy")
		if err != nil {
			return nil, err
		}
		m.policies.Resource = p
	}
	m.entries = map[string]policy.Value{}
	for _, e := range entries {
		if e.ContextKeyName == nil {
			return nil, iamapi.InvalidInputException("A context entry has a ContextKeyName.")
		}
		key := strings.ToLower(policy.KeyNamed(*e.ContextKeyName).String())
		if strings.HasSuffix(model.Value(e.ContextKeyType), "List") || len(e.ContextKeyValues) > 1 {
			m.entries[key] = policy.OptionalMany(e.ContextKeyValues)
		} else if len(e.ContextKeyValues) == 1 {
			m.entries[key] = policy.One(e.ContextKeyValues[0])
		}
	}
	if len(m.resources) == 0 {
		m.resources = []string{"*"}
	}
	all := len(m.actions) * len(m.resources)
	after, err := strconv.Atoi(model.Or(marker, "0"))
	if err != nil || after < 0 || after > all {
		return nil, iamapi.InvalidInputException("Invalid Marker.")
	}
	end := min(after+min(int(model.Or(most, 100)), maxResults), all)
	out := &iamapi.SimulatePolicyResponse{EvaluationResults: []iamapi.EvaluationResult{}, IsTruncated: new(end < all)}
	for i := after; i < end; i++ {
		r, err := m.evaluate(m.actions[i/len(m.resources)], m.resources[i%len(m.resources)])
		if err != nil {
			return nil, err
		}
		out.EvaluationResults = append(out.EvaluationResults, *r)
	}
	if end < all {
		out.Marker = new(strconv.Itoa(end))
	}
	return out, nil
}

// maxResults bounds the results of one answer.
const maxResults = 1000

func input(text string, kind policy.Kind, name string) (*policy.Policy, error) {
	doc, err := policy.Parse([]byte(text))
	if err == nil {
		err = policy.Validate(doc, kind)
	}
	if err != nil {
		return nil, iamapi.InvalidInputException("The policy " + name + " cannot be read: " + err.Error())
	}
	return policy.Compile(doc, kind, name), nil
}

// evaluate decides about one action on one resource.
func (m *simulation) evaluate(action, resource string) (*iamapi.EvaluationResult, error) {
	a, known := policy.ActionNamed(action)
	if !known {
		return nil, iamapi.InvalidInputException("Invalid Action: " + action)
	}
	of, _ := arn.Parse(resource)
	req := &authz.Request{Caller: m.caller, Action: a, Resource: resource, ResourceAccount: m.caller.Account, Now: m.call.Now, Region: m.call.Region,
		CrossAccount: authz.AcrossAccounts.Has(a)}
	if of.Account != "" {
		req.ResourceAccount = of.Account
	}
	if owner, err := arn.Parse(m.owner); err == nil {
		req.ResourceAccount = owner.Account
	} else if arn.IsAccount(m.owner) {
		req.ResourceAccount = m.owner
	}
	req.Guarded = m.policies.Resource != nil && authz.OnKeys.Has(a)
	missing := map[string]bool{}
	req.Given = func(key policy.ConditionKey) (policy.Value, bool) {
		v, given := m.entries[strings.ToLower(key.String())]
		if given || !ofCaller(key.ID) {
			return v, true
		}
		return v, false
	}
	d, steps := authz.Explain(req, &m.policies)
	out := &iamapi.EvaluationResult{EvalActionName: &action, EvalResourceName: &resource, EvalDecision: new(decisions[d.Outcome]), MatchedStatements: []iamapi.Statement{}}
	if m.policies.SCP != nil {
		out.OrganizationsDecisionDetail = &iamapi.OrganizationsDecisionDetail{AllowedByOrganizations: new(d.Layer != authz.SCPLayer && d.Missing != authz.SCPLayer)}
	}
	if m.policies.HasBoundary {
		out.PermissionsBoundaryDecisionDetail = &iamapi.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: new(d.Layer != authz.BoundaryLayer && d.Missing != authz.BoundaryLayer)}
	}
	for _, step := range steps {
		if step.Applies && (step.Effect == policy.Deny) == (d.Outcome == authz.ExplicitDeny) {
			out.MatchedStatements = append(out.MatchedStatements, m.statement(step))
		}
	}
	for _, p := range slices.Concat(m.policies.Identity, []*policy.Policy{m.policies.Resource, m.policies.Boundary}) {
		for _, rule := range p.Rules() {
			for _, t := range rule.Tests() {
				if rule.Has(a) && !req.Lookup(t.Key()).Present {
					missing[t.Source().Key] = true
				}
			}
		}
	}
	for key := range missing {
		out.MissingContextValues = append(out.MissingContextValues, key)
	}
	slices.Sort(out.MissingContextValues)
	return out, nil
}

var decisions = map[authz.Outcome]string{authz.Allowed: "allowed", authz.ExplicitDeny: "explicitDeny", authz.ImplicitDeny: "implicitDeny"}

// ofCaller reports whether a simulated request has a condition key by who makes it.
func ofCaller(id policy.KeyID) bool {
	return slices.Contains([]policy.KeyID{policy.KeyPrincipalArn, policy.KeyPrincipalAccount, policy.KeyPrincipalTag, policy.KeyPrincipalType, policy.KeyUserid, policy.KeyUsername,
		policy.KeyKMSCallerAccount, policy.KeyResourceAccount, policy.KeyPrincipalIsAWSService}, id)
}

// statement is where a statement that matched is.
func (m *simulation) statement(step policy.Step) iamapi.Statement {
	s := step.Policy.Statement(step.Statement)
	kind := iamapi.PolicySourceTypeNone
	switch name := step.Policy.Name; {
	case step.Policy == m.policies.Resource:
		kind = iamapi.PolicySourceTypeResource
	case strings.HasPrefix(name, "arn:"+Partition+":iam::aws:policy"):
		kind = iamapi.PolicySourceTypeAwsManaged
	case strings.Contains(name, ":policy/"):
		kind = iamapi.PolicySourceTypeUserManaged
	case strings.Contains(name, " inline "):
		kind, _, _ = strings.Cut(name[strings.Index(name, "::")+15:], "/") // after the account
	}
	out := iamapi.Statement{SourcePolicyId: new(step.Policy.Name), SourcePolicyType: &kind}
	if s.Pos.Line > 0 { // where it ends is not kept: no EndPosition
		out.StartPosition = &iamapi.Position{Line: new(int32(s.Pos.Line)), Column: new(int32(s.Pos.Column))}
	}
	return out
}

// GetContextKeysForCustomPolicy lists the condition keys that policies ask for.
func (s *Service) GetContextKeysForCustomPolicy(ctx context.Context, call *Call, in *iamapi.GetContextKeysForCustomPolicyRequest) (*iamapi.GetContextKeysForPolicyResponse, error) {
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		return s.allow(tx, call, policy.MustAction("iam:GetContextKeysForCustomPolicy"), "*", nil)
	})
	if err != nil {
		return nil, err
	}
	return contextKeys(nil, in.PolicyInputList)
}

// GetContextKeysForPrincipalPolicy lists those that the policies of a user, a group or a role
// ask for, and further ones.
func (s *Service) GetContextKeysForPrincipalPolicy(ctx context.Context, call *Call, in *iamapi.GetContextKeysForPrincipalPolicyRequest) (out *iamapi.GetContextKeysForPolicyResponse, err error) {
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := s.allow(tx, call, policy.MustAction("iam:GetContextKeysForPrincipalPolicy"), *in.PolicySourceArn, nil); err != nil {
			return err
		}
		_, policies, err := simulated(tx, call, *in.PolicySourceArn)
		if err == nil {
			out, err = contextKeys(policies.Identity, in.PolicyInputList)
		}
		return err
	})
	return out, err
}

func contextKeys(policies []*policy.Policy, texts []string) (*iamapi.GetContextKeysForPolicyResponse, error) {
	out := &iamapi.GetContextKeysForPolicyResponse{ContextKeyNames: []string{}}
	for i, text := range texts {
		p, err := input(text, policy.Identity, "PolicyInputList."+strconv.Itoa(i+1))
		if err != nil {
			return nil, err
		}
		policies = append(slices.Clip(policies), p)
	}
	for _, p := range policies {
		for _, rule := range p.Rules() {
			for _, t := range rule.Tests() {
				out.ContextKeyNames = append(out.ContextKeyNames, t.Source().Key)
				_, variables := t.Shapes()
				for _, v := range variables {
					out.ContextKeyNames = append(out.ContextKeyNames, v.String())
				}
			}
		}
	}
	slices.Sort(out.ContextKeyNames)
	out.ContextKeyNames = slices.Compact(out.ContextKeyNames)
	return out, nil
}
