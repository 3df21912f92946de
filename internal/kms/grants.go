package kms

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Bounds of a grant's constraint: pairs, and characters of a key or a value.
const (
	maxPairs    = 8
	maxPairText = 384
)

// A grantRef is what a grant token says: which grant is meant.
type grantRef struct{ Region, Account, KeyID, ID string }

const grantTokenName = "grant token"

// token makes a grant token. Tokens of one grant differ and mean the same.
func (s *Service) token(g *Grant) (string, error) {
	text, err := json.Marshal(grantRef{g.Region, g.Account, g.KeyID, g.ID})
	if err != nil {
		return "", err
	}
	sealed, err := s.db.Token(grantTokenName, text)
	return base64.StdEncoding.EncodeToString(sealed), err
}

func (s *Service) openToken(token string) (ref grantRef, err error) {
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err == nil {
		sealed, err = s.db.OpenToken(grantTokenName, sealed)
	}
	if err == nil {
		err = json.Unmarshal(sealed, &ref)
	}
	if err != nil {
		return ref, kmsapi.InvalidGrantTokenException("").Because(err)
	}
	return ref, nil
}

// A presented is what a request brings of grants: its tokens. A token shows a
// grant that is not known everywhere yet, and gives nothing by itself (AUTH-6.11).
type presented struct {
	tokens []grantRef
	keys   []string // ARNs of the request's keys, if it has several
	delay  time.Duration
}

func (s *Service) present(tokens []string) (*presented, error) {
	p := &presented{delay: s.config.GrantDelay}
	for _, t := range tokens {
		ref, err := s.openToken(t)
		if err != nil {
			return nil, err
		}
		p.tokens = append(p.tokens, ref)
	}
	return p, nil
}

// query asks for the grants on a target. stray: a token is of no grant any more, or
// of one on a key that the request is not about. Who may make the request is told;
// that a revoked grant's token is an error is UNVERIFIED (operations.md §1.5).
func (p *presented) query(tx *store.Tx, call *iam.Call, action policy.Action, t target, context map[string]string) (q *grantQuery, stray bool, err error) {
	var shown []*Grant
	for _, ref := range p.tokens {
		g, err := findGrant(tx, ref.Region, ref.Account, ref.KeyID, ref.ID)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && g.keyARN() != t.arn && !slices.Contains(p.keys, g.keyARN()):
			stray = true
		case err != nil:
			return nil, false, err
		default:
			shown = append(shown, g)
		}
	}
	return &grantQuery{key: t.key, action: action, context: context, source: call.SourceArn, visible: func(found *terms) bool {
		return p.delay == 0 || call.Now.Sub(found.Since) >= p.delay || slices.ContainsFunc(shown, func(g *Grant) bool { return found.of(g) })
	}}, stray, nil
}

// of reports whether the terms are those of a grant.
func (t *terms) of(g *Grant) bool {
	return slices.ContainsFunc(parts(g.Terms), func(part policy.GrantTerms) bool { return address(part) == address(t.Terms) })
}

// CreateGrant makes a grant. With the name of a grant that is otherwise the same
// it answers with that one.
func (s *Service) CreateGrant(ctx context.Context, call *iam.Call, in *kmsapi.CreateGrantRequest) (*kmsapi.CreateGrantResponse, error) {
	presented, err := s.present(in.GrantTokens)
	if err != nil {
		return nil, err
	}
	if err := cmp.Or(noAliases(*in.KeyId), checkGrant(in)); err != nil {
		return nil, err
	}
	var g *Grant
	err = call.Update(ctx, s.db, func(tx *store.Tx) error {
		c := &conditions{grant: in, forService: forService(call), presented: presented}
		if in.Constraints != nil {
			c.encryptionContext, c.constraintType = pairsOf(in.Constraints), constraintType(in.Constraints.EncryptionContextEquals, in.Constraints.EncryptionContextSubset)
		}
		key, err := managed(tx, call, "CreateGrant", *in.KeyId, noAlias, c)
		if err != nil {
			return err
		}
		if g, err = newGrant(tx, call, key, in); err == nil {
			err = room(tx, key)
		}
		if err != nil {
			return err
		}
		if model.Value(in.DryRun) {
			return dryRun()
		}
		return put(tx, g)
	})
	if err != nil {
		return nil, err
	}
	token, err := s.token(g)
	return &kmsapi.CreateGrantResponse{GrantId: &g.ID, GrantToken: &token}, err
}

