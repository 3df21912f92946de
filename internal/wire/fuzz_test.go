package wire_test

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json/v2"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/model/stsapi"
	"github.com/claviger/claviger/internal/wire"
	"github.com/claviger/claviger/kmstest"
)

// FuzzQuery: what a form was read as, written as a form, is read the same; nothing
// can be given twice.
func FuzzQuery(f *testing.F) {
	inputs := map[string]reflect.Type{}
	for _, in := range []any{iamapi.CreateUserRequest{}, iamapi.CreateRoleRequest{}, iamapi.SimulateCustomPolicyRequest{}, iamapi.TagUserRequest{},
		iamapi.ListUsersRequest{}, stsapi.AssumeRoleRequest{}, stsapi.AssumeRoleWithWebIdentityRequest{}} {
		inputs[reflect.TypeOf(in).Name()] = reflect.TypeOf(in)
	}
	names := slices.Sorted(maps.Keys(inputs))
	for i := range names {
		f.Add(uint8(i), "UserName=a&RoleName=r&Tags.member.1.Key=k&Tags.member.1.Value=v&Tags.member.2.Key=&DurationSeconds=900&RoleArn=arn:aws:iam::1:role/r",
			"MaxItems=3&PolicyArns.member.1.arn=a&AssumeRolePolicyDocument=%7B%7D&RoleSessionName=s")
	}
	f.Fuzz(func(t *testing.T, which uint8, body, query string) {
		kind := inputs[names[int(which)%len(names)]]
		read := func(body, query string) (any, url.Values, error) {
			in := reflect.New(kind).Interface()
			form, err := wire.DecodeQuery(body, query, in.(interface {
				Check(*model.Violations, string)
			}))
			return in, form, err
		}
		in, form, err := read(body, query)
		if err != nil {
			return
		}
		var twice []string
		for name, values := range form {
			if len(values) > 1 {
				twice = append(twice, name)
			}
		}
		if again, _, err := read(form.Encode(), ""); err != nil || !reflect.DeepEqual(in, again) {
			t.Fatalf("body and query together read otherwise: %v", err)
		}
		written := url.Values{}
		write(t, written, "", reflect.ValueOf(in).Elem())
		again, _, err := read(written.Encode(), "")
		if err != nil || !reflect.DeepEqual(in, again) {
			t.Fatalf("%q, as %q, reads otherwise: %v (given twice: %q)", body+"&"+query, written.Encode(), err, twice)
		}
	})
}

// write writes a request as a form.
func write(t *testing.T, form url.Values, name string, v reflect.Value) {
	text, isText := v.Interface().(encoding.TextMarshaler)
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil(), v.Kind() == reflect.Slice && v.IsNil():
	case isText:
		b, err := text.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		form.Set(name, string(b))
	case v.Kind() == reflect.Pointer:
		write(t, form, name, v.Elem())
	case v.Type() == reflect.TypeFor[[]byte]():
		form.Set(name, base64.StdEncoding.EncodeToString(v.Bytes()))
	case v.Kind() == reflect.Slice:
		for i := range v.Len() {
			write(t, form, fmt.Sprintf("%s.member.%d", name, i+1), v.Index(i))
		}
	case v.Kind() == reflect.Struct:
		if name != "" {
			name += "."
			form.Set(name, "") // that it is there
		}
		for i := range v.NumField() {
			member, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
			write(t, form, name+member, v.Field(i))
		}
	default:
		form.Set(name, fmt.Sprint(v.Interface()))
	}
}

