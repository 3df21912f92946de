package kms

import (
	"maps"
	"slices"
	"strconv"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// conditions are the KMS condition keys of one request (condition-keys.md §2).
// A member at its zero value is a key the request does not have. What is not
// here does not exist for the operations there are.
type conditions struct {
	key               *Key // nil for actions without a key resource
	requestAlias      string
	algorithm         string            // kms:EncryptionAlgorithm
	encryptionContext map[string]string // nil when absent or empty
	sameKey           *bool             // kms:ReEncryptOnSameKey
	bypass            *bool             // as sent
	window            *int32            // days, with the default
	tx                *store.Tx
	unused            func(*store.Tx, *Key) (int, error) // kms:TrailingDaysWithoutKeyUsage
	failed            error                              // of unused: then there is no decision
	tags              authz.RequestTags
	create            *kmsapi.CreateKeyRequest // with defaults filled in
	replica           bool                     // what is created is a replica
	grant             *kmsapi.CreateGrantRequest
	constraintType    string // kms:GrantConstraintType
	forService        *bool  // kms:GrantIsForAWSResource
	request           []requestKey
	attested          *attested // kms:RecipientAttestation:…

	presented *presented // grant tokens; nil: no grant can allow the action
}

// A requestKey is a condition key that is one parameter of the request.
type requestKey struct {
	id    policy.KeyID
	value string
}

// Lookup answers a condition key of the service.
func (c *conditions) Lookup(key policy.ConditionKey) policy.Value {
	for _, r := range c.request {
		if r.id == key.ID {
			return policy.One(r.value)
		}
	}
	switch key.ID {
	case policy.KeyKMSRecipientAttestation:
		return c.attested.lookup(key.Suffix)
	case policy.KeyKMSRequestAlias:
		return policy.Optional(c.requestAlias)
	case policy.KeyKMSEncryptionAlgorithm:
		return policy.Optional(c.algorithm)
	case policy.KeyKMSEncryptionContext:
		return authz.FoldLookup(c.encryptionContext, key.Suffix)
	case policy.KeyKMSEncryptionContextKeys:
		return policy.OptionalMany(slices.Sorted(maps.Keys(c.encryptionContext)))
	case policy.KeyKMSReEncryptOnSameKey:
		return truth(c.sameKey)
	case policy.KeyKMSBypassPolicyLockoutSafetyCheck:
		return truth(c.bypass)
	case policy.KeyKMSScheduleKeyDeletionPendingWindowInDays:
		if c.window != nil {
			return policy.One(strconv.Itoa(int(*c.window)))
		}
	case policy.KeyKMSTrailingDaysWithoutKeyUsage:
		if c.unused != nil && c.key != nil {
			days, err := c.unused(c.tx, c.key)
			if err == nil {
				return policy.One(strconv.Itoa(days))
			}
			c.failed = err
		}
	case policy.KeyRequestTag, policy.KeyTagKeys:
		return c.tags.Lookup(key)
	case policy.KeyKMSGrantConstraintType:
		return policy.Optional(c.constraintType)
	case policy.KeyKMSGrantIsForAWSResource:
		return truth(c.forService)
	default:
		switch {
		case c.create != nil:
			return c.ofCreation(key)
		case c.grant != nil:
			if v := c.ofGrant(key); v.Present {
				return v
			}
		}
		return c.ofKey(key)
	}
	return policy.Value{}
}

// ofGrant answers the keys about the grant that CreateGrant asks for.
func (c *conditions) ofGrant(key policy.ConditionKey) policy.Value {
	switch key.ID {
	case policy.KeyKMSGrantOperations:
		return policy.Many(c.grant.Operations)
	case policy.KeyKMSGranteePrincipal:
		return policy.Optional(model.Value(c.grant.GranteePrincipal))
	case policy.KeyKMSGranteeServicePrincipal:
		return policy.Optional(model.Value(c.grant.GranteeServicePrincipal))
	case policy.KeyKMSRetiringPrincipal:
		return policy.Optional(model.Value(c.grant.RetiringPrincipal))
	case policy.KeyKMSRetiringServicePrincipal:
		return policy.Optional(model.Value(c.grant.RetiringServicePrincipal))
	case policy.KeyKMSGrantConstraintSourceArn:
		if c.grant.Constraints != nil {
			return policy.Optional(model.Value(c.grant.Constraints.SourceArn))
		}
	}
	return policy.Value{}
}

// ofKey answers the keys that are properties of the KMS key (AUTH-8.16).
func (c *conditions) ofKey(key policy.ConditionKey) policy.Value {
	if c.key == nil {
		return policy.Value{}
	}
	switch key.ID {
	case policy.KeyKMSKeySpec, policy.KeyKMSCustomerMasterKeySpec:
		return policy.Optional(c.key.Spec)
	case policy.KeyKMSKeyUsage, policy.KeyKMSCustomerMasterKeyUsage:
		return policy.Optional(c.key.Usage)
	case policy.KeyKMSKeyOrigin:
		return policy.Optional(c.key.Origin)
	case policy.KeyKMSMultiRegion:
		return policy.Truth(c.key.MultiRegion)
	case policy.KeyKMSMultiRegionKeyType:
		if c.key.MultiRegion {
			return policy.One(c.key.multiRegionType())
		}
	case policy.KeyKMSResourceAliases:
		return policy.OptionalMany(c.key.Aliases)
	case policy.KeyResourceTag, policy.KeyKMSResourceTag:
		return authz.FoldLookup(c.key.tags, key.Suffix)
	}
	return policy.Value{}
}

// ofCreation answers the same for CreateKey, from the request.
func (c *conditions) ofCreation(key policy.ConditionKey) policy.Value {
	switch key.ID {
	case policy.KeyKMSKeySpec, policy.KeyKMSCustomerMasterKeySpec:
		return policy.Optional(*c.create.KeySpec)
	case policy.KeyKMSKeyUsage, policy.KeyKMSCustomerMasterKeyUsage:
		return policy.Optional(model.Value(c.create.KeyUsage))
	case policy.KeyKMSKeyOrigin:
		return policy.Optional(*c.create.Origin)
	case policy.KeyKMSMultiRegion:
		return truth(c.create.MultiRegion)
	case policy.KeyKMSMultiRegionKeyType:
		switch {
		case c.replica:
			return policy.One(kmsapi.MultiRegionKeyTypeReplica)
		case *c.create.MultiRegion:
			return policy.One(kmsapi.MultiRegionKeyTypePrimary)
		}
	}
	return policy.Value{}
}

func truth(b *bool) policy.Value {
	if b == nil {
		return policy.Value{}
	}
	return policy.Truth(*b)
}
