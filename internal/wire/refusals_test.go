package wire_test

import (
	"bytes"
	"encoding/json/v2"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/sigv4"
	"github.com/claviger/claviger/kmstest"
)

// A client sends raw requests to a server that holds a key, a user and more.
type client struct {
	t   testing.TB
	srv *kmstest.Server
}

type credentials struct{ id, secret, token string }

var root = credentials{"test", "test", ""}

// post makes an unsigned JSON request.
func (c client) post(operation, body string) *http.Request {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "http://kms.us-east-1.amazonaws.com/", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	return r
}

func signed(r *http.Request, body string, c credentials, region, service string, at time.Time) *http.Request {
	sigv4.Sign(r, []byte(body), c.id, c.secret, c.token, region, service, at)
	return r
}

func (c client) do(r *http.Request) (int, http.Header, string) {
	c.t.Helper()
	answer, err := c.srv.Client().Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer.StatusCode, answer.Header, string(text)
}

// call signs and sends a KMS request.
func (c client) call(who credentials, operation, body string) (int, string) {
	c.t.Helper()
	status, _, text := c.do(signed(c.post(operation, body), body, who, "us-east-1", "kms", time.Now()))
	return status, text
}

// must is call for requests that have to succeed; it returns a member of the answer.
func (c client) must(who credentials, operation, body, member string) string {
	c.t.Helper()
	status, text := c.call(who, operation, body)
	if status != http.StatusOK {
		c.t.Fatalf("%s: %d %s", operation, status, text)
	}
	return find(text, member)
}

// find returns the first string member of that name in a JSON text.
func find(text, member string) string {
	_, after, ok := strings.Cut(text, `"`+member+`":"`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(after, `"`)
	return value
}

// query sends a Query request and returns the status and the body.
func (c client) query(who credentials, service string, args ...string) (int, string) {
	c.t.Helper()
	r, body := c.form(args...)
	status, _, text := c.do(signed(r, body, who, "us-east-1", service, time.Now()))
	return status, text
}

// form makes an unsigned Query request.
func (c client) form(args ...string) (r *http.Request, body string) {
	c.t.Helper()
	form := url.Values{}
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	body = form.Encode()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, "http://iam.amazonaws.com/", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r, body
}

func element(text, name string) string {
	_, after, _ := strings.Cut(text, "<"+name+">")
	value, _, _ := strings.Cut(after, "<")
	return value
}

func (c client) user(name string) credentials {
	c.t.Helper()
	c.query(root, "iam", "Action", "CreateUser", "UserName", name)
	_, text := c.query(root, "iam", "Action", "CreateAccessKey", "UserName", name)
	return credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), ""}
}

