package iam_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"

	"github.com/claviger/claviger/kmstest"
)

type world struct {
	t   *testing.T
	srv *kmstest.Server
	iam *iam.Client
}

func newWorld(t *testing.T) world {
	t.Helper()
	srv := kmstest.Start(t)
	return world{t, srv, iam.NewFromConfig(config(srv, srv.AccessKeyID, srv.SecretAccessKey, ""))}
}

func config(srv *kmstest.Server, id, secret, token string) aws.Config {
	return aws.Config{Region: srv.Region, BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)}
}

// want checks an error's code and text; "" is success.
func (w world) want(what string, err error, code, text string) {
	w.t.Helper()
	var api smithy.APIError
	got, message := "", ""
	if errors.As(err, &api) {
		got, message = api.ErrorCode(), api.ErrorMessage()
	} else if err != nil {
		got = fmt.Sprint(err)
	}
	if got != code || !strings.Contains(message, text) {
		w.t.Errorf("%s: %s: %q, want %s: %q", what, got, message, code, text)
	}
}

func (w world) user(name string) aws.Config {
	w.t.Helper()
	if _, err := w.iam.CreateUser(w.t.Context(), &iam.CreateUserInput{UserName: &name}); err != nil {
		w.t.Fatal(err)
	}
	k, err := w.iam.CreateAccessKey(w.t.Context(), &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		w.t.Fatal(err)
	}
	return config(w.srv, *k.AccessKey.AccessKeyId, *k.AccessKey.SecretAccessKey, "")
}

const admin = "arn:aws:iam::aws:policy/AdministratorAccess"

func (w world) attach(user, policyARN string) {
	w.t.Helper()
	if _, err := w.iam.AttachUserPolicy(w.t.Context(), &iam.AttachUserPolicyInput{UserName: &user, PolicyArn: &policyARN}); err != nil {
		w.t.Fatal(err)
	}
}

func TestUsersAndGroups(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice := w.user("alice")
	_, err := w.iam.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("readers"), Path: aws.String("/teams/")})
	w.want("CreateGroup", err, "", "")
	_, err = w.iam.AttachGroupPolicy(ctx, &iam.AttachGroupPolicyInput{GroupName: aws.String("readers"), PolicyArn: aws.String("arn:aws:iam::aws:policy/ReadOnlyAccess")})
	w.want("AttachGroupPolicy", err, "", "")
	list := func() error {
		_, err := iam.NewFromConfig(alice).ListUsers(ctx, &iam.ListUsersInput{})
		return err
	}
	w.want("before the group", list(), "AccessDenied", "no identity-based policy allows the iam:ListUsers action")
	_, err = w.iam.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("readers"), UserName: aws.String("alice")})
	w.want("AddUserToGroup", err, "", "")
	w.want("in the group", list(), "", "")
	_, err = w.iam.DeleteGroup(ctx, &iam.DeleteGroupInput{GroupName: aws.String("readers")})
	w.want("DeleteGroup with a policy", err, "DeleteConflict", "must detach all policies first")
	_, err = w.iam.UpdateGroup(ctx, &iam.UpdateGroupInput{GroupName: aws.String("readers"), NewGroupName: aws.String("viewers")})
	w.want("UpdateGroup", err, "", "")
	w.want("in the renamed group", list(), "", "")
	groups, err := w.iam.ListGroupsForUser(ctx, &iam.ListGroupsForUserInput{UserName: aws.String("alice")})
	if err != nil || len(groups.Groups) != 1 || *groups.Groups[0].Arn != "arn:aws:iam::111122223333:group/teams/viewers" {
		t.Errorf("ListGroupsForUser = %v, %v", groups, err)
	}
	members, err := w.iam.GetGroup(ctx, &iam.GetGroupInput{GroupName: aws.String("viewers")})
	if err != nil || len(members.Users) != 1 || *members.Users[0].UserName != "alice" {
		t.Errorf("GetGroup = %v, %v", members, err)
	}
	_, err = w.iam.RemoveUserFromGroup(ctx, &iam.RemoveUserFromGroupInput{GroupName: aws.String("viewers"), UserName: aws.String("alice")})
	w.want("RemoveUserFromGroup", err, "", "")
	w.want("out of the group", list(), "AccessDenied", "")
}