// FuzzStranger: whatever is sent without a signature that holds is refused, in words,
// and changes nothing.
func FuzzStranger(f *testing.F) {
	srv := kmstest.Start(f)
	c := client{f, srv}
	r := c.post("CreateKey", `{}`)
	signed(r, `{}`, credentials{"test", "wrong", ""}, "us-east-1", "kms", time.Now())
	f.Add("POST", "/", "TrentService.CreateKey", "application/x-amz-json-1.1", r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), `{}`)
	f.Add("POST", "/", "AWSOrganizationsV20161128.CreateOrganization", "application/x-amz-json-1.1", "", "", `{`)
	f.Add("POST", "/", "", "application/x-www-form-urlencoded", "", "", `Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn=arn:aws:iam::111122223333:role/r&RoleSessionName=ss&WebIdentityToken=eyJhbGciOiJSUzI1NiJ9.e30.AA`)
	f.Add("GET", "/?Action=CreateUser&UserName=a&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=test/20261101/us-east-1/iam/aws4_request&X-Amz-Date=20261101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, method, target, operation, contentType, authorization, date, body string) {
		u, err := url.Parse("http://kms.us-east-1.amazonaws.com/" + strings.TrimPrefix(target, "/"))
		if err != nil || u.Path == "/healthz" || u.Path == "/readyz" || u.Path == "/metrics" {
			return
		}
		r, err := http.NewRequestWithContext(t.Context(), method, u.String(), strings.NewReader(body))
		if err != nil || method == http.MethodConnect {
			return
		}
		for name, value := range map[string]string{"X-Amz-Target": operation, "Content-Type": contentType, "Authorization": authorization, "X-Amz-Date": date} {
			if strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
				return // no header
			}
			r.Header[name] = []string{value}
		}
		for changed := 0; ; changed++ {
			before := srv.Revision()
			status, _, text := client{t, srv}.do(r.Clone(t.Context()))
			if status < 400 || status >= 500 || strings.Contains(text, "goroutine ") || changed == 3 {
				t.Fatalf("%d %s (%d changes)", status, text, changed)
			}
			if srv.Revision() == before { // otherwise the server may have done something of its own
				break
			}
			r.Body = io.NopCloser(strings.NewReader(body))
		}
	})
}

// FuzzGrantTokens: who has nothing but a grant token is served with it, and with no
// other.
func FuzzGrantTokens(f *testing.F) {
	srv := kmstest.Start(f, kmstest.GrantDelay(time.Hour))
	c := client{f, srv}
	alice := c.user("alice")
	key := c.must(root, "CreateKey", `{}`, "Arn")
	token := c.must(root, "CreateGrant", `{"KeyId":"`+key+`","GranteePrincipal":"`+alicesARN+`","Operations":["Encrypt"]}`, "GrantToken")
	f.Add(token)
	f.Add(token[:len(token)-4])
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, other string) {
		body, err := json.Marshal(map[string]any{"KeyId": key, "Plaintext": "eA==", "GrantTokens": []string{other}})
		if err != nil {
			return // not UTF-8
		}
		status, text := client{t, srv}.call(alice, "Encrypt", string(body))
		if ok := sameBytes(other, token); ok != (status == 200) && !(ok && len(other) > 8192) || status >= 500 {
			t.Fatalf("%q: %d %s", other, status, text)
		}
	})
}

// FuzzSessionTokens: temporary credentials work with the token that came with them,
// and with no other.
func FuzzSessionTokens(f *testing.F) {
	srv := kmstest.Start(f)
	c := client{f, srv}
	_, answer := c.query(c.user("alice"), "sts", "Action", "GetSessionToken")
	session := credentials{element(answer, "AccessKeyId"), element(answer, "SecretAccessKey"), element(answer, "SessionToken")}
	if status, text := c.query(session, "sts", "Action", "GetCallerIdentity"); status != 200 {
		f.Fatal(text)
	}
	f.Add(session.token)
	f.Add(session.token[:len(session.token)-4])
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, other string) {
		if strings.ContainsFunc(other, func(c rune) bool { return c < ' ' || c > '~' }) || strings.TrimSpace(other) != other {
			return // no header
		}
		status, text := client{t, srv}.query(credentials{session.id, session.secret, other}, "sts", "Action", "GetCallerIdentity")
		if sameBytes(other, session.token) != (status == 200) || status >= 500 {
			t.Fatalf("%q: %d %s", other, status, text)
		}
	})
}

// sameBytes reports whether two texts are base64 of the same.
func sameBytes(a, b string) bool {
	x, err := base64.StdEncoding.DecodeString(a)
	y, _ := base64.StdEncoding.DecodeString(b)
	return err == nil && bytes.Equal(x, y)
}
