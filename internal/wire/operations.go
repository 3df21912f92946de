package wire

import (
	"context"

	"github.com/claviger/claviger/internal/accessanalyzer"
	"github.com/claviger/claviger/internal/advisor"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/org"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/sts"
	"github.com/claviger/claviger/internal/tagging"
	"github.com/claviger/claviger/internal/trail"
)

// A request is a generated input type.
type request interface {
	Check(v *model.Violations, path string)
}

// uses, reads and changes adapt a service method to an operation: decode, check, note
// the parameters for the audit log, call. What uses a key is decided by what this node
// knows, as long as it may; what reads shows what all nodes have committed.
func uses[In, Out any, P interface {
	*In
	request
}](method func(context.Context, *iam.Call, *In) (*Out, error)) *operation {
	o := changes[In, Out, P](method)
	o.readOnly = true
	return o
}

func reads[In, Out any, P interface {
	*In
	request
}](method func(context.Context, *iam.Call, *In) (*Out, error)) *operation {
	return uses[In, Out, P](func(ctx context.Context, call *iam.Call, in *In) (*Out, error) {
		return method(store.Current(ctx), call, in)
	})
}

func changes[In, Out any, P interface {
	*In
	request
}](method func(context.Context, *iam.Call, *In) (*Out, error)) *operation {
	return &operation{run: func(ctx context.Context, call *iam.Call, decode func(request) error) (any, error) {
		in := new(In)
		if err := decode(P(in)); err != nil {
			return nil, err
		}
		call.Entry.RequestParameters = audit.Parameters(in)
		out, err := method(ctx, call, in)
		if err != nil || out == nil {
			return nil, err
		}
		return out, nil
	}}
}

// unsigned is an operation that anybody may send without a signature.
func unsigned(o *operation) *operation {
	o.unsigned = true
	return o
}

func kmsOperations(s *kms.Service) map[string]*operation {
	return map[string]*operation{
		"CancelKeyDeletion":                   changes(s.CancelKeyDeletion),
		"ConnectCustomKeyStore":               changes(s.ConnectCustomKeyStore),
		"CreateAlias":                         changes(s.CreateAlias),
		"CreateCustomKeyStore":                changes(s.CreateCustomKeyStore),
		"CreateGrant":                         changes(s.CreateGrant),
		"CreateKey":                           changes(s.CreateKey),
		"Decapsulate":                         uses(s.Decapsulate),
		"Decrypt":                             uses(s.Decrypt),
		"DeleteAlias":                         changes(s.DeleteAlias),
		"DeleteCustomKeyStore":                changes(s.DeleteCustomKeyStore),
		"DeleteImportedKeyMaterial":           changes(s.DeleteImportedKeyMaterial),
		"DeriveSharedSecret":                  uses(s.DeriveSharedSecret),
		"DescribeCustomKeyStores":             reads(s.DescribeCustomKeyStores),
		"DescribeKey":                         reads(s.DescribeKey),
		"DisableKey":                          changes(s.DisableKey),
		"DisableKeyRotation":                  changes(s.DisableKeyRotation),
		"DisconnectCustomKeyStore":            changes(s.DisconnectCustomKeyStore),
		"EnableKey":                           changes(s.EnableKey),
		"EnableKeyRotation":                   changes(s.EnableKeyRotation),
		"Encapsulate":                         uses(s.Encapsulate),
		"Encrypt":                             uses(s.Encrypt),
		"GenerateDataKey":                     uses(s.GenerateDataKey),
		"GenerateDataKeyPair":                 uses(s.GenerateDataKeyPair),
		"GenerateDataKeyPairWithoutPlaintext": uses(s.GenerateDataKeyPairWithoutPlaintext),
		"GenerateDataKeyWithoutPlaintext":     uses(s.GenerateDataKeyWithoutPlaintext),
		"GenerateMac":                         uses(s.GenerateMac),
		"GenerateRandom":                      uses(s.GenerateRandom),
		"GetKeyLastUsage":                     reads(s.GetKeyLastUsage),
		"GetKeyPolicy":                        reads(s.GetKeyPolicy),
		"GetKeyRotationStatus":                reads(s.GetKeyRotationStatus),
		"GetParametersForImport":              reads(s.GetParametersForImport),
		"GetPublicKey":                        reads(s.GetPublicKey),
		"ImportKeyMaterial":                   changes(s.ImportKeyMaterial),
		"ListAliases":                         reads(s.ListAliases),
		"ListGrants":                          reads(s.ListGrants),
		"ListKeyPolicies":                     reads(s.ListKeyPolicies),
		"ListKeyRotations":                    reads(s.ListKeyRotations),
		"ListKeys":                            reads(s.ListKeys),
		"ListResourceTags":                    reads(s.ListResourceTags),
		"ListRetirableGrants":                 reads(s.ListRetirableGrants),
		"PutKeyPolicy":                        changes(s.PutKeyPolicy),
		"ReEncrypt":                           uses(s.ReEncrypt),
		"ReplicateKey":                        changes(s.ReplicateKey),
		"RetireGrant":                         changes(s.RetireGrant),
		"RevokeGrant":                         changes(s.RevokeGrant),
		"RotateKeyOnDemand":                   changes(s.RotateKeyOnDemand),
		"ScheduleKeyDeletion":                 changes(s.ScheduleKeyDeletion),
		"Sign":                                uses(s.Sign),
		"TagResource":                         changes(s.TagResource),
		"UntagResource":                       changes(s.UntagResource),
		"UpdateAlias":                         changes(s.UpdateAlias),
		"UpdateCustomKeyStore":                changes(s.UpdateCustomKeyStore),
		"UpdateKeyDescription":                changes(s.UpdateKeyDescription),
		"UpdatePrimaryRegion":                 changes(s.UpdatePrimaryRegion),
		"Verify":                              uses(s.Verify),
		"VerifyMac":                           uses(s.VerifyMac),
	}
}

