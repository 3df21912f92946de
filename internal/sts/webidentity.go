package sts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/stsapi"
	"github.com/claviger/claviger/internal/oidc"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Claims by which a provider passes session tags and a source identity on.
const (
	tagsClaim           = "https://aws.amazon.com/tags"
	sourceIdentityClaim = "https://aws.amazon.com/source_identity"
)

const noVerificationKey = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"

// A webToken is a verified token with the provider it came from.
type webToken struct {
	provider *iam.OIDCProvider
	claims   oidc.Claims
}

// AssumeRoleWithWebIdentity makes a session of a role for whom a token of an
// identity provider is for. The request is not signed: the token is the proof,
// and the role's trust policy decides.
func (s *Service) AssumeRoleWithWebIdentity(ctx context.Context, call *iam.Call, in *stsapi.AssumeRoleWithWebIdentityRequest) (*stsapi.AssumeRoleWithWebIdentityResponse, error) {
	if in.ProviderId != nil {
		return nil, stsapi.InvalidIdentityTokenException("OAuth 2.0 access tokens are not supported.")
	}
	role, err := arn.Parse(*in.RoleArn)
	if err != nil {
		return nil, iam.ValidationError(*in.RoleArn + " is invalid")
	}
	t, err := s.verify(ctx, call, role.Account, *in.WebIdentityToken)
	if err != nil {
		return nil, err
	}
	issuer, subject := t.provider.URL, t.claims.Text("sub")
	call.Credential = &iam.Credential{WebIdentity: &iam.WebIdentity{Provider: t.provider.ARN(), Issuer: issuer, Subject: subject}}
	call.Entry.RecipientAccountID = role.Account
	call.Entry.UserIdentity = &audit.Identity{Type: "WebIdentityUser", PrincipalID: t.provider.ARN() + ":" + t.audience() + ":" + subject, UserName: subject}
	session := &iam.Session{Kind: policy.RoleSession, Name: *in.RoleSessionName, Issued: call.Now, Provider: issuer, SourceIdentity: t.claims.Text(sourceIdentityClaim)}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		e, err := s.trusted(tx, call, in, t)
		if err != nil {
			return err
		}
		if err := ofRole(call, session, e, in.DurationSeconds); err != nil {
			return err
		}
		return limit(tx, session, in.Policy, in.PolicyArns)
	})
	if err != nil {
		return nil, err
	}
	tags, transitiveKeys := t.tags()
	if session.Tags, err = sessionTags(tags, nil); err != nil {
		return nil, err
	}
	if err := transitive(session, transitiveKeys); err != nil {
		return nil, err
	}
	c, err := s.issue(session)
	out := &stsapi.AssumeRoleWithWebIdentityResponse{Credentials: c, PackedPolicySize: packed(session), SubjectFromWebIdentityToken: &subject,
		Provider: new(t.provider.ARN()), Audience: new(t.audience()), AssumedRoleUser: assumedRole(session)}
	if session.SourceIdentity != "" {
		out.SourceIdentity = &session.SourceIdentity
	}
	return out, err
}

// verify checks a token against the provider that the account has for its issuer.
func (s *Service) verify(ctx context.Context, call *iam.Call, account, token string) (*webToken, error) {
	issuer, err := oidc.Issuer(token)
	if err != nil {
		return nil, identityToken(err)
	}
	address, https := strings.CutPrefix(issuer, "https://")
	t := &webToken{}
	err = call.View(ctx, s.db, func(tx *store.Tx) error {
		t.provider, err = iam.FindOIDCProvider(tx, account, strings.TrimSuffix(address, "/"))
		return err
	})
	if errors.Is(err, store.ErrNotFound) || err == nil && !https {
		return nil, stsapi.InvalidIdentityTokenException("No OpenIDConnect provider found in your account for " + issuer)
	}
	if err != nil {
		return nil, err
	}
	t.claims, err = s.tokens.Verify(ctx, oidc.Provider{URL: issuer, Thumbprints: t.provider.Thumbprints}, token, call.Now)
	if err != nil {
		return nil, identityToken(err)
	}
	if !slices.ContainsFunc(t.claims.List("aud"), func(aud string) bool { return slices.Contains(t.provider.ClientIDs, aud) }) {
		return nil, stsapi.InvalidIdentityTokenException("Incorrect token audience")
	}
	return t, t.check()
}

