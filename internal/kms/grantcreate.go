package kms

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
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
		tx.OnlyCreates()
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

// grantOperations are all the operations that grants can list (AUTH-6.2).
var grantOperations = []string{
	"Decrypt", "Encrypt", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom", "ReEncryptTo", "Sign", "Verify", "GetPublicKey",
	"CreateGrant", "RetireGrant", "DescribeKey", "GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GenerateMac", "VerifyMac",
	"DeriveSharedSecret", "Encapsulate", "Decapsulate",
}

// IsGrantOperation reports whether grants can list an operation (AUTH-6.2).
func IsGrantOperation(name string) bool { return slices.Contains(grantOperations, name) }

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
