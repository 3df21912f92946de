package wire_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/kmstest"
)

// org sends a signed Organizations request.
func (c client) org(who credentials, operation, body string) (int, string) {
	c.t.Helper()
	r := c.post(operation, body)
	r.Header.Set("X-Amz-Target", "AWSOrganizationsV20161128."+operation)
	status, _, text := c.do(signed(r, body, who, "us-east-1", "organizations", time.Now()))
	return status, text
}

func (c client) mustOrg(who credentials, operation, body, member string) string {
	c.t.Helper()
	status, text := c.org(who, operation, body)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", operation, status, text)
	}
	return find(text, member)
}

// enter assumes the role through which a member account is entered.
func (c client) enter(who credentials, account string) credentials {
	c.t.Helper()
	status, text := c.query(who, "sts", "Action", "AssumeRole", "RoleArn", "arn:aws:iam::"+account+":role/OrganizationAccountAccessRole", "RoleSessionName", "admin")
	if status != http.StatusOK {
		c.t.Fatalf("enter %s: %d %s", account, status, text)
	}
	return credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), element(text, "SessionToken")}
}

const denyDecrypt = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"kms:Decrypt","Resource":"*"}]}`

// TestOrganization walks through an organization's life.
func TestOrganization(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	admin := c.user("admin")
	c.query(root, "iam", "Action", "AttachUserPolicy", "UserName", "admin", "PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")
	status, text := c.org(admin, "DescribeOrganization", `{}`)
	if status != 400 || find(text, "__type") != "AWSOrganizationsNotInUseException" || find(text, "message") != "Your account is not a member of an organization." {
		t.Errorf("before: %d %s", status, text)
	}
	organization := c.mustOrg(admin, "CreateOrganization", `{"FeatureSet":"ALL"}`, "Id")
	rootID := c.mustOrg(admin, "ListRoots", `{}`, "Id")
	account := c.mustOrg(admin, "CreateAccount", `{"Email":"a@example.com","AccountName":"a"}`, "AccountId")
	member := c.enter(admin, account)
	key := c.must(member, "CreateKey", `{}`, "Arn")
	blob := c.must(member, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`, "CiphertextBlob")
	decrypt := func(why string) {
		t.Helper()
		status, text := c.call(member, "Decrypt", `{"CiphertextBlob":"`+blob+`"}`)
		if why == "" && status != 200 || why != "" && (status != 400 || !strings.HasSuffix(find(text, "message"), why)) {
			t.Errorf("Decrypt: %d %s, want %q", status, text, why)
		}
	}
	scp := c.mustOrg(admin, "CreatePolicy", `{"Name":"no","Description":"","Type":"SERVICE_CONTROL_POLICY","Content":"`+escape(denyDecrypt)+`"}`, "Id")
	attach := `{"PolicyId":"` + scp + `","TargetId":"` + account + `"}`
	if status, text := c.org(admin, "AttachPolicy", attach); status != 400 || find(text, "__type") != "PolicyTypeNotEnabledException" {
		t.Errorf("attach before the type is enabled: %d %s", status, text)
	}
	c.mustOrg(admin, "EnablePolicyType", `{"RootId":"`+rootID+`","PolicyType":"SERVICE_CONTROL_POLICY"}`, "")
	c.mustOrg(admin, "EnablePolicyType", `{"RootId":"`+rootID+`","PolicyType":"RESOURCE_CONTROL_POLICY"}`, "")
	decrypt("")
	c.mustOrg(admin, "AttachPolicy", attach, "")
	decrypt(" with an explicit deny in a service control policy")
	c.mustOrg(admin, "DetachPolicy", attach, "")
	decrypt("")

	// A unit that allows logs only: what is moved there can do nothing with keys.
	unit := c.mustOrg(admin, "CreateOrganizationalUnit", `{"ParentId":"`+rootID+`","Name":"quarantine"}`, "Id")
	logs := c.mustOrg(admin, "CreatePolicy", `{"Name":"logs","Description":"","Type":"SERVICE_CONTROL_POLICY","Content":"`+
		escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"logs:*","Resource":"*"}]}`)+`"}`, "Id")
	c.mustOrg(admin, "AttachPolicy", `{"PolicyId":"`+logs+`","TargetId":"`+unit+`"}`, "")
	c.mustOrg(admin, "DetachPolicy", `{"PolicyId":"p-FullAWSAccess","TargetId":"`+unit+`"}`, "")
	c.mustOrg(admin, "MoveAccount", `{"AccountId":"`+account+`","SourceParentId":"`+rootID+`","DestinationParentId":"`+unit+`"}`, "")
	decrypt(" because no service control policy allows the kms:Decrypt action")
	c.mustOrg(admin, "MoveAccount", `{"AccountId":"`+account+`","SourceParentId":"`+unit+`","DestinationParentId":"`+rootID+`"}`, "")
	decrypt("")

	// An RCP of the key's account.
	rcp := c.mustOrg(admin, "CreatePolicy", `{"Name":"perimeter","Description":"","Type":"RESOURCE_CONTROL_POLICY","Content":"`+
		escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringNotEqualsIfExists":{"aws:PrincipalOrgID":"`+organization+`"}}}]}`)+`"}`, "Id")
	c.mustOrg(admin, "AttachPolicy", `{"PolicyId":"`+rcp+`","TargetId":"`+rootID+`"}`, "")
	decrypt("")
	c.mustOrg(admin, "UpdatePolicy", `{"PolicyId":"`+rcp+`","Content":"`+
		escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringNotEqualsIfExists":{"aws:PrincipalOrgID":"o-other"}}}]}`)+`"}`, "")
	decrypt(" with an explicit deny in a resource control policy")
	c.mustOrg(admin, "DisablePolicyType", `{"RootId":"`+rootID+`","PolicyType":"RESOURCE_CONTROL_POLICY"}`, "")
	decrypt("")

	nobody := c.user("nobody")
	for _, tt := range []struct{ name, operation, body, code string }{
		{"organization", "DescribeOrganization", `{}`, ""},
		{"create twice", "CreateOrganization", `{}`, "AlreadyInOrganizationException"},
		{"delete with members", "DeleteOrganization", `{}`, "OrganizationNotEmptyException"},
		{"accounts", "ListAccounts", `{"MaxResults":1}`, ""},
		{"accounts of a parent", "ListAccountsForParent", `{"ParentId":"` + rootID + `"}`, ""},
		{"accounts of no parent", "ListAccountsForParent", `{"ParentId":"r-zzzz"}`, "ParentNotFoundException"},
		{"account", "DescribeAccount", `{"AccountId":"` + account + `"}`, ""},
		{"no account", "DescribeAccount", `{"AccountId":"999999999999"}`, "AccountNotFoundException"},
		{"no creation", "DescribeCreateAccountStatus", `{"CreateAccountRequestId":"car-aaaaaaaa"}`, "CreateAccountStatusNotFoundException"},
		{"move to where it is", "MoveAccount", `{"AccountId":"` + account + `","SourceParentId":"` + rootID + `","DestinationParentId":"` + rootID + `"}`, "DuplicateAccountException"},
		{"move from elsewhere", "MoveAccount", `{"AccountId":"` + account + `","SourceParentId":"` + unit + `","DestinationParentId":"` + rootID + `"}`, "SourceParentNotFoundException"},
		{"move to nowhere", "MoveAccount", `{"AccountId":"` + account + `","SourceParentId":"` + rootID + `","DestinationParentId":"ou-aaaa-bbbbbbbb"}`, "DestinationParentNotFoundException"},
		{"unit twice", "CreateOrganizationalUnit", `{"ParentId":"` + rootID + `","Name":"quarantine"}`, "DuplicateOrganizationalUnitException"},
		{"unit", "DescribeOrganizationalUnit", `{"OrganizationalUnitId":"` + unit + `"}`, ""},
		{"no unit", "DescribeOrganizationalUnit", `{"OrganizationalUnitId":"ou-aaaa-bbbbbbbb"}`, "OrganizationalUnitNotFoundException"},
		{"rename unit", "UpdateOrganizationalUnit", `{"OrganizationalUnitId":"` + unit + `","Name":"jail"}`, ""},
		{"units", "ListOrganizationalUnitsForParent", `{"ParentId":"` + rootID + `"}`, ""},
		{"children", "ListChildren", `{"ParentId":"` + rootID + `","ChildType":"ACCOUNT"}`, ""},
		{"parents", "ListParents", `{"ChildId":"` + account + `"}`, ""},
		{"parents of the root", "ListParents", `{"ChildId":"` + unit[:len(unit)-1] + `z"}`, "ChildNotFoundException"},
		{"policies", "ListPolicies", `{"Filter":"SERVICE_CONTROL_POLICY"}`, ""},
		{"policies of a target", "ListPoliciesForTarget", `{"TargetId":"` + unit + `","Filter":"SERVICE_CONTROL_POLICY"}`, ""},
		{"targets of a policy", "ListTargetsForPolicy", `{"PolicyId":"p-FullAWSAccess"}`, ""},
		{"policy", "DescribePolicy", `{"PolicyId":"p-FullAWSAccess"}`, ""},
		{"no policy", "DescribePolicy", `{"PolicyId":"p-aaaaaaaa"}`, "PolicyNotFoundException"},
		{"policy twice", "CreatePolicy", `{"Name":"no","Description":"","Type":"SERVICE_CONTROL_POLICY","Content":"` + escape(denyDecrypt) + `"}`, "DuplicatePolicyException"},
		{"SCP with Principal", "CreatePolicy", `{"Name":"x","Description":"","Type":"SERVICE_CONTROL_POLICY","Content":"` +
			escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}]}`) + `"}`, "MalformedPolicyDocumentException"},
		{"SCP with Allow of a resource", "CreatePolicy", `{"Name":"x","Description":"","Type":"SERVICE_CONTROL_POLICY","Content":"` +
			escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:kms:*:*:*"}]}`) + `"}`, "MalformedPolicyDocumentException"},
		{"RCP with Allow", "CreatePolicy", `{"Name":"x","Description":"","Type":"RESOURCE_CONTROL_POLICY","Content":"` +
			escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`) + `"}`, "MalformedPolicyDocumentException"},
		{"RCP of everything", "CreatePolicy", `{"Name":"x","Description":"","Type":"RESOURCE_CONTROL_POLICY","Content":"` +
			escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}]}`) + `"}`, "MalformedPolicyDocumentException"},
		{"RCP of a principal", "CreatePolicy", `{"Name":"x","Description":"","Type":"RESOURCE_CONTROL_POLICY","Content":"` +
			escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`) + `"}`, "MalformedPolicyDocumentException"},
		{"RCP with NotAction", "CreatePolicy", `{"Name":"x","Description":"","Type":"RESOURCE_CONTROL_POLICY","Content":"` +
			escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","NotAction":"kms:*","Resource":"*"}]}`) + `"}`, "MalformedPolicyDocumentException"},
		{"long policy", "CreatePolicy", `{"Name":"x","Description":"","Type":"SERVICE_CONTROL_POLICY","Content":"` + escape(denyDecrypt) + strings.Repeat(" ", 10_240) + `"}`, "ConstraintViolationException"},
		{"a type that is none here", "CreatePolicy", `{"Name":"x","Description":"","Type":"TAG_POLICY","Content":"{}"}`, "PolicyTypeNotAvailableForOrganizationException"},
		{"delete in use", "DeletePolicy", `{"PolicyId":"` + logs + `"}`, "PolicyInUseException"},
		{"delete AWS's own", "DeletePolicy", `{"PolicyId":"p-FullAWSAccess"}`, "InvalidInputException"},
		{"detach the last SCP", "DetachPolicy", `{"PolicyId":"` + logs + `","TargetId":"` + unit + `"}`, "ConstraintViolationException"},
		{"detach RCPFullAWSAccess", "DetachPolicy", `{"PolicyId":"p-RCPFullAWSAccess","TargetId":"` + unit + `"}`, "InvalidInputException"},
		{"detach what is not attached", "DetachPolicy", `{"PolicyId":"` + scp + `","TargetId":"` + unit + `"}`, "PolicyNotAttachedException"},
		{"attach twice", "AttachPolicy", `{"PolicyId":"` + logs + `","TargetId":"` + unit + `"}`, "DuplicatePolicyAttachmentException"},
		{"attach to nothing", "AttachPolicy", `{"PolicyId":"` + logs + `","TargetId":"ou-aaaa-bbbbbbbb"}`, "TargetNotFoundException"},
		{"enable twice", "EnablePolicyType", `{"RootId":"` + rootID + `","PolicyType":"SERVICE_CONTROL_POLICY"}`, "PolicyTypeAlreadyEnabledException"},
		{"enable another type", "EnablePolicyType", `{"RootId":"` + rootID + `","PolicyType":"TAG_POLICY"}`, "PolicyTypeNotAvailableForOrganizationException"},
		{"disable what is not enabled", "DisablePolicyType", `{"RootId":"` + rootID + `","PolicyType":"RESOURCE_CONTROL_POLICY"}`, "PolicyTypeNotEnabledException"},
		{"another root", "EnablePolicyType", `{"RootId":"r-zzzz","PolicyType":"SERVICE_CONTROL_POLICY"}`, "RootNotFoundException"},
		{"effective policy", "DescribeEffectivePolicy", `{"PolicyType":"TAG_POLICY"}`, "EffectivePolicyNotFoundException"},
		{"effective SCP", "DescribeEffectivePolicy", `{"PolicyType":"SERVICE_CONTROL_POLICY"}`, "InvalidInputException"},
		{"tag", "TagResource", `{"ResourceId":"` + account + `","Tags":[{"Key":"a","Value":"b"}]}`, ""},
		{"tag a policy", "TagResource", `{"ResourceId":"` + scp + `","Tags":[{"Key":"a","Value":"b"}]}`, ""},
		{"tags", "ListTagsForResource", `{"ResourceId":"` + scp + `"}`, ""},
		{"untag", "UntagResource", `{"ResourceId":"` + account + `","TagKeys":["A"]}`, ""},
		{"tag nothing", "TagResource", `{"ResourceId":"p-aaaaaaaa","Tags":[]}`, "TargetNotFoundException"},
		{"close the management account", "CloseAccount", `{"AccountId":"111122223333"}`, "ConstraintViolationException"},
		{"bad token", "ListAccounts", `{"NextToken":"!"}`, "InvalidInputException"},
		{"bad id", "DescribeAccount", `{"AccountId":"x"}`, "InvalidInputException"},
		{"delete unit with nothing in it", "DeleteOrganizationalUnit", `{"OrganizationalUnitId":"` + unit + `"}`, ""},
		{"delete policy", "DeletePolicy", `{"PolicyId":"` + logs + `"}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.org(admin, tt.operation, tt.body)
			if find(text, "__type") != tt.code || (status == 200) != (tt.code == "") {
				t.Errorf("%d %s, want %q", status, text, tt.code)
			}
			if tt.code == "InvalidInputException" {
				return
			}
			status, text = client{t, c.srv}.org(nobody, tt.operation, tt.body)
			if status != 400 || find(text, "__type") != "AccessDeniedException" || !strings.HasPrefix(find(text, "message"), "User: arn:aws:iam::111122223333:user/nobody is not") {
				t.Errorf("as nobody: %d %s", status, text)
			}
		})
	}

	if status, text := c.org(member, "ListAccounts", `{}`); status != 400 || find(text, "message") != "You don't have permissions to access this resource." {
		t.Errorf("a member account: %d %s", status, text)
	}
	if status, text := c.org(nobody, "ListAccounts", `{}`); status != 400 || find(text, "__type") != "AccessDeniedException" {
		t.Errorf("nobody: %d %s", status, text)
	}
	c.mustOrg(member, "DescribeOrganization", `{}`, "")
	text = c.mustOrg(admin, "CreateAccount", `{"Email":"A@example.com","AccountName":"b"}`, "State")
	if text != "FAILED" {
		t.Errorf("an account with an address that is taken: %s", text)
	}
	c.mustOrg(admin, "CloseAccount", `{"AccountId":"`+account+`"}`, "")
	decrypt("because no resource-based policy allows the kms:Decrypt action")
	if status, text := c.org(admin, "CloseAccount", `{"AccountId":"`+account+`"}`); status != 400 || find(text, "__type") != "AccountAlreadyClosedException" {
		t.Errorf("close twice: %d %s", status, text)
	}
}

