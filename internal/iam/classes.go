package iam

import (
	"context"

	"github.com/claviger/claviger/internal/model/iamapi"
)

// The operations on inline and attached policies, once for each class. What they
// do is in inline.go and attached.go.

// PutUserPolicy sets an inline policy of a user.
func (s *Service) PutUserPolicy(ctx context.Context, call *Call, in *iamapi.PutUserPolicyRequest) (*struct{}, error) {
	return nil, s.putInline(ctx, call, "iam:PutUserPolicy", UserClass, *in.UserName, *in.PolicyName, *in.PolicyDocument)
}

// GetUserPolicy shows an inline policy of a user.
func (s *Service) GetUserPolicy(ctx context.Context, call *Call, in *iamapi.GetUserPolicyRequest) (*iamapi.GetUserPolicyResponse, error) {
	text, err := s.getInline(ctx, call, "iam:GetUserPolicy", UserClass, *in.UserName, *in.PolicyName)
	return &iamapi.GetUserPolicyResponse{UserName: in.UserName, PolicyName: in.PolicyName, PolicyDocument: text}, err
}

// DeleteUserPolicy removes an inline policy of a user.
func (s *Service) DeleteUserPolicy(ctx context.Context, call *Call, in *iamapi.DeleteUserPolicyRequest) (*struct{}, error) {
	return nil, s.deleteInline(ctx, call, "iam:DeleteUserPolicy", UserClass, *in.UserName, *in.PolicyName)
}

// ListUserPolicies lists the inline policies of a user.
func (s *Service) ListUserPolicies(ctx context.Context, call *Call, in *iamapi.ListUserPoliciesRequest) (*iamapi.ListUserPoliciesResponse, error) {
	names, truncated, marker, err := s.listInline(ctx, call, "iam:ListUserPolicies", UserClass, *in.UserName, in.Marker, in.MaxItems)
	return &iamapi.ListUserPoliciesResponse{PolicyNames: names, IsTruncated: truncated, Marker: marker}, err
}

// AttachUserPolicy attaches a managed policy to a user.
func (s *Service) AttachUserPolicy(ctx context.Context, call *Call, in *iamapi.AttachUserPolicyRequest) (*struct{}, error) {
	return nil, s.attach(ctx, call, "iam:AttachUserPolicy", UserClass, *in.UserName, *in.PolicyArn)
}

// DetachUserPolicy detaches a managed policy from a user.
func (s *Service) DetachUserPolicy(ctx context.Context, call *Call, in *iamapi.DetachUserPolicyRequest) (*struct{}, error) {
	return nil, s.detach(ctx, call, "iam:DetachUserPolicy", UserClass, *in.UserName, *in.PolicyArn)
}

// ListAttachedUserPolicies lists the managed policies attached to a user.
func (s *Service) ListAttachedUserPolicies(ctx context.Context, call *Call, in *iamapi.ListAttachedUserPoliciesRequest) (*iamapi.ListAttachedUserPoliciesResponse, error) {
	shown, truncated, marker, err := s.listAttached(ctx, call, "iam:ListAttachedUserPolicies", UserClass, *in.UserName, in.PathPrefix, in.Marker, in.MaxItems)
	return &iamapi.ListAttachedUserPoliciesResponse{AttachedPolicies: shown, IsTruncated: truncated, Marker: marker}, err
}

// PutGroupPolicy sets an inline policy of a group.
func (s *Service) PutGroupPolicy(ctx context.Context, call *Call, in *iamapi.PutGroupPolicyRequest) (*struct{}, error) {
	return nil, s.putInline(ctx, call, "iam:PutGroupPolicy", GroupClass, *in.GroupName, *in.PolicyName, *in.PolicyDocument)
}

// GetGroupPolicy shows an inline policy of a group.
func (s *Service) GetGroupPolicy(ctx context.Context, call *Call, in *iamapi.GetGroupPolicyRequest) (*iamapi.GetGroupPolicyResponse, error) {
	text, err := s.getInline(ctx, call, "iam:GetGroupPolicy", GroupClass, *in.GroupName, *in.PolicyName)
	return &iamapi.GetGroupPolicyResponse{GroupName: in.GroupName, PolicyName: in.PolicyName, PolicyDocument: text}, err
}

// DeleteGroupPolicy removes an inline policy of a group.
func (s *Service) DeleteGroupPolicy(ctx context.Context, call *Call, in *iamapi.DeleteGroupPolicyRequest) (*struct{}, error) {
	return nil, s.deleteInline(ctx, call, "iam:DeleteGroupPolicy", GroupClass, *in.GroupName, *in.PolicyName)
}

