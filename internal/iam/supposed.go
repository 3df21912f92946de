package iam

import (
	"errors"
	"fmt"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// ErrNobody reports an ARN of nobody whose policies are known.
var ErrNobody = errors.New("iam: nobody is known by that ARN")

// Suppose returns the credential that a principal would have: an account's root user, a
// user, a role or one of its sessions, a federated user, by ARN, or a service principal. of
// is the ARN of the user that a federated user belongs to; empty: it is the root user's. It signs nothing; it is for decisions about requests that nobody has
// made. ErrNobody: there is no such principal.
func Suppose(tx *store.Tx, who, of string) (*Credential, error) {
	if IsServicePrincipal(who) {
		return &Credential{Service: who}, nil
	}
	a, err := arn.Parse(who)
	if err != nil || !arn.IsAccount(a.Account) {
		return nil, fmt.Errorf("%w: %s", ErrNobody, who)
	}
	s := &Session{Account: a.Account}
	parts := strings.Split(a.Resource, "/")
	var e *Entity
	switch {
	case a.Service == "iam" && a.Resource == "root":
		s.Kind = policy.RootUser
		_, err = FindAccount(tx, a.Account)
	case a.Service == "iam":
		e, err = findARN(tx, a)
	case a.Service == "sts" && len(parts) == 3 && parts[0] == "assumed-role" && parts[2] != "":
		e, err = FindEntity(tx, a.Account, RoleClass, parts[1])
		s.Name = parts[2]
	case a.Service == "sts" && len(parts) == 2 && parts[0] == "federated-user" && parts[1] != "":
		s.Kind, s.Name = policy.FederatedSession, parts[1]
		if user, _ := arn.Parse(of); of != "" {
			e, err = findARN(tx, user)
		} else {
			_, err = FindAccount(tx, a.Account)
		}
	default:
		err = store.ErrNotFound
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil, fmt.Errorf("%w: %s", ErrNobody, who)
	}
	if err != nil {
		return nil, err
	}
	if e != nil {
		s.Entity, s.EntityID, s.EntityARN = e.Name, e.ID, e.ARN()
		switch {
		case e.Class == RoleClass:
			s.Kind = policy.RoleSession
			if s.Name == "" {
				s.Name = "session"
			}
		case s.Kind != policy.FederatedSession:
			s.Kind = policy.User
		}
	}
	return &Credential{Account: a.Account, Session: s}, nil
}

// Limit adds a session policy to a supposed session. The credential must be of Suppose.
func (c *Credential) Limit(p *policy.Policy) {
	c.Session.Limited = true
	c.Session.compiled = append(c.Session.compiled, p)
}
