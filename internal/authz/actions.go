package authz

import (
	"strings"

	"github.com/claviger/claviger/internal/policy"
)

// OnKeys are the actions that are about one KMS key, whose key policy decides.
var OnKeys = func() (set policy.ActionSet) {
	for a := policy.Action(1); int(a) < policy.NumActions; a++ {
		if strings.HasPrefix(a.String(), "kms:") && !withoutKey.Has(a) {
			set.Add(a)
		}
	}
	return set
}()

var withoutKey = actionSet("CreateKey GenerateRandom ListAliases ListKeys ListRetirableGrants " +
	"ConnectCustomKeyStore CreateCustomKeyStore DeleteCustomKeyStore DescribeCustomKeyStores DisconnectCustomKeyStore UpdateCustomKeyStore")

// AcrossAccounts are those that may work on another account's key (AUTH-4.3).
var AcrossAccounts = actionSet("Encrypt Decrypt ReEncryptFrom ReEncryptTo GenerateDataKey GenerateDataKeyWithoutPlaintext " +
	"GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext GenerateMac VerifyMac Sign Verify DeriveSharedSecret DescribeKey " +
	"GetKeyRotationStatus GetPublicKey CreateGrant ListGrants RetireGrant RevokeGrant Encapsulate Decapsulate")

func actionSet(names string) (set policy.ActionSet) {
	for name := range strings.FieldsSeq(names) {
		set.Add(policy.MustAction("kms:" + name))
	}
	return set
}