// ListGroupPolicies lists the inline policies of a group.
func (s *Service) ListGroupPolicies(ctx context.Context, call *Call, in *iamapi.ListGroupPoliciesRequest) (*iamapi.ListGroupPoliciesResponse, error) {
	names, truncated, marker, err := s.listInline(ctx, call, "iam:ListGroupPolicies", GroupClass, *in.GroupName, in.Marker, in.MaxItems)
	return &iamapi.ListGroupPoliciesResponse{PolicyNames: names, IsTruncated: truncated, Marker: marker}, err
}

// AttachGroupPolicy attaches a managed policy to a group.
func (s *Service) AttachGroupPolicy(ctx context.Context, call *Call, in *iamapi.AttachGroupPolicyRequest) (*struct{}, error) {
	return nil, s.attach(ctx, call, "iam:AttachGroupPolicy", GroupClass, *in.GroupName, *in.PolicyArn)
}

// DetachGroupPolicy detaches a managed policy from a group.
func (s *Service) DetachGroupPolicy(ctx context.Context, call *Call, in *iamapi.DetachGroupPolicyRequest) (*struct{}, error) {
	return nil, s.detach(ctx, call, "iam:DetachGroupPolicy", GroupClass, *in.GroupName, *in.PolicyArn)
}

// ListAttachedGroupPolicies lists the managed policies attached to a group.
func (s *Service) ListAttachedGroupPolicies(ctx context.Context, call *Call, in *iamapi.ListAttachedGroupPoliciesRequest) (*iamapi.ListAttachedGroupPoliciesResponse, error) {
	shown, truncated, marker, err := s.listAttached(ctx, call, "iam:ListAttachedGroupPolicies", GroupClass, *in.GroupName, in.PathPrefix, in.Marker, in.MaxItems)
	return &iamapi.ListAttachedGroupPoliciesResponse{AttachedPolicies: shown, IsTruncated: truncated, Marker: marker}, err
}

// PutRolePolicy sets an inline policy of a role.
func (s *Service) PutRolePolicy(ctx context.Context, call *Call, in *iamapi.PutRolePolicyRequest) (*struct{}, error) {
	return nil, s.putInline(ctx, call, "iam:PutRolePolicy", RoleClass, *in.RoleName, *in.PolicyName, *in.PolicyDocument)
}

// GetRolePolicy shows an inline policy of a role.
func (s *Service) GetRolePolicy(ctx context.Context, call *Call, in *iamapi.GetRolePolicyRequest) (*iamapi.GetRolePolicyResponse, error) {
	text, err := s.getInline(ctx, call, "iam:GetRolePolicy", RoleClass, *in.RoleName, *in.PolicyName)
	return &iamapi.GetRolePolicyResponse{RoleName: in.RoleName, PolicyName: in.PolicyName, PolicyDocument: text}, err
}

// DeleteRolePolicy removes an inline policy of a role.
func (s *Service) DeleteRolePolicy(ctx context.Context, call *Call, in *iamapi.DeleteRolePolicyRequest) (*struct{}, error) {
	return nil, s.deleteInline(ctx, call, "iam:DeleteRolePolicy", RoleClass, *in.RoleName, *in.PolicyName)
}

// ListRolePolicies lists the inline policies of a role.
func (s *Service) ListRolePolicies(ctx context.Context, call *Call, in *iamapi.ListRolePoliciesRequest) (*iamapi.ListRolePoliciesResponse, error) {
	names, truncated, marker, err := s.listInline(ctx, call, "iam:ListRolePolicies", RoleClass, *in.RoleName, in.Marker, in.MaxItems)
	return &iamapi.ListRolePoliciesResponse{PolicyNames: names, IsTruncated: truncated, Marker: marker}, err
}

// AttachRolePolicy attaches a managed policy to a role.
func (s *Service) AttachRolePolicy(ctx context.Context, call *Call, in *iamapi.AttachRolePolicyRequest) (*struct{}, error) {
	return nil, s.attach(ctx, call, "iam:AttachRolePolicy", RoleClass, *in.RoleName, *in.PolicyArn)
}

// DetachRolePolicy detaches a managed policy from a role.
func (s *Service) DetachRolePolicy(ctx context.Context, call *Call, in *iamapi.DetachRolePolicyRequest) (*struct{}, error) {
	return nil, s.detach(ctx, call, "iam:DetachRolePolicy", RoleClass, *in.RoleName, *in.PolicyArn)
}

// ListAttachedRolePolicies lists the managed policies attached to a role.
func (s *Service) ListAttachedRolePolicies(ctx context.Context, call *Call, in *iamapi.ListAttachedRolePoliciesRequest) (*iamapi.ListAttachedRolePoliciesResponse, error) {
	shown, truncated, marker, err := s.listAttached(ctx, call, "iam:ListAttachedRolePolicies", RoleClass, *in.RoleName, in.PathPrefix, in.Marker, in.MaxItems)
	return &iamapi.ListAttachedRolePoliciesResponse{AttachedPolicies: shown, IsTruncated: truncated, Marker: marker}, err
}
