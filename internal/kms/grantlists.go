package kms

import (
	"cmp"
	"context"
	"errors"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// ListGrants lists the grants on a key, or those of one grantee, by id.
func (s *Service) ListGrants(ctx context.Context, call *iam.Call, in *kmsapi.ListGrantsRequest) (*kmsapi.ListGrantsResponse, error) {
	p, err := newPage("ListGrants", in.Marker, in.Limit, 50, 100)
	if err := cmp.Or(err, noAliases(*in.KeyId)); err != nil {
		return nil, err
	}
	if in.GranteeServicePrincipal != nil && (in.GranteePrincipal != nil || *in.GranteeServicePrincipal != call.Credential.Service) {
		return nil, validation("GranteeServicePrincipal can be specified only by the service itself, and without GranteePrincipal.")
	}
	out := &kmsapi.ListGrantsResponse{}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		key, err := managed(tx, call, "ListGrants", *in.KeyId, noAlias, &conditions{forService: forService(call)})
		if err != nil {
			return err
		}
		found, err := wantedGrants(tx, key, in, p)
		if err != nil {
			return err
		}
		found, out.Truncated, out.NextMarker = cut(p, found, func(g *Grant) string { return g.ID })
		out.Grants, err = listed(tx, found)
		return err
	})
	return out, err
}

// wantedGrants collects the grants of a key that a request asks for.
func wantedGrants(tx *store.Tx, key *Key, in *kmsapi.ListGrantsRequest, p page) ([]*Grant, error) {
	grantee := model.Value(in.GranteeServicePrincipal)
	if in.GranteePrincipal != nil {
		grantee = *in.GranteePrincipal // of somebody who is gone: by unique id
		if !policy.IsUniqueID(grantee) {
			var err error
			if grantee, err = principal(tx, key, grantee); err != nil {
				return nil, err
			}
		}
	}
	wanted := func(g *Grant) bool { return grantee == "" || g.Terms.Grantee == grantee }
	if in.GrantId != nil {
		g, err := findGrant(tx, key.Region, key.Account, key.ID, *in.GrantId)
		switch {
		case errors.Is(err, store.ErrNotFound) && !isGrantID(*in.GrantId):
			return nil, kmsapi.InvalidGrantIdException("")
		case errors.Is(err, store.ErrNotFound) || err == nil && (!wanted(g) || g.ID <= p.after):
			return nil, nil
		}
		return []*Grant{g}, err
	}
	prefix := grantPrefix(key.Region, key.Account, key.ID)
	return store.Collect(tx, grantKind, prefix, prefix+p.after, p.n+1, wanted)
}

// listed is the wire form of grants.
func listed(tx *store.Tx, grants []*Grant) ([]kmsapi.GrantListEntry, error) {
	out := []kmsapi.GrantListEntry{}
	for _, g := range grants {
		e := kmsapi.GrantListEntry{
			KeyId: new(g.keyARN()), GrantId: &g.ID, Name: &g.Name, CreationDate: model.At(g.Created), Operations: g.Terms.Operations,
			IssuingAccount: new(arn.Root(arn.Partition(g.Region), g.Issuer))}
		grantee, err := iam.RestorePrincipal(tx, g.Terms.Grantee, arn.Partition(g.Region))
		if err != nil {
			return nil, err
		}
		retiring, err := iam.RestorePrincipal(tx, g.Retiring, arn.Partition(g.Region))
		if err != nil {
			return nil, err
		}
		if isService(grantee) {
			e.GranteeServicePrincipal = &grantee
		} else {
			e.GranteePrincipal = &grantee
		}
		switch {
		case isService(retiring):
			e.RetiringServicePrincipal = &retiring
		case retiring != "":
			e.RetiringPrincipal = &retiring
		}
		if t := g.Terms; t.Equals != nil || t.Subset != nil || t.SourceArn != "" {
			e.Constraints = &kmsapi.GrantConstraints{EncryptionContextEquals: t.Equals, EncryptionContextSubset: t.Subset}
			if t.SourceArn != "" {
				e.Constraints.SourceArn = &t.SourceArn
			}
		}
		out = append(out, e)
	}
	return out, nil
}

// ListRetirableGrants lists the grants, on keys of any account in the Region,
// that a principal of the caller's account may retire; a service asks for its own.
func (s *Service) ListRetirableGrants(ctx context.Context, call *iam.Call, in *kmsapi.ListRetirableGrantsRequest) (*kmsapi.ListGrantsResponse, error) {
	p, err := newPage("ListRetirableGrants", in.Marker, in.Limit, 50, 100)
	if err != nil {
		return nil, err
	}
	if (in.RetiringPrincipal == nil) == (in.RetiringServicePrincipal == nil) {
		return nil, validation("Exactly one of RetiringPrincipal and RetiringServicePrincipal must be specified.")
	}
	out := &kmsapi.ListGrantsResponse{}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		retiring, err := whoRetires(tx, call, in)
		if err != nil {
			return err
		}
		prefix := retirablePrefix(call.Region, retiring)
		entries, err := store.List(tx, retirableKind, prefix, prefix+p.after, p.n+1)
		if err != nil {
			return err
		}
		entries, out.Truncated, out.NextMarker = cut(p, entries, func(e store.Entry[retirable]) string { return strings.TrimPrefix(e.Key, prefix) })
		var found []*Grant
		for _, e := range entries {
			t, err := find(tx, call, e.Value.Account, e.Value.KeyID)
			if err != nil {
				return err
			}
			if t.key == nil { // its waiting period is over
				continue
			}
			g, err := findGrant(tx, call.Region, e.Value.Account, e.Value.KeyID, e.Value.ID)
			if err != nil {
				return err
			}
			found = append(found, g)
		}
		out.Grants, err = listed(tx, found)
		return err
	})
	return out, err
}

// whoRetires is the principal, in its stored form, whose grants are asked for,
// after the caller was allowed to ask (AUTH-9.6).
func whoRetires(tx *store.Tx, call *iam.Call, in *kmsapi.ListRetirableGrantsRequest) (string, error) {
	if service := call.Credential.Service; service != "" && model.Value(in.RetiringServicePrincipal) == service {
		return service, nil
	}
	if err := allowed(tx, call, actions["ListRetirableGrants"], "*", &conditions{}); err != nil {
		return "", err
	}
	if in.RetiringServicePrincipal != nil {
		return "", validation("RetiringServicePrincipal can be specified only by the service itself.")
	}
	a, err := arn.Parse(*in.RetiringPrincipal)
	if err != nil || a.Account != call.Account() {
		return "", kmsapi.InvalidArnException("The retiring principal must be in your account: " + *in.RetiringPrincipal)
	}
	retiring, err := iam.ResolvePrincipal(tx, *in.RetiringPrincipal, arn.Partition(call.Region))
	if errors.Is(err, iam.ErrPrincipal) {
		err = kmsapi.InvalidArnException("ARN does not refer to a valid principal: " + *in.RetiringPrincipal)
	}
	return retiring, err
}
