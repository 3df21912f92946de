package policy

import "strings"

// A KeyID is a condition key, interned. KeyUnknown stands for every key this
// program does not know: it is legal and never present (AUTH-8.5), unless it is
// a claim of an identity provider, whose names nobody can know beforehand.
type KeyID uint8

// The condition keys (condition-keys.md). A name that ends in a slash or colon
// takes a suffix.
const (
	KeyUnknown KeyID = iota
	KeyCurrentTime
	KeyEpochTime
	KeyCalledVia
	KeyCalledViaFirst
	KeyCalledViaLast
	KeyFederatedProvider
	KeyMultiFactorAuthAge
	KeyMultiFactorAuthPresent
	KeyPrincipalAccount
	KeyPrincipalArn
	KeyPrincipalIsAWSService
	KeyPrincipalOrgID
	KeyPrincipalOrgPaths
	KeyPrincipalServiceName
	KeyPrincipalServiceNamesList
	KeyPrincipalTag
	KeyPrincipalType
	KeyReferer
	KeyRequestTag
	KeyRequestedRegion
	KeyResourceAccount
	KeyResourceOrgID
	KeyResourceOrgPaths
	KeyResourceTag
	KeySecureTransport
	KeySourceAccount
	KeySourceArn
	KeySourceIdentity
	KeySourceIP
	KeySourceOrgID
	KeySourceOrgPaths
	KeySourceVpc
	KeySourceVpcArn
	KeySourceVpce
	KeyTagKeys
	KeyTokenIssueTime
	KeyUserAgent
	KeyUserid
	KeyUsername
	KeyViaAWSService
	KeyVpcSourceIP
	KeyVpceAccount
	KeyVpceOrgID
	KeyVpceOrgPaths
	KeyKMSBypassPolicyLockoutSafetyCheck
	KeyKMSCallerAccount
	KeyKMSCustomerMasterKeySpec
	KeyKMSCustomerMasterKeyUsage
	KeyKMSDataKeyPairSpec
	KeyKMSEncryptionAlgorithm
	KeyKMSEncryptionContext
	KeyKMSEncryptionContextKeys
	KeyKMSExpirationModel
	KeyKMSGrantConstraintSourceArn
	KeyKMSGrantConstraintType
	KeyKMSGrantIsForAWSResource
	KeyKMSGrantOperations
	KeyKMSGranteePrincipal
	KeyKMSGranteeServicePrincipal
	KeyKMSKeyAgreementAlgorithm
	KeyKMSKeyOrigin
	KeyKMSKeySpec
	KeyKMSKeyUsage
	KeyKMSMacAlgorithm
	KeyKMSMessageType
	KeyKMSMultiRegion
	KeyKMSMultiRegionKeyType
	KeyKMSPrimaryRegion
	KeyKMSReEncryptOnSameKey
	KeyKMSRecipientAttestation
	KeyKMSReplicaRegion
	KeyKMSRequestAlias
	KeyKMSResourceAliases
	KeyKMSResourceTag
	KeyKMSRetiringPrincipal
	KeyKMSRetiringServicePrincipal
	KeyKMSRotationPeriodInDays
	KeyKMSScheduleKeyDeletionPendingWindowInDays
	KeyKMSSigningAlgorithm
	KeyKMSTrailingDaysWithoutKeyUsage
	KeyKMSValidTo
	KeyKMSViaService
	KeyKMSWrappingAlgorithm
	KeyKMSWrappingKeySpec
	KeyIAMPermissionsBoundary
	KeyIAMPolicyARN
	KeyIAMResourceTag
	KeyOrganizationsPolicyType
	KeySTSExternalID
	KeySTSRoleSessionName
	KeySTSSourceIdentity
	KeySTSTransitiveTagKeys
	numKeys
)

