package server_test

import (
	"bytes"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/server"
)

// An installation is a server with clients for its two services.
type installation struct {
	t   *testing.T
	kms *kms.Client
	iam *iam.Client
	s   *server.Server
	end func()
}

func install(t *testing.T, dir string) *installation {
	t.Helper()
	s := mustOpen(t, server.Config{Dir: dir, RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}})
	srv := httptest.NewServer(s.Handler())
	who := credentials.NewStaticCredentialsProvider("test", "test", "")
	return &installation{t, kms.New(kms.Options{BaseEndpoint: &srv.URL, Region: "us-east-1", Credentials: who, Retryer: aws.NopRetryer{}, HTTPClient: srv.Client()}),
		iam.New(iam.Options{BaseEndpoint: &srv.URL, Region: "us-east-1", Credentials: who, Retryer: aws.NopRetryer{}, HTTPClient: srv.Client()}),
		s, func() { srv.Close(); closeServer(t, s) }}
}

func (i *installation) key(alias string) string {
	i.t.Helper()
	out, err := i.kms.CreateKey(i.t.Context(), &kms.CreateKeyInput{Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("red")}}})
	if err != nil {
		i.t.Fatal(err)
	}
	if _, err := i.kms.CreateAlias(i.t.Context(), &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: out.KeyMetadata.KeyId}); err != nil {
		i.t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId
}