func iamOperations(s *iam.Service) map[string]*operation {
	return map[string]*operation{
		"GetContextKeysForCustomPolicy":           reads(s.GetContextKeysForCustomPolicy),
		"GetContextKeysForPrincipalPolicy":        reads(s.GetContextKeysForPrincipalPolicy),
		"SimulateCustomPolicy":                    reads(s.SimulateCustomPolicy),
		"SimulatePrincipalPolicy":                 reads(s.SimulatePrincipalPolicy),
		"AddClientIDToOpenIDConnectProvider":      changes(s.AddClientIDToOpenIDConnectProvider),
		"AddUserToGroup":                          changes(s.AddUserToGroup),
		"AttachGroupPolicy":                       changes(s.AttachGroupPolicy),
		"AttachRolePolicy":                        changes(s.AttachRolePolicy),
		"AttachUserPolicy":                        changes(s.AttachUserPolicy),
		"CreateAccessKey":                         changes(s.CreateAccessKey),
		"CreateGroup":                             changes(s.CreateGroup),
		"CreateOpenIDConnectProvider":             changes(s.CreateOpenIDConnectProvider),
		"CreatePolicy":                            changes(s.CreatePolicy),
		"CreatePolicyVersion":                     changes(s.CreatePolicyVersion),
		"CreateRole":                              changes(s.CreateRole),
		"CreateUser":                              changes(s.CreateUser),
		"CreateVirtualMFADevice":                  changes(s.CreateVirtualMFADevice),
		"DeactivateMFADevice":                     changes(s.DeactivateMFADevice),
		"DeleteAccessKey":                         changes(s.DeleteAccessKey),
		"DeleteGroup":                             changes(s.DeleteGroup),
		"DeleteGroupPolicy":                       changes(s.DeleteGroupPolicy),
		"DeleteOpenIDConnectProvider":             changes(s.DeleteOpenIDConnectProvider),
		"DeletePolicy":                            changes(s.DeletePolicy),
		"DeletePolicyVersion":                     changes(s.DeletePolicyVersion),
		"DeleteRole":                              changes(s.DeleteRole),
		"DeleteRolePermissionsBoundary":           changes(s.DeleteRolePermissionsBoundary),
		"DeleteRolePolicy":                        changes(s.DeleteRolePolicy),
		"DeleteUser":                              changes(s.DeleteUser),
		"DeleteUserPermissionsBoundary":           changes(s.DeleteUserPermissionsBoundary),
		"DeleteUserPolicy":                        changes(s.DeleteUserPolicy),
		"DeleteVirtualMFADevice":                  changes(s.DeleteVirtualMFADevice),
		"DetachGroupPolicy":                       changes(s.DetachGroupPolicy),
		"DetachRolePolicy":                        changes(s.DetachRolePolicy),
		"DetachUserPolicy":                        changes(s.DetachUserPolicy),
		"EnableMFADevice":                         changes(s.EnableMFADevice),
		"GetGroup":                                reads(s.GetGroup),
		"GetGroupPolicy":                          reads(s.GetGroupPolicy),
		"GetOpenIDConnectProvider":                reads(s.GetOpenIDConnectProvider),
		"GetPolicy":                               reads(s.GetPolicy),
		"GetPolicyVersion":                        reads(s.GetPolicyVersion),
		"GetRole":                                 reads(s.GetRole),
		"GetRolePolicy":                           reads(s.GetRolePolicy),
		"GetUser":                                 reads(s.GetUser),
		"GetUserPolicy":                           reads(s.GetUserPolicy),
		"ListAccessKeys":                          reads(s.ListAccessKeys),
		"ListAttachedGroupPolicies":               reads(s.ListAttachedGroupPolicies),
		"ListAttachedRolePolicies":                reads(s.ListAttachedRolePolicies),
		"ListAttachedUserPolicies":                reads(s.ListAttachedUserPolicies),
		"ListEntitiesForPolicy":                   reads(s.ListEntitiesForPolicy),
		"ListGroupPolicies":                       reads(s.ListGroupPolicies),
		"ListGroups":                              reads(s.ListGroups),
		"ListGroupsForUser":                       reads(s.ListGroupsForUser),
		"ListInstanceProfilesForRole":             reads(s.ListInstanceProfilesForRole),
		"ListMFADevices":                          reads(s.ListMFADevices),
		"ListOpenIDConnectProviders":              reads(s.ListOpenIDConnectProviders),
		"ListPolicies":                            reads(s.ListPolicies),
		"ListPolicyTags":                          reads(s.ListPolicyTags),
		"ListPolicyVersions":                      reads(s.ListPolicyVersions),
		"ListRolePolicies":                        reads(s.ListRolePolicies),
		"ListRoleTags":                            reads(s.ListRoleTags),
		"ListRoles":                               reads(s.ListRoles),
		"ListUserPolicies":                        reads(s.ListUserPolicies),
		"ListUserTags":                            reads(s.ListUserTags),
		"ListUsers":                               reads(s.ListUsers),
		"PutGroupPolicy":                          changes(s.PutGroupPolicy),
		"PutRolePermissionsBoundary":              changes(s.PutRolePermissionsBoundary),
		"PutRolePolicy":                           changes(s.PutRolePolicy),
		"PutUserPermissionsBoundary":              changes(s.PutUserPermissionsBoundary),
		"PutUserPolicy":                           changes(s.PutUserPolicy),
		"RemoveClientIDFromOpenIDConnectProvider": changes(s.RemoveClientIDFromOpenIDConnectProvider),
		"RemoveUserFromGroup":                     changes(s.RemoveUserFromGroup),
		"SetDefaultPolicyVersion":                 changes(s.SetDefaultPolicyVersion),
		"TagPolicy":                               changes(s.TagPolicy),
		"TagRole":                                 changes(s.TagRole),
		"TagUser":                                 changes(s.TagUser),
		"UntagPolicy":                             changes(s.UntagPolicy),
		"UntagRole":                               changes(s.UntagRole),
		"UntagUser":                               changes(s.UntagUser),
		"UpdateAccessKey":                         changes(s.UpdateAccessKey),
		"UpdateAssumeRolePolicy":                  changes(s.UpdateAssumeRolePolicy),
		"UpdateGroup":                             changes(s.UpdateGroup),
		"UpdateOpenIDConnectProviderThumbprint":   changes(s.UpdateOpenIDConnectProviderThumbprint),
		"UpdateRole":                              changes(s.UpdateRole),
		"UpdateRoleDescription":                   changes(s.UpdateRoleDescription),
		"UpdateUser":                              changes(s.UpdateUser),
	}
}

