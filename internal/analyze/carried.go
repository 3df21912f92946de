package analyze

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A presence is whether requests for an action have a condition key.
type presence struct {
	actions string // those that can have it; others never do
	must    bool   // those always do
}

// presences are the condition keys that depend on the action (condition-keys.md §2 and §4). A
// key that is not here any request can have.
var presences = map[string]presence{
	ofContext:                                    {"CreateGrant Decrypt Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo RetireGrant", false},
	"kms:datakeypairspec":                        {"GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext", true},
	"kms:encryptionalgorithm":                    {"Decrypt Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext ReEncryptFrom ReEncryptTo", true},
	"kms:expirationmodel":                        {"ImportKeyMaterial", false},
	"kms:grantconstraintsourcearn":               {"CreateGrant", false},
	"kms:grantconstrainttype":                    {"CreateGrant RetireGrant", false},
	"kms:grantisforawsresource":                  {"CreateGrant ListGrants RevokeGrant", true},
	"kms:grantoperations":                        {"CreateGrant", false},
	"kms:granteeprincipal":                       {"CreateGrant", false},
	"kms:granteeserviceprincipal":                {"CreateGrant", false},
	"kms:retiringprincipal":                      {"CreateGrant", false},
	"kms:retiringserviceprincipal":               {"CreateGrant", false},
	"kms:keyagreementalgorithm":                  {"DeriveSharedSecret", true},
	"kms:macalgorithm":                           {"GenerateMac VerifyMac", true},
	"kms:messagetype":                            {"Sign Verify", true},
	"kms:primaryregion":                          {"UpdatePrimaryRegion", true},
	"kms:reencryptonsamekey":                     {"ReEncryptFrom ReEncryptTo", true},
	"kms:replicaregion":                          {"ReplicateKey", true},
	"kms:rotationperiodindays":                   {"EnableKeyRotation", true},
	"kms:schedulekeydeletionpendingwindowindays": {"ScheduleKeyDeletion", true},
	"kms:signingalgorithm":                       {"Sign Verify", true},
	"kms:trailingdayswithoutkeyusage":            {"DisableKey ScheduleKeyDeletion", false},
	"kms:validto":                                {"ImportKeyMaterial", false},
	"kms:wrappingalgorithm":                      {"GetParametersForImport", true},
	"kms:wrappingkeyspec":                        {"GetParametersForImport", true},
	"kms:bypasspolicylockoutsafetycheck":         {"CreateKey PutKeyPolicy", false},
	"kms:requestalias": {"Decrypt DeriveSharedSecret DescribeKey Encrypt GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext " +
		"GenerateDataKeyWithoutPlaintext GenerateMac GetPublicKey ReEncryptFrom ReEncryptTo Sign Verify VerifyMac", false},
	ofTags:                      {"CreateKey TagResource UntagResource", false},
	"kms:recipientattestation:": {"Decrypt DeriveSharedSecret GenerateDataKey GenerateDataKeyPair GenerateRandom", false},
}

// ofEveryKey are condition keys that a KMS key always has a value for.
var ofEveryKey = []string{"kms:keyspec", "kms:keyusage", "kms:keyorigin", "kms:multiregion", "kms:customermasterkeyspec", "kms:customermasterkeyusage"}

// trusted are condition keys whose value says who or where a caller is.
var trusted = map[policy.KeyID]bool{policy.KeyPrincipalOrgID: true, policy.KeyPrincipalOrgPaths: true, policy.KeySourceIP: true, policy.KeySourceVpc: true, policy.KeySourceVpce: true,
	policy.KeyVpcSourceIP: true, policy.KeyVpceAccount: true, policy.KeySourceAccount: true, policy.KeySourceArn: true, policy.KeySourceOrgID: true,
	policy.KeySourceOrgPaths: true, policy.KeyUserid: true}

// untrusted is true of requests of which the policies name nothing that could be trusted.
func (s *space) untrusted() node {
	facts := yes
	for i, p := range s.parts {
		facts = s.and(facts, s.is(i, s.only(p, func(j int) bool { return !p.samples[j].trusted })))
	}
	return facts
}

