package kms

import (
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

func accessDenied(text string) *model.Fault {
	return model.NewFault("AccessDeniedException", 400, text)
}

// actions are the KMS actions by the name of their operation.
var actions = func() map[string]policy.Action {
	m := map[string]policy.Action{}
	for _, name := range kmsapi.Operations {
		if a, ok := policy.ActionNamed("kms:" + name); ok {
			m[name] = a
		}
	}
	m["ReEncryptFrom"], m["ReEncryptTo"] = policy.MustAction("kms:ReEncryptFrom"), policy.MustAction("kms:ReEncryptTo")
	return m
}()

// authorize asks the key's policy, and all that it lets in, whether the caller
// may perform the action on the target, and returns the key. A key that does
// not exist is told only to callers of its own account whose identity policies
// would let them, and not if only a ciphertext names it.
func authorize(tx *store.Tx, call *iam.Call, action policy.Action, t target, c *conditions) (*Key, error) {
	q := iam.Query{Action: action, Resource: t.arn, ResourceAccount: t.account, CrossAccount: authz.AcrossAccounts.Has(action), Conditions: c}
	c.tx = tx
	if t.key != nil {
		c.key = t.key
		q.Guarded, q.ResourcePolicy = true, t.key.policy
	}
	stray := false
	if c.presented != nil {
		grants, wrong, err := c.presented.query(tx, call, action, t, c.encryptionContext)
		if err != nil {
			return nil, err
		}
		stray = wrong
		if t.key != nil {
			q.Grants = func(who *policy.Principal) ([]*policy.Policy, error) { return grants.find(tx, who) }
		}
	}
	c.requestAlias = t.alias
	d, req, err := call.Decide(tx, q)
	if err == nil {
		err = c.failed
	}
	switch {
	case err != nil:
		return nil, err
	case !d.Allowed(), t.key == nil && t.cipher:
		return nil, accessDenied(refusal(&d, req, t))
	case stray:
		return nil, kmsapi.InvalidGrantTokenException("")
	case t.key == nil:
		return nil, kmsapi.NotFoundException("Key '" + t.arn + "' does not exist")
	default:
		return t.key, nil
	}
}

// refusal words a denial. Whatever the key's side of another account does not
// allow is masked, as is a ciphertext whose key is not known (errors.md §3.2).
func refusal(d *authz.Decision, req *authz.Request, t target) string {
	foreign := t.account != req.Caller.Account
	if t.key != nil && (!foreign || d.Via.Ref != 0) || t.key == nil && !foreign && !t.cipher {
		return d.Refusal(req)
	}
	resource := "resource: " + t.arn
	switch {
	case len(req.Via) > 0:
		resource = "this resource"
	case t.cipher:
		resource = "the resource associated with this ciphertext"
	case t.alias != "":
		resource = "resource: " + arn.Alias(req.Region, t.account, t.alias) // as it was named: what it leads to is not theirs to know
	}
	return "User: " + req.Caller.Shown() + " is not authorized to perform: " + req.Action.String() + " on " + resource +
		" because the resource does not exist in this Region, no resource-based policies allow access, " +
		"or a resource-based policy explicitly denies access"
}

// allowed asks the caller's identity policies alone, for what has no key:
// resource is "*" or an alias ARN.
func allowed(tx *store.Tx, call *iam.Call, action policy.Action, resource string, c *conditions) error {
	d, req, err := call.Decide(tx, iam.Query{Action: action, Resource: resource, ResourceAccount: call.Account(), Conditions: c})
	if err == nil && !d.Allowed() {
		err = accessDenied(d.Refusal(req))
	}
	return err
}

// managed finds the key an operation manages, authorizes the operation of that
// name and checks that the kind of key has it and the key's state admits it.
func managed(tx *store.Tx, call *iam.Call, operation, identifier string, aliases aliasForms, c *conditions) (*Key, error) {
	t, err := resolve(tx, call, identifier, aliases)
	if err != nil {
		return nil, err
	}
	key, err := authorize(tx, call, actions[operation], t, c)
	if err != nil {
		return nil, err
	}
	if err := key.has(operation); err != nil {
		return nil, err
	}
	return key, key.admits(tx, call.Now, operation)
}
