package iam

import (
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
