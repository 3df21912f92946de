package kms

import (
	"context"
	"encoding/hex"
	"errors"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// RevokeGrant ends a grant, in any state of the key. No grant allows it (AUTH-6.13).
func (s *Service) RevokeGrant(ctx context.Context, call *iam.Call, in *kmsapi.RevokeGrantRequest) (*struct{}, error) {
	if err := noAliases(*in.KeyId); err != nil {
		return nil, err
	}
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		key, err := managed(tx, call, "RevokeGrant", *in.KeyId, noAlias, &conditions{forService: forService(call)})
		if err != nil {
			return err
		}
		g, err := findGrant(tx, key.Region, key.Account, key.ID, *in.GrantId)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return noSuchGrant(*in.GrantId)
		case err != nil:
			return err
		case model.Value(in.DryRun):
			return dryRun()
		}
		return removeGrant(tx, g)
	})
}

// noSuchGrant is the fault for an id of no grant.
func noSuchGrant(id string) error {
	if !isGrantID(id) {
		return kmsapi.InvalidGrantIdException("")
	}
	return kmsapi.NotFoundException("Grant ID " + id + " not found")
}

func isGrantID(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == 32
}

// RetireGrant ends a grant, named by its token or by key and id, for those who
// may retire it (AUTH-6.6). Key policies have no say.
func (s *Service) RetireGrant(ctx context.Context, call *iam.Call, in *kmsapi.RetireGrantRequest) (*struct{}, error) {
	if in.GrantToken != nil == (in.KeyId != nil || in.GrantId != nil) || (in.KeyId == nil) != (in.GrantId == nil) {
		return nil, validation("Grant token OR (grant ID, key ID) must be specified")
	}
	if err := noAliases(model.Value(in.KeyId)); err != nil {
		return nil, err
	}
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		t, g, missing, err := s.retiring(tx, call, in)
		if err != nil {
			return err
		}
		if err := allowRetiring(tx, call, t, g); err != nil {
			return err
		}
		switch {
		case missing != nil:
			return missing
		case model.Value(in.DryRun):
			return dryRun()
		}
		return removeGrant(tx, g)
	})
}

// retiring finds the grant to retire. If there is none, missing says so to those
// who could retire any grant on the key, and g is one that nobody else could. Whoever
// has a token is told that its grant is gone.
func (s *Service) retiring(tx *store.Tx, call *iam.Call, in *kmsapi.RetireGrantRequest) (t target, g *Grant, missing, err error) {
	id := model.Value(in.GrantId)
	if in.GrantToken != nil {
		ref, err := s.openToken(*in.GrantToken)
		if err != nil {
			return t, nil, nil, err
		}
		if ref.Region != call.Region {
			return t, nil, nil, kmsapi.InvalidGrantTokenException("")
		}
		id = ref.ID
		t, err = find(tx, call, ref.Account, ref.KeyID)
		missing = kmsapi.InvalidGrantTokenException("")
		if err != nil {
			return t, nil, nil, err
		}
	} else {
		if t, err = resolve(tx, call, *in.KeyId, noAlias); err != nil {
			return t, nil, nil, err
		}
		missing = noSuchGrant(id)
	}
	if t.key == nil {
		return t, &Grant{Region: call.Region, Account: t.account, KeyID: t.id}, kmsapi.NotFoundException("Key '" + t.arn + "' does not exist"), nil
	}
	g, err = findGrant(tx, t.key.Region, t.account, t.id, id)
	if errors.Is(err, store.ErrNotFound) && in.GrantToken != nil {
		return t, nil, nil, missing
	}
	if errors.Is(err, store.ErrNotFound) {
		return t, &Grant{Region: call.Region, Account: t.account, KeyID: t.id}, missing, nil
	}
	return t, g, nil, err
}

// allowRetiring decides who may retire g.
func allowRetiring(tx *store.Tx, call *iam.Call, t target, g *Grant) error {
	c := &conditions{key: t.key, encryptionContext: constraint(g.Terms), constraintType: constraintType(g.Terms.Equals, g.Terms.Subset)}
	d, req, err := call.Decide(tx, iam.Query{
		Action: actions["RetireGrant"], Resource: t.arn, ResourceAccount: t.account, Guarded: true, CrossAccount: true, Unlimited: true, Conditions: c,
		Grants: func(*policy.Principal) ([]*policy.Policy, error) { return []*policy.Policy{g.retirement()}, nil }})
	if err == nil && !d.Allowed() {
		err = accessDenied(refusal(&d, req, t))
	}
	return err
}
