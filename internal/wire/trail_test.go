package wire_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claviger/claviger/kmstest"
)

// lookup sends a request for events.
func (c client) lookup(who credentials, region, body string) (int, string) {
	c.t.Helper()
	r := c.post("LookupEvents", body)
	r.Header.Set("X-Amz-Target", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents")
	status, _, text := c.do(signed(r, body, who, region, "cloudtrail", time.Now()))
	return status, text
}

func attribute(key, value string) string {
	return `{"LookupAttributes":[{"AttributeKey":"` + key + `","AttributeValue":"` + value + `"}]}`
}

// TestLookupEvents finds what was done, by each attribute.
func TestLookupEvents(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	key := c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "CreateAlias", `{"AliasName":"alias/a","TargetKeyId":"`+key+`"}`, "")
	blob := c.must(root, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"c2VjcmV0"}`, "CiphertextBlob")
	c.call(alice, "Decrypt", `{"CiphertextBlob":"`+blob+`"}`) // is refused
	c.query(root, "iam", "Action", "PutUserPolicy", "UserName", "alice", "PolicyName", "p", "PolicyDocument",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"cloudtrail:LookupEvents","Resource":"*"}]}`)
	for _, tt := range []struct{ name, body, names string }{
		{"all", `{}`, "PutUserPolicy Decrypt Encrypt CreateAlias CreateKey CreateAccessKey CreateUser CreateAccount"},
		{"by event", attribute("EventName", "Decrypt"), "Decrypt"},
		{"by user", attribute("Username", "alice"), "Decrypt LookupEvents LookupEvents"},
		{"by access key", attribute("AccessKeyId", alice.id), "Decrypt LookupEvents LookupEvents LookupEvents"},
		{"by service", attribute("EventSource", "iam.amazonaws.com"), "PutUserPolicy CreateAccessKey CreateUser"},
		{"by resource", attribute("ResourceName", key), "Decrypt Encrypt CreateAlias CreateKey"},
		{"by type of resource", attribute("ResourceType", "AWS::KMS::Key"), "Decrypt Encrypt CreateAlias CreateKey"},
		{"changes", attribute("ReadOnly", "false"), "PutUserPolicy CreateAlias CreateKey CreateAccessKey CreateUser CreateAccount"},
		{"none", attribute("EventId", "none"), ""},
		{"of insights", `{"EventCategory":"insight"}`, ""},
	} {
		status, text := c.lookup(alice, "us-east-1", tt.body)
		if n := strings.Count(text, `"EventId"`); status != 200 || n != len(strings.Fields(tt.names)) || strings.Contains(text, `claviger`) {
			t.Errorf("%s: %d, %d events: %s", tt.name, status, n, text)
		}
		for name := range strings.FieldsSeq(tt.names) {
			if !strings.Contains(text, `"EventName":"`+name+`"`) {
				t.Errorf("%s: no %s in %s", tt.name, name, text)
			}
		}
	}
	if status, text := c.lookup(alice, "eu-west-1", `{}`); status != 200 || text != `{"Events":[]}` {
		t.Errorf("in another Region: %d %s", status, text)
	}
	_, text := c.lookup(alice, "us-east-1", attribute("EventName", "Decrypt"))
	for _, part := range []string{`"ReadOnly":"true"`, `"Username":"alice"`, `\"errorCode\":\"AccessDenied\"`, `\"eventTime\":\"`, `{"ResourceType":"AWS::KMS::Key","ResourceName":"` + key + `"}`} {
		if !strings.Contains(text, part) {
			t.Errorf("%s lacks %s", text, part)
		}
	}
}

