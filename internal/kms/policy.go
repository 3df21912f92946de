package kms

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"weak"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

const policyName = "default"

// defaultPolicy is the key policy of a key created without one: it delegates
// everything to the account's identity policies (policy-document.md §7.1).
func defaultPolicy(k *Key) string {
	return `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow",` +
		`"Principal":{"AWS":"` + arn.Root(arn.Partition(k.Region), k.Account) + `"},"Action":"kms:*","Resource":"*"}]}`
}

// compiledPolicies are the key policies of the keys in memory, by their text, which many keys
// share. An entry goes with the last key that has it.
var compiledPolicies sync.Map // string to weak.Pointer[policy.Policy]

func compiledPolicy(text string) (*policy.Policy, error) {
	if known, ok := compiledPolicies.Load(text); ok {
		if p := known.(weak.Pointer[policy.Policy]).Value(); p != nil {
			return p, nil
		}
	}
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	p := policy.Compile(doc, policy.Key, "key policy")
	entry := weak.Make(p)
	compiledPolicies.Store(text, entry)
	runtime.AddCleanup(p, func(text string) { compiledPolicies.CompareAndDelete(text, entry) }, text)
	return p, nil
}

// newPolicy turns the policy a request brings for k into the one to store: its
// grammar is checked, its principals exist, and unless the check is bypassed it
// lets the caller change it again (policy-document.md §§3 to 5).
func newPolicy(tx *store.Tx, call *iam.Call, k *Key, text *string, bypass *bool) (string, error) {
	if text == nil {
		return defaultPolicy(k), nil
	}
	if len(*text) > policy.MaxKeyPolicy {
		return "", kmsapi.LimitExceededException("The policy is longer than 32768 bytes.")
	}
	doc, err := policy.Parse([]byte(*text))
	if err == nil {
		err = policy.Validate(doc, policy.Key)
	}
	if err == nil {
		err = iam.ResolvePrincipals(tx, doc, arn.Partition(k.Region), false)
	}
	if err != nil {
		return "", malformed(err)
	}
	if model.Value(bypass) {
		return doc.Compact(), nil
	}
	return doc.Compact(), lockout(tx, call, k, policy.Compile(doc, policy.Key, "new key policy"), bypass)
}

// malformed words what is wrong with a policy (errors.md §6).
func malformed(err error) error {
	var syntax *policy.SyntaxError
	text := ""
	switch {
	case errors.Is(err, policy.ErrPrincipal), errors.Is(err, iam.ErrPrincipal):
		text = "Policy contains a statement with one or more invalid principals."
	case errors.Is(err, policy.ErrForbiddenKey):
		text = "These condition keys are not permitted in a key policy: aws:ResourceTag, kms:ResourceTag, kms:ResourceAliases"
	case errors.Is(err, policy.ErrForAllValuesContext):
		text = overlyPermissive("encryption context")
	case errors.Is(err, policy.ErrForAllValuesTag):
		text = overlyPermissive("tag")
	case errors.Is(err, policy.ErrGrammar), errors.As(err, &syntax):
		text = "Syntax errors in policy."
	default:
		return err
	}
	return kmsapi.MalformedPolicyDocumentException(text).Because(err)
}

func overlyPermissive(what string) string {
	return "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the specified " +
		what + " or with an unspecified " + what + ". To fix, remove ForAllValues."
}

// lockout refuses a policy under which the caller could not change it again: it
// must name the caller, or the caller's account, for kms:PutKeyPolicy, and not
// deny it (policy-document.md §5).
func lockout(tx *store.Tx, call *iam.Call, k *Key, p *policy.Policy, bypass *bool) error {
	r, err := call.WouldReach(tx, iam.Query{
		Action: actions["PutKeyPolicy"], Resource: k.ARN(), ResourceAccount: k.Account, Guarded: true, ResourcePolicy: p,
		Conditions: &conditions{key: k, bypass: bypass}})
	if err != nil {
		return err
	}
	if r.Deny != 0 || r.Allowed() == 0 {
		return kmsapi.MalformedPolicyDocumentException("The new key policy will not allow you to update the key policy in the future.")
	}
	return nil
}

// GetKeyPolicy shows the key policy, parsed and printed again.
func (s *Service) GetKeyPolicy(ctx context.Context, call *iam.Call, in *kmsapi.GetKeyPolicyRequest) (*kmsapi.GetKeyPolicyResponse, error) {
	out := &kmsapi.GetKeyPolicyResponse{PolicyName: new(policyName)}
	err := call.View(ctx, s.db, func(tx *store.Tx) error {
		key, err := managed(tx, call, "GetKeyPolicy", *in.KeyId, noAlias, &conditions{})
		if err != nil {
			return err
		}
		if model.Or(in.PolicyName, policyName) != policyName {
			return kmsapi.NotFoundException("No such policy exists")
		}
		out.Policy, err = shownPolicy(tx, key)
		return err
	})
	return out, err
}

// shownPolicy is the key policy as it is shown: principals by their ARNs.
func shownPolicy(tx *store.Tx, key *Key) (*string, error) {
	doc, err := policy.Parse([]byte(key.Policy))
	if err != nil {
		return nil, err
	}
	if err := iam.RestorePrincipals(tx, doc, arn.Partition(key.Region)); err != nil {
		return nil, err
	}
	return new(doc.String()), nil
}

// PutKeyPolicy replaces the key policy, in any state of the key.
func (s *Service) PutKeyPolicy(ctx context.Context, call *iam.Call, in *kmsapi.PutKeyPolicyRequest) (*struct{}, error) {
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		key, err := managed(tx, call, "PutKeyPolicy", *in.KeyId, noAlias, &conditions{bypass: in.BypassPolicyLockoutSafetyCheck})
		if err != nil {
			return err
		}
		if model.Or(in.PolicyName, policyName) != policyName {
			return kmsapi.UnsupportedOperationException("Only default policy is supported")
		}
		k, err := editable(tx, key)
		if err != nil {
			return err
		}
		if k.Policy, err = newPolicy(tx, call, k, in.Policy, in.BypassPolicyLockoutSafetyCheck); err != nil {
			return err
		}
		return putKey(tx, k)
	})
}

// ListKeyPolicies lists the names of a key's policies: default.
func (s *Service) ListKeyPolicies(ctx context.Context, call *iam.Call, in *kmsapi.ListKeyPoliciesRequest) (*kmsapi.ListKeyPoliciesResponse, error) {
	if _, err := newPage("ListKeyPolicies", in.Marker, in.Limit, 100, 1000); err != nil {
		return nil, err
	}
	return &kmsapi.ListKeyPoliciesResponse{PolicyNames: []string{policyName}, Truncated: new(false)},
		call.View(ctx, s.db, func(tx *store.Tx) error {
			_, err := managed(tx, call, "ListKeyPolicies", *in.KeyId, noAlias, &conditions{})
			return err
		})
}
