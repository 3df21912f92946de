package iam

import (
	"context"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Service is the IAM API. It is safe for concurrent use.
type Service struct {
	db *store.DB
}

// NewService makes the IAM API over db.
func NewService(db *store.DB) *Service { return &Service{db} }

// AccessDenied is the refusal of the Query services.
func AccessDenied(message string) *model.Fault { return model.NewFault("AccessDenied", 403, message) }

// ValidationError is the Query services' fault for what a model cannot express.
func ValidationError(message string) *model.Fault {
	return model.NewFault("ValidationError", 400, message)
}

// MalformedPolicy is the fault for a policy document that is not one.
func MalformedPolicy(message string) *model.Fault {
	return iamapi.MalformedPolicyDocumentException(message)
}

// allow authorizes an action on a resource.
func (s *Service) allow(tx *store.Tx, call *Call, action policy.Action, resource string, conditions policy.Context) error {
	return s.allowAs(tx, call, action, resource, resource, conditions)
}

// allowAs is allow for a resource that the refusal calls by the name the caller
// used: whether it exists, and how it is really spelled, is not told.
func (s *Service) allowAs(tx *store.Tx, call *Call, action policy.Action, resource, called string, conditions policy.Context) error {
	if session := call.Credential.Session; session != nil && session.Kind != policy.RoleSession && session.MFA.IsZero() {
		// GetSessionToken without MFA and GetFederationToken sessions cannot call IAM.
		return model.NewFault("InvalidClientTokenId", 403, "The security token included in the request is invalid")
	}
	d, req, err := call.Decide(tx, Query{
		Action: action, Resource: resource, ResourceAccount: call.Account(), Conditions: conditions})
	if err != nil {
		return err
	}
	if !d.Allowed() {
		req.Resource = called
		return AccessDenied(d.Refusal(req))
	}
	return nil
}

// conditions are the IAM condition keys of one request.
type conditions struct {
	policyARN string
	boundary  string
	tags      authz.RequestTags
	resource  map[string]string // tags of the entity
}

// Lookup answers iam: and tag keys.
func (c *conditions) Lookup(key policy.ConditionKey) policy.Value {
	switch key.ID {
	case policy.KeyIAMPolicyARN:
		return policy.Optional(c.policyARN)
	case policy.KeyIAMPermissionsBoundary:
		return policy.Optional(c.boundary)
	case policy.KeyRequestTag, policy.KeyTagKeys:
		return c.tags.Lookup(key)
	case policy.KeyResourceTag, policy.KeyIAMResourceTag:
		return authz.FoldLookup(c.resource, key.Suffix)
	}
	return policy.Value{}
}

// missing turns an absent entity into its fault, word for word AWS's.
func missing(err error, c Class, name string) error {
	if errors.Is(err, store.ErrNotFound) {
		return iamapi.NoSuchEntityException("The " + string(c) + " with name " + name + " cannot be found.")
	}
	return err
}

// named loads the entity a request names, after the caller was allowed to act
// on it. A caller who is not learns nothing about whether it exists.
func (s *Service) named(tx *store.Tx, call *Call, action policy.Action, c Class, name string, more *conditions) (*Entity, error) {
	e, err := editEntity(tx, call.Account(), c, name)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	resource := arn.IAM(Partition, call.Account(), string(c)+"/"+name)
	own := conditions{} // of this attempt: the caller's may be used again
	if more != nil {
		own = *more
	}
	more = &own
	if err == nil {
		resource = e.ARN()
		more.resource = tagMap(e.Tags) // TagMap is of the record as it is stored, and e is a copy to edit
		if more.boundary == "" {
			more.boundary = e.Boundary // of requests that bring none: the one there is
		}
	}
	if denied := s.allowAs(tx, call, action, resource, arn.IAM(Partition, call.Account(), string(c)+"/"+name), more); denied != nil {
		return nil, denied
	}
	return e, missing(err, c, name)
}

// change edits one entity in a transaction.
func (s *Service) change(ctx context.Context, call *Call, action policy.Action, c Class, name string, more *conditions,
	edit func(*store.Tx, *Entity) error) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		e, err := s.named(tx, call, action, c, name, more)
		if err != nil {
			return err
		}
		if err := edit(tx, e); err != nil {
			return err
		}
		return putEntity(tx, e)
	})
}

// read shows one entity.
func (s *Service) read(ctx context.Context, call *Call, action policy.Action, c Class, name string, show func(*store.Tx, *Entity) error) error {
	return call.View(ctx, s.db, func(tx *store.Tx) error {
		e, err := s.named(tx, call, action, c, name, nil)
		if err != nil {
			return err
		}
		return show(tx, e)
	})
}

// document parses and checks an identity policy.
func document(text string, kind policy.Kind) (*policy.Document, error) {
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		return nil, MalformedPolicy("Syntax errors in policy.").Because(err)
	}
	if err := policy.Validate(doc, kind); err != nil {
		return nil, MalformedPolicy(Grammar(err)).Because(err)
	}
	return doc, nil
}

// Grammar is IAM's text for what policy.Validate finds wrong.
func Grammar(err error) string {
	var g *policy.GrammarError
	if errors.As(err, &g) {
		return g.Msg
	}
	return "Syntax errors in policy."
}

// size is how long a policy counts as: white space is free.
func size(document string) int {
	return len(strings.Join(strings.Fields(document), ""))
}

// escaped is how IAM returns a policy document: percent-encoded (RFC 3986).
func escaped(document string) *string {
	return new(strings.ReplaceAll(url.QueryEscape(document), "+", "%20"))
}

// A page is the part of a list that one answer shows.
type page struct {
	after string // the key the part begins behind
	n     int
}

const (
	defaultItems = 100
	maxItems     = 1000
)

func newPage(marker *string, items *int32) (page, error) {
	p := page{n: int(model.Or(items, defaultItems))}
	if marker == nil {
		return p, nil
	}
	after, err := base64.RawURLEncoding.DecodeString(*marker)
	if err != nil {
		return p, ValidationError("Invalid Marker.")
	}
	p.after = string(after)
	return p, nil
}

// cut shows at most n of the items found, and the marker behind which the next
// page begins if there are more.
func cut[T any](p page, items []T, key func(T) string) (shown []T, truncated *bool, marker *string) {
	if len(items) <= p.n {
		return items, new(false), nil
	}
	shown = items[:p.n]
	last := key(shown[p.n-1])
	return shown, new(true), new(base64.RawURLEncoding.EncodeToString([]byte(last)))
}

// cutAfter is cut for a list in any order: the page begins behind the item that
// the marker names, or at the start if that is gone.
func cutAfter[T any](p page, items []T, key func(T) string) (shown []T, truncated *bool, marker *string) {
	i := slices.IndexFunc(items, func(t T) bool { return key(t) == p.after })
	return cut(p, items[i+1:], key)
}

// cutNames is cut for sorted names.
func cutNames(p page, names []string) (shown []string, truncated *bool, marker *string) {
	rest := names[:0:0]
	for _, n := range names {
		if n > p.after {
			rest = append(rest, n)
		}
	}
	return cut(p, rest, func(s string) string { return s })
}