// TestFrontDoor refuses what is not a well-formed, signed, timely request
// (errors.md §7), in AWS's words, and changes nothing.
func TestFrontDoor(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	c.query(root, "iam", "Action", "UpdateAccessKey", "UserName", "alice", "AccessKeyId", alice.id, "Status", "Inactive")
	now := time.Now()
	late := now.Add(-6 * time.Minute)
	const body = `{}`
	ok := func() *http.Request { return c.post("ListKeys", body) }
	header := func(name, value string) *http.Request {
		r := signed(ok(), body, root, "us-east-1", "kms", now)
		r.Header.Set(name, value)
		return r
	}
	tests := []struct {
		name   string
		r      *http.Request
		status int
		want   string // the fault's JSON; a text before … is a prefix
	}{
		{"unsigned", ok(), 400, `{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}`},
		{"signed with another secret", signed(ok(), body, credentials{"test", "other", ""}, "us-east-1", "kms", now), 400,
			`{"__type":"InvalidSignatureException","message":"The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."}`},
		{"another body than signed", signed(c.post("ListKeys", `{"Limit":1}`), body, root, "us-east-1", "kms", now), 400,
			`{"__type":"InvalidSignatureException","message":"The request signature we calculated does not match…`},
		{"another target than signed", header("X-Amz-Target", "TrentService.CreateKey"), 400,
			`{"__type":"InvalidSignatureException","message":"The request signature we calculated does not match…`},
		{"replayed late", signed(ok(), body, root, "us-east-1", "kms", late), 400,
			`{"__type":"InvalidSignatureException","message":"Signature expired: ` + late.UTC().Format("20060102T150405Z") + ` is now earlier than …`},
		{"not yet current", signed(ok(), body, root, "us-east-1", "kms", now.Add(6*time.Minute)), 400,
			`{"__type":"InvalidSignatureException","message":"Signature not yet current: …`},
		{"unknown access key", signed(ok(), body, credentials{"AKIANOBODY", "x", ""}, "us-east-1", "kms", now), 400,
			`{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`},
		{"inactive access key", signed(ok(), body, alice, "us-east-1", "kms", now), 400,
			`{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`},
		{"session token that is none", signed(ok(), body, credentials{"test", "test", "bm9uZQ=="}, "us-east-1", "kms", now), 400,
			`{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`},
		{"not a Region", signed(ok(), body, root, "mars", "kms", now), 400,
			`{"__type":"InvalidSignatureException","message":"Credential should be scoped to a valid region, not 'mars'. "}`},
		{"another service in the scope", signed(ok(), body, root, "us-east-1", "s3", now), 400,
			`{"__type":"InvalidSignatureException","message":"Credential should be scoped to correct service: 'kms'. "}`},
		{"an empty Authorization header", header("Authorization", "AWS4-HMAC-SHA256 "), 400,
			`{"__type":"IncompleteSignatureException","message":"Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256"}`},
		{"a part that is no pair", header("Authorization", "AWS4-HMAC-SHA256 Credential"), 400,
			`{"__type":"IncompleteSignatureException","message":"'Credential' not a valid key=value pair (missing equal-sign) in Authorization header: 'AWS4-HMAC-SHA256 Credential'."}`},
		{"a short credential", header("Authorization", "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=00"), 400,
			`{"__type":"IncompleteSignatureException","message":"Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b'"}`},
		{"wrong target", c.post("NoSuchOperation", body), 400, `{"__type":"UnknownOperationException"}`},
		{"no target", func() *http.Request { r := ok(); r.Header.Del("X-Amz-Target"); return r }(), 400, `{"__type":"UnknownOperationException"}`},
		{"wrong content type", func() *http.Request { r := ok(); r.Header.Set("Content-Type", "text/plain"); return r }(), 404, `{"__type":"UnknownOperationException"}`},
		{"GET", func() *http.Request { r := ok(); r.Method = http.MethodGet; return r }(), 404, `{"__type":"UnknownOperationException"}`},
		{"2 MB body", c.post("Encrypt", strings.Repeat("x", 2<<20)), 413, ``},
	}
	before := c.srv.Revision()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, _, text := client{t, c.srv}.do(tt.r)
			prefix, isPrefix := strings.CutSuffix(tt.want, "…")
			if status != tt.status || text != tt.want && !(isPrefix && strings.HasPrefix(text, prefix)) {
				t.Errorf("got  %d %s\nwant %d %s", status, text, tt.status, tt.want)
			}
		})
	}
	if after := c.srv.Revision(); after != before {
		t.Errorf("refused requests changed something: revision %d, was %d", after, before)
	}
}

const (
	missingID   = "1234abcd-12ab-34cd-56ef-1234567890ab"
	keepAway    = `{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::111122223333:user/alice\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}`
	namesNobody = `{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"arn:aws:iam::111122223333:user/nobody\"},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}`
)

