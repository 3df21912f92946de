package wire_test

import (
	"encoding/json/v2"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/kmstest"
)

// quoted is a text as a JSON string.
func quoted(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestKeyPolicyDoor: what each defect of a key policy comes to (policy-document.md
// §§1 to 4 and its erratum). What is refused changes nothing.
func TestKeyPolicyDoor(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	c.user("alice")
	c.query(root, "iam", "Action", "CreateGroup", "GroupName", "team")
	c.query(root, "iam", "Action", "CreateRole", "RoleName", "reader", "AssumeRolePolicyDocument",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}`)
	key := c.must(root, "CreateKey", `{}`, "Arn")
	statement := func(more string) string { return `{"Version":"2012-10-17","Statement":[` + more + `]}` }
	whole := `{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`
	named := func(principal string) string {
		return statement(whole + `,{"Effect":"Allow","Principal":` + principal + `,"Action":"kms:Encrypt","Resource":"*"}`)
	}
	when := func(condition string) string {
		return statement(whole + `,{"Effect":"Deny","Principal":"*","Action":"kms:Sign","Resource":"*","Condition":` + condition + `}`)
	}
	const (
		syntax     = "Syntax errors in policy."
		principals = "Policy contains a statement with one or more invalid principals."
		forbidden  = "These condition keys are not permitted in a key policy: aws:ResourceTag, kms:ResourceTag, kms:ResourceAliases"
		permissive = "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests without the specified "
	)
	for _, tt := range []struct{ name, policy, message string }{
		{"whole", statement(whole), ""},
		{"not JSON", `{`, syntax},
		{"an array", `[]`, syntax},
		{"text behind it", statement(whole) + `x`, syntax},
		{"no Statement", `{"Version":"2012-10-17"}`, syntax},
		{"no statement in it", statement(""), syntax},
		{"one statement that is no list", `{"Version":"2012-10-17","Statement":` + whole + `}`, ""},
		{"no Version", `{"Statement":[` + whole + `]}`, ""},
		{"the old Version", `{"Version":"2008-10-17","Statement":[` + whole + `]}`, ""},
		{"another Version", `{"Version":"2020-01-01","Statement":[` + whole + `]}`, syntax},
		{"an unknown element", `{"Version":"2012-10-17","Statement":[` + whole + `],"Extra":1}`, syntax},
		{"an unknown element of a statement", statement(`{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Extra":1}`), syntax},
		{"an element twice", statement(`{"Effect":"Allow","Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}`), syntax},
		{"an element in small letters", statement(`{"effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}`), syntax},
		{"no Effect", statement(`{"Principal":"*","Action":"kms:*","Resource":"*"}`), syntax},
		{"Effect in small letters", statement(`{"Effect":"allow","Principal":"*","Action":"kms:*","Resource":"*"}`), syntax},
		{"no Principal", statement(`{"Effect":"Allow","Action":"kms:*","Resource":"*"}`), principals},
		{"no principal in it", named(`{"AWS":[]}`), principals},
		{"no kind of principal in it", named(`{}`), principals},
		{"Principal and NotPrincipal", statement(`{"Effect":"Deny","Principal":"*","NotPrincipal":"*","Action":"kms:*","Resource":"*"}`), syntax},
		{"no Action", statement(whole + `,{"Effect":"Allow","Principal":"*","Resource":"*"}`), syntax},
		{"no Resource", statement(whole + `,{"Effect":"Allow","Principal":"*","Action":"kms:*"}`), syntax},
		{"an action that there is not", statement(whole + `,{"Effect":"Allow","Principal":"*","Action":"kms:Nothing","Resource":"*"}`), ""},
		{"an action of another service", statement(whole + `,{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"*"}`), ""},
		{"the key's own ARN as resource", statement(whole + `,{"Effect":"Allow","Principal":"*","Action":"kms:Sign","Resource":"` + key + `"}`), ""},
		{"a Sid with spaces, twice", statement(`{"Sid":"a b","Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"},{"Sid":"a b","Effect":"Deny","Principal":"*","Action":"kms:Sign","Resource":"*"}`), ""},

		{"an account", named(`{"AWS":"444455556666"}`), ""},
		{"a user", named(`{"AWS":"` + alicesARN + `"}`), ""},
		{"a session of a role", named(`{"AWS":"arn:aws:sts::111122223333:assumed-role/reader/any"}`), ""},
		{"a federated user", named(`{"AWS":"arn:aws:sts::111122223333:federated-user/any"}`), ""},
		{"a service", named(`{"Service":"logs.us-east-1.amazonaws.com"}`), ""},
		{"a user that does not exist", named(`{"AWS":"` + alicesARN + `x"}`), principals},
		{"a user on another path", named(`{"AWS":"arn:aws:iam::111122223333:user/team/alice"}`), principals},
		{"a user in other letters", named(`{"AWS":"arn:aws:iam::111122223333:user/Alice"}`), principals},
		{"a group", named(`{"AWS":"arn:aws:iam::111122223333:group/team"}`), principals},
		{"a session of no role", named(`{"AWS":"arn:aws:sts::111122223333:assumed-role/none/any"}`), principals},
		{"a wildcard in an ARN", named(`{"AWS":"arn:aws:iam::111122223333:user/*"}`), principals},
		{"a wildcard in an account", named(`{"AWS":"arn:aws:iam::*:root"}`), principals},
		{"another partition", named(`{"AWS":"arn:aws-cn:iam::111122223333:root"}`), principals},
		{"a unique id of nobody", named(`{"AWS":"AIDAAAAAAAAAAAAAAAAAA"}`), principals},
		{"an organization", named(`{"AWS":"o-a1b2c3d4e5"}`), principals},
		{"no ARN", named(`{"AWS":"alice"}`), principals},
		{"every service", named(`{"Service":"*"}`), principals},
		{"an identity provider", named(`{"Federated":"cognito-identity.amazonaws.com"}`), principals},
		{"a canonical user", named(`{"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}`), principals},
		{"an unknown kind of principal", named(`{"GCP":"x"}`), syntax},
		{"a text that is no star", named(`"alice"`), syntax},

		{"an unknown operator", when(`{"StringResembles":{"aws:username":"a"}}`), syntax},
		{"an operator without a key", when(`{"StringEquals":{}}`), syntax},
		{"Null with IfExists", when(`{"NullIfExists":{"aws:username":"true"}}`), syntax},
		{"an unknown key", when(`{"StringEquals":{"kms:Nothing":"a"}}`), ""},
		{"numbers and booleans", when(`{"Bool":{"aws:SecureTransport":false},"NumericEquals":{"kms:RotationPeriodInDays":90}}`), ""},
		{"aws:ResourceTag", when(`{"StringEquals":{"aws:ResourceTag/a":"b"}}`), forbidden},
		{"kms:ResourceTag", when(`{"StringEquals":{"KMS:resourcetag/a":"b"}}`), forbidden},
		{"kms:ResourceAliases", when(`{"ForAnyValue:StringEquals":{"kms:ResourceAliases":"alias/a"}}`), forbidden},
		{"ForAllValues of the encryption context", when(`{"ForAllValues:StringEquals":{"kms:EncryptionContext:a":"b"}}`), permissive + "encryption context or with an unspecified encryption context. To fix, remove ForAllValues."},
		{"ForAllValues of a tag", when(`{"ForAllValues:StringEquals":{"aws:RequestTag/a":"b"}}`), permissive + "tag or with an unspecified tag. To fix, remove ForAllValues."},
		{"ForAllValues of its keys", when(`{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":"a"}}`), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := c.srv.Revision()
			status, text := client{t, c.srv}.call(root, "PutKeyPolicy", `{"KeyId":"`+key+`","BypassPolicyLockoutSafetyCheck":true,"Policy":`+quoted(t, tt.policy)+`}`)
			switch {
			case tt.message == "" && status != 200:
				t.Errorf("refused: %d %s", status, text)
			case tt.message != "" && (status != 400 || find(text, "__type") != "MalformedPolicyDocumentException" || find(text, "message") != tt.message):
				t.Errorf("%d %s, want %s", status, text, tt.message)
			case tt.message != "" && c.srv.Revision() != before:
				t.Error("a refused policy changed something")
			}
		})
	}
	t.Run("a character that policies do not have", func(t *testing.T) {
		status, text := client{t, c.srv}.call(root, "PutKeyPolicy", `{"KeyId":"`+key+`","Policy":"Ā"}`)
		if status != 400 || find(text, "__type") != "ValidationException" || !strings.Contains(text, "must satisfy regular expression pattern") {
			t.Errorf("%d %s", status, text)
		}
	})
	t.Run("read again", func(t *testing.T) {
		c.must(root, "PutKeyPolicy", `{"KeyId":"`+key+`","Policy":`+quoted(t, `{"Statement":[{"Resource":"*","Action":["kms:*"],"Principal":{"AWS":["111122223333"]},"Effect":"Allow","Sid":"a b"}],"Id":"x","Version":"2012-10-17"}`)+`}`, "")
		_, text := c.call(root, "GetKeyPolicy", `{"KeyId":"`+key+`"}`)
		var out struct{ Policy string }
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		want := `{
  "Version" : "2012-10-17",
  "Id" : "x",
  "Statement" : [ {
    "Sid" : "a b",
    "Effect" : "Allow",
    "Principal" : {
      "AWS" : "arn:aws:iam::111122223333:root"
    },
    "Action" : [ "kms:*" ],
    "Resource" : "*"
  } ]
}`
		if out.Policy != want {
			t.Errorf("GetKeyPolicy:\n%s\nwant\n%s", out.Policy, want)
		}
	})
}

// TestRefusalTexts: AWS's words for each cause of a refusal (errors.md §3.1), with
// everything else allowed.
func TestRefusalTexts(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	admin := c.user("admin")
	must := func(args ...string) string {
		t.Helper()
		status, text := c.query(root, "iam", args...)
		if status != 200 {
			t.Fatalf("%q: %d %s", args, status, text)
		}
		return text
	}
	must("Action", "AttachUserPolicy", "UserName", "admin", "PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")
	c.mustOrg(admin, "CreateOrganization", `{}`, "")
	rootID := c.mustOrg(admin, "ListRoots", `{}`, "Id")
	for _, kind := range []string{"SERVICE_CONTROL_POLICY", "RESOURCE_CONTROL_POLICY"} {
		c.mustOrg(admin, "EnablePolicyType", `{"RootId":"`+rootID+`","PolicyType":"`+kind+`"}`, "")
	}
	account := c.mustOrg(admin, "CreateAccount", `{"Email":"a@example.com","AccountName":"a"}`, "AccountId")
	member := c.enter(admin, account)
	key := c.must(member, "CreateKey", `{}`, "Arn")
	inMember := func(args ...string) string {
		t.Helper()
		status, text := c.query(member, "iam", args...)
		if status != 200 {
			t.Fatalf("%q: %d %s", args, status, text)
		}
		return text
	}
	document := func(statements string) string { return `{"Version":"2012-10-17","Statement":[` + statements + `]}` }
	allowAll := `{"Effect":"Allow","Action":"*","Resource":"*"}`
	deny := func(action string) string { return `{"Effect":"Deny","Action":"` + action + `","Resource":"*"}` }
	inMember("Action", "CreateUser", "UserName", "alice")
	inMember("Action", "PutUserPolicy", "UserName", "alice", "PolicyName", "p", "PolicyDocument",
		document(`{"Effect":"Allow","NotAction":"kms:GenerateDataKeyWithoutPlaintext","Resource":"*"},`+deny("kms:TagResource")))
	boundary := element(inMember("Action", "CreatePolicy", "PolicyName", "b", "PolicyDocument",
		document(`{"Effect":"Allow","NotAction":"kms:ListGrants","Resource":"*"},`+deny("kms:UntagResource"))), "Arn")
	inMember("Action", "PutUserPermissionsBoundary", "UserName", "alice", "PermissionsBoundary", boundary)
	text := inMember("Action", "CreateAccessKey", "UserName", "alice")
	alice := credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), ""}
	inMember("Action", "CreateRole", "RoleName", "reader", "AssumeRolePolicyDocument", document(`{"Effect":"Allow","Principal":{"AWS":"`+account+`"},"Action":"sts:AssumeRole"}`))
	inMember("Action", "PutRolePolicy", "RoleName", "reader", "PolicyName", "p", "PolicyDocument", document(allowAll))
	_, text = c.query(alice, "sts", "Action", "AssumeRole", "RoleArn", "arn:aws:iam::"+account+":role/reader", "RoleSessionName", "one", "Policy",
		document(`{"Effect":"Allow","NotAction":"kms:ListResourceTags","Resource":"*"},`+deny("kms:ListKeyPolicies")))
	session := credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), element(text, "SessionToken")}
	c.must(member, "PutKeyPolicy", `{"KeyId":"`+key+`","Policy":`+quoted(t, document(
		`{"Effect":"Allow","Principal":{"AWS":"`+account+`"},"NotAction":"kms:UpdateKeyDescription","Resource":"*"},`+
			`{"Effect":"Deny","Principal":"*","Action":"kms:EnableKey","Resource":"*"}`))+`}`, "")
	attach := func(kind, content string) {
		t.Helper()
		id := c.mustOrg(admin, "CreatePolicy", `{"Name":"`+kind+`","Description":"","Type":"`+kind+`","Content":`+quoted(t, content)+`}`, "Id")
		c.mustOrg(admin, "AttachPolicy", `{"PolicyId":"`+id+`","TargetId":"`+account+`"}`, "")
	}
	attach("SERVICE_CONTROL_POLICY", document(`{"Effect":"Allow","NotAction":"kms:DisableKey","Resource":"*"},`+deny("kms:GetKeyPolicy")))
	attach("RESOURCE_CONTROL_POLICY", document(`{"Effect":"Deny","Principal":"*","Action":"kms:ScheduleKeyDeletion","Resource":"*"}`))
	c.mustOrg(admin, "DetachPolicy", `{"PolicyId":"p-FullAWSAccess","TargetId":"`+account+`"}`, "")

	user, one := "arn:aws:iam::"+account+":user/alice", "arn:aws:sts::"+account+":assumed-role/reader/one"
	for _, tt := range []struct {
		who                         credentials
		arn, operation, more, cause string
	}{
		{alice, user, "GenerateDataKeyWithoutPlaintext", `,"KeySpec":"AES_256"`, "because no identity-based policy allows the %s action"},
		{alice, user, "UpdateKeyDescription", `,"Description":"x"`, "because no resource-based policy allows the %s action"},
		{alice, user, "ListGrants", "", "because no permissions boundary allows the %s action"},
		{session, one, "ListResourceTags", "", "because no session policy allows the %s action"},
		{alice, user, "DisableKey", "", "because no service control policy allows the %s action"},
		{alice, user, "TagResource", `,"Tags":[]`, "with an explicit deny in an identity-based policy"},
		{alice, user, "EnableKey", "", "with an explicit deny in a resource-based policy"},
		{alice, user, "UntagResource", `,"TagKeys":[]`, "with an explicit deny in a permissions boundary"},
		{session, one, "ListKeyPolicies", "", "with an explicit deny in a session policy"},
		{alice, user, "GetKeyPolicy", "", "with an explicit deny in a service control policy"},
		{alice, user, "ScheduleKeyDeletion", "", "with an explicit deny in a resource control policy"},
	} {
		action := "kms:" + tt.operation
		want := "User: " + tt.arn + " is not authorized to perform: " + action + " on resource: " + key + " " + strings.ReplaceAll(tt.cause, "%s", action)
		status, text := c.call(tt.who, tt.operation, `{"KeyId":"`+key+`"`+tt.more+`}`)
		if status != 400 || find(text, "__type") != "AccessDeniedException" || find(text, "message") != want {
			t.Errorf("%s: %d %s\nwant %s", tt.operation, status, text, want)
		}
	}
	c.must(alice, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`, "")
}

// TestRegions: where the operator has not put a Region there are no keys; services
// without Regions are everywhere.
func TestRegions(t *testing.T) {
	c := client{t, kmstest.Start(t, kmstest.Regions("eu-central-1", "eu-west-1"))}
	ask := func(region, operation, body string) (int, string) {
		r := c.post(operation, body)
		status, _, text := c.do(signed(r, body, root, region, "kms", time.Now()))
		return status, text
	}
	if status, text := ask("us-east-1", "ListKeys", `{}`); status != 400 || find(text, "__type") != "InvalidSignatureException" {
		t.Errorf("%d %s", status, text)
	}
	status, text := ask("eu-central-1", "CreateKey", `{"MultiRegion":true}`)
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	key := find(text, "KeyId")
	for region, want := range map[string]int{"eu-west-1": 200, "eu-west-2": 400} {
		if status, text := ask("eu-central-1", "ReplicateKey", `{"KeyId":"`+key+`","ReplicaRegion":"`+region+`"}`); status != want {
			t.Errorf("a replica in %s: %d %s", region, status, text)
		}
	}
	if status, text := c.query(root, "iam", "Action", "ListUsers"); status != 200 {
		t.Errorf("%d %s", status, text)
	}
}
