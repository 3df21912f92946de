package wire_test

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/claviger/claviger/internal/wire"
	"github.com/claviger/claviger/kmstest"
)

// TestLongFaults: a bad request cannot make a long answer, or a long record.
func TestLongFaults(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	body := `{"KeyId":"x","Tags":[` + strings.TrimSuffix(strings.Repeat(`{},`, 100_000), ",") + `]}`
	if _, text := c.call(alice, "TagResource", body); len(text) > 4096 || !strings.HasPrefix(text, `{"__type":"ValidationException","message":"10 validation errors detected: `) {
		t.Errorf("100,000 empty tags are answered with %d bytes: %.200s", len(text), text)
	}
	if _, text := c.query(alice, "iam", "Action", "GetUser", "UserName", strings.Repeat("\x01", 500_000)); len(text) > 64<<10 {
		t.Errorf("a long user name is answered with %d bytes", len(text))
	}
	policy := strings.Repeat("x", 131072)
	c.call(alice, "CreateKey", `{"Policy":"`+policy+`","Description":"`+strings.Repeat("é", 8192)+`"}`)
	c.call(alice, "CreateKey", `{"Policy":"`+policy[:131000]+`","Tags":[`+strings.TrimSuffix(strings.Repeat(`{"TagKey":"k","TagValue":"`+strings.Repeat("v", 256)+`"},`, 1000), ",")+`]}`)
	for _, line := range c.srv.Audit() {
		if len(line) > 300<<10 {
			t.Errorf("an audit record of %d bytes", len(line))
		}
	}
}

// presigned makes a presigned URL's query, as the SDK does.
func presigned(t *testing.T, params url.Values, now time.Time) string {
	t.Helper()
	params.Set("X-Amz-Expires", "60")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://sts.amazonaws.com/?"+params.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	const noBody = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	signed, _, err := v4.NewSigner().PresignHTTP(t.Context(), aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, r, noBody, "sts", "us-east-1", now)
	if err != nil {
		t.Fatal(err)
	}
	_, query, _ := strings.Cut(signed, "?")
	return query
}

// TestPresigned: a presigned URL works as signed, and in no other reading.
func TestPresigned(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	get := func(query, body string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://sts.amazonaws.com/", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.RawQuery = query
		if body != "" {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		}
		status, _, text := c.do(r)
		return status, text
	}
	now := time.Now()
	query := presigned(t, url.Values{"Action": {"GetCallerIdentity"}, "Version": {"2011-06-15"}, "Note": {"a;b+c d%zz"}}, now)
	if status, text := get(query, ""); status != 200 || element(text, "Arn") != "arn:aws:iam::111122223333:root" {
		t.Fatalf("as signed: %d %s", status, text)
	}
	tests := map[string]string{
		"a parameter more":              query + "&Extra=1",
		"a parameter twice":             query + "&Action=ListUsers",
		"a semicolon unescaped":         strings.Replace(query, "%3B", ";", 1),
		"a plus sign unescaped":         strings.Replace(query, "%2B", "+", 1),
		"a bad escape":                  strings.Replace(query, "%25zz", "%zz", 1),
		"another action":                strings.Replace(query, "GetCallerIdentity", "GetSessionToken", 1),
		"ten thousand empty pairs":      query + strings.Repeat("&", 10_001),
		"a parameter removed":           strings.Replace(query, "Note=", "Nope=", 1),
		"expires later than was signed": strings.Replace(query, "Expires=60", "Expires=6000", 1),
	}
	for name, changed := range tests {
		t.Run(name, func(t *testing.T) {
			if status, text := get(changed, ""); status == 200 && changed != query+strings.Repeat("&", 10_001) {
				t.Errorf("answered %s", text)
			} else if status == 200 && element(text, "Arn") == "" {
				t.Errorf("answered %s", text)
			}
		})
	}
	if status, _ := get(query, "Action=GetSessionToken"); status == 200 {
		t.Error("a body that nobody signed was accepted")
	}
	late := presigned(t, url.Values{"Action": {"GetCallerIdentity"}}, now.Add(-2*time.Minute))
	if status, text := get(late, ""); status != 403 || !strings.Contains(text, "Signature expired") {
		t.Errorf("after its time: %d %s", status, text)
	}
}

// TestFloods: what strangers send is bounded before anything is computed.
func TestFloods(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	send := func(credential, headers string) string {
		r := c.post("ListKeys", `{}`)
		r.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
		r.Header.Set("B", strings.Repeat("x", 8000))
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+credential+"/"+time.Now().UTC().Format("20060102")+"/us-east-1/kms/aws4_request, SignedHeaders="+headers+", Signature=00")
		_, _, text := c.do(r)
		return find(text, "__type")
	}
	if got := send("test", "host;x-amz-target"+strings.Repeat(";b", 3000)); got != "IncompleteSignatureException" {
		t.Errorf("a header signed 3,000 times: %s", got)
	}
	if got := send(strings.Repeat("A", 5000), "host;x-amz-target"); got != "UnrecognizedClientException" {
		t.Errorf("a long access key id: %s", got)
	}
	if got := send("a.b", "host;x-amz-target"); got != "UnrecognizedClientException" {
		t.Errorf("an access key id with a dot: %s", got)
	}
}

// TestManyPrincipals: a key policy may name as many principals as fit into it.
func TestManyPrincipals(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	var names []string
	for i := range 200 {
		name := fmt.Sprintf("u%d", i)
		c.query(root, "iam", "Action", "CreateUser", "UserName", name)
		names = append(names, `\"arn:aws:iam::111122223333:user/`+name+`\"`)
	}
	policy := `{\"Statement\":[{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":[\"111122223333\",` + strings.Join(names, ",") + `]},\"Action\":\"kms:*\",\"Resource\":\"*\"}]}`
	if status, text := c.call(root, "CreateKey", `{"Policy":"`+policy+`"}`); status != 200 {
		t.Errorf("%d %s", status, text)
	}
}

// TestPanic: an operation that panics fails its request alone, which goes on to
// be recorded and answered.
func TestPanic(t *testing.T) {
	if err := wire.Perform(func() { panic("a mistake") }); err == nil || !strings.Contains(err.Error(), "a mistake") {
		t.Errorf("a panic is %v", err)
	}
	if err := wire.Perform(func() {}); err != nil {
		t.Error(err)
	}
}