// TestRefusals gives each bad request its exact fault and changes nothing.
func TestRefusals(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	c.srv.AddAccount(t, "444455556666", "other", "secret")
	other := credentials{"other", "secret", ""}
	alice := c.user("alice")
	enabled := c.must(root, "CreateKey", `{}`, "Arn")
	id := enabled[strings.LastIndexByte(enabled, '/')+1:]
	disabled := c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "DisableKey", `{"KeyId":"`+disabled+`"}`, "")
	pending := c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "ScheduleKeyDeletion", `{"KeyId":"`+pending+`"}`, "")
	c.must(root, "CreateAlias", `{"AliasName":"alias/blue","TargetKeyId":"`+id+`"}`, "")
	blob := c.must(root, "Encrypt", `{"KeyId":"`+enabled+`","Plaintext":"eA==","EncryptionContext":{"a":"b"}}`, "CiphertextBlob")
	flipped := flipBit(t, blob)
	foreign := "arn:aws:kms:us-east-1:111122223333:key/"
	masked := func(action, resource string) string {
		return `{"__type":"AccessDeniedException","message":"User: arn:aws:iam::444455556666:root is not authorized to perform: kms:` + action + ` on ` + resource +
			` because the resource does not exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies access"}`
	}
	validation := func(text string) string { return `{"__type":"ValidationException","message":"` + text + `"}` }
	tests := []struct {
		name            string
		who             credentials
		operation, body string
		want            string
	}{
		{"not JSON", root, "ListKeys", `{"Limit":`, `{"__type":"SerializationException"}`},
		{"no body", root, "ListKeys", ``, `{"__type":"SerializationException"}`},
		{"a number for a string", root, "DescribeKey", `{"KeyId":7}`, `{"__type":"SerializationException","message":"NUMBER_VALUE can not be converted to a String"}`},
		{"a string for a number", root, "ListKeys", `{"Limit":"7"}`, `{"__type":"SerializationException","message":"STRING_VALUE can not be converted to an Integer"}`},
		{"a list for an object", root, "ListKeys", `[]`, `{"__type":"SerializationException"}`},
		{"duplicate members", root, "DescribeKey", `{"KeyId":"a","KeyId":"b"}`, `{"__type":"SerializationException"}`},
		{"invalid UTF-8", root, "DescribeKey", "{\"KeyId\":\"\xff\"}", `{"__type":"SerializationException"}`},
		{"bad base64", root, "Encrypt", `{"KeyId":"` + id + `","Plaintext":"*"}`, `{"__type":"SerializationException"}`},
		{"missing member", root, "DescribeKey", `{}`, validation("1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")},
		{"two violations in one fault", root, "Encrypt", `{"Plaintext":""}`, validation("2 validation errors detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null; " +
			"Value at 'plaintext' failed to satisfy constraint: Member must have length greater than or equal to 1")},
		{"member names are case-sensitive", root, "DescribeKey", `{"keyid":"a"}`, validation("1 validation error detected: Value null at 'keyId' failed to satisfy constraint: Member must not be null")},
		{"number out of range", root, "GenerateRandom", `{"NumberOfBytes":1025}`, validation("1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024")},
		{"GenerateRandom without a number", root, "GenerateRandom", `{}`, validation("NumberOfBytes is required.")},
		{"data key of no size", root, "GenerateDataKey", `{"KeyId":"` + id + `"}`, validation("Please specify either number of bytes or key spec.")},
		{"an attestation document that is none", root, "Decrypt", `{"CiphertextBlob":"` + blob + `","Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"eA=="}}`,
			validation("The attestation document is not valid.")},
		{"grant token of no grant", root, "Encrypt", `{"KeyId":"` + id + `","Plaintext":"eA==","GrantTokens":["x"]}`, `{"__type":"InvalidGrantTokenException"}`},

		{"not a key id", root, "DescribeKey", `{"KeyId":"blue"}`, `{"__type":"NotFoundException","message":"Invalid keyId 'blue'"}`},
		{"no such key", root, "DescribeKey", `{"KeyId":"` + missingID + `"}`, `{"__type":"NotFoundException","message":"Key '` + foreign + missingID + `' does not exist"}`},
		{"another Region's ARN", root, "DescribeKey", `{"KeyId":"` + strings.Replace(enabled, "us-east-1", "eu-west-1", 1) + `"}`, `{"__type":"NotFoundException","message":"Invalid arn eu-west-1"}`},
		{"no such alias", root, "DescribeKey", `{"KeyId":"alias/none"}`, `{"__type":"NotFoundException","message":"Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found."}`},
		{"an alias where none is taken", root, "DisableKey", `{"KeyId":"alias/blue"}`, `{"__type":"NotFoundException","message":"Invalid keyId 'alias/blue'"}`},
		{"another account's key", other, "DescribeKey", `{"KeyId":"` + enabled + `"}`, masked("DescribeKey", "resource: "+enabled)},
		{"another account's key that does not exist", other, "DescribeKey", `{"KeyId":"` + foreign + missingID + `"}`, masked("DescribeKey", "resource: "+foreign+missingID)},
		{"another account's ciphertext", other, "Decrypt", `{"CiphertextBlob":"` + blob + `"}`, masked("Decrypt", "the resource associated with this ciphertext")},
		{"an action that never crosses accounts", other, "DisableKey", `{"KeyId":"` + enabled + `"}`, masked("DisableKey", "resource: "+enabled)},
		{"no permission", alice, "Encrypt", `{"KeyId":"alias/blue","Plaintext":"eA=="}`, `{"__type":"AccessDeniedException","message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:Encrypt on resource: ` +
			enabled + ` because no identity-based policy allows the kms:Encrypt action"}`},
		{"no permission, without a resource", alice, "CreateKey", `{}`, `{"__type":"AccessDeniedException","message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:CreateKey on resource: * because no identity-based policy allows the kms:CreateKey action"}`},
		{"no permission on a disabled key says nothing of its state", alice, "Encrypt", `{"KeyId":"` + disabled + `","Plaintext":"eA=="}`,
			`{"__type":"AccessDeniedException","message":"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: kms:Encrypt on resource: ` + disabled + ` because no identity-based policy allows the kms:Encrypt action"}`},

		{"malformed policy", root, "PutKeyPolicy", `{"KeyId":"` + id + `","Policy":"{"}`, `{"__type":"MalformedPolicyDocumentException","message":"Syntax errors in policy."}`},
		{"policy naming nobody", root, "PutKeyPolicy", `{"KeyId":"` + id + `","Policy":"` + namesNobody + `"}`, `{"__type":"MalformedPolicyDocumentException","message":"Policy contains a statement with one or more invalid principals."}`},
		{"policy that locks out", root, "PutKeyPolicy", `{"KeyId":"` + id + `","Policy":"` + keepAway + `"}`, `{"__type":"MalformedPolicyDocumentException","message":"The new key policy will not allow you to update the key policy in the future."}`},
		{"policy that locks the creator out", root, "CreateKey", `{"Policy":"` + keepAway + `"}`, `{"__type":"MalformedPolicyDocumentException","message":"The new key policy will not allow you to update the key policy in the future."}`},
		{"policy too long", root, "PutKeyPolicy", `{"KeyId":"` + id + `","Policy":"` + strings.Repeat(" ", 32769) + `"}`, `{"__type":"LimitExceededException","message":"The policy is longer than 32768 bytes."}`},
		{"policy with a tag condition", root, "PutKeyPolicy", `{"KeyId":"` + id + `","Policy":"` + strings.Replace(keepAway, `\"Resource\"`, `\"Condition\":{\"StringEquals\":{\"aws:ResourceTag/a\":\"b\"}},\"Resource\"`, 1) + `"}`,
			`{"__type":"MalformedPolicyDocumentException","message":"These condition keys are not permitted in a key policy: aws:ResourceTag, kms:ResourceTag, kms:ResourceAliases"}`},
		{"another policy name", root, "GetKeyPolicy", `{"KeyId":"` + id + `","PolicyName":"mine"}`, `{"__type":"NotFoundException","message":"No such policy exists"}`},

		{"ciphertext with a flipped bit", root, "Decrypt", `{"CiphertextBlob":"` + flipped + `","EncryptionContext":{"a":"b"}}`, `{"__type":"InvalidCiphertextException"}`},
		{"not a ciphertext", root, "Decrypt", `{"CiphertextBlob":"eA=="}`, `{"__type":"InvalidCiphertextException"}`},
		{"wrong encryption context", root, "Decrypt", `{"CiphertextBlob":"` + blob + `","EncryptionContext":{"a":"B"}}`, `{"__type":"InvalidCiphertextException"}`},
		{"another key than the ciphertext's", root, "Decrypt", `{"CiphertextBlob":"` + blob + `","KeyId":"` + disabled + `"}`, `{"__type":"IncorrectKeyException","message":"The key ID in the request does not identify a CMK that can perform this operation."}`},
		{"an algorithm of other keys", root, "Encrypt", `{"KeyId":"` + id + `","Plaintext":"eA==","EncryptionAlgorithm":"RSAES_OAEP_SHA_1"}`, `{"__type":"InvalidKeyUsageException","message":"Algorithm RSAES_OAEP_SHA_1 is incompatible with key spec SYMMETRIC_DEFAULT."}`},
		{"disabled key", root, "Encrypt", `{"KeyId":"` + disabled + `","Plaintext":"eA=="}`, `{"__type":"DisabledException","message":"` + disabled + ` is disabled."}`},
		{"key pending deletion", root, "Encrypt", `{"KeyId":"` + pending + `","Plaintext":"eA=="}`, `{"__type":"KMSInvalidStateException","message":"` + pending + ` is pending deletion."}`},
		{"enabling a key pending deletion", root, "EnableKey", `{"KeyId":"` + pending + `"}`, `{"__type":"KMSInvalidStateException","message":"` + pending + ` is pending deletion."}`},
		{"cancelling what is not scheduled", root, "CancelKeyDeletion", `{"KeyId":"` + id + `"}`, `{"__type":"KMSInvalidStateException","message":"` + enabled + ` is not pending deletion."}`},
		{"waiting period too short", root, "ScheduleKeyDeletion", `{"KeyId":"` + id + `","PendingWindowInDays":6}`, validation("PendingWindowInDays should be between 7 and 30, but it is 6")},
		{"dry run", root, "Encrypt", `{"KeyId":"` + id + `","Plaintext":"eA==","DryRun":true}`, `{"__type":"DryRunOperationException","message":"The request would have succeeded, but the DryRun option is set."}`},

		{"alias without its prefix", root, "CreateAlias", `{"AliasName":"blue","TargetKeyId":"` + id + `"}`,
			validation(`Alias must start with the prefix \"alias/\". Please see https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html`)},
		{"alias that exists", root, "CreateAlias", `{"AliasName":"alias/blue","TargetKeyId":"` + id + `"}`, `{"__type":"AlreadyExistsException","message":"An alias with the name arn:aws:kms:us-east-1:111122223333:alias/blue already exists"}`},
		{"alias of a key pending deletion", root, "CreateAlias", `{"AliasName":"alias/red","TargetKeyId":"` + pending + `"}`, `{"__type":"KMSInvalidStateException","message":"` + pending + ` is pending deletion."}`},
		{"duplicate tags", root, "TagResource", `{"KeyId":"` + id + `","Tags":[{"TagKey":"a","TagValue":""},{"TagKey":"a","TagValue":""}]}`, `{"__type":"TagException","message":"Duplicate tag keys"}`},
		{"reserved tag", root, "TagResource", `{"KeyId":"` + id + `","Tags":[{"TagKey":"AWS:a","TagValue":""}]}`, `{"__type":"TagException","message":"Tags beginning with aws: are reserved"}`},
		{"bad marker", root, "ListKeys", `{"Marker":"x"}`, `{"__type":"InvalidMarkerException"}`},
	}
	before := c.srv.Revision()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.call(tt.who, tt.operation, tt.body)
			if status != 400 || text != tt.want {
				t.Errorf("got  %d %s\nwant 400 %s", status, text, tt.want)
			}
			if strings.Contains(text, "Go ") {
				t.Error("the answer names a Go type")
			}
		})
	}
	if after := c.srv.Revision(); after != before {
		t.Errorf("refused requests changed something: revision %d, was %d", after, before)
	}
}

