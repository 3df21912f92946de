package iam

import (
	"context"
	"errors"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Bounds of an OpenID Connect provider.
const (
	maxClientIDs   = 100
	maxThumbprints = 5
	maxProviders   = 100 // of an account
)

// An OIDCProvider is an OpenID Connect identity provider whose tokens roles of the
// account may accept.
type OIDCProvider struct {
	Account     string
	URL         string // without https://
	ClientIDs   []string
	Thumbprints []string
	Created     time.Time
	Tags        []Tag
}

// ARN is the provider's ARN.
func (p *OIDCProvider) ARN() string {
	return arn.IAM(Partition, p.Account, "oidc-provider/"+p.URL)
}

var oidcKind = store.Kind[OIDCProvider]{Tag: 15, Name: "OpenID Connect provider"}

func oidcPrefix(account string) string { return "i/a/" + account + "/oidc/" }

// FindOIDCProvider returns an account's provider by its URL without https://, or
// store.ErrNotFound.
func FindOIDCProvider(tx *store.Tx, account, url string) (*OIDCProvider, error) {
	return store.Get(tx, oidcKind, oidcPrefix(account)+url)
}

// providerURL checks a provider's URL and drops its scheme.
func providerURL(text string) (string, error) {
	address, ok := strings.CutPrefix(text, "https://")
	u, err := url.Parse(text)
	if !ok || err != nil || u.String() != text || u.Hostname() == "" || u.User != nil || strings.ContainsAny(text, "?# %") ||
		u.Path != "" && path.Clean(u.Path) != strings.TrimSuffix(u.Path, "/") && u.Path != "/" || !validPort(u.Port()) {
		return "", ValidationError("Invalid Open ID Connect Provider URL")
	}
	return strings.TrimSuffix(address, "/"), nil
}

func validPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return s == "" || err == nil && n > 0
}

func checkThumbprints(list []string) error {
	if len(list) > maxThumbprints {
		return iamapi.InvalidInputException("Thumbprint list must contain fewer than 5 entries.")
	}
	for _, t := range list {
		if len(strings.Trim(strings.ToLower(t), "0123456789abcdef")) > 0 {
			return iamapi.InvalidInputException("Thumbprints must be hexadecimal.")
		}
	}
	return nil
}

// CreateOpenIDConnectProvider registers a provider.
func (s *Service) CreateOpenIDConnectProvider(ctx context.Context, call *Call, in *iamapi.CreateOpenIDConnectProviderRequest) (*iamapi.CreateOpenIDConnectProviderResponse, error) {
	address, err := providerURL(*in.Url)
	if err != nil {
		return nil, err
	}
	p := &OIDCProvider{Account: call.Account(), URL: address, ClientIDs: in.ClientIDList, Thumbprints: in.ThumbprintList, Created: call.Now}
	out := &iamapi.CreateOpenIDConnectProviderResponse{OpenIDConnectProviderArn: new(p.ARN()), Tags: in.Tags}
	return out, call.Update(ctx, s.db, func(tx *store.Tx) error {
		if err := s.allow(tx, call, policy.MustAction("iam:CreateOpenIDConnectProvider"), p.ARN(), &conditions{tags: setTags(in.Tags)}); err != nil {
			return err
		}
		if _, err := FindOIDCProvider(tx, p.Account, p.URL); err == nil {
			return iamapi.EntityAlreadyExistsException("Provider with url https://" + p.URL + " already exists.")
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if len(p.ClientIDs) > maxClientIDs {
			return iamapi.LimitExceededException("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: 100")
		}
		others, err := store.List(tx, oidcKind, oidcPrefix(p.Account), "", maxProviders)
		if err != nil {
			return err
		}
		if len(others) == maxProviders {
			return iamapi.LimitExceededException("Cannot exceed quota for OpenIdConnectProvidersPerAccount: 100")
		}
		if err := checkThumbprints(p.Thumbprints); err != nil {
			return err
		}
		if p.Tags, err = addTags(nil, in.Tags); err != nil {
			return err
		}
		return store.Put(tx, oidcKind, oidcPrefix(p.Account)+p.URL, p)
	})
}

// provider returns a copy of the provider that a request names, after the caller
// was allowed to act on it.
func (s *Service) provider(tx *store.Tx, call *Call, action, providerARN string) (*OIDCProvider, error) {
	address, ok := strings.CutPrefix(providerARN, arn.IAM(Partition, call.Account(), "oidc-provider/"))
	var p *OIDCProvider
	err := store.ErrNotFound
	if ok {
		p, err = store.Edit(tx, oidcKind, oidcPrefix(call.Account())+address)
	}
	more := &conditions{}
	if err == nil {
		more.resource = tagMap(p.Tags)
	}
	if denied := s.allow(tx, call, policy.MustAction(action), providerARN, more); denied != nil {
		return nil, denied
	}
	if errors.Is(err, store.ErrNotFound) {
		text := "OpenIDConnect Provider not found for arn " + providerARN
		if action == "iam:DeleteOpenIDConnectProvider" {
			text = "OpenId connect Provider " + providerARN + " cannot be found."
		}
		return nil, iamapi.NoSuchEntityException(text)
	}
	return p, err
}

func (s *Service) changeProvider(ctx context.Context, call *Call, action, providerARN string, edit func(*OIDCProvider) error) error {
	return call.Update(ctx, s.db, func(tx *store.Tx) error {
		p, err := s.provider(tx, call, action, providerARN)
		if err != nil {
			return err
		}
		if err := edit(p); err != nil {
			return err
		}
		return store.Put(tx, oidcKind, oidcPrefix(p.Account)+p.URL, p)
	})
}

// GetOpenIDConnectProvider shows a provider.
func (s *Service) GetOpenIDConnectProvider(ctx context.Context, call *Call, in *iamapi.GetOpenIDConnectProviderRequest) (*iamapi.GetOpenIDConnectProviderResponse, error) {
	out := &iamapi.GetOpenIDConnectProviderResponse{}
	return out, call.View(ctx, s.db, func(tx *store.Tx) error {
		p, err := s.provider(tx, call, "iam:GetOpenIDConnectProvider", *in.OpenIDConnectProviderArn)
		if err == nil {
			*out = iamapi.GetOpenIDConnectProviderResponse{Url: &p.URL, ClientIDList: p.ClientIDs, ThumbprintList: p.Thumbprints,
				CreateDate: model.At(p.Created), Tags: append([]iamapi.Tag{}, wireTags(p.Tags)...)}
		}
		return err
	})
}

// ListOpenIDConnectProviders lists the account's providers.
func (s *Service) ListOpenIDConnectProviders(ctx context.Context, call *Call, _ *iamapi.ListOpenIDConnectProvidersRequest) (*iamapi.ListOpenIDConnectProvidersResponse, error) {
	out := &iamapi.ListOpenIDConnectProvidersResponse{}
	return out, call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := s.allow(tx, call, policy.MustAction("iam:ListOpenIDConnectProviders"), arn.IAM(Partition, call.Account(), "oidc-provider/"), nil); err != nil {
			return err
		}
		out.OpenIDConnectProviderList = []iamapi.OpenIDConnectProviderListEntry{}
		found, err := scan(tx, oidcKind, oidcPrefix(call.Account()), page{n: maxProviders}, func(*OIDCProvider) bool { return true })
		for _, p := range found {
			out.OpenIDConnectProviderList = append(out.OpenIDConnectProviderList, iamapi.OpenIDConnectProviderListEntry{Arn: new(p.ARN())})
		}
		return err
	})
}

