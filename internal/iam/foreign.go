package iam

import (
	"errors"
	"fmt"

	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// LoadIdentity writes a user, group or role as it is elsewhere, with its account. One
// without a unique id gets one. For worlds that are only asked about: what it attaches is not
// checked, nor counted.
func LoadIdentity(tx *store.Tx, e *Entity) error {
	if e.Path == "" {
		e.Path = "/"
	}
	if e.ID == "" {
		e.ID = newID(uniqueIDs[e.Class], 21)
	}
	if e.Class == RoleClass && e.Trust == "" {
		e.Trust = `{"Version":"2012-10-17","Statement":[]}`
	}
	if err := AddAccount(tx, Account{ID: e.Account, Created: e.Created}); err != nil {
		return err
	}
	for name, text := range e.Inline {
		if _, err := policy.Parse([]byte(text)); err != nil {
			return fmt.Errorf("%s, inline policy %s: %w", e.ARN(), name, err)
		}
	}
	return addEntity(tx, e)
}

// LoadManaged writes a managed policy with one version as it is elsewhere; one of AWS's own
// has no account.
func LoadManaged(tx *store.Tx, m *Managed, document string) error {
	if _, err := policy.Parse([]byte(document)); err != nil {
		return fmt.Errorf("%s: %w", m.ARN(), err)
	}
	if m.ID == "" {
		m.ID = newID("ANPA", 21)
	}
	m.Default, m.LastVersion, m.Versions = "v1", 1, []Version{{ID: "v1", Document: document, Created: m.Created}}
	account := m.Account
	if account == "" {
		account = "aws"
	}
	return store.Put(tx, managedKind, managedKey(account, m.Name), m)
}

// ManagedKnown reports whether there is a managed policy by an ARN.
func ManagedKnown(tx *store.Tx, policyARN string) (bool, error) {
	_, err := findManaged(tx, policyARN)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