func stsOperations(s *sts.Service) map[string]*operation {
	return map[string]*operation{
		"AssumeRole":                reads(s.AssumeRole),
		"AssumeRoleWithWebIdentity": unsigned(reads(s.AssumeRoleWithWebIdentity)),
		"GetAccessKeyInfo":          reads(s.GetAccessKeyInfo),
		"GetCallerIdentity":         reads(s.GetCallerIdentity),
		"GetFederationToken":        reads(s.GetFederationToken),
		"GetSessionToken":           reads(s.GetSessionToken),
	}
}

func orgOperations(s *org.Service) map[string]*operation {
	return map[string]*operation{
		"AttachPolicy":                     changes(s.AttachPolicy),
		"CloseAccount":                     changes(s.CloseAccount),
		"CreateAccount":                    changes(s.CreateAccount),
		"CreateOrganization":               changes(s.CreateOrganization),
		"CreateOrganizationalUnit":         changes(s.CreateOrganizationalUnit),
		"CreatePolicy":                     changes(s.CreatePolicy),
		"DeleteOrganization":               changes(s.DeleteOrganization),
		"DeleteOrganizationalUnit":         changes(s.DeleteOrganizationalUnit),
		"DeletePolicy":                     changes(s.DeletePolicy),
		"DescribeAccount":                  reads(s.DescribeAccount),
		"DescribeCreateAccountStatus":      reads(s.DescribeCreateAccountStatus),
		"DescribeEffectivePolicy":          reads(s.DescribeEffectivePolicy),
		"DescribeOrganization":             reads(s.DescribeOrganization),
		"DescribeOrganizationalUnit":       reads(s.DescribeOrganizationalUnit),
		"DescribePolicy":                   reads(s.DescribePolicy),
		"DetachPolicy":                     changes(s.DetachPolicy),
		"DisablePolicyType":                changes(s.DisablePolicyType),
		"EnablePolicyType":                 changes(s.EnablePolicyType),
		"ListAccounts":                     reads(s.ListAccounts),
		"ListAccountsForParent":            reads(s.ListAccountsForParent),
		"ListChildren":                     reads(s.ListChildren),
		"ListOrganizationalUnitsForParent": reads(s.ListOrganizationalUnitsForParent),
		"ListParents":                      reads(s.ListParents),
		"ListPolicies":                     reads(s.ListPolicies),
		"ListPoliciesForTarget":            reads(s.ListPoliciesForTarget),
		"ListRoots":                        reads(s.ListRoots),
		"ListTagsForResource":              reads(s.ListTagsForResource),
		"ListTargetsForPolicy":             reads(s.ListTargetsForPolicy),
		"MoveAccount":                      changes(s.MoveAccount),
		"TagResource":                      changes(s.TagResource),
		"UntagResource":                    changes(s.UntagResource),
		"UpdateOrganizationalUnit":         changes(s.UpdateOrganizationalUnit),
		"UpdatePolicy":                     changes(s.UpdatePolicy),
	}
}

