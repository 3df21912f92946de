// Package sigv4 answers one question: was this request signed with this secret,
// recently? It verifies AWS Signature Version 4 in the Authorization header and
// in the presigned query form, exactly over what the client says it signed.
package sigv4

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	terminator = "aws4_request"
	isoBasic   = "20060102T150405Z"
	// maxAuthorization bounds the header, in bytes.
	maxAuthorization = 16 << 10
	// maxSignedHeaders bounds how many headers a signature covers.
	maxSignedHeaders = 100
)

// An Error is a refusal with AWS's name and text (errors.md §7).
type Error struct {
	Code    string
	Message string
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

func incomplete(msg string) *Error { return &Error{"IncompleteSignatureException", msg} }
func invalid(msg string) *Error    { return &Error{"InvalidSignatureException", msg} }

// A Request is what a client signed, as it was received.
type Request struct {
	Method string
	Target string // the request target: path and query, undecoded
	Host   string
	Header http.Header
	Body   []byte
}

// A Signature is what a request says about its own signature.
type Signature struct {
	AccessKeyID string
	Date        string // of the credential scope, YYYYMMDD
	Region      string
	Service     string
	Time        time.Time
	Token       string        // session token, empty for long-term keys
	Presigned   bool          // in the query, not the header
	Expires     time.Duration // of a presigned request

	iso           string // Time in ISO 8601's basic format, as it was signed
	signedHeaders []string
	signature     []byte
}

// Parse reads a request's signature. It checks the form only; nothing it
// returns can be trusted before Verify.
func Parse(r *Request) (*Signature, error) {
	header := first(r.Header, "Authorization")
	_, rawQuery, _ := strings.Cut(r.Target, "?")
	var query map[string]string
	if rawQuery != "" {
		query = parseQuery(rawQuery)
	}
	_, presigned := query["X-Amz-Algorithm"]
	switch {
	case header == "" && !presigned:
		return nil, &Error{"MissingAuthenticationTokenException", "Missing Authentication Token"}
	case header != "" && presigned:
		return nil, invalid("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")
	case presigned:
		return parsePresigned(r, query)
	case len(header) > maxAuthorization:
		return nil, incomplete("Authorization header is too long.")
	default:
		return parseHeader(r, header)
	}
}

func parseHeader(r *Request, header string) (*Signature, error) {
	scheme, rest, _ := strings.Cut(header, " ")
	if scheme != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': '" + scheme + "'. ")
	}
	var f authorization
	for piece := range strings.SplitSeq(rest, ",") {
		if piece = strings.TrimSpace(piece); piece == "" {
			continue
		}
		name, value, ok := strings.Cut(piece, "=")
		if !ok {
			return nil, incomplete("'" + piece + "' not a valid key=value pair (missing equal-sign) in Authorization header: '" + header + "'.")
		}
		switch name {
		case "Credential":
			f.credential = value
		case "SignedHeaders":
			f.signedHeaders = value
		case "Signature":
			f.signature = value
		}
	}
	date := first(r.Header, "X-Amz-Date")
	if date == "" {
		date = r.Header.Get("Date")
	}
	if f.credential == "" || f.signedHeaders == "" || f.signature == "" || date == "" {
		return nil, incomplete(f.missing(date) + "Authorization=" + header)
	}
	s := &Signature{Token: first(r.Header, "X-Amz-Security-Token")}
	return s.fill(r, f.credential, f.signedHeaders, f.signature, date)
}

// An authorization is the header's three parts.
type authorization struct{ credential, signedHeaders, signature string }

// missing says which parts are not there.
func (f *authorization) missing(date string) (msg string) {
	for _, part := range [...]struct{ name, value string }{
		{"Credential", f.credential}, {"Signature", f.signature}, {"SignedHeaders", f.signedHeaders},
	} {
		if part.value == "" {
			msg += "Authorization header requires '" + part.name + "' parameter. "
		}
	}
	if date == "" {
		msg += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
	}
	return msg
}

