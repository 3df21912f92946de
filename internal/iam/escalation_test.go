package iam_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"
)

// put gives a user one inline policy of the given statements.
func (w world) put(user string, statements ...string) {
	w.t.Helper()
	doc := `{"Version":"2012-10-17","Statement":[{` + strings.Join(statements, "},{") + `}]}`
	if _, err := w.iam.PutUserPolicy(w.t.Context(), &iam.PutUserPolicyInput{UserName: &user, PolicyName: aws.String("p"), PolicyDocument: &doc}); err != nil {
		w.t.Fatal(err)
	}
}

func statement(effect, actions, resource, more string) string {
	return `"Effect":"` + effect + `","Action":["` + strings.ReplaceAll(actions, " ", `","`) + `"],"Resource":"` + resource + `"` + more
}

// A user may not move itself to where it has no permission.
func TestRenameNeedsBothNames(t *testing.T) {
	w := newWorld(t)
	mal := iam.NewFromConfig(w.user("mal"))
	w.put("mal", statement("Allow", "iam:UpdateUser", "arn:aws:iam::111122223333:user/mal", ""))
	_, err := mal.UpdateUser(t.Context(), &iam.UpdateUserInput{UserName: aws.String("mal"), NewPath: aws.String("/admin/")})
	w.want("to another path", err, "AccessDenied", "on resource: arn:aws:iam::111122223333:user/admin/mal")
	_, err = mal.UpdateUser(t.Context(), &iam.UpdateUserInput{UserName: aws.String("mal"), NewUserName: aws.String("root2")})
	w.want("to another name", err, "AccessDenied", "")
}

// Whoever may create principals may not therefore give them tags.
func TestTagsOnCreationNeedTheirPermission(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	creator := iam.NewFromConfig(w.user("creator"))
	w.put("creator", statement("Allow", "iam:Create*", "*", ""))
	tags := []types.Tag{{Key: aws.String("team"), Value: aws.String("admins")}}
	const doc = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}`
	_, err := creator.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("u"), Tags: tags})
	w.want("CreateUser", err, "AccessDenied", "iam:TagUser")
	_, err = creator.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: aws.String(trust), Tags: tags})
	w.want("CreateRole", err, "AccessDenied", "iam:TagRole")
	_, err = creator.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(doc), Tags: tags})
	w.want("CreatePolicy", err, "AccessDenied", "iam:TagPolicy")
}

// Denies that depend on the boundary there is, and on tags, hold.
func TestDeniesByBoundaryAndTags(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	w.user("bob")
	boundary, err := w.iam.CreatePolicy(ctx, &iam.CreatePolicyInput{PolicyName: aws.String("b"), Tags: []types.Tag{{Key: aws.String("tier"), Value: aws.String("prod")}},
		PolicyDocument: aws.String(`{"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.iam.PutUserPermissionsBoundary(ctx, &iam.PutUserPermissionsBoundaryInput{UserName: aws.String("bob"), PermissionsBoundary: boundary.Policy.Arn}); err != nil {
		t.Fatal(err)
	}
	alice := iam.NewFromConfig(w.user("alice"))
	w.put("alice", statement("Allow", "iam:*", "*", ""),
		statement("Deny", "iam:DeleteUserPermissionsBoundary iam:PutUserPolicy", "*", `,"Condition":{"StringEquals":{"iam:PermissionsBoundary":"`+*boundary.Policy.Arn+`"}}`),
		statement("Deny", "iam:TagPolicy", "*", `,"Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":"team"}}`),
		statement("Deny", "iam:DeletePolicy", "*", `,"Condition":{"StringEquals":{"aws:ResourceTag/tier":"prod"}}`))
	_, err = alice.DeleteUserPermissionsBoundary(ctx, &iam.DeleteUserPermissionsBoundaryInput{UserName: aws.String("bob")})
	w.want("removing the boundary", err, "AccessDenied", "explicit deny")
	_, err = alice.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String("bob"), PolicyName: aws.String("x"), PolicyDocument: aws.String(`{}`)})
	w.want("a policy for a bounded user", err, "AccessDenied", "explicit deny")
	_, err = alice.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: boundary.Policy.Arn, Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("a")}}})
	w.want("a tag that is denied", err, "AccessDenied", "explicit deny")
	_, err = alice.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: boundary.Policy.Arn})
	w.want("a policy whose tag is denied", err, "AccessDenied", "explicit deny")
}

// Refusals do not tell who exists, nor how they are spelled.
func TestRefusalsTellNothing(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	if _, err := w.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("hidden"), Path: aws.String("/secret/")}); err != nil {
		t.Fatal(err)
	}
	nobody := iam.NewFromConfig(w.user("nobody"))
	for _, name := range []string{"HIDDEN", "none"} {
		_, err := nobody.GetUser(ctx, &iam.GetUserInput{UserName: &name})
		w.want("GetUser "+name, err, "AccessDenied", "on resource: arn:aws:iam::111122223333:user/"+name+" because")
	}
	for _, user := range []string{"secret/hidden", "secret/none"} {
		trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/` + user + `"},"Action":"sts:AssumeRole"}]}`
		_, err := nobody.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: &trust})
		w.want("CreateRole trusting "+user, err, "AccessDenied", "iam:CreateRole")
	}
}