func tagOperations(s *tagging.Service) map[string]*operation {
	return map[string]*operation{
		"GetResources": reads(s.GetResources),
		"GetTagKeys":   reads(s.GetTagKeys),
		"GetTagValues": reads(s.GetTagValues),
	}
}

func trailOperations(s *trail.Service) map[string]*operation {
	return map[string]*operation{"LookupEvents": reads(s.LookupEvents)}
}

func analyzerOperations(s *accessanalyzer.Service) map[string]*operation {
	return map[string]*operation{
		"CheckAccessNotGranted":     reads(s.CheckAccessNotGranted),
		"CheckNoNewAccess":          reads(s.CheckNoNewAccess),
		"CheckNoPublicAccess":       reads(s.CheckNoPublicAccess),
		"CreateAccessPreview":       changes(s.CreateAccessPreview),
		"CreateAnalyzer":            changes(s.CreateAnalyzer),
		"DeleteAnalyzer":            changes(s.DeleteAnalyzer),
		"GetAccessPreview":          reads(s.GetAccessPreview),
		"GetAnalyzer":               reads(s.GetAnalyzer),
		"GetFinding":                reads(s.GetFinding),
		"GetFindingV2":              reads(s.GetFindingV2),
		"ListAccessPreviewFindings": reads(s.ListAccessPreviewFindings),
		"ListAccessPreviews":        reads(s.ListAccessPreviews),
		"ListAnalyzers":             reads(s.ListAnalyzers),
		"ListFindings":              reads(s.ListFindings),
		"ListFindingsV2":            reads(s.ListFindingsV2),
		"ValidatePolicy":            reads(s.ValidatePolicy),
	}
}

func advisorOperations(s *advisor.Service) map[string]*operation {
	return map[string]*operation{
		"Explain":        reads(s.Explain),
		"ExplainRequest": reads(s.ExplainRequest),
		"What":           reads(s.What),
		"Who":            reads(s.Who),
	}
}