// keyNames spells the keys as the documentation does.
var keyNames = [numKeys]string{
	KeyCurrentTime:                               "aws:CurrentTime",
	KeyEpochTime:                                 "aws:EpochTime",
	KeyCalledVia:                                 "aws:CalledVia",
	KeyCalledViaFirst:                            "aws:CalledViaFirst",
	KeyCalledViaLast:                             "aws:CalledViaLast",
	KeyFederatedProvider:                         "aws:FederatedProvider",
	KeyMultiFactorAuthAge:                        "aws:MultiFactorAuthAge",
	KeyMultiFactorAuthPresent:                    "aws:MultiFactorAuthPresent",
	KeyPrincipalAccount:                          "aws:PrincipalAccount",
	KeyPrincipalArn:                              "aws:PrincipalArn",
	KeyPrincipalIsAWSService:                     "aws:PrincipalIsAWSService",
	KeyPrincipalOrgID:                            "aws:PrincipalOrgID",
	KeyPrincipalOrgPaths:                         "aws:PrincipalOrgPaths",
	KeyPrincipalServiceName:                      "aws:PrincipalServiceName",
	KeyPrincipalServiceNamesList:                 "aws:PrincipalServiceNamesList",
	KeyPrincipalTag:                              "aws:PrincipalTag/",
	KeyPrincipalType:                             "aws:PrincipalType",
	KeyReferer:                                   "aws:Referer",
	KeyRequestTag:                                "aws:RequestTag/",
	KeyRequestedRegion:                           "aws:RequestedRegion",
	KeyResourceAccount:                           "aws:ResourceAccount",
	KeyResourceOrgID:                             "aws:ResourceOrgID",
	KeyResourceOrgPaths:                          "aws:ResourceOrgPaths",
	KeyResourceTag:                               "aws:ResourceTag/",
	KeySecureTransport:                           "aws:SecureTransport",
	KeySourceAccount:                             "aws:SourceAccount",
	KeySourceArn:                                 "aws:SourceArn",
	KeySourceIdentity:                            "aws:SourceIdentity",
	KeySourceIP:                                  "aws:SourceIp",
	KeySourceOrgID:                               "aws:SourceOrgID",
	KeySourceOrgPaths:                            "aws:SourceOrgPaths",
	KeySourceVpc:                                 "aws:SourceVpc",
	KeySourceVpcArn:                              "aws:SourceVpcArn",
	KeySourceVpce:                                "aws:SourceVpce",
	KeyTagKeys:                                   "aws:TagKeys",
	KeyTokenIssueTime:                            "aws:TokenIssueTime",
	KeyUserAgent:                                 "aws:UserAgent",
	KeyUserid:                                    "aws:userid",
	KeyUsername:                                  "aws:username",
	KeyViaAWSService:                             "aws:ViaAWSService",
	KeyVpcSourceIP:                               "aws:VpcSourceIp",
	KeyVpceAccount:                               "aws:VpceAccount",
	KeyVpceOrgID:                                 "aws:VpceOrgID",
	KeyVpceOrgPaths:                              "aws:VpceOrgPaths",
	KeyKMSBypassPolicyLockoutSafetyCheck:         "kms:BypassPolicyLockoutSafetyCheck",
	KeyKMSCallerAccount:                          "kms:CallerAccount",
	KeyKMSCustomerMasterKeySpec:                  "kms:CustomerMasterKeySpec",
	KeyKMSCustomerMasterKeyUsage:                 "kms:CustomerMasterKeyUsage",
	KeyKMSDataKeyPairSpec:                        "kms:DataKeyPairSpec",
	KeyKMSEncryptionAlgorithm:                    "kms:EncryptionAlgorithm",
	KeyKMSEncryptionContext:                      "kms:EncryptionContext:",
	KeyKMSEncryptionContextKeys:                  "kms:EncryptionContextKeys",
	KeyKMSExpirationModel:                        "kms:ExpirationModel",
	KeyKMSGrantConstraintSourceArn:               "kms:GrantConstraintSourceArn",
	KeyKMSGrantConstraintType:                    "kms:GrantConstraintType",
	KeyKMSGrantIsForAWSResource:                  "kms:GrantIsForAWSResource",
	KeyKMSGrantOperations:                        "kms:GrantOperations",
	KeyKMSGranteePrincipal:                       "kms:GranteePrincipal",
	KeyKMSGranteeServicePrincipal:                "kms:GranteeServicePrincipal",
	KeyKMSKeyAgreementAlgorithm:                  "kms:KeyAgreementAlgorithm",
	KeyKMSKeyOrigin:                              "kms:KeyOrigin",
	KeyKMSKeySpec:                                "kms:KeySpec",
	KeyKMSKeyUsage:                               "kms:KeyUsage",
	KeyKMSMacAlgorithm:                           "kms:MacAlgorithm",
	KeyKMSMessageType:                            "kms:MessageType",
	KeyKMSMultiRegion:                            "kms:MultiRegion",
	KeyKMSMultiRegionKeyType:                     "kms:MultiRegionKeyType",
	KeyKMSPrimaryRegion:                          "kms:PrimaryRegion",
	KeyKMSReEncryptOnSameKey:                     "kms:ReEncryptOnSameKey",
	KeyKMSRecipientAttestation:                   "kms:RecipientAttestation:",
	KeyKMSReplicaRegion:                          "kms:ReplicaRegion",
	KeyKMSRequestAlias:                           "kms:RequestAlias",
	KeyKMSResourceAliases:                        "kms:ResourceAliases",
	KeyKMSResourceTag:                            "kms:ResourceTag/",
	KeyKMSRetiringPrincipal:                      "kms:RetiringPrincipal",
	KeyKMSRetiringServicePrincipal:               "kms:RetiringServicePrincipal",
	KeyKMSRotationPeriodInDays:                   "kms:RotationPeriodInDays",
	KeyKMSScheduleKeyDeletionPendingWindowInDays: "kms:ScheduleKeyDeletionPendingWindowInDays",
	KeyKMSSigningAlgorithm:                       "kms:SigningAlgorithm",
	KeyKMSTrailingDaysWithoutKeyUsage:            "kms:TrailingDaysWithoutKeyUsage",
	KeyKMSValidTo:                                "kms:ValidTo",
	KeyKMSViaService:                             "kms:ViaService",
	KeyKMSWrappingAlgorithm:                      "kms:WrappingAlgorithm",
	KeyKMSWrappingKeySpec:                        "kms:WrappingKeySpec",
	KeyIAMPermissionsBoundary:                    "iam:PermissionsBoundary",
	KeyIAMPolicyARN:                              "iam:PolicyARN",
	KeyIAMResourceTag:                            "iam:ResourceTag/",
	KeyOrganizationsPolicyType:                   "organizations:PolicyType",
	KeySTSExternalID:                             "sts:ExternalId",
	KeySTSRoleSessionName:                        "sts:RoleSessionName",
	KeySTSSourceIdentity:                         "sts:SourceIdentity",
	KeySTSTransitiveTagKeys:                      "sts:TransitiveTagKeys",
}

