package wire

import (
	"net/http"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
)

// An origin says for whom a request counts. A service signs with its own
// credential; the headers by which it says more are covered by that signature,
// and mean nothing when anybody else sends them.
type origin struct {
	credential               *iam.Credential
	via                      []string // services that forward the caller's request
	sourceARN, sourceAccount string   // on whose behalf a service calls
}

// The headers of services.
const (
	sourceARNHeader      = "X-Amz-Source-Arn"
	sourceAccountHeader  = "X-Amz-Source-Account"
	forwardedKeyHeader   = "X-Amz-Forwarded-Access-Key-Id"
	forwardedTokenHeader = "X-Amz-Forwarded-Security-Token"
	forwardedCallsHeader = "X-Amz-Forwarded-Called-Via"
)

// maxForwarders bounds how many services one request may have come through.
const maxForwarders = 10

// origin reads what a service says about its request: that it calls on behalf of
// a resource, or that it forwards the request of a principal whose signature it
// has verified (AUTH-5.10).
func (s *Server) origin(x *exchange, signer *iam.Credential) (origin, error) {
	o := origin{credential: signer}
	if signer.Service == "" {
		return o, nil
	}
	if x.service != s.services[0] {
		return o, iam.AccessDenied("Service principals can call KMS only.")
	}
	h := x.r.Header
	key := h.Get(forwardedKeyHeader)
	if key == "" {
		o.sourceARN, o.sourceAccount = h.Get(sourceARNHeader), h.Get(sourceAccountHeader)
		if !validSource(o.sourceARN, o.sourceAccount) {
			return o, invalidOrigin(sourceARNHeader + " and " + sourceAccountHeader + " must be an ARN and an account id.")
		}
		return o, nil
	}
	c, err := s.config.Directory.Find(x.r.Context(), key, h.Get(forwardedTokenHeader))
	if err == nil {
		err = c.CheckExpiry(x.begin)
	}
	if err != nil {
		return o, err
	}
	if c.Service != "" {
		return o, invalidOrigin("A service does not forward requests of services.")
	}
	via, err := forwarders(h, signer.Service)
	if err != nil {
		return o, err
	}
	o.credential, o.via = c, via
	return o, nil
}

// forwarders are the services a request came through: those that the header
// lists, and the signer.
func forwarders(h http.Header, signer string) (via []string, err error) {
	if list := h.Get(forwardedCallsHeader); list != "" {
		via = strings.Split(list, ",")
	}
	for i, name := range via {
		via[i] = strings.TrimSpace(name)
		if !iam.IsServicePrincipal(via[i]) {
			return nil, invalidOrigin(forwardedCallsHeader + " must list service principals.")
		}
	}
	if len(via) == 0 || via[len(via)-1] != signer {
		via = append(via, signer)
	}
	if len(via) > maxForwarders {
		return nil, invalidOrigin("A request may come through up to 10 services.")
	}
	return via, nil
}

func validSource(sourceARN, account string) bool {
	_, err := arn.Parse(sourceARN)
	return (sourceARN == "" || err == nil) && (account == "" || arn.IsAccount(account))
}

func invalidOrigin(message string) error { return model.NewFault("ValidationException", 400, message) }
