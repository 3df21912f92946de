package kms

import (
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"slices"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A grantRef is what a grant token says: which grant is meant.
type grantRef struct{ Region, Account, KeyID, ID string }

const grantTokenName = "grant token"

// token makes a grant token. Tokens of one grant differ and mean the same.
func (s *Service) token(g *Grant) (string, error) {
	text, err := json.Marshal(grantRef{g.Region, g.Account, g.KeyID, g.ID})
	if err != nil {
		return "", err
	}
	sealed, err := s.db.Token(grantTokenName, text)
	return base64.StdEncoding.EncodeToString(sealed), err
}

func (s *Service) openToken(token string) (ref grantRef, err error) {
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err == nil {
		sealed, err = s.db.OpenToken(grantTokenName, sealed)
	}
	if err == nil {
		err = json.Unmarshal(sealed, &ref)
	}
	if err != nil {
		return ref, kmsapi.InvalidGrantTokenException("").Because(err)
	}
	return ref, nil
}

// A presented is what a request brings of grants: its tokens. A token shows a
// grant that is not known everywhere yet, and gives nothing by itself (AUTH-6.11).
type presented struct {
	tokens []grantRef
	keys   []string // ARNs of the request's keys, if it has several
	delay  time.Duration
}

func (s *Service) present(tokens []string) (*presented, error) {
	p := &presented{delay: s.config.GrantDelay}
	for _, t := range tokens {
		ref, err := s.openToken(t)
		if err != nil {
			return nil, err
		}
		p.tokens = append(p.tokens, ref)
	}
	return p, nil
}

// query asks for the grants on a target. stray: a token is of no grant any more, or
// of one on a key that the request is not about. Who may make the request is told;
// that a revoked grant's token is an error is UNVERIFIED (operations.md §1.5).
func (p *presented) query(tx *store.Tx, call *iam.Call, action policy.Action, t target, context map[string]string) (q *grantQuery, stray bool, err error) {
	var shown []*Grant
	for _, ref := range p.tokens {
		g, err := findGrant(tx, ref.Region, ref.Account, ref.KeyID, ref.ID)
		switch {
		case errors.Is(err, store.ErrNotFound) || err == nil && g.keyARN() != t.arn && !slices.Contains(p.keys, g.keyARN()):
			stray = true
		case err != nil:
			return nil, false, err
		default:
			shown = append(shown, g)
		}
	}
	return &grantQuery{key: t.key, action: action, context: context, source: call.SourceArn, visible: func(found *terms) bool {
		return p.delay == 0 || call.Now.Sub(found.Since) >= p.delay || slices.ContainsFunc(shown, func(g *Grant) bool { return found.of(g) })
	}}, stray, nil
}

// of reports whether the terms are those of a grant.
func (t *terms) of(g *Grant) bool {
	return slices.ContainsFunc(parts(g.Terms), func(part policy.GrantTerms) bool { return address(part) == address(t.Terms) })
}
