package sigv4

import (
	"encoding/json/v2"
	"net/http"
	"os"
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
					t.Errorf("%v\ngot:\n%s\nwant:\n%s", err, s.canonicalRequest(r, form{}), f.CanonicalRequest)
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
