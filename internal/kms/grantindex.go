package kms

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// The index finds the grants that may serve a request without looking at others,
// however many there are, and however many of them are the caller's.
//
// Under each grantee of a key lie the shapes of its grants: which operations, and
// the names of the keys of an encryption context they demand, without the values.
// There are few. A shape and the values of a request are the address of the terms that
// allow it, if a grant has them. Grants with the same terms share one record of
// them. What the index finds is only asked, by authz, as any policy is.

// maxShapes is how many shapes the grants of one grantee on one key may have. They
// are one record, which stays far below what a transaction holds.
const maxShapes = 1000

// A shape is what terms have in common that differ only in values.
type shape struct {
	Operations []string
	Equals     bool     `json:",omitzero"` // no other keys than these
	Keys       []string `json:",omitzero"` // names of the keys of pairs, in order
	Source     bool     `json:",omitzero"` // there is a SourceArn
	Terms      int      // how many terms have this shape

	operations policy.ActionSet
}

// shapes are those of the grants of one grantee on one key.
type shapes struct{ Shapes []shape }

func (s *shapes) prepare() error {
	for i := range s.Shapes {
		for _, op := range s.Shapes[i].Operations {
			if a, ok := policy.ActionNamed("kms:" + op); ok {
				s.Shapes[i].operations.Add(a)
			}
		}
	}
	return nil
}

var shapesKind = store.Kind[shapes]{Tag: 38, Name: "shapes of grants", Prepare: (*shapes).prepare}

// knownIDs is how many of the grants with the same terms are known by name, to
// say in an explanation which grant allowed.
const knownIDs = 8

// terms are what one or more grants permit.
type terms struct {
	Terms policy.GrantTerms
	N     int       // how many grants have them
	IDs   []string  // of some of these
	Since time.Time // when the first of them was made, as long as there is any

	policy *policy.Policy
}

func (t *terms) prepare() error {
	g := t.Terms
	g.Name = "grant to " + g.Grantee
	if len(t.IDs) > 0 {
		g.Name = "grant " + t.IDs[0]
	}
	t.policy = policy.Grant(g)
	return nil
}

var termsKind = store.Kind[terms]{Tag: 39, Name: "terms of grants", Prepare: (*terms).prepare}

// parts are what is indexed of a grant. DescribeKey ignores the encryption
// context (AUTH-6.5.2), so a constrained grant is found for it on its own.
func parts(t policy.GrantTerms) []policy.GrantTerms {
	t.Name = ""
	out := []policy.GrantTerms{t}
	if (t.Equals != nil || t.Subset != nil) && slices.Contains(t.Operations, kmsapi.GrantOperationDescribeKey) {
		out = append(out, policy.GrantTerms{Grantee: t.Grantee, Operations: []string{kmsapi.GrantOperationDescribeKey}, SourceArn: t.SourceArn})
	}
	return out
}

// shapeOf drops the values.
func shapeOf(t policy.GrantTerms) shape {
	s := shape{Operations: slices.Sorted(slices.Values(t.Operations)), Equals: t.Equals != nil, Source: t.SourceArn != ""}
	for k := range constraint(t) {
		s.Keys = append(s.Keys, keyName(k))
	}
	slices.Sort(s.Keys)
	return s
}

func (s *shape) is(o shape) bool {
	return s.Equals == o.Equals && s.Source == o.Source && slices.Equal(s.Keys, o.Keys) && slices.Equal(s.Operations, o.Operations)
}

func constraint(t policy.GrantTerms) map[string]string {
	if t.Equals != nil {
		return t.Equals
	}
	return t.Subset
}

// address is where terms lie.
func address(t policy.GrantTerms) string {
	s := shapeOf(t)
	return s.address(t.Grantee, valuesByName(constraint(t)), t.SourceArn)
}

// address is where the terms of this shape with these values lie.
func (s *shape) address(grantee string, values map[string]string, source string) string {
	list := make([]string, 0, 8)
	list = append(list, grantee, strings.Join(s.Operations, ","))
	if s.Equals {
		list = append(list, "equals")
	}
	for _, k := range s.Keys {
		list = append(list, k, values[k])
	}
	if s.Source {
		list = append(list, "source", source)
	}
	return digest(list...)
}

// digest names a list of texts.
func digest(list ...string) string {
	b := make([]byte, 0, 512)
	for _, s := range list {
		b = binary.AppendUvarint(b, uint64(len(s)))
		b = append(b, s...)
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// keyName is short for a key of an encryption context, in all spellings that
// condition keys take for one.
func keyName(key string) string {
	sum := sha256.Sum256([]byte(fold(key)))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// valuesByName are the values of an encryption context by the names of their keys. If
// keys differ only in case one of them counts, the first in order of their bytes;
// a grant may then not be found, which refuses (UNVERIFIED, condition-keys.md §2.1).
func valuesByName(pairs map[string]string) map[string]string {
	out := make(map[string]string, len(pairs))
	for _, k := range slices.Backward(slices.Sorted(maps.Keys(pairs))) {
		out[keyName(k)] = pairs[k]
	}
	return out
}

// fold maps all spellings that condition keys take for one to one of them.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			least = min(least, o)
		}
		return least
	}, s)
}