// check holds what the token passes on to what parameters of a request may be.
func (t *webToken) check() error {
	tags, transitiveKeys := t.tags()
	in := &stsapi.AssumeRoleRequest{RoleArn: new(t.provider.ARN()), RoleSessionName: new("session"), Tags: tags, TransitiveTagKeys: transitiveKeys}
	if _, ok := t.claims[sourceIdentityClaim]; ok {
		in.SourceIdentity = new(t.claims.Text(sourceIdentityClaim))
	}
	var v model.Violations
	if in.Check(&v, ""); v.Message() != "" {
		return stsapi.InvalidIdentityTokenException("The session tags or the source identity in the token are not valid: " + v.Message())
	}
	return nil
}

// identityToken is the fault for a token that is refused.
func identityToken(err error) error {
	var expired *oidc.ExpiredError
	text := ""
	switch {
	case errors.As(err, &expired):
		return stsapi.ExpiredTokenException(fmt.Sprintf("Token expired: current date/time %d must be before the expiration date/time %d",
			expired.Now.Unix(), expired.Expires.Unix()))
	case errors.Is(err, oidc.ErrToken):
		text = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
	case errors.Is(err, oidc.ErrThumbprint):
		text = "OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint"
	case errors.Is(err, oidc.ErrKeys):
		text = noVerificationKey
	case errors.Is(err, oidc.ErrSignature):
		text = "Token signature invalid"
	case errors.Is(err, oidc.ErrNotYet):
		text = "Token is not yet valid"
	default:
		text = "Missing a required claim"
	}
	return stsapi.InvalidIdentityTokenException(text).Because(err)
}

// audience is what the condition key …:aud says: the authorized party if the
// token names one, else the audience.
func (t *webToken) audience() string {
	if azp := t.claims.Text("azp"); azp != "" {
		return azp
	}
	return t.claims.List("aud")[0]
}

// tags are the session tags that the provider passes on.
func (t *webToken) tags() (tags []stsapi.Tag, transitive []string) {
	claim, ok := t.claims[tagsClaim].(map[string]any)
	if !ok {
		return nil, nil
	}
	principal, _ := claim["principal_tags"].(map[string]any)
	for key := range principal {
		if values := oidc.Claims(principal).List(key); len(values) > 0 {
			tags = append(tags, stsapi.Tag{Key: &key, Value: &values[0]})
		}
	}
	return tags, oidc.Claims(claim).List("transitive_tag_keys")
}

// trusted finds the role if its trust policy lets the token's bearer assume it. A
// role that does not exist is refused alike.
func (s *Service) trusted(tx *store.Tx, call *iam.Call, in *stsapi.AssumeRoleWithWebIdentityRequest, t *webToken) (*iam.Entity, error) {
	refused := iam.AccessDenied("Not authorized to perform sts:AssumeRoleWithWebIdentity")
	role, err := roleNamed(tx, *in.RoleArn)
	if errors.Is(err, store.ErrNotFound) {
		return nil, refused
	}
	if err != nil {
		return nil, err
	}
	tags, transitiveKeys := t.tags()
	c := &conditions{tags: setTags(tags), transitive: transitiveKeys, sessionName: *in.RoleSessionName, sourceIdentity: t.claims.Text(sourceIdentityClaim),
		resource: role.TagMap(), token: t}
	actions := []string{"sts:AssumeRoleWithWebIdentity"}
	if len(tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if c.sourceIdentity != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	for _, action := range actions {
		d, _, err := call.Decide(tx, iam.Query{Action: policy.MustAction(action), Resource: *in.RoleArn, Guarded: true, CrossAccount: true,
			Conditions: c, ResourcePolicy: role.TrustPolicy(), ResourceAccount: role.Account})
		if err != nil {
			return nil, err
		}
		if !d.Allowed() {
			return nil, refused
		}
	}
	return role, nil
}

// lookup answers the claims that condition keys tell, as IAM does for providers it does not
// know better.
func (t *webToken) lookup(name string) policy.Value {
	if t == nil {
		return policy.Value{}
	}
	claim, ok := cutFold(name, t.provider.URL+":")
	if !ok {
		return policy.Value{}
	}
	switch strings.ToLower(claim) {
	case "aud":
		return policy.Optional(t.audience())
	case "oaud":
		return policy.Optional(t.claims.List("aud")[0])
	case "azp", "sub", "email":
		return policy.Optional(t.claims.Text(strings.ToLower(claim)))
	case "amr":
		return policy.OptionalMany(t.claims.List("amr"))
	default:
		return policy.Value{}
	}
}

// cutFold cuts a prefix without regard to case, as names of condition keys compare.
func cutFold(s, prefix string) (string, bool) {
	if len(s) < len(prefix) || !strings.EqualFold(s[:len(prefix)], prefix) {
		return "", false
	}
	return s[len(prefix):], true
}