// A source identity, once set, stays, and every role on the way must accept it;
// tags of roles count; inherited tags are bounded.
func TestRoleChains(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice := w.user("alice")
	w.put("alice", statement("Allow", "sts:*", "*", ""),
		statement("Deny", "sts:AssumeRole", "*", `,"Condition":{"StringEquals":{"aws:ResourceTag/tier":"prod"}}`))
	role := func(name, actions string, tags ...types.Tag) string {
		trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["` + strings.ReplaceAll(actions, " ", `","`) + `"]}]}`
		out, err := w.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust, Tags: tags})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &name, PolicyArn: aws.String(admin)}); err != nil {
			t.Fatal(err)
		}
		return *out.Role.Arn
	}
	first, second := role("first", "sts:AssumeRole sts:SetSourceIdentity sts:TagSession"), role("second", "sts:AssumeRole sts:SetSourceIdentity sts:TagSession")
	plain, prod := role("plain", "sts:AssumeRole"), role("prod", "sts:AssumeRole", types.Tag{Key: aws.String("tier"), Value: aws.String("prod")})
	assume := func(c aws.Config, in *sts.AssumeRoleInput) (aws.Config, *sts.AssumeRoleOutput, error) {
		in.RoleSessionName = aws.String("s1")
		out, err := sts.NewFromConfig(c).AssumeRole(ctx, in)
		if err != nil {
			return aws.Config{}, nil, err
		}
		k := out.Credentials
		return config(w.srv, *k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken), out, nil
	}
	_, _, err := assume(alice, &sts.AssumeRoleInput{RoleArn: &prod})
	w.want("a role whose tag is denied", err, "AccessDenied", "")
	one, out, err := assume(alice, &sts.AssumeRoleInput{RoleArn: &first, SourceIdentity: aws.String("alice")})
	if err != nil || aws.ToString(out.SourceIdentity) != "alice" {
		t.Fatalf("with a source identity: %v, %v", out, err)
	}
	_, _, err = assume(one, &sts.AssumeRoleInput{RoleArn: &second, SourceIdentity: aws.String("ceo")})
	w.want("another source identity", err, "AccessDenied", "cannot be changed")
	_, _, err = assume(one, &sts.AssumeRoleInput{RoleArn: &plain})
	w.want("a role that does not accept one", err, "AccessDenied", "")
	_, out, err = assume(one, &sts.AssumeRoleInput{RoleArn: &second})
	if err != nil || aws.ToString(out.SourceIdentity) != "alice" {
		t.Errorf("carried on: %v, %v", out, err)
	}
	var tags []ststypes.Tag
	var keys []string
	for i := range 50 {
		k := "k" + string(rune('a'+i%26)) + string(rune('a'+i/26))
		tags, keys = append(tags, ststypes.Tag{Key: &k, Value: aws.String("v")}), append(keys, k)
	}
	tagged, _, err := assume(alice, &sts.AssumeRoleInput{RoleArn: &first, Tags: tags, TransitiveTagKeys: keys})
	w.want("fifty tags", err, "", "")
	_, _, err = assume(tagged, &sts.AssumeRoleInput{RoleArn: &second, Tags: []ststypes.Tag{{Key: aws.String("more"), Value: aws.String("v")}}})
	w.want("one more than fifty", err, "ValidationError", "more than 50 tags")
}

// A session is of the user, whatever the user is called.
func TestSessionSurvivesARename(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	out, err := sts.NewFromConfig(w.user("alice")).GetSessionToken(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	k := out.Credentials
	if _, err := w.iam.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("alice"), NewUserName: aws.String("alicia")}); err != nil {
		t.Fatal(err)
	}
	who, err := sts.NewFromConfig(config(w.srv, *k.AccessKeyId, *k.SecretAccessKey, *k.SessionToken)).GetCallerIdentity(ctx, nil)
	if err != nil || *who.Arn != "arn:aws:iam::111122223333:user/alicia" {
		t.Errorf("after a rename: %v, %v", who, err)
	}
}

func TestPolicyTexts(t *testing.T) {
	w := newWorld(t)
	w.user("alice")
	tests := map[string]string{
		`{"Version":"2020-01-01","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`:                                                 "valid version string",
		`{"Statement":[{"Effect":"Allow","Action":"foo","Resource":"*"}]}`:                                                                          "must be prefaced by a vendor",
		`{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"x"}]}`:                                                                        "must be in ARN format",
		`{"Statement":[{"Effect":"Allow","Action":"kms:*"}]}`:                                                                                       "must contain resources",
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`:                                                        "should not specify a principal",
		`{"Statement":[{"Sid":"a","Effect":"Allow","Action":"kms:*","Resource":"*"},{"Sid":"a","Effect":"Allow","Action":"kms:*","Resource":"*"}]}`: "must be unique",
		`{"Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*","Condition":{"StringEqals":{}}}]}`:                                         "Syntax errors in policy.",
	}
	for doc, want := range tests {
		_, err := w.iam.PutUserPolicy(t.Context(), &iam.PutUserPolicyInput{UserName: aws.String("alice"), PolicyName: aws.String("p"), PolicyDocument: &doc})
		w.want(doc, err, "MalformedPolicyDocument", want)
	}
	for doc, want := range map[string]string{
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject"}]}`:                                            "may only specify STS AssumeRole actions",
		`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Resource":"*"}]}`:                           "Has prohibited field Resource",
		`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/zed"},"Action":"sts:AssumeRole"}]}`: `Invalid principal in policy: "AWS":"arn:aws:iam::111122223333:user/zed"`,
	} {
		_, err := w.iam.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String("r"), AssumeRolePolicyDocument: &doc})
		w.want(doc, err, "MalformedPolicyDocument", want)
	}
}

