package sigv4

import (
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

type vectorForm struct {
	SignedRequest    string `json:"signed_request"`
	CanonicalRequest string `json:"canonical_request"`
	Authorization    string // of the header form; one case's signed request repeats another's
}

type vector struct {
	Name    string
	Suite   string
	Context struct {
		Credentials struct {
			AccessKeyID     string `json:"access_key_id"`
			SecretAccessKey string `json:"secret_access_key"`
		}
		Region    string
		Service   string
		Timestamp time.Time
		Normalize bool
		SignBody  bool `json:"sign_body"`
	}
	Header vectorForm
	Query  vectorForm
}

func vectors(t testing.TB) []vector {
	t.Helper()
	text, err := os.ReadFile("testdata/sigv4.json")
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Cases []vector }
	if err := json.Unmarshal(text, &file, json.MatchCaseInsensitiveNames(true)); err != nil {
		t.Fatal(err)
	}
	return file.Cases
}

// received reads a raw request as loosely as the vectors write them: targets
// with spaces, folded headers, no blank line before an absent body.
func received(raw string) *Request {
	head, body, _ := strings.Cut(raw, "\n\n")
	lines := strings.Split(strings.TrimRight(head, "\n"), "\n")
	first := strings.TrimSuffix(lines[0], " HTTP/1.1")
	method, target, _ := strings.Cut(first, " ")
	r := &Request{Method: method, Target: target, Header: http.Header{}, Body: []byte(body)}
	last := ""
	for _, line := range lines[1:] {
		if strings.HasPrefix(line, " ") {
			values := r.Header[last]
			values[len(values)-1] += " " + strings.TrimSpace(line) // RFC 9112 §5.2
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		last = http.CanonicalHeaderKey(name)
		r.Header[last] = append(r.Header[last], strings.TrimSpace(value))
	}
	r.Host = r.Header.Get("Host")
	return r
}

func TestVectors(t *testing.T) {
	for _, v := range vectors(t) {
		for where, f := range map[string]vectorForm{"header": v.Header, "query": v.Query} {
			if f.SignedRequest == "" {
				continue
			}
			t.Run(v.Suite+"/"+v.Name+"/"+where, func(t *testing.T) {
				r := received(f.SignedRequest)
				if f.Authorization != "" {
					r.Header.Set("Authorization", f.Authorization)
				}
				s, err := Parse(r)
				if err != nil {
					t.Fatal(err)
				}
				key := DeriveKey(v.Context.Credentials.SecretAccessKey, s.Date, s.Region, s.Service)
				if err := s.Verify(r, key); err != nil {
					t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, s.appendCanonical(nil, r, form{}), f.CanonicalRequest)
				}
				if s.AccessKeyID != v.Context.Credentials.AccessKeyID || s.Region != v.Context.Region || !s.Time.Equal(v.Context.Timestamp) {
					t.Errorf("Parse = %+v", s)
				}
				if err := s.CheckTime(v.Context.Timestamp); err != nil {
					t.Error(err)
				}
				if err := s.Verify(r, DeriveKey("wrong", s.Date, s.Region, s.Service)); err == nil {
					t.Error("a wrong secret was accepted")
				}
			})
		}
	}
}

// signedRequest is a request that Sign has signed, as a server receives it.
func signedRequest(t testing.TB, now time.Time) *Request {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, "http://kms.us-east-1.amazonaws.com/", strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Amz-Target", "TrentService.ListKeys")
	Sign(r, []byte("body"), "AKID", "secret", "token", "us-east-1", "kms", now)
	return &Request{Method: r.Method, Target: "/", Host: r.URL.Host, Header: r.Header, Body: []byte("body")}
}

func TestTime(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	s, err := Parse(signedRequest(t, at))
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		now  time.Time
		want string
	}{
		{"now", at, ""},
		{"late by the limit", at.Add(Skew), ""},
		{"too late", at.Add(Skew + time.Second), "Signature expired: 20261101T120000Z is now earlier than 20261101T120001Z (20261101T120501Z - 5 min.)"},
		{"early by the limit", at.Add(-Skew), ""},
		{"too early", at.Add(-Skew - time.Second), "Signature not yet current: 20261101T120000Z is still later than 20261101T115959Z (20261101T115459Z + 5 min.)"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := s.CheckTime(tt.now); err != nil {
				got = strings.TrimPrefix(err.Error(), "InvalidSignatureException: ")
			}
			if got != tt.want {
				t.Errorf("CheckTime = %q, want %q", got, tt.want)
			}
		})
	}
}

// TestEveryChangeIsNoticed changes each part of a signed request.
func TestEveryChangeIsNoticed(t *testing.T) {
	now := time.Now()
	key := DeriveKey("secret", now.UTC().Format("20060102"), "us-east-1", "kms")
	changes := map[string]func(*Request){
		"method":         func(r *Request) { r.Method = http.MethodPut },
		"path":           func(r *Request) { r.Target = "/x" },
		"query":          func(r *Request) { r.Target = "/?a=b" },
		"host":           func(r *Request) { r.Host = "other" },
		"body":           func(r *Request) { r.Body = []byte("Body") },
		"target":         func(r *Request) { r.Header.Set("X-Amz-Target", "TrentService.CreateKey") },
		"another target": func(r *Request) { r.Header.Add("X-Amz-Target", "TrentService.CreateKey") },
		"token":          func(r *Request) { r.Header.Set("X-Amz-Security-Token", "other") },
		"date":           func(r *Request) { r.Header.Set("X-Amz-Date", now.UTC().Format("20060102")+"T000000Z") },
		"signature":      func(r *Request) { r.Header.Set("Authorization", r.Header.Get("Authorization")+"0") },
	}
	if s, err := Parse(signedRequest(t, now)); err != nil || s.Verify(signedRequest(t, now), key) != nil {
		t.Fatalf("unchanged: %v", err)
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			r := signedRequest(t, now)
			change(r)
			s, err := Parse(r)
			if err == nil {
				err = s.Verify(r, key)
			}
			if err == nil {
				t.Error("accepted")
			}
		})
	}
}