// TestOrganizationPermissions: each resource of a request is authorized by its own
// ARN, its tags and the type of policy, and a member account learns nothing.
func TestOrganizationPermissions(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	admin := c.user("admin")
	c.query(root, "iam", "Action", "AttachUserPolicy", "UserName", "admin", "PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")
	c.mustOrg(admin, "CreateOrganization", `{}`, "")
	rootID := c.mustOrg(admin, "ListRoots", `{}`, "Id")
	account := c.mustOrg(admin, "CreateAccount", `{"Email":"a@example.com","AccountName":"a"}`, "AccountId")
	unit := c.mustOrg(admin, "CreateOrganizationalUnit", `{"ParentId":"`+rootID+`","Name":"u","Tags":[{"Key":"project","Value":"secret"}]}`, "Id")
	c.mustOrg(admin, "EnablePolicyType", `{"RootId":"`+rootID+`","PolicyType":"SERVICE_CONTROL_POLICY"}`, "")
	create := `{"Name":"no","Description":"","Type":"SERVICE_CONTROL_POLICY","Tags":[{"Key":"critical","Value":"true"}],"Content":"` + escape(denyDecrypt) + `"}`
	scp := c.mustOrg(admin, "CreatePolicy", create, "Id")
	_, text := c.org(admin, "DescribePolicy", `{"PolicyId":"`+scp+`"}`)
	arn := find(text, "Arn")
	c.mustOrg(admin, "AttachPolicy", `{"PolicyId":"`+scp+`","TargetId":"`+account+`"}`, "")
	operator := c.user("operator")
	for _, tt := range []struct{ name, deny, operation, body string }{
		{"a policy by its ARN", `"Resource":"` + arn + `"`, "DetachPolicy", `{"PolicyId":"` + scp + `","TargetId":"` + account + `"}`},
		{"a policy by its type's ARNs", `"Resource":"arn:aws:organizations::*:policy/o-*/service_control_policy/*"`, "DeletePolicy", `{"PolicyId":"` + scp + `"}`},
		{"the target of a policy", `"Resource":"arn:aws:organizations::*:account/*"`, "DetachPolicy", `{"PolicyId":"` + scp + `","TargetId":"` + account + `"}`},
		{"where an account moves from", `"Resource":"arn:aws:organizations::*:root/*"`, "MoveAccount", `{"AccountId":"` + account + `","SourceParentId":"` + rootID + `","DestinationParentId":"` + unit + `"}`},
		{"where an account moves to", `"Resource":"arn:aws:organizations::*:ou/*"`, "MoveAccount", `{"AccountId":"` + account + `","SourceParentId":"` + rootID + `","DestinationParentId":"` + unit + `"}`},
		{"a type of policies, creating", `"Resource":"*","Condition":{"StringEquals":{"organizations:PolicyType":"SERVICE_CONTROL_POLICY"}}`, "CreatePolicy", create},
		{"a type of policies, disabling", `"Resource":"*","Condition":{"StringEquals":{"organizations:PolicyType":"SERVICE_CONTROL_POLICY"}}`, "DisablePolicyType",
			`{"RootId":"` + rootID + `","PolicyType":"SERVICE_CONTROL_POLICY"}`},
		{"a type of policies, detaching", `"Resource":"*","Condition":{"StringEquals":{"organizations:PolicyType":"SERVICE_CONTROL_POLICY"}}`, "DetachPolicy",
			`{"PolicyId":"` + scp + `","TargetId":"` + account + `"}`},
		{"a policy by its tag", `"Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/critical":"true"}}`, "UntagResource", `{"ResourceId":"` + scp + `","TagKeys":["critical"]}`},
		{"a unit by its tag", `"Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/project":"secret"}}`, "CreateOrganizationalUnit", `{"ParentId":"` + unit + `","Name":"v"}`},
	} {
		c.query(root, "iam", "Action", "PutUserPolicy", "UserName", "operator", "PolicyName", "p", "PolicyDocument",
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"organizations:*","Resource":"*"},{"Effect":"Deny","Action":"organizations:*",`+tt.deny+`}]}`)
		status, text := c.org(operator, tt.operation, tt.body)
		if status != 400 || !strings.HasSuffix(find(text, "message"), "with an explicit deny in an identity-based policy") {
			t.Errorf("%s: %d %s", tt.name, status, text)
		}
	}
	if status, text := c.org(admin, "UpdatePolicy", `{"PolicyId":"`+scp+`","Name":"FullAWSAccess"}`); status != 400 || find(text, "__type") != "DuplicatePolicyException" {
		t.Errorf("a policy with the name of AWS's own: %d %s", status, text)
	}

	member := c.enter(admin, account)
	user := func(policy string) credentials {
		c.query(member, "iam", "Action", "CreateUser", "UserName", "spy")
		c.query(member, "iam", "Action", "PutUserPolicy", "UserName", "spy", "PolicyName", "p", "PolicyDocument", policy)
		_, text := c.query(member, "iam", "Action", "CreateAccessKey", "UserName", "spy")
		return credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), ""}
	}
	spy := user(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"organizations:*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/project":"secret"}}}]}`)
	if _, text := c.org(spy, "DescribeOrganizationalUnit", `{"OrganizationalUnitId":"`+unit+`"}`); !strings.Contains(text, "because no identity-based policy allows") {
		t.Errorf("a member account sees tags: %s", text)
	}
	for _, id := range []string{unit, "ou-aaaa-bbbbbbbb"} {
		if _, text := c.org(member, "DescribeEffectivePolicy", `{"PolicyType":"TAG_POLICY","TargetId":"`+id+`"}`); find(text, "__type") != "AccessDeniedException" {
			t.Errorf("a member account asks about %s: %s", id, text)
		}
	}
}

// TestManyOrganizations: what an organization is made of is not another's.
func TestManyOrganizations(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	seen := map[string]bool{}
	for i := range 50 {
		id := credentials{"rootx", "secret", ""}
		account := "4444555566" + string(rune('0'+i/10)) + string(rune('0'+i%10))
		id.id += account
		c.srv.AddAccount(t, account, id.id, id.secret)
		c.mustOrg(id, "CreateOrganization", `{}`, "")
		for _, own := range []string{c.mustOrg(id, "ListRoots", `{}`, "Id"), c.mustOrg(id, "DescribeOrganization", `{}`, "Id")} {
			if seen[own] {
				t.Fatalf("%s is of two organizations", own)
			}
			seen[own] = true
		}
		c.mustOrg(id, "DeleteOrganization", `{}`, "")
	}
}