func parsePresigned(r *Request, query map[string]string) (*Signature, error) {
	if a := query["X-Amz-Algorithm"]; a != algorithm {
		return nil, incomplete("Unsupported AWS 'algorithm': '" + a + "'. ")
	}
	var msg strings.Builder
	for _, name := range []string{"X-Amz-Credential", "X-Amz-Signature", "X-Amz-SignedHeaders", "X-Amz-Date"} {
		if query[name] == "" {
			msg.WriteString("AWS query-string parameters must include '" + name + "'. ")
		}
	}
	if msg.Len() > 0 {
		return nil, incomplete(msg.String() + "Re-examine the query-string parameters.")
	}
	s := &Signature{Presigned: true, Expires: Skew, Token: query["X-Amz-Security-Token"]}
	if text, ok := query["X-Amz-Expires"]; ok {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 1 || seconds > 604800 {
			return nil, incomplete("X-Amz-Expires must be a number of seconds from 1 to 604800.")
		}
		s.Expires = time.Duration(seconds) * time.Second
	}
	return s.fill(r, query["X-Amz-Credential"], query["X-Amz-SignedHeaders"], query["X-Amz-Signature"], query["X-Amz-Date"])
}

// fill completes s from the parts that both forms share, and returns it.
func (s *Signature) fill(r *Request, credential, signedHeaders, signature, date string) (*Signature, error) {
	scope := strings.Split(credential, "/")
	if len(scope) != 5 {
		return nil, incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '" + credential + "'")
	}
	s.AccessKeyID, s.Date, s.Region, s.Service = scope[0], scope[1], scope[2], scope[3]
	if scope[4] != terminator {
		return nil, invalid("Credential should be scoped with a valid terminator: 'aws4_request', not '" + scope[4] + "'. ")
	}
	var err error
	if s.Time, s.iso, err = parseTime(date); err != nil {
		return nil, incomplete("Date must be in ISO-8601 'basic format'. Got '" + date + "'. See http://en.wikipedia.org/wiki/ISO_8601")
	}
	if iso := s.iso[:8]; iso != s.Date {
		return nil, invalid("Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '" +
			s.Date + "' != '" + iso + "', from '" + date + "'.")
	}
	if !validKeyID(s.AccessKeyID) {
		return nil, &Error{"UnrecognizedClientException", "The security token included in the request is invalid."}
	}
	s.signedHeaders = strings.Split(signedHeaders, ";")
	if len(s.signedHeaders) > maxSignedHeaders || !strictlyAscending(s.signedHeaders) {
		return nil, incomplete("'SignedHeaders' must be a list of header names in ascending order, each once, got '" + signedHeaders + "'")
	}
	if !slices.Contains(s.signedHeaders, "host") {
		return nil, invalid("'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.")
	}
	for _, name := range unsignedAmz(r.Header, s.signedHeaders) {
		return nil, invalid("'" + name + "' must be a 'SignedHeader' in the AWS Authorization.")
	}
	s.signature, err = hex.DecodeString(signature)
	if err != nil {
		s.signature = nil // matches nothing: the answer is that the signature does not match
	}
	return s, nil
}

// first is Header.Get for a name already in its canonical spelling.
func first(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// validKeyID reports whether s can be an access key id: up to 128 word characters.
func validKeyID(s string) bool {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_') {
			return false
		}
	}
	return s != "" && len(s) <= 128
}

func strictlyAscending(names []string) bool {
	for i := 1; i < len(names); i++ {
		if names[i-1] >= names[i] {
			return false
		}
	}
	return true
}

// meaningful are the headers, or what they begin with, that change what a request
// means: which operation, and what a service says about its caller.
var meaningful = []string{"X-Amz-Target", "X-Amz-Source-", "X-Amz-Forwarded-"}

// unsignedAmz lists headers that change what a request means and that the client
// did not sign, so that nobody can add them on the way.
func unsignedAmz(h http.Header, signed []string) (out []string) {
	for name := range h {
		if !slices.ContainsFunc(meaningful, func(m string) bool { return strings.HasPrefix(name, m) }) {
			continue
		}
		if lower := strings.ToLower(name); !slices.Contains(signed, lower) {
			out = append(out, lower)
		}
	}
	return out
}

// parseTime reads ISO 8601's basic format, or that of the Date header, and
// returns the time in the first form too.
func parseTime(s string) (t time.Time, iso string, err error) {
	if t, err := time.Parse(isoBasic, s); err == nil && len(s) == len(isoBasic) {
		return t, s, nil
	}
	t, err = http.ParseTime(s)
	return t.UTC(), t.UTC().Format(isoBasic), err
}

// parseQuery reads parameters as signing sees them: a plus sign is a plus sign,
// and of a repeated parameter the first counts.
func parseQuery(raw string) map[string]string {
	out := map[string]string{}
	for pair := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if _, ok := out[name]; !ok && name != "" {
			out[name] = value
		}
	}
	return out
}

func unescape(s string) string {
	if u, err := url.PathUnescape(s); err == nil {
		return u
	}
	return s
}