const (
	rootOnly  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`
	aliceToo  = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:root","arn:aws:iam::111122223333:user/alice"]},"Action":"kms:*","Resource":"*"}]}`
	mayUse    = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}]}`
	mayNot    = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*"}]}`
	trustRoot = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}`
)

// must fails the test unless a call, whose answer does not matter, succeeded.
func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// After a backup permissions are taken away in every way that can be made again, and
// something happens that cannot. What comes from the backup has all of it, and says so.
func TestAcceptRestore(t *testing.T) {
	ctx, dir, restored := t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "restored")
	i := install(t, dir)
	keys := map[string]string{}
	for _, name := range []string{"policy", "deleted", "tags", "untags", "aliased", "renamed"} {
		keys[name] = i.key("alias/" + name)
	}
	user := must[*iam.CreateUserOutput](t)
	policy := must[*iam.PutUserPolicyOutput](t)
	for _, name := range []string{"alice", "bob", "carol", "dave"} {
		user(i.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &name}))
		policy(i.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("use"), PolicyDocument: aws.String(mayUse)}))
	}
	must[*kms.PutKeyPolicyOutput](t)(i.kms.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: aws.String(keys["policy"]), Policy: aws.String(aliceToo)}))
	managed := must[*iam.CreatePolicyOutput](t)(i.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("managed"), PolicyDocument: aws.String(mayUse)}))
	must[*iam.AttachUserPolicyOutput](t)(i.iam.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: aws.String("bob"), PolicyArn: managed.Policy.Arn}))
	must[*iam.CreateGroupOutput](t)(i.iam.CreateGroup(ctx, &iam.CreateGroupInput{GroupName: aws.String("team")}))
	must[*iam.AddUserToGroupOutput](t)(i.iam.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("team"), UserName: aws.String("bob")}))
	must[*iam.CreateRoleOutput](t)(i.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("role"), AssumeRolePolicyDocument: aws.String(trustRoot)}))
	must[*iam.CreateRoleOutput](t)(i.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("kept"), AssumeRolePolicyDocument: aws.String(trustRoot),
		Tags: []iamtypes.Tag{{Key: aws.String("team"), Value: aws.String("red")}}}))
	inactive := must[*iam.CreateAccessKeyOutput](t)(i.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("bob")}))
	removed := must[*iam.CreateAccessKeyOutput](t)(i.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("bob")}))
	grant := must[*kms.CreateGrantOutput](t)(i.kms.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: aws.String(keys["tags"]),
		GranteePrincipal: aws.String("arn:aws:iam::111122223333:user/bob"), Operations: []types.GrantOperation{"Encrypt", "RetireGrant"}}))

	var text bytes.Buffer
	if err := i.s.Backup(ctx, &text, nil); err != nil {
		t.Fatal(err)
	}
	must[*kms.PutKeyPolicyOutput](t)(i.kms.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: aws.String(keys["policy"]), Policy: aws.String(rootOnly)}))
	must[*kms.ScheduleKeyDeletionOutput](t)(i.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: aws.String(keys["deleted"]), PendingWindowInDays: aws.Int32(9)}))
	must[*kms.TagResourceOutput](t)(i.kms.TagResource(ctx, &kms.TagResourceInput{KeyId: aws.String(keys["tags"]), Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("blue")}}}))
	must[*kms.UntagResourceOutput](t)(i.kms.UntagResource(ctx, &kms.UntagResourceInput{KeyId: aws.String(keys["untags"]), TagKeys: []string{"team"}}))
	must[*kms.DeleteAliasOutput](t)(i.kms.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/aliased")}))
	must[*kms.UpdateAliasOutput](t)(i.kms.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/renamed"), TargetKeyId: aws.String(keys["tags"])}))
	must[*kms.RetireGrantOutput](t)(i.kms.RetireGrant(ctx, &kms.RetireGrantInput{GrantToken: grant.GrantToken}))
	must[*iam.DetachUserPolicyOutput](t)(i.iam.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: aws.String("bob"), PolicyArn: managed.Policy.Arn}))
	must[*iam.RemoveUserFromGroupOutput](t)(i.iam.RemoveUserFromGroup(ctx, &iam.RemoveUserFromGroupInput{GroupName: aws.String("team"), UserName: aws.String("bob")}))
	must[*iam.UpdateAccessKeyOutput](t)(i.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: aws.String("bob"), AccessKeyId: inactive.AccessKey.AccessKeyId, Status: "Inactive"}))
	must[*iam.DeleteAccessKeyOutput](t)(i.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("bob"), AccessKeyId: removed.AccessKey.AccessKeyId}))
	policy(i.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String("carol"), PolicyName: aws.String("use"), PolicyDocument: aws.String(mayNot)}))
	must[*iam.DeleteUserPolicyOutput](t)(i.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: aws.String("dave"), PolicyName: aws.String("use")}))
	must[*iam.DeleteUserOutput](t)(i.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("dave")}))
	must[*iam.DeleteRoleOutput](t)(i.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String("role")}))
	must[*iam.CreatePolicyVersionOutput](t)(i.iam.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: managed.Policy.Arn, PolicyDocument: aws.String(mayNot), SetAsDefault: true}))
	must[*iam.UpdateAssumeRolePolicyOutput](t)(i.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("kept"),
		PolicyDocument: aws.String(strings.Replace(trustRoot, "Allow", "Deny", 1))}))
	must[*iam.UntagRoleOutput](t)(i.iam.UntagRole(ctx, &iam.UntagRoleInput{RoleName: aws.String("kept"), TagKeys: []string{"team"}}))
	must[*iam.TagUserOutput](t)(i.iam.TagUser(ctx, &iam.TagUserInput{UserName: aws.String("carol"), Tags: []iamtypes.Tag{{Key: aws.String("left"), Value: aws.String("yes")}}}))
	must[*iam.AddUserToGroupOutput](t)(i.iam.AddUserToGroup(ctx, &iam.AddUserToGroupInput{GroupName: aws.String("team"), UserName: aws.String("carol")}))
	since := i.key("alias/since")
	if _, err := i.s.AddSeal(ctx, "spare", seal.Options{Kind: "file", KeyFile: filepath.Join(t.TempDir(), "spare.key")}); err != nil {
		t.Fatal(err)
	}
	if err := i.s.RemoveSeal(ctx, "nothing", true); err == nil {
		t.Fatal("a seal was removed that there is not")
	}
	i.end()

	c := restoredFrom(t, dir, restored, text.Bytes())
	r, err := server.AcceptRestore(ctx, c, 0, false)
	if !errors.Is(err, server.ErrNotAccepted) {
		t.Fatalf("AcceptRestore = %v, want ErrNotAccepted", err)
	}
	events := func(changes []server.Change) (names []string) {
		for _, c := range changes {
			names = append(names, c.Event[strings.LastIndexByte(c.Event, ' ')+1:])
		}
		return names
	}
	if got := events(r.Open); !slices.Equal(got, []string{"CreateAlias"}) {
		t.Errorf("to be looked at: %v", got)
	}
	if got := events(r.Lost); !slices.Equal(got, []string{"CreateKey"}) || !strings.HasSuffix(r.Lost[0].Resources[0], since) {
		t.Errorf("lost: %v", r.Lost)
	}
	if got := events(r.Seals); !slices.Equal(got, []string{"AddSeal"}) {
		t.Errorf("seals changed: %v", got)
	}
	if _, err := server.AcceptRestore(ctx, c, len(r.Open)+len(r.Lost)+len(r.Seals), false); err != nil {
		t.Fatal(err)
	}

	i = install(t, restored)
	defer i.end()
	if p := must[*kms.GetKeyPolicyOutput](t)(i.kms.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: aws.String(keys["policy"])})); strings.Contains(*p.Policy, "alice") {
		t.Error("the old key policy is back")
	}
	if k := must[*kms.DescribeKeyOutput](t)(i.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String(keys["deleted"])})); k.KeyMetadata.KeyState != "PendingDeletion" {
		t.Errorf("the key to be deleted is %s", k.KeyMetadata.KeyState)
	}
	for name, want := range map[string]string{"tags": "blue", "untags": ""} {
		got := ""
		for _, tag := range must[*kms.ListResourceTagsOutput](t)(i.kms.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: aws.String(keys[name])})).Tags {
			got += *tag.TagValue
		}
		if got != want {
			t.Errorf("tags of %s: %q, want %q", name, got, want)
		}
	}
	if _, err := i.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/aliased")}); err == nil {
		t.Error("a deleted alias is back")
	}
	if k := must[*kms.DescribeKeyOutput](t)(i.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/renamed")})); *k.KeyMetadata.KeyId != keys["tags"] {
		t.Error("an alias leads to its old key")
	}
	if g := must[*kms.ListGrantsOutput](t)(i.kms.ListGrants(ctx, &kms.ListGrantsInput{KeyId: aws.String(keys["tags"])})); len(g.Grants) != 0 {
		t.Error("a retired grant is back")
	}
	if a := must[*iam.ListAttachedUserPoliciesOutput](t)(i.iam.ListAttachedUserPolicies(ctx, &iam.ListAttachedUserPoliciesInput{UserName: aws.String("bob")})); len(a.AttachedPolicies) != 0 {
		t.Error("a detached policy is back")
	}
	if g := must[*iam.GetGroupOutput](t)(i.iam.GetGroup(ctx, &iam.GetGroupInput{GroupName: aws.String("team")})); len(g.Users) != 1 || *g.Users[0].UserName != "carol" {
		t.Error("a member that left is back")
	}
	if k := must[*iam.ListAccessKeysOutput](t)(i.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: aws.String("bob")})); len(k.AccessKeyMetadata) != 1 || k.AccessKeyMetadata[0].Status != "Inactive" {
		t.Errorf("access keys: %+v", k.AccessKeyMetadata)
	}
	if p := must[*iam.GetPolicyOutput](t)(i.iam.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: managed.Policy.Arn})); *p.Policy.DefaultVersionId != "v2" {
		t.Errorf("the managed policy's version in force is %s", *p.Policy.DefaultVersionId)
	}
	kept := must[*iam.GetRoleOutput](t)(i.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("kept")}))
	if !strings.Contains(*kept.Role.AssumeRolePolicyDocument, "Deny") || len(kept.Role.Tags) != 0 {
		t.Errorf("the old trust policy or tags of a role are back: %s, %v", *kept.Role.AssumeRolePolicyDocument, kept.Role.Tags)
	}
	if u := must[*iam.GetUserOutput](t)(i.iam.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("carol")})); len(u.User.Tags) != 1 {
		t.Errorf("a tag of a user is gone")
	}
	if p := must[*iam.GetUserPolicyOutput](t)(i.iam.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: aws.String("carol"), PolicyName: aws.String("use")})); !strings.Contains(*p.PolicyDocument, "Deny") {
		t.Error("the old inline policy is back")
	}
	if _, err := i.iam.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("dave")}); err == nil {
		t.Error("a deleted user is back")
	}
	if _, err := i.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: aws.String("role")}); err == nil {
		t.Error("a deleted role is back")
	}
}

// restoredFrom restores a backup of a directory into another one, with the audit log
// and the root key.
func restoredFrom(t *testing.T, dir, restored string, backup []byte) server.Config {
	t.Helper()
	c := server.Config{Dir: restored, Account: "111122223333"}
	if err := os.CopyFS(server.AuditDir(restored), os.DirFS(server.AuditDir(dir))); err != nil {
		t.Fatal(err)
	}
	root, err := os.ReadFile(filepath.Join(dir, "root.key"))
	if err == nil {
		err = os.WriteFile(filepath.Join(restored, "root.key"), root, 0o600)
	}
	if err == nil {
		_, err = server.Restore(t.Context(), c, []io.Reader{bytes.NewReader(backup)}, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The power went after a change was acknowledged and before its outcome was on the disk:
// it is made again, since nobody knows that it did not happen. A deletion that was
// cancelled stays so.
func TestAcceptRestoreWithoutOutcomes(t *testing.T) {
	ctx, dir, restored := t.Context(), t.TempDir(), filepath.Join(t.TempDir(), "restored")
	i := install(t, dir)
	disabled, kept := i.key("alias/disabled"), i.key("alias/kept")
	var text bytes.Buffer
	if err := i.s.Backup(ctx, &text, nil); err != nil {
		t.Fatal(err)
	}
	must[*kms.ScheduleKeyDeletionOutput](t)(i.kms.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: &kept, PendingWindowInDays: aws.Int32(7)}))
	must[*kms.CancelKeyDeletionOutput](t)(i.kms.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: &kept}))
	must[*kms.DisableKeyOutput](t)(i.kms.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &disabled}))
	i.end()
	c := restoredFrom(t, dir, restored, text.Bytes())
	path := filepath.Join(server.AuditDir(restored), "audit-000001.jsonl")
	log, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	outcome := bytes.LastIndexByte(log[:bytes.LastIndex(log, []byte(`"committed":true`))], '\n') + 1
	if err := errors.Join(os.WriteFile(path, log[:outcome], 0o600), os.Remove(filepath.Join(server.AuditDir(restored), "checkpoint"))); err != nil {
		t.Fatal(err)
	}
	if _, err := server.AcceptRestore(ctx, c, 0, false); err != nil {
		t.Fatal(err)
	}
	i = install(t, restored)
	defer i.end()
	for _, id := range []string{disabled, kept} {
		if k := must[*kms.DescribeKeyOutput](t)(i.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})); k.KeyMetadata.KeyState != "Disabled" {
			t.Errorf("the key is %s", k.KeyMetadata.KeyState)
		}
	}
}