func TestInlineAndManagedPolicies(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.user("alice")
	const doc = `{ "Version": "2012-10-17", "Statement": [ { "Effect": "Allow", "Action": "kms:*", "Resource": "*" } ] }`
	_, err := w.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String("alice"), PolicyName: aws.String("p"), PolicyDocument: aws.String(doc)})
	w.want("PutUserPolicy", err, "", "")
	got, err := w.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: aws.String("alice"), PolicyName: aws.String("p")})
	if text, decodeErr := url.PathUnescape(aws.ToString(got.PolicyDocument)); err != nil || decodeErr != nil || text != doc {
		t.Errorf("GetUserPolicy = %q, %v, %v", text, err, decodeErr)
	}
	long := `{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:kms:us-east-1:111122223333:key/` + strings.Repeat("x", 2048) + `"}}`
	_, err = w.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String("alice"), PolicyName: aws.String("q"), PolicyDocument: aws.String(long)})
	w.want("a long inline policy", err, "LimitExceeded", "Maximum policy size of 2048 bytes exceeded for user alice")

	created, err := w.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("keys"), PolicyDocument: aws.String(doc)})
	if err != nil {
		t.Fatal(err)
	}
	policyARN := created.Policy.Arn
	w.attach("alice", *policyARN)
	w.attach("alice", *policyARN) // again is no error
	_, err = w.iam.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: policyARN})
	w.want("DeletePolicy while attached", err, "DeleteConflict", "Cannot delete a policy attached to entities.")
	for range 4 {
		_, err = w.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: policyARN, PolicyDocument: aws.String(doc), SetAsDefault: true})
		w.want("CreatePolicyVersion", err, "", "")
	}
	_, err = w.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: policyARN, PolicyDocument: aws.String(doc)})
	w.want("a sixth version", err, "LimitExceeded", "up to 5 versions")
	_, err = w.iam.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: policyARN, VersionId: aws.String("v5")})
	w.want("deleting the default version", err, "DeleteConflict", "")
	_, err = w.iam.SetDefaultPolicyVersion(ctx, &iam.SetDefaultPolicyVersionInput{PolicyArn: policyARN, VersionId: aws.String("v1")})
	w.want("SetDefaultPolicyVersion", err, "", "")
	holders, err := w.iam.ListEntitiesForPolicy(ctx, &iam.ListEntitiesForPolicyInput{PolicyArn: policyARN})
	if err != nil || len(holders.PolicyUsers) != 1 {
		t.Errorf("ListEntitiesForPolicy = %v, %v", holders, err)
	}
	local, err := w.iam.ListPolicies(ctx, &iam.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal, OnlyAttached: true})
	if err != nil || len(local.Policies) != 1 || *local.Policies[0].AttachmentCount != 1 {
		t.Errorf("ListPolicies = %v, %v", local, err)
	}
	_, err = w.iam.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: aws.String("alice"), PolicyArn: policyARN})
	w.want("DetachUserPolicy", err, "", "")
	_, err = w.iam.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: aws.String("alice"), PolicyArn: policyARN})
	w.want("DetachUserPolicy again", err, "NoSuchEntity", "")
	_, err = w.iam.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: aws.String("alice"), PolicyArn: aws.String("arn:aws:iam::aws:policy/NoSuch")})
	w.want("a policy that does not exist", err, "NoSuchEntity", "does not exist or is not attachable")
	_, err = w.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: aws.String(admin), PolicyDocument: aws.String(doc)})
	w.want("changing AWS's policy", err, "AccessDenied", "")
}