// Permissions that depend on tags, those of the request and those of what it is
// about, reach as far as they say.
func TestPermissionsByTags(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	tag := func(key, value string) []types.Tag { return []types.Tag{{Key: &key, Value: &value}} }
	condition := func(operator, key, value string) string {
		return `,"Condition":{"` + operator + `":{"` + key + `":"` + value + `"}}`
	}
	alice := iam.NewFromConfig(w.user("alice"))
	w.put("alice",
		statement("Allow", "iam:CreateUser iam:TagUser", "*", condition("StringEquals", "aws:RequestTag/team", "red")),
		statement("Allow", "iam:DeleteUser iam:GetUser", "*", condition("StringEquals", "aws:ResourceTag/TEAM", "red")),
		statement("Allow", "iam:UntagUser", "*", condition("ForAllValues:StringEquals", "aws:TagKeys", "note")))
	for _, user := range []struct{ name, team, code string }{{"red", "red", ""}, {"blue", "blue", "AccessDenied"}} {
		_, err := alice.CreateUser(ctx, &iam.CreateUserInput{UserName: &user.name, Tags: tag("team", user.team)})
		w.want("CreateUser of team "+user.team, err, user.code, "")
	}
	_, err := alice.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("plain")})
	w.want("CreateUser without tags", err, "AccessDenied", "")
	_, err = w.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("blue"), Tags: tag("team", "blue")})
	w.want("CreateUser by root", err, "", "")
	_, err = alice.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("blue")})
	w.want("GetUser of another team", err, "AccessDenied", "")
	_, err = alice.GetUser(ctx, &iam.GetUserInput{UserName: aws.String("red")})
	w.want("GetUser of the team", err, "", "")
	_, err = alice.UntagUser(ctx, &iam.UntagUserInput{UserName: aws.String("red"), TagKeys: []string{"note", "team"}})
	w.want("UntagUser of another key", err, "AccessDenied", "")
	_, err = alice.UntagUser(ctx, &iam.UntagUserInput{UserName: aws.String("red"), TagKeys: []string{"note"}})
	w.want("UntagUser", err, "", "")
	_, err = alice.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("blue")})
	w.want("DeleteUser of another team", err, "AccessDenied", "")
	_, err = alice.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("red")})
	w.want("DeleteUser of the team", err, "", "")
}

// A trust policy may depend on the tags of the session, on their keys and on
// those of the role.
func TestTrustByTags(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	alice := sts.NewFromConfig(w.user("alice"))
	w.attach("alice", admin)
	const trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":["sts:AssumeRole","sts:TagSession"],
		"Condition":{"StringEquals":{"aws:RequestTag/Team":"red","aws:ResourceTag/tier":"test"},"ForAllValues:StringEquals":{"aws:TagKeys":["team"]},
			"ForAnyValue:StringEquals":{"sts:TransitiveTagKeys":"team"}}}]}`
	for _, tier := range []string{"test", "live"} {
		_, err := w.iam.CreateRole(ctx, &iam.CreateRoleInput{RoleName: &tier, AssumeRolePolicyDocument: aws.String(trust),
			Tags: []types.Tag{{Key: aws.String("tier"), Value: &tier}}})
		w.want("CreateRole", err, "", "")
	}
	for _, tt := range []struct {
		role, transitive string
		tags             map[string]string
		code             string
	}{
		{"test", "team", map[string]string{"team": "red"}, ""},
		{"live", "team", map[string]string{"team": "red"}, "AccessDenied"},
		{"test", "team", map[string]string{"team": "blue"}, "AccessDenied"},
		{"test", "team", map[string]string{"team": "red", "more": "x"}, "AccessDenied"},
		{"test", "", map[string]string{"team": "red"}, "AccessDenied"},
	} {
		in := &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::111122223333:role/" + tt.role), RoleSessionName: aws.String("session")}
		for k, v := range tt.tags {
			in.Tags = append(in.Tags, ststypes.Tag{Key: &k, Value: &v})
		}
		if tt.transitive != "" {
			in.TransitiveTagKeys = []string{tt.transitive}
		}
		_, err := alice.AssumeRole(ctx, in)
		w.want(fmt.Sprint("AssumeRole ", tt), err, tt.code, "")
	}
}
