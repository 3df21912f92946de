package iam

import (
	"context"
	"encoding/base64"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// Why credentials are not accepted.
var (
	ErrUnknownCredential = errors.New("iam: no such access key, or not with this token, or inactive")
	ErrExpired           = errors.New("iam: the session has expired")
)

// An AccessKey is a long-term credential of a user, or of the root user when
// User is empty.
type AccessKey struct {
	ID      string
	Secret  Secret
	Account string
	User    string // name
	UserID  string
	Active  bool
	Created time.Time
}

var accessKeyKind = store.Kind[AccessKey]{Tag: 14, Name: "access key"}

func accessKeyKey(id string) string { return "i/key/" + id }

// AddRootKey gives an account's root user an access key, or replaces the one with the same id.
// It takes none away from anybody else.
func AddRootKey(tx *store.Tx, account, id string, secret Secret, now time.Time) error {
	old, err := store.Get(tx, accessKeyKind, accessKeyKey(id))
	switch {
	case err == nil && (old.Account != account || old.User != ""):
		return fmt.Errorf("iam: somebody else has the access key %s", id)
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return err
	}
	return store.Put(tx, accessKeyKind, accessKeyKey(id),
		&AccessKey{ID: id, Secret: secret, Account: account, Active: true, Created: now})
}

// A Secret is a secret access key. It does not print.
type Secret string

// Format prints nothing of the secret, whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "secret") }

// LogValue shows nothing of it either.
func (Secret) LogValue() slog.Value { return slog.StringValue("secret") }

// NewSecret draws a secret access key of 40 characters.
func NewSecret() Secret {
	b, _ := material.Random(30) // never fails
	return Secret(base64.StdEncoding.EncodeToString(b))
}

// NewAccessKeyID draws a long-term access key id.
func NewAccessKeyID() string { return newID("AKIA", 20) }

// A Session is what temporary credentials stand for. It is complete: the session
// token is the sealed Session, and nothing about it is stored.
type Session struct {
	AccessKeyID string
	Secret      Secret
	Kind        policy.PrincipalKind // RootUser, User, RoleSession or FederatedSession
	Account     string
	Entity      string `json:",omitzero"` // name of the role or user behind it; empty for root
	EntityID    string `json:",omitzero"`
	EntityARN   string `json:",omitzero"` // as it was at issue, for audit records
	Name        string `json:",omitzero"` // role session name, or federated user name
	Issued      time.Time
	Expires     time.Time

	Limited    bool              `json:",omitzero"` // Policies and PolicyARNs limit it, even when empty
	Policies   []string          `json:",omitzero"` // session policy documents
	PolicyARNs []string          `json:",omitzero"`
	Tags       map[string]string `json:",omitzero"` // session tags
	Transitive []string          `json:",omitzero"` // tag keys that a further session inherits

	SourceIdentity string    `json:",omitzero"`
	MFA            time.Time `json:",omitzero"` // when the second factor was given; not of role sessions
	Provider       string    `json:",omitzero"` // the identity provider that a web identity came from

	compiled []*policy.Policy
}

const tokenName = "session token"

// maxSessions bounds how many opened session tokens are remembered.
const maxSessions = 10_000

// A ServiceCredential lets an AWS service, or what stands in for one, call as
// itself and forward its callers' requests. Who holds one is trusted to have
// verified the requests it forwards.
type ServiceCredential struct {
	Service string // the service principal, as s3.amazonaws.com
	ID      string // of the access key
	Secret  Secret
}

// A Directory authenticates callers. It is safe for concurrent use.
type Directory struct {
	db       *store.DB
	services map[string]ServiceCredential // by access key id

	mu       sync.RWMutex        // guards sessions
	sessions map[string]*Session // by token; a token never changes its meaning
}

// NewDirectory makes a directory over db, and of the services that may call.
func NewDirectory(db *store.DB, services ...ServiceCredential) *Directory {
	d := &Directory{db: db, services: map[string]ServiceCredential{}, sessions: map[string]*Session{}}
	for _, s := range services {
		d.services[s.ID] = s
	}
	return d
}

// Issue completes s with fresh credentials and returns the session token.
func (d *Directory) Issue(s *Session) (token string, err error) {
	s.AccessKeyID, s.Secret = newID("ASIA", 20), NewSecret()
	text, err := json.Marshal(s)
	if err != nil {
		return "", err
	}
	defer clear(text)
	sealed, err := d.db.Token(tokenName, text)
	return base64.StdEncoding.EncodeToString(sealed), err
}

func (d *Directory) open(token string) (*Session, error) {
	d.mu.RLock()
	s := d.sessions[token]
	d.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	sealed, err := base64.StdEncoding.DecodeString(token)
	if err != nil {
		return nil, ErrUnknownCredential
	}
	text, err := d.db.OpenToken(tokenName, sealed)
	if err != nil {
		return nil, ErrUnknownCredential
	}
	defer clear(text)
	s = &Session{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, ErrUnknownCredential
	}
	for _, p := range s.Policies {
		doc, err := policy.Parse([]byte(p))
		if err != nil {
			return nil, err
		}
		s.compiled = append(s.compiled, policy.Compile(doc, policy.Identity, "session policy"))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.sessions) >= maxSessions {
		clear(d.sessions)
	}
	d.sessions[strings.Clone(token)] = s
	return s, nil
}

// A Credential is an access key that a request names, with its secret. Whoever
// signed with the secret is the caller.
type Credential struct {
	AccessKeyID string
	Secret      Secret
	Account     string
	Session     *Session     // nil for long-term keys
	Service     string       // the service principal, of a service's own credential
	WebIdentity *WebIdentity // of a request that is not signed but brings a token
	user        string       // of a long-term key: user name, empty for root
	userID      string
	userARN     string
}

// A WebIdentity is who a verified token of an identity provider says it is for.
type WebIdentity struct {
	Provider string // ARN
	Issuer   string // the provider's URL without https://
	Subject  string
}

// Find returns the credential of an access key id, with the session token that
// came with it. ErrUnknownCredential; ErrExpired only after the caller has
// verified the signature, from CheckExpiry.
func (d *Directory) Find(ctx context.Context, accessKeyID, token string) (c *Credential, err error) {
	if token != "" {
		s, err := d.open(token)
		if err != nil {
			return nil, err
		}
		if s.AccessKeyID != accessKeyID {
			return nil, ErrUnknownCredential
		}
		return &Credential{AccessKeyID: s.AccessKeyID, Secret: s.Secret, Account: s.Account, Session: s}, nil
	}
	if s, ok := d.services[accessKeyID]; ok {
		return &Credential{AccessKeyID: s.ID, Secret: s.Secret, Service: s.Service}, nil
	}
	err = d.db.View(ctx, func(tx *store.Tx) error {
		k, err := store.Get(tx, accessKeyKind, accessKeyKey(accessKeyID))
		if errors.Is(err, store.ErrNotFound) || err == nil && !k.Active {
			return ErrUnknownCredential
		}
		if err != nil {
			return err
		}
		c = &Credential{AccessKeyID: k.ID, Secret: k.Secret, Account: k.Account, user: k.User, userID: k.UserID}
		if k.User == "" {
			return nil
		}
		e, err := entityOf(tx, k.Account, UserClass, k.User, k.UserID)
		if err == nil {
			c.userARN = e.ARN()
		}
		return err
	})
	return c, err
}

// User returns the name and unique id of the user whose long-term key it is;
// empty for the root user and for sessions.
func (c *Credential) User() (name, id string) { return c.user, c.userID }

// UserARN is the ARN of that user, as it was when the key was found.
func (c *Credential) UserARN() string { return c.userARN }

// CheckExpiry refuses a session that is over.
func (c *Credential) CheckExpiry(now time.Time) error {
	if c.Session != nil && !now.Before(c.Session.Expires) {
		return ErrExpired
	}
	return nil
}