// flipBit flips the last bit of a blob in base64.
func flipBit(t *testing.T, text string) string {
	t.Helper()
	var blob []byte
	if err := json.Unmarshal([]byte(`"`+text+`"`), &blob); err != nil {
		t.Fatal(err)
	}
	blob[len(blob)-1] ^= 1
	out, err := json.Marshal(blob)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.Trim(out, `"`))
}

// TestAnswers checks the form of what succeeds: its headers, and an empty body
// where an operation has no output.
func TestAnswers(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	key := c.must(root, "CreateKey", `{"Description":"d"}`, "Arn")
	body := `{"KeyId":"` + key + `","Description":""}`
	status, header, text := c.do(signed(c.post("UpdateKeyDescription", body), body, root, "us-east-1", "kms", time.Now()))
	if status != 200 || text != "" {
		t.Errorf("UpdateKeyDescription = %d %q, want 200 and nothing", status, text)
	}
	if got := header.Get("Content-Type"); got != "application/x-amz-json-1.1" {
		t.Errorf("Content-Type = %q", got)
	}
	if len(header.Get("X-Amzn-Requestid")) != 36 {
		t.Errorf("X-Amzn-RequestId = %q", header.Get("X-Amzn-Requestid"))
	}
	if status, text := c.call(root, "ListKeyPolicies", `{"KeyId":"`+key+`","Unknown":[1,{"a":null}]}`); status != 200 || text != `{"PolicyNames":["default"],"Truncated":false}` {
		t.Errorf("ListKeyPolicies with an unknown member = %d %s", status, text)
	}
}