var keyIndex = func() map[string]KeyID {
	m := make(map[string]KeyID, numKeys)
	for id := KeyUnknown + 1; id < numKeys; id++ {
		m[strings.ToLower(keyNames[id])] = id
	}
	return m
}()

// A ConditionKey is a condition key with its suffix, if it takes one: the tag
// key of aws:PrincipalTag/team, the pair's key of kms:EncryptionContext:app.
type ConditionKey struct {
	ID     KeyID
	Suffix string // compared without regard to case (AUTH-8.2); of KeyUnknown the whole name
}

// KeyNamed finds a condition key. Case does not matter.
func KeyNamed(name string) ConditionKey {
	lower := strings.ToLower(name)
	if id, ok := keyIndex[lower]; ok && !id.takesSuffix() {
		return ConditionKey{ID: id}
	}
	// The suffix begins after the first slash, or after the second colon.
	cut := strings.IndexByte(lower, '/')
	if colon := strings.IndexByte(lower, ':'); colon >= 0 {
		if second := strings.IndexByte(lower[colon+1:], ':'); second >= 0 && (cut < 0 || colon+1+second < cut) {
			cut = colon + 1 + second
		}
	}
	if cut >= 0 && cut+1 < len(name) {
		if id, ok := keyIndex[lower[:cut+1]]; ok {
			return ConditionKey{id, name[cut+1:]}
		}
	}
	return ConditionKey{KeyUnknown, name}
}

func (id KeyID) takesSuffix() bool {
	n := keyNames[id]
	return n != "" && (n[len(n)-1] == '/' || n[len(n)-1] == ':')
}

// String is the key's name as the documentation spells it.
func (k ConditionKey) String() string { return keyNames[k.ID] + k.Suffix }

// A Value is what a request says about a condition key. The zero Value is
// absent. A key is multi-valued by its definition, however many values it has.
type Value struct {
	Present bool
	Multi   bool
	Text    string   // the value of a single-valued key
	List    []string // the values of a multi-valued key
}

// One makes the value of a single-valued key.
func One(text string) Value { return Value{Present: true, Text: text} }

// Optional makes the value of a single-valued key that is absent when empty.
func Optional(text string) Value {
	if text == "" {
		return Value{}
	}
	return One(text)
}

// Many makes the value of a multi-valued key.
func Many(list []string) Value { return Value{Present: true, Multi: true, List: list} }

// OptionalMany makes the value of a multi-valued key that is absent when empty.
func OptionalMany(list []string) Value {
	if len(list) == 0 {
		return Value{}
	}
	return Many(list)
}

// Truth makes a Bool value.
func Truth(b bool) Value {
	if b {
		return One("true")
	}
	return One("false")
}

// A Context answers what conditions and policy variables ask about one request.
// Lookup is called only for keys that a statement names.
type Context interface {
	Lookup(key ConditionKey) Value
}
