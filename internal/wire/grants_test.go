package wire_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/kmstest"
)

const alicesARN = "arn:aws:iam::111122223333:user/alice"

// TestGrantFaults sends what can be no grant, and what is no token or id; nothing
// changes.
func TestGrantFaults(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	c.user("alice")
	c.query(root, "iam", "Action", "CreateGroup", "GroupName", "team")
	key, other := c.must(root, "CreateKey", `{}`, "Arn"), c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "CreateAlias", `{"AliasName":"alias/a","TargetKeyId":"`+key+`"}`, "")
	grant := `{"KeyId":"` + key + `","GranteePrincipal":"` + alicesARN + `","Operations":["Decrypt"]}`
	id, token := c.must(root, "CreateGrant", grant, "GrantId"), c.must(root, "CreateGrant", grant, "GrantToken")
	foreign := c.must(root, "CreateGrant", strings.Replace(grant, key, other, 1), "GrantToken")
	revoked := c.must(root, "CreateGrant", grant, "GrantToken")
	c.must(root, "RetireGrant", `{"GrantToken":"`+revoked+`"}`, "")
	with := func(more string) string {
		return `{"KeyId":"` + key + `","GranteePrincipal":"` + alicesARN + `",` + more + `}`
	}
	to := func(who string) string {
		return `{"KeyId":"` + key + `","GranteePrincipal":"` + who + `","Operations":["Decrypt"]}`
	}
	var pairs []string
	for i := range 9 {
		pairs = append(pairs, fmt.Sprintf(`"k%d":"v"`, i))
	}
	none := strings.Repeat("a", 64)
	encrypt := func(token string) string {
		return `{"KeyId":"` + key + `","Plaintext":"eA==","GrantTokens":["` + token + `"]}`
	}
	before := c.srv.Revision()
	for _, tt := range []struct{ name, operation, body, code, message string }{
		{"no operations", "CreateGrant", with(`"Operations":[]`), "ValidationException", "At least one grant operation is required."},
		{"only CreateGrant", "CreateGrant", with(`"Operations":["CreateGrant"]`), "ValidationException", "Grants must not contain only the CreateGrant operation."},
		{"operations that do not suit the key", "CreateGrant", with(`"Operations":["Sign","Decrypt"]`), "ValidationException",
			"Operations [Sign] are not supported when creating a grant for a symmetric KMS key with key usage ENCRYPT_DECRYPT. Valid operations are [Decrypt, Encrypt, " +
				"GenerateDataKey, GenerateDataKeyWithoutPlaintext, ReEncryptFrom, ReEncryptTo, CreateGrant, RetireGrant, DescribeKey, GenerateDataKeyPair, " +
				"GenerateDataKeyPairWithoutPlaintext]"},
		{"an operation that grants do not have", "CreateGrant", with(`"Operations":["PutKeyPolicy"]`), "ValidationException", "1 validation error detected: Value '[PutKeyPolicy]'"},
		{"two constraints", "CreateGrant", with(`"Operations":["Decrypt"],"Constraints":{"EncryptionContextEquals":{"a":"b"},"EncryptionContextSubset":{"a":"b"}}`),
			"ValidationException", "Specify only one encryption context grant constraint."},
		{"nine pairs", "CreateGrant", with(`"Operations":["Decrypt"],"Constraints":{"EncryptionContextEquals":{` + strings.Join(pairs, ",") + `}}`), "ValidationException", ""},
		{"a long pair", "CreateGrant", with(`"Operations":["Decrypt"],"Constraints":{"EncryptionContextEquals":{"a":"` + strings.Repeat("x", 385) + `"}}`), "ValidationException", ""},
		{"two spellings", "CreateGrant", with(`"Operations":["Decrypt"],"Constraints":{"EncryptionContextEquals":{"a":"b","A":"b"}}`), "ValidationException", ""},
		{"an empty key", "CreateGrant", with(`"Operations":["Decrypt"],"Constraints":{"EncryptionContextSubset":{"":"b"}}`), "ValidationException", ""},
		{"a retiring service that is none", "CreateGrant", with(`"Operations":["Decrypt"],"RetiringServicePrincipal":"foo.bar.baz"`), "ValidationException", ""},
		{"a name with a space", "CreateGrant", with(`"Operations":["Decrypt"],"Name":"a b"`), "ValidationException",
			"1 validation error detected: Value 'a b' at 'name' failed to satisfy constraint: Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$"},
		{"nobody", "CreateGrant", `{"KeyId":"` + key + `","Operations":["Decrypt"]}`, "ValidationException", ""},
		{"two grantees", "CreateGrant", with(`"Operations":["Decrypt"],"GranteeServicePrincipal":"s3.amazonaws.com"`), "ValidationException", ""},
		{"two retirers", "CreateGrant", with(`"Operations":["Decrypt"],"RetiringPrincipal":"` + alicesARN + `","RetiringServicePrincipal":"s3.amazonaws.com"`), "ValidationException", ""},
		{"a service without a source", "CreateGrant", `{"KeyId":"` + key + `","GranteeServicePrincipal":"s3.amazonaws.com","RetiringPrincipal":"` + alicesARN + `","Operations":["Decrypt"]}`,
			"ValidationException", "A SourceArn constraint is required when GranteeServicePrincipal is specified."},
		{"a service that nobody retires", "CreateGrant", `{"KeyId":"` + key + `","GranteeServicePrincipal":"s3.amazonaws.com","Operations":["Decrypt"],` +
			`"Constraints":{"SourceArn":"arn:aws:s3:us-east-1:111122223333:bucket"}}`, "ValidationException", ""},
		{"an unknown user", "CreateGrant", to(alicesARN + "x"), "InvalidArnException", ""},
		{"a group", "CreateGrant", to("arn:aws:iam::111122223333:group/team"), "InvalidArnException", ""},
		{"an account number", "CreateGrant", to("111122223333"), "InvalidArnException", ""},
		{"no ARN", "CreateGrant", to("alice"), "InvalidArnException", ""},
		{"another partition", "CreateGrant", to("arn:aws-cn:iam::111122223333:root"), "InvalidArnException", ""},
		{"a retirer that does not exist", "CreateGrant", with(`"Operations":["Decrypt"],"RetiringPrincipal":"` + alicesARN + `x"`), "InvalidArnException", ""},
		{"an alias", "CreateGrant", `{"KeyId":"alias/a","GranteePrincipal":"` + alicesARN + `","Operations":["Decrypt"]}`, "InvalidArnException", "Key Aliases are not supported for this operation."},
		{"a dry run", "CreateGrant", with(`"Operations":["Decrypt"],"DryRun":true`), "DryRunOperationException", "The request would have succeeded, but the DryRun option is set."},
		{"a forged token", "Encrypt", encrypt("AQpA"), "InvalidGrantTokenException", ""},
		{"a token that is no base64", "Encrypt", encrypt("?"), "InvalidGrantTokenException", ""},
		{"a truncated token", "Encrypt", encrypt(token[:len(token)-4]), "InvalidGrantTokenException", ""},
		{"another key's token", "Encrypt", encrypt(foreign), "InvalidGrantTokenException", ""},
		{"a retired grant's token", "Encrypt", encrypt(revoked), "InvalidGrantTokenException", ""},
		{"revoke an unknown grant", "RevokeGrant", `{"KeyId":"` + key + `","GrantId":"` + none + `"}`, "NotFoundException", "Grant ID " + none + " not found"},
		{"revoke what is no id", "RevokeGrant", `{"KeyId":"` + key + `","GrantId":"x"}`, "InvalidGrantIdException", ""},
		{"revoke another key's grant", "RevokeGrant", `{"KeyId":"` + other + `","GrantId":"` + id + `"}`, "NotFoundException", ""},
		{"revoke, a dry run", "RevokeGrant", `{"KeyId":"` + key + `","GrantId":"` + id + `","DryRun":true}`, "DryRunOperationException", ""},
		{"retire nothing", "RetireGrant", `{}`, "ValidationException", "Grant token OR (grant ID, key ID) must be specified"},
		{"retire by token and id", "RetireGrant", `{"GrantToken":"` + token + `","KeyId":"` + key + `","GrantId":"` + id + `"}`, "ValidationException", ""},
		{"retire by id alone", "RetireGrant", `{"GrantId":"` + id + `"}`, "ValidationException", ""},
		{"retire by a forged token", "RetireGrant", `{"GrantToken":"AQpA"}`, "InvalidGrantTokenException", ""},
		{"retire twice", "RetireGrant", `{"GrantToken":"` + revoked + `"}`, "InvalidGrantTokenException", ""},
		{"retire an unknown grant", "RetireGrant", `{"KeyId":"` + key + `","GrantId":"` + none + `"}`, "NotFoundException", ""},
		{"retire, a dry run", "RetireGrant", `{"GrantToken":"` + token + `","DryRun":true}`, "DryRunOperationException", ""},
		{"retire by alias", "RetireGrant", `{"KeyId":"alias/a","GrantId":"` + id + `"}`, "InvalidArnException", "Key Aliases are not supported for this operation."},
		{"list by what is no id", "ListGrants", `{"KeyId":"` + key + `","GrantId":"x"}`, "InvalidGrantIdException", ""},
		{"list by nobody", "ListGrants", `{"KeyId":"` + key + `","GranteePrincipal":"` + alicesARN + `x"}`, "InvalidArnException", ""},
		{"list by a service that one is not", "ListGrants", `{"KeyId":"` + key + `","GranteeServicePrincipal":"s3.amazonaws.com"}`, "ValidationException", ""},
		{"a long encryption context", "Encrypt", `{"KeyId":"` + key + `","Plaintext":"eA==","EncryptionContext":{"a":"` + strings.Repeat("x", 8192) + `"}}`, "ValidationException", ""},
		{"list with a bad marker", "ListGrants", `{"KeyId":"` + key + `","Marker":"x"}`, "InvalidMarkerException", ""},
		{"list retirable by nobody", "ListRetirableGrants", `{}`, "ValidationException", ""},
		{"list retirable of another account", "ListRetirableGrants", `{"RetiringPrincipal":"arn:aws:iam::444455556666:root"}`, "InvalidArnException", ""},
		{"list retirable of a service", "ListRetirableGrants", `{"RetiringServicePrincipal":"s3.amazonaws.com"}`, "ValidationException", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.call(root, tt.operation, tt.body)
			if status != 400 || find(text, "__type") != tt.code || !strings.Contains(text, tt.message) {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	if after := c.srv.Revision(); after != before {
		t.Errorf("refused requests changed something: revision %d, was %d", after, before)
	}
}

// TestGrants makes, lists, uses and ends grants.
func TestGrants(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	key := c.must(root, "CreateKey", `{}`, "Arn")
	grant := func(more string) string {
		return `{"KeyId":"` + key + `","GranteePrincipal":"` + alicesARN + `","Operations":["Encrypt","Decrypt"]` + more + `}`
	}
	first := c.must(root, "CreateGrant", grant(`,"Name":"job"`), "GrantId")
	if again := c.must(root, "CreateGrant", grant(`,"Name":"job"`), "GrantId"); again != first {
		t.Errorf("the same name and terms made another grant: %s, %s", first, again)
	}
	if other := c.must(root, "CreateGrant", grant(`,"Name":"job","Constraints":{"EncryptionContextSubset":{"a":"b"}}`), "GrantId"); other == first {
		t.Error("the same name with other terms made no other grant")
	}
	for _, more := range []string{`"EncryptionContextSubset":{}`, `"EncryptionContextSubset":{"A":"b"}`, `"EncryptionContextEquals":{"a":"b"}`} {
		if id := c.must(root, "CreateGrant", grant(`,"Name":"job","Constraints":{`+more+`}`), "GrantId"); id == first {
			t.Errorf("the same name with %s made no other grant", more)
		}
	}
	if unnamed := c.must(root, "CreateGrant", grant(""), "GrantId"); len(unnamed) != 64 || unnamed == c.must(root, "CreateGrant", grant(""), "GrantId") {
		t.Error("grants without names are not new each time")
	}
	for range 3 {
		c.must(root, "CreateGrant", grant(`,"RetiringPrincipal":"`+alicesARN+`"`), "")
	}
	_, text := c.call(root, "ListGrants", `{"KeyId":"`+key+`","GrantId":"`+first+`"}`)
	for _, part := range []string{`"KeyId":"` + key + `"`, `"Name":"job"`, `"GranteePrincipal":"` + alicesARN + `"`, `"IssuingAccount":"arn:aws:iam::111122223333:root"`,
		`"Operations":["Encrypt","Decrypt"]`, `"Truncated":false`} {
		if !strings.Contains(text, part) {
			t.Errorf("ListGrants: %s lacks %s", text, part)
		}
	}
	seen, marker := 0, ""
	for page := `{"KeyId":"` + key + `","Limit":2}`; page != ""; {
		_, text := c.call(root, "ListGrants", page)
		seen += strings.Count(text, `"GrantId"`)
		if page, marker = "", find(text, "NextMarker"); marker != "" {
			page = `{"KeyId":"` + key + `","Limit":2,"Marker":"` + marker + `"}`
		}
	}
	if seen != 10 {
		t.Errorf("pages show %d grants, want 10", seen)
	}
	_, text = c.call(root, "ListRetirableGrants", `{"RetiringPrincipal":"`+alicesARN+`","Limit":2}`)
	if strings.Count(text, `"GrantId"`) != 2 || find(text, "NextMarker") == "" {
		t.Errorf("ListRetirableGrants: %s", text)
	}
	c.must(alice, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`, "")

	// The grantee is gone: the grant shows its unique id and is for nobody.
	c.query(root, "iam", "Action", "DeleteAccessKey", "UserName", "alice", "AccessKeyId", alice.id)
	c.query(root, "iam", "Action", "DeleteUser", "UserName", "alice")
	again := c.user("alice")
	_, text = c.call(root, "ListGrants", `{"KeyId":"`+key+`","GrantId":"`+first+`"}`)
	if !strings.HasPrefix(find(text, "GranteePrincipal"), "AIDA") {
		t.Errorf("the grant of a deleted user: %s", text)
	}
	if status, _ := c.call(again, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`); status != 400 {
		t.Error("a user of the same name has the grant")
	}
}

// TestTokensTellNothing: whoever may not use a key does not learn from a token whether
// its grant is still there; the one who retires is told.
func TestTokensTellNothing(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	c.user("alice")
	bob := c.user("bob")
	key := c.must(root, "CreateKey", `{}`, "Arn")
	token := c.must(root, "CreateGrant", `{"KeyId":"`+key+`","GranteePrincipal":"`+alicesARN+`","RetiringPrincipal":"arn:aws:iam::111122223333:user/bob","Operations":["Encrypt"]}`, "GrantToken")
	encrypt := `{"KeyId":"` + key + `","Plaintext":"eA==","GrantTokens":["` + token + `"]}`
	_, before := c.call(bob, "Encrypt", encrypt)
	c.must(bob, "RetireGrant", `{"GrantToken":"`+token+`"}`, "")
	if _, after := c.call(bob, "Encrypt", encrypt); after != before || find(after, "__type") != "AccessDeniedException" {
		t.Errorf("before %s, after %s", before, after)
	}
	if _, text := c.call(bob, "RetireGrant", `{"GrantToken":"`+token+`"}`); find(text, "__type") != "InvalidGrantTokenException" {
		t.Errorf("retired twice: %s", text)
	}
}

// TestEventualConsistency: a new grant serves who presents its token at once, and
// the others a little later.
func TestEventualConsistency(t *testing.T) {
	c := client{t, kmstest.Start(t, kmstest.GrantDelay(time.Hour))}
	alice, bob := c.user("alice"), c.user("bob")
	key := c.must(root, "CreateKey", `{}`, "Arn")
	grant := `{"KeyId":"` + key + `","GranteePrincipal":"` + alicesARN + `","Operations":["Encrypt"],"Constraints":{"EncryptionContextSubset":{"a":"b"}}}`
	token := c.must(root, "CreateGrant", grant, "GrantToken")
	body := `{"KeyId":"` + key + `","Plaintext":"eA==","EncryptionContext":{"a":"b"}`
	for _, tt := range []struct {
		name   string
		who    credentials
		body   string
		status int
	}{
		{"without the token", alice, body + `}`, http.StatusBadRequest},
		{"with the token", alice, body + `,"GrantTokens":["` + token + `"]}`, http.StatusOK},
		{"with the token, by another", bob, body + `,"GrantTokens":["` + token + `"]}`, http.StatusBadRequest},
		{"with the token, against the constraint", alice, `{"KeyId":"` + key + `","Plaintext":"eA==","GrantTokens":["` + token + `"]}`, http.StatusBadRequest},
	} {
		if status, text := c.call(tt.who, "Encrypt", tt.body); status != tt.status {
			t.Errorf("%s: %d %s", tt.name, status, text)
		}
	}
}

// TestServiceHeaders: what a service says counts only if a service says it.
func TestServiceHeaders(t *testing.T) {
	c := client{t, kmstest.Start(t, kmstest.Service("s3.amazonaws.com", "s3key", "s3secret"))}
	alice, s3 := c.user("alice"), credentials{"s3key", "s3secret", ""}
	key := c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "PutKeyPolicy", `{"KeyId":"`+key+`","BypassPolicyLockoutSafetyCheck":true,"Policy":"`+escape(`{"Version":"2012-10-17","Statement":[`+
		`{"Effect":"Allow","Principal":{"AWS":"`+alicesARN+`"},"Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}},`+
		`{"Effect":"Allow","Principal":{"Service":"s3.amazonaws.com"},"Action":"kms:Encrypt","Resource":"*","Condition":{"StringEquals":{"aws:SourceAccount":"111122223333"}}}]}`)+`"}`, "")
	send := func(who credentials, service string, headers ...string) (int, string) {
		body := `{"KeyId":"` + key + `","Plaintext":"eA=="}`
		r := c.post("Encrypt", body)
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		status, _, text := c.do(signed(r, body, who, "us-east-1", service, time.Now()))
		return status, text
	}
	forward := []string{"X-Amz-Forwarded-Access-Key-Id", alice.id}
	for _, tt := range []struct {
		name    string
		who     credentials
		headers []string
		status  int
		code    string
	}{
		{"alice herself", alice, nil, 400, "AccessDeniedException"},
		{"alice, saying that a service forwards", alice, forward, 400, "AccessDeniedException"},
		{"root, saying that it forwards for alice", root, forward, 400, "AccessDeniedException"},
		{"S3 for alice", s3, forward, 200, ""},
		{"S3 for nobody", s3, []string{"X-Amz-Forwarded-Access-Key-Id", "AKIAXXXXXXXXXXXXXXXX"}, 400, "UnrecognizedClientException"},
		{"S3 for a service", s3, []string{"X-Amz-Forwarded-Access-Key-Id", "s3key"}, 400, "ValidationException"},
		{"S3 with a bad chain", s3, append(forward, "X-Amz-Forwarded-Called-Via", "not a service"), 400, "ValidationException"},
		{"S3 for itself", s3, nil, 400, "AccessDeniedException"},
		{"S3 on behalf of a source", s3, []string{"X-Amz-Source-Account", "111122223333"}, 200, ""},
		{"S3 on behalf of nonsense", s3, []string{"X-Amz-Source-Arn", "bucket"}, 400, "ValidationException"},
		{"root, saying that it is for a source", root, []string{"X-Amz-Source-Account", "111122223333"}, 400, "AccessDeniedException"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := send(tt.who, "kms", tt.headers...)
			if status != tt.status || find(text, "__type") != tt.code {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	// What is added on the way is not signed.
	for _, name := range []string{"X-Amz-Forwarded-Access-Key-Id", "X-Amz-Source-Account"} {
		body := `{"KeyId":"` + key + `","Plaintext":"eA=="}`
		r := signed(c.post("Encrypt", body), body, s3, "us-east-1", "kms", time.Now())
		r.Header.Set(name, "111122223333")
		status, _, text := c.do(r)
		if status != 400 || find(text, "message") != "'"+strings.ToLower(name)+"' must be a 'SignedHeader' in the AWS Authorization." {
			t.Errorf("%s added after signing: %d %s", name, status, text)
		}
	}
	// The log says which service it was, and of a forwarded request who asked.
	var lines []string
	for _, line := range c.srv.Audit() {
		lines = append(lines, string(line))
	}
	all := strings.Join(lines, "\n")
	for _, want := range []string{`"type":"AWSService","accessKeyId":"s3key","invokedBy":"s3.amazonaws.com"`, `"userName":"alice","invokedBy":"s3.amazonaws.com"`,
		`"errorCode":"UnrecognizedClientException"`, `"errorCode":"ValidationException"`} {
		if !strings.Contains(all, want) {
			t.Errorf("the audit log lacks %s", want)
		}
	}
	c.srv.AddAccount(t, "444455556666", "other", "secret")
	foreign := c.must(credentials{"other", "secret", ""}, "CreateKey", `{}`, "Arn")
	body := `{"KeyId":"` + foreign + `","Plaintext":"eA=="}`
	r := c.post("Encrypt", body)
	r.Header.Set("X-Amz-Forwarded-Access-Key-Id", alice.id)
	if _, _, text := c.do(signed(r, body, s3, "us-east-1", "kms", time.Now())); !strings.HasPrefix(find(text, "message"),
		"User: "+alicesARN+" is not authorized to perform: kms:Encrypt on this resource because the resource does not exist in this Region") {
		t.Errorf("forwarded, to another account's key: %s", text)
	}
	if status, text := c.query(s3, "sts", "Action", "GetCallerIdentity"); status != 403 {
		t.Errorf("a service calls STS: %d %s", status, text)
	}
	status, text := c.call(s3, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`)
	want := "User: s3.amazonaws.com is not authorized to perform: kms:Encrypt on resource: " + key
	if status != 400 || !strings.HasPrefix(find(text, "message"), want) {
		t.Errorf("refused: %d %s", status, text)
	}
}

// TestDryRunMakesNothing: an AWS managed key that a dry run would use is not
// brought about by it.
func TestDryRunMakesNothing(t *testing.T) {
	c := client{t, kmstest.Start(t, kmstest.Service("s3.amazonaws.com", "s3key", "s3secret"))}
	for _, dry := range []string{"true", "false"} {
		body := `{"KeyId":"alias/aws/s3","KeySpec":"AES_256","DryRun":` + dry + `}`
		r := c.post("GenerateDataKey", body)
		r.Header.Set("X-Amz-Forwarded-Access-Key-Id", "test")
		_, _, text := c.do(signed(r, body, credentials{"s3key", "s3secret", ""}, "us-east-1", "kms", time.Now()))
		if got := find(text, "__type"); (dry == "true") != (got == "DryRunOperationException") {
			t.Fatalf("DryRun %s: %s", dry, text)
		}
		if _, keys := c.call(root, "ListKeys", `{}`); (dry == "true") != strings.Contains(keys, `"Keys":[]`) {
			t.Errorf("after DryRun %s there are %s", dry, keys)
		}
	}
}
