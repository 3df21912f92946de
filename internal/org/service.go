// Package org is the Organizations service: accounts in a tree under a
// management account, and the service and resource control policies that bind
// them. What those policies do to a request is for iam and authz.
package org

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/orgapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Service is the Organizations API. It is safe for concurrent use.
type Service struct {
	db *store.DB
}

// NewService makes the Organizations API over db.
func NewService(db *store.DB) *Service { return &Service{db} }

// A view is one request in the caller's organization. It belongs to one attempt
// of one transaction.
type view struct {
	tx   *store.Tx
	call *iam.Call
	org  *iam.Organization
}

// A request says what is asked for and who may ask.
type request struct {
	action     string            // without its prefix
	about      []string          // ids of the targets and policies it is about; none: "*"
	tags       authz.RequestTags // that the request brings
	policyType string            // that it names
	member     bool              // member accounts may ask as well
}

// A subject is one resource of a request.
type subject struct {
	arn        string
	tags       []iam.Tag
	policyType string
}

// in authorizes the caller for each resource of the request (AUTH-1.9) and returns
// its organization. Whoever is not allowed learns nothing about it, nor does a
// member account about what the management account manages.
func (s *Service) in(tx *store.Tx, call *iam.Call, r request) (*view, error) {
	o, err := iam.OrganizationOf(tx, call.Account())
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	v := &view{tx, call, o}
	subjects := []subject{{arn: "*", policyType: r.policyType}}
	if o != nil && len(r.about) > 0 {
		subjects = nil
		for _, id := range r.about {
			about, err := v.subject(id)
			if err != nil {
				return nil, err
			}
			about.policyType = cmp.Or(about.policyType, r.policyType)
			subjects = append(subjects, about)
		}
	}
	for _, about := range subjects {
		d, req, err := call.Decide(tx, iam.Query{Action: policy.MustAction("organizations:" + r.action), Resource: about.arn,
			ResourceAccount: call.Account(), Conditions: &conditions{request: r.tags, tags: tagMap(about.tags), policyType: about.policyType}})
		if err != nil {
			return nil, err
		}
		if !d.Allowed() {
			return nil, orgapi.AccessDeniedException(d.Refusal(req))
		}
	}
	switch {
	case o == nil:
		return nil, orgapi.AWSOrganizationsNotInUseException("Your account is not a member of an organization.")
	case !r.member && !v.manages():
		return nil, notYours()
	}
	return v, nil
}

// manages reports whether the caller is of the management account.
func (v *view) manages() bool { return v.org.Management == v.call.Account() }

func notYours() *model.Fault {
	return orgapi.AccessDeniedException("You don't have permissions to access this resource.")
}

// subject is a target or policy as a resource. Its tags are there only for the
// management account, and only if it exists.
func (v *view) subject(id string) (subject, error) {
	if !strings.HasPrefix(id, "p-") {
		out := subject{arn: targetARN(v.org, id)}
		t, err := v.target(id)
		if err == nil && v.manages() {
			out.tags = t.Tags
		}
		return out, or(err, nil)
	}
	out := subject{arn: organizationARN(v.org, "policy") + "/policy/" + id} // of a policy that does not exist
	p, err := iam.FindOrganizationPolicy(v.tx, v.org.ID, id)
	if err == nil && v.manages() {
		out = subject{p.ARN(v.org.Management), p.Tags, p.Type}
	}
	return out, or(err, nil)
}

// change runs a state change in the caller's organization.
func (s *Service) change(ctx context.Context, call *iam.Call, r request, fn func(*view) error) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		v, err := s.in(tx, call, r)
		if err != nil {
			return err
		}
		return fn(v)
	})
}

// read runs a read in the caller's organization.
func (s *Service) read(ctx context.Context, call *iam.Call, r request, fn func(*view) error) error {
	return call.View(ctx, s.db, func(tx *store.Tx) error {
		v, err := s.in(tx, call, r)
		if err != nil {
			return err
		}
		return fn(v)
	})
}

// conditions are the condition keys of one request.
type conditions struct {
	request    authz.RequestTags
	tags       map[string]string // of the resource
	policyType string            // organizations:PolicyType
}

// Lookup answers tag keys and organizations:PolicyType.
func (c *conditions) Lookup(key policy.ConditionKey) policy.Value {
	switch key.ID {
	case policy.KeyRequestTag, policy.KeyTagKeys:
		return c.request.Lookup(key)
	case policy.KeyResourceTag:
		return authz.FoldLookup(c.tags, key.Suffix)
	case policy.KeyOrganizationsPolicyType:
		return policy.Optional(c.policyType)
	default:
		return policy.Value{}
	}
}