// put stores a grant, unless there is one of its name with the same terms: then
// g becomes that one.
func put(tx *store.Tx, g *Grant) error {
	if g.Name == "" {
		return addGrant(tx, g)
	}
	n, err := store.Get(tx, namedKind, g.namedKey())
	if errors.Is(err, store.ErrNotFound) {
		return addGrant(tx, g)
	}
	if err == nil {
		g.ID = n.ID
	}
	return err
}

// forService reports whether a service makes the call for the caller (AUTH-8.21).
func forService(call *iam.Call) *bool { return new(len(call.Via) > 0) }

func pairsOf(c *kmsapi.GrantConstraints) map[string]string {
	if c.EncryptionContextEquals != nil {
		return c.EncryptionContextEquals
	}
	return c.EncryptionContextSubset
}

// constraintType is kms:GrantConstraintType.
func constraintType(equals, subset map[string]string) string {
	switch {
	case equals != nil:
		return "EncryptionContextEquals"
	case subset != nil:
		return "EncryptionContextSubset"
	default:
		return ""
	}
}

// checkGrant refuses what can be no grant, on whatever key.
func checkGrant(in *kmsapi.CreateGrantRequest) error {
	c := in.Constraints
	if c == nil {
		c = &kmsapi.GrantConstraints{}
	}
	switch {
	case (in.GranteePrincipal == nil) == (in.GranteeServicePrincipal == nil):
		return validation("Exactly one of GranteePrincipal and GranteeServicePrincipal must be specified.")
	case in.RetiringPrincipal != nil && in.RetiringServicePrincipal != nil:
		return validation("RetiringPrincipal and RetiringServicePrincipal cannot be specified together.")
	case in.GranteeServicePrincipal != nil && c.SourceArn == nil:
		return validation("A SourceArn constraint is required when GranteeServicePrincipal is specified.")
	case in.GranteeServicePrincipal != nil && in.RetiringPrincipal == nil && in.RetiringServicePrincipal == nil:
		return validation("A RetiringPrincipal or RetiringServicePrincipal is required when GranteeServicePrincipal is specified.")
	case in.GranteeServicePrincipal != nil && !iam.IsServicePrincipal(*in.GranteeServicePrincipal):
		return validation("GranteeServicePrincipal is not a service principal: " + *in.GranteeServicePrincipal)
	case in.RetiringServicePrincipal != nil && !iam.IsServicePrincipal(*in.RetiringServicePrincipal):
		return validation("RetiringServicePrincipal is not a service principal: " + *in.RetiringServicePrincipal)
	case len(in.Operations) == 0:
		return validation("At least one grant operation is required.")
	case onlyCreates(in.Operations):
		return validation("Grants must not contain only the CreateGrant operation.")
	case c.EncryptionContextEquals != nil && c.EncryptionContextSubset != nil:
		return validation("Specify only one encryption context grant constraint.")
	}
	pairs := pairsOf(c)
	if len(pairs) > maxPairs {
		return validation("A grant constraint can have up to 8 encryption context pairs.")
	}
	seen := map[string]bool{}
	for k, v := range pairs {
		if k == "" {
			return validation("The key of an encryption context pair in a grant constraint cannot be empty.")
		}
		if utf8.RuneCountInString(k) > maxPairText || utf8.RuneCountInString(v) > maxPairText {
			return validation("A key or value of an encryption context pair in a grant constraint can have up to 384 characters.")
		}
		if seen[fold(k)] {
			return validation("Encryption context keys that differ only in case are not supported in a grant constraint.")
		}
		seen[fold(k)] = true
	}
	return nil
}