// AddClientIDToOpenIDConnectProvider accepts a further audience.
func (s *Service) AddClientIDToOpenIDConnectProvider(ctx context.Context, call *Call, in *iamapi.AddClientIDToOpenIDConnectProviderRequest) (*struct{}, error) {
	return nil, s.changeProvider(ctx, call, "iam:AddClientIDToOpenIDConnectProvider", *in.OpenIDConnectProviderArn, func(p *OIDCProvider) error {
		if slices.Contains(p.ClientIDs, *in.ClientID) {
			return nil
		}
		if p.ClientIDs = append(p.ClientIDs, *in.ClientID); len(p.ClientIDs) > maxClientIDs {
			return iamapi.LimitExceededException("Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: 100")
		}
		return nil
	})
}

// RemoveClientIDFromOpenIDConnectProvider takes an audience away; one it does not
// have is no error.
func (s *Service) RemoveClientIDFromOpenIDConnectProvider(ctx context.Context, call *Call, in *iamapi.RemoveClientIDFromOpenIDConnectProviderRequest) (*struct{}, error) {
	return nil, s.changeProvider(ctx, call, "iam:RemoveClientIDFromOpenIDConnectProvider", *in.OpenIDConnectProviderArn, func(p *OIDCProvider) error {
		p.ClientIDs = slices.DeleteFunc(p.ClientIDs, func(id string) bool { return id == *in.ClientID })
		return nil
	})
}

// UpdateOpenIDConnectProviderThumbprint replaces the thumbprints.
func (s *Service) UpdateOpenIDConnectProviderThumbprint(ctx context.Context, call *Call, in *iamapi.UpdateOpenIDConnectProviderThumbprintRequest) (*struct{}, error) {
	return nil, s.changeProvider(ctx, call, "iam:UpdateOpenIDConnectProviderThumbprint", *in.OpenIDConnectProviderArn, func(p *OIDCProvider) error {
		p.Thumbprints = in.ThumbprintList
		return checkThumbprints(p.Thumbprints)
	})
}

// DeleteOpenIDConnectProvider removes a provider. Its tokens are not accepted any
// more; sessions that they began go on.
func (s *Service) DeleteOpenIDConnectProvider(ctx context.Context, call *Call, in *iamapi.DeleteOpenIDConnectProviderRequest) (*struct{}, error) {
	return nil, call.Update(ctx, s.db, func(tx *store.Tx) error {
		p, err := s.provider(tx, call, "iam:DeleteOpenIDConnectProvider", *in.OpenIDConnectProviderArn)
		if err == nil {
			tx.Delete(oidcPrefix(p.Account) + p.URL)
		}
		return err
	})
}