// target returns a root, unit or account of the organization, or store.ErrNotFound.
func (v *view) target(id string) (*iam.Target, error) {
	t, err := store.Get(v.tx, iam.TargetKind, iam.TargetKey(id))
	if err == nil && t.Organization != v.org.ID {
		return nil, store.ErrNotFound
	}
	return t, err
}

// edit returns a copy of a target to change and put.
func (v *view) edit(id string) (*iam.Target, error) {
	if _, err := v.target(id); err != nil {
		return nil, err
	}
	return store.Edit(v.tx, iam.TargetKind, iam.TargetKey(id))
}

func (v *view) put(t *iam.Target) error {
	return store.Put(v.tx, iam.TargetKind, iam.TargetKey(t.ID), t)
}

// or turns an absent record into a fault, or into no error if fault is nil.
func or(err error, fault *model.Fault) error {
	switch {
	case !errors.Is(err, store.ErrNotFound):
		return err
	case fault == nil:
		return nil
	default:
		return fault
	}
}

// A place is where a record lies that says only that something is there.
type place struct{ ID string }

var placeKind = store.Kind[place]{Tag: 23, Name: "place in an organization"}

// childKey is where it is noted that a target is under another.
func childKey(organization, parent, id string) string { return childPrefix(organization, parent) + id }

func childPrefix(organization, parent string) string {
	return "o/child/" + organization + "/" + parent + "/"
}

// nameKey is where the name of a unit under its parent, or of a policy in its
// organization, is taken.
func nameKey(within, name string) string { return "o/name/" + within + "/" + name }

// take claims a name. taken is the fault if another has it.
func (v *view) take(within, name, id string, taken *model.Fault) error {
	p, err := store.Get(v.tx, placeKind, nameKey(within, name))
	switch {
	case err == nil && p.ID != id:
		return taken
	case err == nil || errors.Is(err, store.ErrNotFound):
		return store.Put(v.tx, placeKind, nameKey(within, name), &place{id})
	default:
		return err
	}
}

// A kind of target, as the API names it.
const (
	rootType    = "ROOT"
	unitType    = "ORGANIZATIONAL_UNIT"
	accountType = "ACCOUNT"
)

func typeOf(id string) string {
	switch {
	case arn.IsAccount(id):
		return accountType
	case strings.HasPrefix(id, "ou-"):
		return unitType
	default:
		return rootType
	}
}

// targetARN is a target's ARN.
func targetARN(o *iam.Organization, id string) string {
	kind := map[string]string{rootType: "root", unitType: "ou", accountType: "account"}[typeOf(id)]
	return organizationARN(o, kind) + "/" + id
}

func organizationARN(o *iam.Organization, kind string) string {
	return "arn:" + iam.Partition + ":organizations::" + o.Management + ":" + kind + "/" + o.ID
}

// freeID draws an id at which there is no record yet.
func freeID[T any](tx *store.Tx, kind store.Kind[T], key func(id string) string, prefix string, n int) (string, error) {
	for {
		id := newID(prefix, n)
		if _, err := store.Get(tx, kind, key(id)); errors.Is(err, store.ErrNotFound) {
			return id, nil
		} else if err != nil {
			return "", err
		}
	}
}

// newID draws n small letters and digits, at most 52, behind a prefix.
func newID(prefix string, n int) string {
	return prefix + strings.ToLower(rand.Text() + rand.Text())[:n]
}

// newPage reads NextToken and MaxResults.
func newPage(token *string, results *int32) (after string, n int, err error) {
	n = int(model.Or(results, 20))
	if token == nil {
		return "", n, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(*token)
	if err != nil {
		return "", n, invalid(orgapi.InvalidInputExceptionReasonInvalidNextToken, "You specified an invalid value.")
	}
	return string(text), n, nil
}

// paged shows at most n of the items behind the one whose key is after.
func paged[T any](items []T, after string, n int, key func(T) string) (shown []T, next *string) {
	for len(items) > 0 && after != "" && key(items[0]) <= after {
		items = items[1:]
	}
	if len(items) <= n {
		return items, nil
	}
	return items[:n], new(base64.RawURLEncoding.EncodeToString([]byte(key(items[n-1]))))
}

func invalid(reason, message string) *model.Fault {
	return orgapi.InvalidInputException(message).For(reason)
}

func constraint(reason, message string) *model.Fault {
	return orgapi.ConstraintViolationException(message).For(reason)
}

// PortableTags are the kinds of records that exports have, besides those of package
// iam.
var PortableTags = []byte{placeKind.Tag, creationKind.Tag}