// newGrant makes the grant that a request asks for on a key.
func newGrant(tx *store.Tx, call *iam.Call, key *Key, in *kmsapi.CreateGrantRequest) (*Grant, error) {
	g := &Grant{
		ID: newGrantID(), Region: key.Region, Account: key.Account, KeyID: key.ID, Name: model.Value(in.Name), Created: call.Now,
		Issuer: cmp.Or(call.Account(), key.Account), Retiring: model.Value(in.RetiringServicePrincipal),
		Terms: policy.GrantTerms{Grantee: model.Value(in.GranteeServicePrincipal)}}
	for _, op := range in.Operations {
		if !key.grantable(op) {
			return nil, key.ungrantable(in.Operations)
		}
		if !slices.Contains(g.Terms.Operations, op) {
			g.Terms.Operations = append(g.Terms.Operations, op)
		}
	}
	if c := in.Constraints; c != nil {
		g.Terms.Equals, g.Terms.Subset, g.Terms.SourceArn = c.EncryptionContextEquals, c.EncryptionContextSubset, model.Value(c.SourceArn)
		if pairsOf(c) != nil && key.Spec != kmsapi.KeySpecSymmetricDefault {
			return nil, validation("EncryptionContext is supported only when creating a grant for a symmetric encryption KMS key.")
		}
		if c.SourceArn != nil {
			if _, err := arn.Parse(*c.SourceArn); err != nil {
				return nil, kmsapi.InvalidArnException(*c.SourceArn + " is not a valid ARN")
			}
		}
	}
	var err error
	if in.GranteePrincipal != nil {
		if g.Terms.Grantee, err = principal(tx, key, *in.GranteePrincipal); err != nil {
			return nil, err
		}
	}
	if in.RetiringPrincipal != nil {
		g.Retiring, err = principal(tx, key, *in.RetiringPrincipal)
	}
	return g, err
}

func newGrantID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// principal resolves a principal of a grant, which must exist.
func principal(tx *store.Tx, key *Key, text string) (string, error) {
	stored, err := iam.ResolvePrincipal(tx, text, arn.Partition(key.Region))
	if errors.Is(err, iam.ErrPrincipal) {
		err = kmsapi.InvalidArnException("ARN does not refer to a valid principal: " + text)
	}
	return stored, err
}

// usageOperations are the operations that keys of each usage can grant (AUTH-6.2).
var usageOperations = map[string][]string{
	kmsapi.KeyUsageTypeEncryptDecrypt:         {"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo"},
	kmsapi.KeyUsageTypeSignVerify:             {"Sign", "Verify"},
	kmsapi.KeyUsageTypeGenerateVerifyMac:      {"GenerateMac", "VerifyMac"},
	kmsapi.KeyUsageTypeKeyAgreement:           {"DeriveSharedSecret"},
	kmsapi.KeyUsageTypeEncapsulateDecapsulate: {"Encapsulate", "Decapsulate"},
}

// grantOperations are all the operations that grants can list.
var grantOperations = []string{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify", "GetPublicKey",
	"CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac",
	"DeriveSharedSecret", "Encapsulate", "Decapsulate",
}

// grantable reports whether a grant on the key can list an operation (AUTH-6.2).
func (k *Key) grantable(operation string) bool {
	switch operation {
	case "DescribeKey", "CreateGrant", "RetireGrant":
		return true
	case "GetPublicKey":
		return k.Spec != kmsapi.KeySpecSymmetricDefault && k.Usage != kmsapi.KeyUsageTypeGenerateVerifyMac
	}
	return slices.Contains(usageOperations[k.Usage], operation) ||
		k.Spec == kmsapi.KeySpecSymmetricDefault && strings.HasPrefix(operation, "GenerateDataKey")
}

// ungrantable is the fault for operations that grants on the key cannot list.
func (k *Key) ungrantable(operations []string) error {
	var wrong, right []string
	for _, op := range operations {
		if !k.grantable(op) {
			wrong = append(wrong, op)
		}
	}
	for _, op := range grantOperations {
		if k.grantable(op) {
			right = append(right, op)
		}
	}
	kind := "an asymmetric"
	if k.Spec == kmsapi.KeySpecSymmetricDefault || k.Usage == kmsapi.KeyUsageTypeGenerateVerifyMac {
		kind = "a symmetric"
	}
	return validation("Operations [" + strings.Join(wrong, ", ") + "] are not supported when creating a grant for " + kind + " KMS key with key usage " +
		k.Usage + ". Valid operations are [" + strings.Join(right, ", ") + "]")
}

func onlyCreates(operations []string) bool {
	return !slices.ContainsFunc(operations, func(op string) bool { return op != kmsapi.GrantOperationCreateGrant })
}

// noAliases refuses to find the key of a grant by an alias.
func noAliases(identifier string) error {
	if strings.HasPrefix(identifier, "alias/") || strings.Contains(identifier, ":alias/") {
		return kmsapi.InvalidArnException("Key Aliases are not supported for this operation.")
	}
	return nil
}

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
