package scenario

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A pureContext answers condition keys from the world and from the claim's
// using, as the service would from a request.
type pureContext struct {
	world  *Pure
	claim  Claim
	key    Thing
	hasKey bool
}

// apply sets what a claim says about the call itself.
func (x *pureContext) apply(req *authz.Request) {
	for _, u := range x.claim.Using {
		switch policy.KeyNamed(u.Name).ID {
		case policy.KeySourceIP:
			req.SourceIP = u.Value
		case policy.KeyUserAgent:
			req.UserAgent = u.Value
		case policy.KeyReferer:
			req.Referer = u.Value
		case policy.KeySecureTransport:
			req.SecureTransport, _ = strconv.ParseBool(u.Value)
		case policy.KeyRequestedRegion:
			req.Region = u.Value
		case policy.KeySourceArn:
			req.SourceArn = u.Value
		case policy.KeySourceAccount:
			req.SourceAccount = u.Value
		}
	}
	req.Via = x.claim.Via()
}

// Lookup answers a condition key of the service.
func (x *pureContext) Lookup(key policy.ConditionKey) policy.Value {
	var values []string
	for _, u := range x.claim.Using {
		k := policy.KeyNamed(u.Name)
		switch {
		case k.ID == key.ID && strings.EqualFold(k.Suffix, key.Suffix):
			values = append(values, u.Value)
		case key.ID == policy.KeyKMSEncryptionContextKeys && k.ID == policy.KeyKMSEncryptionContext,
			key.ID == policy.KeyTagKeys && k.ID == policy.KeyRequestTag:
			values = append(values, k.Suffix)
		}
	}
	switch {
	case values != nil && multiValued(key.ID):
		return policy.Many(values)
	case values != nil && key.ID == policy.KeyKMSRequestAlias:
		return policy.One(aliasName(values[0]))
	case values != nil:
		return policy.One(values[0])
	}
	return x.implied(key)
}

// aliasName is the name of an alias that a request names by ARN (AUTH-8.18).
func aliasName(s string) string {
	if _, name, ok := strings.Cut(s, ":alias/"); ok {
		return "alias/" + name
	}
	return s
}

func multiValued(id policy.KeyID) bool {
	return slices.Contains([]policy.KeyID{policy.KeyKMSEncryptionContextKeys, policy.KeyTagKeys, policy.KeyKMSGrantOperations,
		policy.KeyKMSResourceAliases, policy.KeyCalledVia, policy.KeyPrincipalOrgPaths, policy.KeyResourceOrgPaths, policy.KeySourceOrgPaths,
		policy.KeyPrincipalServiceNamesList}, id)
}

// implied is what the request says by its defaults, and what the key is.
func (x *pureContext) implied(key policy.ConditionKey) policy.Value {
	switch {
	case key.ID == policy.KeyKMSEncryptionAlgorithm && slices.Contains(symmetricUses, x.claim.Action):
		return policy.One("SYMMETRIC_DEFAULT")
	case key.ID == policy.KeyKMSScheduleKeyDeletionPendingWindowInDays && x.claim.Action == "ScheduleKeyDeletion":
		return policy.One("30")
	case key.ID == policy.KeyKMSTrailingDaysWithoutKeyUsage && slices.Contains([]string{"DisableKey", "ScheduleKeyDeletion"}, x.claim.Action):
		return policy.One("0")
	case key.ID == policy.KeyKMSGrantIsForAWSResource && slices.Contains(ofGrants, x.claim.Action):
		return policy.Truth(len(x.claim.Via()) > 0)
	case (key.ID == policy.KeyKMSEncryptionContext || key.ID == policy.KeyKMSEncryptionContextKeys || key.ID == policy.KeyKMSGrantConstraintType) &&
		x.claim.Action == "RetireGrant":
		return x.ofGrant(key)
	case !x.hasKey && x.claim.Action != "CreateKey":
		return policy.Value{}
	}
	multiRegion := slices.Contains(x.key.Flags, "multi-region")
	switch key.ID {
	case policy.KeyKMSKeySpec, policy.KeyKMSCustomerMasterKeySpec:
		return policy.One("SYMMETRIC_DEFAULT")
	case policy.KeyKMSKeyUsage, policy.KeyKMSCustomerMasterKeyUsage:
		return policy.One("ENCRYPT_DECRYPT")
	case policy.KeyKMSKeyOrigin:
		return policy.One("AWS_KMS")
	case policy.KeyKMSMultiRegion:
		return policy.Truth(multiRegion)
	case policy.KeyKMSMultiRegionKeyType:
		if multiRegion {
			return policy.One("PRIMARY")
		}
	case policy.KeyResourceTag, policy.KeyKMSResourceTag:
		return authz.FoldLookup(x.key.Tags, key.Suffix)
	case policy.KeyKMSResourceAliases:
		return x.aliases()
	}
	return policy.Value{}
}

// ofGrant is what the constraint of the grant to retire says.
func (x *pureContext) ofGrant(key policy.ConditionKey) policy.Value {
	t, _ := x.claim.Grant(x.world.file.Things)
	pairs, kind := t.Equals, "EncryptionContextEquals"
	if pairs == nil {
		pairs, kind = t.Subset, "EncryptionContextSubset"
	}
	switch {
	case pairs == nil:
		return policy.Value{}
	case key.ID == policy.KeyKMSGrantConstraintType:
		return policy.One(kind)
	case key.ID == policy.KeyKMSEncryptionContext:
		return authz.FoldLookup(pairs, key.Suffix)
	default:
		return policy.Many(slices.Sorted(maps.Keys(pairs)))
	}
}

var symmetricUses = []string{"Encrypt", "Decrypt", "ReEncryptFrom", "ReEncryptTo", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext",
	"GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"}

// ofGrants are the actions that say whether an AWS service asks (AUTH-8.21).
var ofGrants = []string{"CreateGrant", "ListGrants", "RevokeGrant"}

func (x *pureContext) aliases() policy.Value {
	var names []string
	for _, t := range x.world.file.Things {
		if t.Kind == "alias" && t.Of == x.key.Name {
			names = append(names, t.Name)
		}
	}
	if names == nil {
		return policy.Value{}
	}
	return policy.Many(names)
}