func TestRolesAndTheirSessions(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	aliceConfig := w.user("alice")
	alice := sts.NewFromConfig(aliceConfig)
	trust := func(principal, more string) *string {
		return aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":["sts:AssumeRole","sts:TagSession"]` + more + `}]}`)
	}
	_, err := w.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("app"), AssumeRolePolicyDocument: trust("arn:aws:iam::111122223333:user/nobody", "")})
	w.want("a trust policy that names nobody", err, "MalformedPolicyDocument", "Invalid principal in policy")
	role, err := w.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("app"), AssumeRolePolicyDocument: trust("111122223333", "")})
	if err != nil {
		t.Fatal(err)
	}
	assume := func(more func(*sts.AssumeRoleInput)) (*ststypes.Credentials, error) {
		in := &sts.AssumeRoleInput{RoleArn: role.Role.Arn, RoleSessionName: aws.String("s1")}
		more(in)
		out, err := alice.AssumeRole(ctx, in)
		if err != nil {
			return nil, err
		}
		return out.Credentials, nil
	}
	plain := func(*sts.AssumeRoleInput) {}
	_, err = assume(plain)
	w.want("delegated, without an identity policy", err, "AccessDenied",
		"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: sts:AssumeRole on resource: arn:aws:iam::111122223333:role/app")
	_, err = w.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("app"),
		PolicyDocument: trust("arn:aws:iam::111122223333:user/alice", `,"Condition":{"StringEquals":{"sts:ExternalId":"x1"}}`)})
	w.want("UpdateAssumeRolePolicy", err, "", "")
	_, err = assume(plain)
	w.want("without the external id", err, "AccessDenied", "")
	external := func(in *sts.AssumeRoleInput) { in.ExternalId = aws.String("x1") }
	_, err = assume(external)
	w.want("named, with the external id", err, "", "")
	_, err = assume(func(in *sts.AssumeRoleInput) { external(in); in.DurationSeconds = aws.Int32(7200) })
	w.want("longer than the role allows", err, "ValidationError", "exceeds the MaxSessionDuration set for this role")
	_, err = assume(func(in *sts.AssumeRoleInput) {
		external(in)
		in.Tags = []ststypes.Tag{{Key: aws.String("a"), Value: aws.String("1")}, {Key: aws.String("A"), Value: aws.String("2")}}
	})
	w.want("a tag twice", err, "ValidationError", "Duplicate tag keys found")

	_, err = w.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: aws.String("app"), PolicyArn: aws.String(admin)})
	w.want("AttachRolePolicy", err, "", "")
	limited, err := assume(func(in *sts.AssumeRoleInput) {
		external(in)
		in.Policy = aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:GetUser","Resource":"*"}]}`)
	})
	if err != nil {
		t.Fatal(err)
	}
	session := iam.NewFromConfig(config(w.srv, *limited.AccessKeyId, *limited.SecretAccessKey, *limited.SessionToken))
	_, err = session.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("alice")})
	w.want("within the session policy", err, "", "")
	_, err = session.ListUsers(ctx, &iam.ListUsersInput{})
	w.want("beyond the session policy", err, "AccessDenied", "because no session policy allows the iam:ListUsers action")
	_, err = iam.NewFromConfig(config(w.srv, *limited.AccessKeyId, *limited.SecretAccessKey, "")).ListUsers(ctx, &iam.ListUsersInput{})
	w.want("without the session token", err, "InvalidClientTokenId", "")

	_, err = w.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: aws.String("app"), PolicyArn: aws.String(admin)})
	w.want("DetachRolePolicy", err, "", "")
	_, err = w.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String("app")})
	w.want("DeleteRole", err, "", "")
	_, err = session.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("alice")})
	w.want("a session of a deleted role", err, "InvalidClientTokenId", "")
	_, err = assume(plain)
	w.want("a role that does not exist", err, "AccessDenied", "is not authorized to perform: sts:AssumeRole")
}

func TestSessionsOfUsers(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.user("alice")
	w.attach("alice", admin)
	alice := sts.NewFromConfig(c)
	own, err := alice.GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	k := own.Credentials
	session := config(w.srv, *k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)
	who, err := sts.NewFromConfig(session).GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != "arn:aws:iam::111122223333:user/alice" {
		t.Errorf("GetSessionToken is %v, %v", who, err)
	}
	_, err = iam.NewFromConfig(session).ListUsers(ctx, &iam.ListUsersInput{})
	w.want("IAM with GetSessionToken credentials", err, "InvalidClientTokenId", "")
	_, err = sts.NewFromConfig(session).GetSessionToken(ctx, nil)
	w.want("GetSessionToken with session credentials", err, "AccessDenied", "Cannot call GetSessionToken with session credentials")

	federated, err := alice.GetFederationToken(ctx, &sts.GetFederationTokenInput{Name: aws.String("guest"),
		Policy: aws.String(`{"Statement":{"Effect":"Allow","Action":"kms:ListKeys","Resource":"*"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	k = federated.Credentials
	who, err = sts.NewFromConfig(config(w.srv, *k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)).GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != "arn:aws:sts::111122223333:federated-user/guest" || *who.UserId != "111122223333:guest" {
		t.Errorf("GetFederationToken is %v, %v", who, err)
	}
	info, err := alice.GetAccessKeyInfo(ctx, &sts.GetAccessKeyInfoInput{AccessKeyId: aws.String("AKIAIOSFODNN7EXAMPLE")})
	w.want("an unknown access key", err, "ValidationError", "does not exist in our records")
	_ = info
}

func TestBoundaries(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice := iam.NewFromConfig(w.user("alice"))
	w.attach("alice", admin)
	boundary, err := w.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("b"),
		PolicyDocument: aws.String(`{"Statement":{"Effect":"Allow","Action":"iam:Get*","Resource":"*"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.iam.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: aws.String("alice"), PermissionsBoundary: boundary.Policy.Arn})
	w.want("PutUserPermissionsBoundary", err, "", "")
	_, err = alice.GetUser(ctx, &iam.GetUserInput{})
	w.want("within the boundary", err, "", "")
	_, err = alice.ListUsers(ctx, &iam.ListUsersInput{})
	w.want("beyond the boundary", err, "AccessDenied", "because no permissions boundary allows the iam:ListUsers action")
	_, err = w.iam.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: boundary.Policy.Arn})
	w.want("deleting a boundary in use", err, "DeleteConflict", "")
	_, err = w.iam.DeleteUserPermissionsBoundary(ctx, &iam.DeleteUserPermissionsBoundaryInput{UserName: aws.String("alice")})
	w.want("DeleteUserPermissionsBoundary", err, "", "")
	_, err = alice.ListUsers(ctx, &iam.ListUsersInput{})
	w.want("without the boundary", err, "", "")
	_, err = w.iam.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: boundary.Policy.Arn})
	w.want("deleting the boundary", err, "", "")
}