func TestKeyCache(t *testing.T) {
	var c KeyCache
	s := &Signature{Date: "20261101", Region: "us-east-1", Service: "kms"}
	for range 2 {
		if got, want := c.Key("secret", s), DeriveKey("secret", s.Date, s.Region, s.Service); string(got.sum(nil)) != string(want.sum(nil)) {
			t.Fatal("the cached key differs")
		}
	}
	if c.Key("other", s) == c.Key("secret", s) {
		t.Error("two secrets share a key")
	}
}

// FuzzParse feeds Parse any header and query.
func FuzzParse(f *testing.F) {
	r := signedRequest(f, time.Unix(1.8e9, 0))
	f.Add(r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), "/")
	f.Add("", "", "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=a/b/c/d/aws4_request&X-Amz-Date=20261101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Signature=00&X-Amz-Expires=9")
	f.Fuzz(func(t *testing.T, authorization, date, target string) {
		r := &Request{Method: http.MethodPost, Target: target, Host: "h", Header: http.Header{"Authorization": {authorization}, "X-Amz-Date": {date}}}
		s, err := Parse(r)
		if (s == nil) == (err == nil) {
			t.Fatalf("Parse = %v, %v", s, err)
		}
		if err == nil && s.Verify(r, DeriveKey("secret", "", "", "")) == nil {
			t.Fatal("a signature nobody made was accepted")
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	now := time.Now()
	r := signedRequest(b, now)
	var c KeyCache
	b.ReportAllocs()
	for b.Loop() {
		s, err := Parse(r)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Verify(r, c.Key("secret", s)); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzVerify: of a request that was signed, in the header or in the query, what is
// accepted after a change means what was signed.
func FuzzVerify(f *testing.F) {
	now := time.Unix(1.8e9, 0)
	key := DeriveKey("secret", now.UTC().Format("20060102"), "us-east-1", "kms")
	header := signedRequest(f, now)
	query := presigned(now, key)
	for _, r := range []*Request{header, query} {
		f.Add(r.Method, r.Target, r.Host, r.Header.Get("Authorization"), r.Header.Get("X-Amz-Date"), r.Header.Get("X-Amz-Target"), r.Header.Get("X-Amz-Security-Token"), r.Body)
	}
	f.Fuzz(func(t *testing.T, method, target, host, authorization, date, operation, token string, body []byte) {
		r := &Request{Method: method, Target: target, Host: host, Header: http.Header{}, Body: body}
		for name, value := range map[string]string{"Authorization": authorization, "X-Amz-Date": date, "X-Amz-Target": operation, "X-Amz-Security-Token": token} {
			if strings.ContainsAny(value, "\r\n") {
				return // no header
			}
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		s, err := Parse(r)
		if err != nil || s.Verify(r, key) != nil {
			return
		}
		was := header
		if s.Presigned {
			was = query // where the access key id is signed; in a header it says whose key to verify with
		}
		for _, x := range [][2]string{
			{r.Method, was.Method}, {r.Host, was.Host}, {string(r.Body), string(was.Body)}, {plain(operation), plain(was.Header.Get("X-Amz-Target"))},
			{s.Time.UTC().String(), now.UTC().String()}, {s.Region, "us-east-1"}, {s.Service, "kms"},
			{plain(s.Token), was.Header.Get("X-Amz-Security-Token")}, {parameters(r.Target), parameters(was.Target)},
		} {
			if x[0] != x[1] {
				t.Fatalf("%q is accepted where %q was signed", x[0], x[1])
			}
		}
	})
}

// plain is a header's value as far as it is signed: without the spaces around it, and
// with one for each run of them.
func plain(v string) string { return string(appendFolded(nil, v)) }

// parameters are those of a target, decoded and in order, without the signature.
func parameters(target string) string {
	_, raw, _ := strings.Cut(target, "?")
	var out []string
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if name = unescape(name); pair != "" && name != "X-Amz-Signature" {
			out = append(out, fmt.Sprintf("%q=%q", name, unescape(value)))
		}
	}
	slices.Sort(out)
	return strings.Join(out, "&")
}

// presigned is a request signed in its query.
func presigned(now time.Time, key *Key) *Request {
	iso := now.UTC().Format(isoBasic)
	r := &Request{Method: http.MethodGet, Host: "sts.amazonaws.com", Header: http.Header{},
		Target: "/?Action=GetCallerIdentity&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKID/" + iso[:8] + "/us-east-1/kms/aws4_request&X-Amz-Date=" + iso +
			"&X-Amz-Expires=60&X-Amz-SignedHeaders=host&X-Amz-Signature="}
	s := &Signature{AccessKeyID: "AKID", Date: iso[:8], Region: "us-east-1", Service: "kms", Time: now, iso: iso, signedHeaders: []string{"host"}, Presigned: true}
	r.Target += hex.EncodeToString(s.sign(r, key, form{}))
	return r
}