// names reports whether a test names the value that a sample has for its key.
func (s *space) names(t *test, x sample) bool {
	v := s.at(x).Lookup(t.Key())
	if x.set == nil || !v.Present {
		return false
	}
	shapes, _ := t.Shapes()
	for _, text := range append(slices.Clone(v.List), v.Text) {
		if slices.ContainsFunc(shapes, func(shape policy.Shape) bool { return namesText(t.Key().ID, shape, text) }) {
			return true
		}
	}
	return false
}

// namesText reports whether a shape is of a text, or of a part of an organization or a range
// of addresses that it is in: one of at least /8, or /32 of IPv6, as Amazon S3 reads "public".
// Any other pattern names nothing.
func namesText(key policy.KeyID, x policy.Shape, text string) bool {
	switch x.Kind {
	case policy.TextShape:
		return x.Text == text
	case policy.AddressShape:
		ip, err := netip.ParseAddr(text)
		return err == nil && x.Prefix.Contains(ip) && (x.Prefix.Addr().Is4() && x.Prefix.Bits() >= 8 || x.Prefix.Bits() >= 32)
	case policy.PatternShape:
		i := slices.IndexFunc(x.Pieces, func(p policy.Piece) bool { return p.Wild })
		begin := x.Pieces[:max(i, 0)]
		whole := i < 0 || key == policy.KeyUserid && len(begin) > len("AROAEXAMPLEOFAROLE000") || // an entity's id
			slices.ContainsFunc(begin, func(p policy.Piece) bool { return p.Rune == '/' }) // an organization's
		return whole && patternOf(x.Pieces).matches(text)
	default:
		return false
	}
}

// stranger is a class of callers as one of it whose account no policy names; nil if there is
// none.
func (s *space) stranger(c *caller) *caller {
	i := slices.IndexFunc(c.members, func(who *authz.Caller) bool {
		return who.Kind != policy.Service && !s.accounts.has(who.Account)
	})
	if i < 0 {
		return nil
	}
	out := *c
	out.who = *c.members[i]
	return &out
}

// unlisted are actions of which the lists of condition keys say nothing.
var unlisted = []string{"Encapsulate", "Decapsulate", "SynchronizeMultiRegionKey"}

// carries reports whether requests for an action, named without its service, can have the
// keys of a group, and whether they must.
func carries(group, action string) (can, must bool) {
	if strings.HasPrefix(group, "kms:recipientattestation:") {
		group = "kms:recipientattestation:"
	}
	rule, known := presences[group]
	if slices.Contains(unlisted, action) {
		return true, false
	}
	can = !known || slices.Contains(strings.Fields(rule.actions), action)
	return can, can && (rule.must || slices.Contains(ofEveryKey, group))
}

// carried is what is true of every request for an action.
func (s *space) carried(a policy.Action) node {
	facts := yes
	name := strings.TrimPrefix(a.String(), "kms:")
	for i, p := range s.parts {
		group := strings.ToLower(p.name)
		if len(p.tests) > 0 {
			group = groupOf(p.tests[0].Key())
		}
		can, must := carries(group, name)
		if can && !must {
			continue
		}
		facts = s.and(facts, s.is(i, s.only(p, func(j int) bool { return (p.samples[j].name != "") == can })))
	}
	for i, p := range s.parts { // tags are given to what is tagged, and taken from it by their keys
		if len(p.tests) > 0 && groupOf(p.tests[0].Key()) == ofTags {
			facts = s.and(facts, s.is(i, s.only(p, func(j int) bool {
				return p.samples[j].name == "" || (p.samples[j].apart == taken) == (name == "UntagResource")
			})))
		}
	}
	return facts
}

// Carries reports whether requests for an action can have a condition key.
func Carries(key policy.ConditionKey, a policy.Action) bool {
	can, _ := carries(groupOf(key), strings.TrimPrefix(a.String(), "kms:"))
	return can
}