// TestQueryFaults checks the Query protocol's faults.
func TestQueryFaults(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	tests := []struct {
		name    string
		who     credentials
		service string
		args    []string
		status  int
		code    string
		message string
	}{
		{"wrong signature", credentials{"test", "x", ""}, "iam", []string{"Action", "ListUsers"}, 403, "SignatureDoesNotMatch", "The request signature we calculated does not match"},
		{"unknown key", credentials{"AKIAX", "x", ""}, "iam", []string{"Action", "ListUsers"}, 403, "InvalidClientTokenId", "The security token included in the request is invalid."},
		{"no action", root, "iam", []string{"X", "y"}, 400, "MissingAction", ""},
		{"unknown action", root, "iam", []string{"Action", "Nothing"}, 400, "InvalidAction", "Could not find operation Nothing for version 2010-05-08"},
		{"an action there is not yet", root, "iam", []string{"Action", "GetAccessKeyLastUsed"}, 400, "UnsupportedOperationException", "GetAccessKeyLastUsed is not supported."},
		{"another version", root, "iam", []string{"Action", "ListUsers", "Version", "2000-01-01"}, 400, "InvalidAction", ""},
		{"no such user", root, "iam", []string{"Action", "GetUser", "UserName", "bob"}, 404, "NoSuchEntity", "The user with name bob cannot be found."},
		{"user that exists", root, "iam", []string{"Action", "CreateUser", "UserName", "ALICE"}, 409, "EntityAlreadyExists", "User with name ALICE already exists."},
		{"no permission", alice, "iam", []string{"Action", "ListUsers"}, 403, "AccessDenied",
			"User: arn:aws:iam::111122223333:user/alice is not authorized to perform: iam:ListUsers on resource: arn:aws:iam::111122223333:user/ because no identity-based policy allows the iam:ListUsers action"},
		{"no permission and no such user", alice, "iam", []string{"Action", "GetUser", "UserName", "bob"}, 403, "AccessDenied", ""},
		{"malformed policy", root, "iam", []string{"Action", "PutUserPolicy", "UserName", "alice", "PolicyName", "p", "PolicyDocument", "{"}, 400, "MalformedPolicyDocument", "Syntax errors in policy."},
		{"user with an access key", root, "iam", []string{"Action", "DeleteUser", "UserName", "alice"}, 409, "DeleteConflict", "Cannot delete entity, must delete access keys first."},
		{"bad member", root, "iam", []string{"Action", "ListUsers", "MaxItems", "many"}, 400, "MalformedInput", ""},
		{"violated constraint", root, "iam", []string{"Action", "CreateUser", "UserName", "a b"}, 400, "ValidationError",
			`1 validation error detected: Value 'a b' at 'userName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]+`},
	}
	before := c.srv.Revision()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.query(tt.who, tt.service, tt.args...)
			if status != tt.status || element(text, "Code") != tt.code || !strings.HasPrefix(element(text, "Message"), strings.ReplaceAll(tt.message, "'", "&#39;")) {
				t.Errorf("got %d %s\nwant %d %s %s", status, text, tt.status, tt.code, tt.message)
			}
		})
	}
	if after := c.srv.Revision(); after != before {
		t.Errorf("refused requests changed something: revision %d, was %d", after, before)
	}
}