// TestLookupRefusals: who may not look learns nothing, and what is wrong with a
// request is told in CloudTrail's words.
func TestLookupRefusals(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	status, text := c.lookup(alice, "us-east-1", `{"MaxResults":0}`)
	if want := `{"__type":"AccessDeniedException","message":"User: ` + alicesARN + ` is not authorized to perform: cloudtrail:LookupEvents because no identity-based policy allows the cloudtrail:LookupEvents action"}`; status != 400 || text != want {
		t.Errorf("without permission: %d %s, want %s", status, text, want)
	}
	c.srv.AddAccount(t, "444455556666", "other", "secret")
	other := credentials{"other", "secret", ""}
	if _, text := c.lookup(other, "us-east-1", `{}`); strings.Contains(text, "111122223333") || strings.Count(text, `"EventId"`) != 1 {
		t.Errorf("another account sees %s", text)
	}

	page := func(more string) string { return `{"MaxResults":1,"StartTime":1000000000` + more + `}` }
	_, text = c.lookup(root, "us-east-1", page(""))
	token := find(text, "NextToken")
	with := page(`,"NextToken":"` + token + `"`)
	if status, text := c.lookup(root, "us-east-1", with); status != 200 || strings.Count(text, `"EventId"`) != 1 {
		t.Errorf("the second page: %d %s", status, text)
	}
	const badToken = "InvalidNextTokenException: The next token is not valid, or was returned for a request with other parameters."
	for _, tt := range []struct {
		name         string
		who          credentials
		region, body string
		want         string
	}{
		{"no attribute", root, "us-east-1", attribute("Color", "red"), "InvalidLookupAttributesException: Lookup attribute key is not valid."},
		{"an attribute in small letters", root, "us-east-1", attribute("eventName", "Encrypt"), "InvalidLookupAttributesException: Lookup attribute key is not valid."},
		{"an attribute without a key", root, "us-east-1", `{"LookupAttributes":[{"AttributeValue":"a"}]}`, "InvalidLookupAttributesException: Lookup attribute key is not valid."},
		{"an empty value", root, "us-east-1", attribute("EventName", ""), "InvalidLookupAttributesException: Lookup attribute value is not valid."},
		{"a long value", root, "us-east-1", attribute("EventName", strings.Repeat("x", 2001)), "InvalidLookupAttributesException: Lookup attribute value is not valid."},
		{"neither true nor false", root, "us-east-1", attribute("ReadOnly", "maybe"), "InvalidLookupAttributesException: Lookup attribute value is not valid."},
		{"two attributes", root, "us-east-1", `{"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"a"},{"AttributeKey":"EventName","AttributeValue":"a"}]}`,
			"InvalidLookupAttributesException: You can specify only one lookup attribute."},
		{"an end before the start", root, "us-east-1", `{"StartTime":1000000001,"EndTime":1000000000}`, "InvalidTimeRangeException: Time range is not valid. The start time must not be after the end time."},
		{"a time that is none", root, "us-east-1", `{"StartTime":"yesterday"}`, "SerializationException: "},
		{"no events", root, "us-east-1", `{"MaxResults":0}`, "InvalidMaxResultsException: A max results value of 0 is invalid. Specify max results between 1 and 50."},
		{"many events", root, "us-east-1", `{"MaxResults":51}`, "InvalidMaxResultsException: A max results value of 51 is invalid. Specify max results between 1 and 50."},
		{"a category that is none", root, "us-east-1", `{"EventCategory":"data"}`, "InvalidEventCategoryException: The event category is not valid. Specify insight, or none."},
		{"a token that is none", root, "us-east-1", `{"NextToken":"?"}`, badToken},
		{"an empty token", root, "us-east-1", `{"NextToken":""}`, badToken},
		{"a forged token", root, "us-east-1", page(`,"NextToken":"` + flipBit(t, token) + `"`), badToken},
		{"a token with other times", root, "us-east-1", page(`,"EndTime":9000000000,"NextToken":"` + token + `"`), badToken},
		{"a token with an attribute", root, "us-east-1", page(`,"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"a"}],"NextToken":"` + token + `"`), badToken},
		{"a token of another Region", root, "eu-west-1", with, badToken},
		{"a token of another account", other, "us-east-1", with, badToken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.lookup(tt.who, tt.region, tt.body)
			if got := find(text, "__type") + ": " + find(text, "message"); status != 400 || got != tt.want {
				t.Errorf("%d %s, want %s", status, text, tt.want)
			}
		})
	}
}

// TestLookupInOrganization: a service control policy counts.
func TestLookupInOrganization(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	admin := c.user("admin")
	c.query(root, "iam", "Action", "AttachUserPolicy", "UserName", "admin", "PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")
	c.mustOrg(admin, "CreateOrganization", `{}`, "")
	rootID := c.mustOrg(admin, "ListRoots", `{}`, "Id")
	account := c.mustOrg(admin, "CreateAccount", `{"Email":"a@example.com","AccountName":"a"}`, "AccountId")
	member := c.enter(admin, account)
	if status, text := c.lookup(member, "us-east-1", `{}`); status != 200 {
		t.Errorf("a member: %d %s", status, text)
	}
	if _, text := c.lookup(member, "us-east-1", attribute("Username", "admin")); strings.Count(text, `"EventId"`) != 1 {
		t.Errorf("by the session's name: %s", text)
	}
	c.mustOrg(admin, "EnablePolicyType", `{"RootId":"`+rootID+`","PolicyType":"SERVICE_CONTROL_POLICY"}`, "")
	scp := c.mustOrg(admin, "CreatePolicy", `{"Name":"no","Description":"","Type":"SERVICE_CONTROL_POLICY","Content":"`+
		escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"cloudtrail:*","Resource":"*"}]}`)+`"}`, "Id")
	c.mustOrg(admin, "AttachPolicy", `{"PolicyId":"`+scp+`","TargetId":"`+account+`"}`, "")
	if _, text := c.lookup(member, "us-east-1", `{}`); !strings.Contains(find(text, "message"), "cloudtrail:LookupEvents with an explicit deny in a service control policy") {
		t.Errorf("with a denial: %s", text)
	}
}

// TestLookupForgets: events are there for 90 days.
func TestLookupForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client{t, kmstest.Start(t)}
		c.must(root, "CreateKey", `{}`, "Arn")
		for _, tt := range []struct {
			days int
			want int
		}{{89, 1}, {2, 0}} {
			time.Sleep(time.Duration(tt.days) * 24 * time.Hour)
			if _, text := c.lookup(root, "us-east-1", attribute("EventName", "CreateKey")); strings.Count(text, `"EventId"`) != tt.want {
				t.Errorf("%d days later: %s, want %d events", tt.days, text, tt.want)
			}
		}
	})
}

// TestLookupTargets: a target is the whole prefix and an operation.
func TestLookupTargets(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	for _, target := range []string{"CloudTrail_20131101.LookupEvents", "com.amazonaws.cloudtrail.v20131101.LookupEvents", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101",
		"com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.DescribeTrails", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.", "TrentService", "TrentService.", ".ListKeys", "", "."} {
		r := c.post("", `{}`)
		r.Header.Set("X-Amz-Target", target)
		status, _, text := c.do(signed(r, `{}`, root, "us-east-1", "cloudtrail", time.Now()))
		if status != 400 || find(text, "__type") != "UnknownOperationException" {
			t.Errorf("%q: %d %s", target, status, text)
		}
	}
	r := c.post("", `{}`)
	r.Header.Set("X-Amz-Target", "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.LookupEvents")
	if status, _, text := c.do(signed(r, `{}`, root, "us-east-1", "kms", time.Now())); status != 400 || find(text, "__type") != "InvalidSignatureException" {
		t.Errorf("signed for another service: %d %s", status, text)
	}
}