func TestTagsAndPaths(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	tag := func(k, v string) types.Tag { return types.Tag{Key: &k, Value: &v} }
	for _, path := range []string{"/a/", "/a/b/", "/c/"} {
		name := "u" + strings.ReplaceAll(path, "/", "-")
		if _, err := w.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &name, Path: &path, Tags: []types.Tag{tag("path", path)}}); err != nil {
			t.Fatal(err)
		}
	}
	under, err := w.iam.ListUsers(ctx, &iam.ListUsersInput{PathPrefix: aws.String("/a/")})
	if err != nil || len(under.Users) != 2 {
		t.Errorf("ListUsers under /a/ = %v, %v", under, err)
	}
	var names []string
	pages := iam.NewListUsersPaginator(w.iam, &iam.ListUsersInput{MaxItems: aws.Int32(1)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, u := range page.Users {
			names = append(names, *u.UserName)
		}
	}
	if len(names) != 3 {
		t.Errorf("users by pages: %q", names)
	}
	_, err = w.iam.TagUser(ctx, &iam.TagUserInput{UserName: aws.String("u-c-"), Tags: []types.Tag{tag("PATH", "x"), tag("aws:y", "z")}})
	w.want("a reserved tag", err, "InvalidInput", "aws: is reserved")
	_, err = w.iam.TagUser(ctx, &iam.TagUserInput{UserName: aws.String("u-c-"), Tags: []types.Tag{tag("PATH", "x")}})
	w.want("TagUser", err, "", "")
	tags, err := w.iam.ListUserTags(ctx, &iam.ListUserTagsInput{UserName: aws.String("u-c-")})
	if err != nil || len(tags.Tags) != 1 || *tags.Tags[0].Key != "PATH" {
		t.Errorf("tags that differ in case are one: %v, %v", tags, err)
	}
	_, err = w.iam.UntagUser(ctx, &iam.UntagUserInput{UserName: aws.String("u-c-"), TagKeys: []string{"path"}})
	w.want("UntagUser", err, "", "")
}

func TestAccessKeys(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	c := w.user("alice")
	alice := sts.NewFromConfig(c)
	first, err := c.Credentials.Retrieve(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("alice")})
	w.want("a second key", err, "", "")
	_, err = w.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("alice")})
	w.want("a third key", err, "LimitExceeded", "Cannot exceed quota for AccessKeysPerUser: 2")
	for _, status := range []types.StatusType{types.StatusTypeInactive, types.StatusTypeActive} {
		_, err = w.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: aws.String("alice"), AccessKeyId: &first.AccessKeyID, Status: status})
		w.want("UpdateAccessKey", err, "", "")
		_, err = alice.GetCallerIdentity(ctx, nil)
		w.want("with a key that is "+string(status), err, map[types.StatusType]string{types.StatusTypeInactive: "InvalidClientTokenId"}[status], "")
	}
	keys, err := w.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: aws.String("alice")})
	if err != nil || len(keys.AccessKeyMetadata) != 2 {
		t.Errorf("ListAccessKeys = %v, %v", keys, err)
	}
	_, err = w.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("alice"), AccessKeyId: &first.AccessKeyID})
	w.want("DeleteAccessKey", err, "", "")
	_, err = alice.GetCallerIdentity(ctx, nil)
	w.want("with a deleted key", err, "InvalidClientTokenId", "")
	_, err = w.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("alice"), AccessKeyId: &first.AccessKeyID})
	w.want("DeleteAccessKey again", err, "NoSuchEntity", "The Access Key with id")
}
