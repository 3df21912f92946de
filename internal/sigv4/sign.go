package sigv4

import (
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Sign signs an outgoing request in the Authorization header: its host, its
// X-Amz- headers and its content type. token is empty for long-term keys. It is
// for this program's own requests; clients use their SDK.
func Sign(r *http.Request, body []byte, accessKeyID, secret, token, region, service string, now time.Time) {
	now = now.UTC()
	r.Header.Set("X-Amz-Date", now.Format(isoBasic))
	if token != "" {
		r.Header.Set("X-Amz-Security-Token", token)
	}
	s := &Signature{AccessKeyID: accessKeyID, Date: now.Format("20060102"), Region: region, Service: service, Time: now, iso: now.Format(isoBasic),
		signedHeaders: []string{"host"}}
	for name := range r.Header {
		if lower := strings.ToLower(name); lower == "content-type" || strings.HasPrefix(lower, "x-amz-") {
			s.signedHeaders = append(s.signedHeaders, lower)
		}
	}
	slices.Sort(s.signedHeaders)
	request := &Request{Method: r.Method, Target: r.URL.RequestURI(), Host: r.URL.Host, Header: r.Header, Body: body}
	signature := s.sign(request, DeriveKey(secret, s.Date, region, service), form{})
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s/%s/%s/%s, SignedHeaders=%s, Signature=%s", algorithm, accessKeyID,
		s.Date, region, service, terminator, strings.Join(s.signedHeaders, ";"), hex.EncodeToString(signature)))
}
