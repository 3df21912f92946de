package wire

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/sigv4"
	"github.com/claviger/claviger/internal/store"
)

// authenticate verifies the request's signature and returns the credential it
// was made with and the Region it is meant for. Times are compared only after
// the signature holds, so that a stranger learns nothing about our clock.
func (s *Server) authenticate(ctx context.Context, svc *service, r *http.Request, body []byte, now time.Time) (*iam.Credential, string, error) {
	signed := &sigv4.Request{Method: r.Method, Target: r.RequestURI, Host: r.Host, Header: r.Header, Body: body}
	sig, err := sigv4.Parse(signed)
	if err != nil {
		return nil, "", err
	}
	if sig.Service != svc.name {
		return nil, "", &sigv4.Error{Code: "InvalidSignatureException", Message: "Credential should be scoped to correct service: '" + svc.name + "'. "}
	}
	if !arn.IsRegion(sig.Region) || arn.Partition(sig.Region) != iam.Partition || // whose principals nobody here is
		svc.regional && !s.config.Regions.Has(sig.Region) {
		return nil, "", &sigv4.Error{Code: "InvalidSignatureException", Message: "Credential should be scoped to a valid region, not '" + sig.Region + "'. "}
	}
	c, err := s.config.Directory.Find(ctx, sig.AccessKeyID, sig.Token)
	if err != nil {
		return nil, "", err
	}
	if err := sig.Verify(signed, s.keys.Key(string(c.Secret), sig)); err != nil {
		return nil, "", err
	}
	if err := sig.CheckTime(now); err != nil {
		return nil, "", err
	}
	return c, sig.Region, c.CheckExpiry(now)
}

// authenticated is authenticate for an exchange. Who sends what needs no signature
// is nobody, until the operation has looked at its proof.
func (s *Server) authenticated(x *exchange) (*iam.Credential, string, error) {
	if x.operation.unsigned {
		return &iam.Credential{WebIdentity: &iam.WebIdentity{}}, globalRegion, nil
	}
	credential, region, err := s.authenticate(x.r.Context(), x.service, x.r, x.body, x.begin)
	if err == nil {
		front.Prove(x.r)
	}
	return credential, region, err
}

// globalRegion is the Region of requests that name none.
const globalRegion = "us-east-1"

// queryCodes are the names that the Query services give the front door's
// refusals, and their HTTP status.
var queryCodes = map[string]struct {
	code   string
	status int
}{
	"MissingAuthenticationTokenException": {"MissingAuthenticationToken", 403},
	"IncompleteSignatureException":        {"IncompleteSignature", 400},
	"InvalidSignatureException":           {"SignatureDoesNotMatch", 403},
	"UnrecognizedClientException":         {"InvalidClientTokenId", 403},
	"ExpiredTokenException":               {"ExpiredToken", 403},
}

// fault is the one place where errors get their public face. What is not meant
// for the caller becomes the service's internal fault.
func (svc *service) fault(err error) *model.Fault {
	var f *model.Fault
	var refused *sigv4.Error
	switch {
	case errors.As(err, &f):
		return f
	case errors.As(err, &refused):
		f = model.NewFault(refused.Code, 400, refused.Message)
	case errors.Is(err, iam.ErrUnknownCredential):
		f = model.NewFault("UnrecognizedClientException", 400, "The security token included in the request is invalid.")
	case errors.Is(err, iam.ErrExpired):
		f = model.NewFault("ExpiredTokenException", 400, "The security token included in the request is expired")
	case errors.Is(err, store.ErrTooLarge):
		f = model.NewFault("LimitExceededException", 400, "The request changes more than one transaction can hold.")
	default:
		return model.NewFault(svc.internal, 500, "").Because(err)
	}
	if q, ok := queryCodes[f.Code]; ok && svc.protocol == queryProtocol {
		f = model.NewFault(q.code, q.status, f.Message)
	}
	return f
}