// indexGrant enters a grant into the index, or takes it out.
func indexGrant(tx *store.Tx, g *Grant, add bool) error {
	for _, part := range parts(g.Terms) {
		first, err := indexTerms(tx, g, part, add)
		if err != nil {
			return err
		}
		if first {
			if err := indexShape(tx, g, part, add); err != nil {
				return err
			}
		}
	}
	return nil
}

// indexTerms notes that one more grant has these terms, or one less. changed: it
// is the first, or was the last.
func indexTerms(tx *store.Tx, g *Grant, part policy.GrantTerms, add bool) (changed bool, err error) {
	at := g.part("term") + address(part)
	t, err := store.Edit(tx, termsKind, at)
	if errors.Is(err, store.ErrNotFound) {
		t, err = &terms{Terms: part, Since: g.Created}, nil
	}
	if err != nil {
		return false, err
	}
	if add {
		t.N++
		if len(t.IDs) < knownIDs {
			t.IDs = append(t.IDs, g.ID)
		}
		return t.N == 1, store.Put(tx, termsKind, at, t)
	}
	t.N--
	t.IDs = slices.DeleteFunc(t.IDs, func(id string) bool { return id == g.ID })
	if t.N > 0 {
		return false, store.Put(tx, termsKind, at, t)
	}
	tx.Delete(at)
	return true, nil
}

// indexShape does the same with the shape of terms.
func indexShape(tx *store.Tx, g *Grant, part policy.GrantTerms, add bool) error {
	at := g.part("grantee") + part.Grantee
	all, err := store.Edit(tx, shapesKind, at)
	if errors.Is(err, store.ErrNotFound) {
		all, err = &shapes{}, nil
	}
	if err != nil {
		return err
	}
	wanted := shapeOf(part)
	i := slices.IndexFunc(all.Shapes, func(s shape) bool { return s.is(wanted) })
	switch {
	case add && i >= 0:
		all.Shapes[i].Terms++
	case add && len(all.Shapes) == maxShapes:
		return kmsapi.LimitExceededException("The grants to this grantee on " + g.keyARN() + " are of too many different forms.")
	case add:
		wanted.Terms = 1
		all.Shapes = append(all.Shapes, wanted)
	case i < 0:
		return store.ErrDamaged
	case all.Shapes[i].Terms > 1:
		all.Shapes[i].Terms--
	default:
		all.Shapes = slices.Delete(all.Shapes, i, i+1)
	}
	if len(all.Shapes) == 0 {
		tx.Delete(at)
		return nil
	}
	return store.Put(tx, shapesKind, at, all)
}

// A grantQuery is what the index needs to know of a request.
type grantQuery struct {
	key     *Key
	action  policy.Action
	context map[string]string // the encryption context
	values  map[string]string // of it, by the names of keys; made when first needed
	source  string            // aws:SourceArn
	visible func(*terms) bool
}

// find returns the grants that may serve who.
func (q *grantQuery) find(tx *store.Tx, who *policy.Principal) (found []*policy.Policy, err error) {
	if n, err := countGrants(tx, q.key.Region, q.key.Account, q.key.ID); err != nil || n == 0 {
		return nil, err
	}
	for _, grantee := range grantees(who, arn.Partition(q.key.Region)) {
		if grantee == "" {
			continue
		}
		all, err := store.Get(tx, shapesKind, grantsOf(q.key.Region, q.key.Account, q.key.ID, "grantee")+grantee)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range all.Shapes {
			t, err := q.terms(tx, grantee, &all.Shapes[i])
			if err != nil {
				return nil, err
			}
			if t != nil && q.visible(t) {
				found = append(found, t.policy)
			}
		}
	}
	return found, nil
}

// grantees are the names under which a caller may be a grantee (AUTH-6.3).
func grantees(who *policy.Principal, partition string) [4]string {
	out := [4]string{who.ARN, who.EntityID, who.Service, ""}
	if who.Account != "" && who.Kind != policy.RootUser { // whose ARN is that already
		out[3] = arn.Root(partition, who.Account)
	}
	return out
}

// terms returns the terms of one shape that fit the request, or nil.
func (q *grantQuery) terms(tx *store.Tx, grantee string, s *shape) (*terms, error) {
	if !s.operations.Has(q.action) || s.Source && q.source == "" || len(s.Keys) > len(q.context) {
		return nil, nil
	}
	if q.values == nil && (s.Equals || len(s.Keys) > 0) {
		q.values = valuesByName(q.context)
	}
	if s.Equals && len(q.values) != len(s.Keys) {
		return nil, nil
	}
	for _, k := range s.Keys {
		if _, ok := q.values[k]; !ok {
			return nil, nil
		}
	}
	t, err := store.Get(tx, termsKind, grantsOf(q.key.Region, q.key.Account, q.key.ID, "term")+s.address(grantee, q.values, q.source))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return t, err
}
