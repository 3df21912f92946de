package org

import (
	"encoding/json/v2"
	"errors"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
)

// replayed are the parameters of the changes that can be made again from their audit
// record.
type replayed struct {
	PolicyID            string  `json:"policyId"`
	TargetID            string  `json:"targetId"`
	Content             *string `json:"content"`
	Name                *string `json:"name"`
	Description         *string `json:"description"`
	AccountID           string  `json:"accountId"`
	SourceParentID      string  `json:"sourceParentId"`
	DestinationParentID string  `json:"destinationParentId"`
	Omitted             bool    `json:"omitted"` // they were too long for the record
}

// Replay makes a change again that the audit log tells of, in a store that came from a
// backup of before it: of policies that were there, of what they bind, and of accounts. It
// reports false for a change that it cannot make again; a fault says why it does not fit.
func Replay(tx *store.Tx, r *audit.Record) (bool, error) {
	var p replayed
	if json.Unmarshal(r.RequestParameters, &p) != nil || p.Omitted {
		return false, nil
	}
	o, err := iam.OrganizationOf(tx, r.RecipientAccountID)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	v := &view{tx: tx, org: o}
	switch r.EventName {
	case "AttachPolicy":
		err = v.attach(p.PolicyID, p.TargetID)
	case "DetachPolicy":
		err = v.detach(p.PolicyID, p.TargetID)
	case "UpdatePolicy":
		_, err = v.update(p.PolicyID, p.Content, p.Name, p.Description)
	case "MoveAccount":
		err = v.move(p.AccountID, p.SourceParentID, p.DestinationParentID)
	case "CloseAccount":
		err = v.close(p.AccountID)
	default:
		return false, nil
	}
	return err == nil, err
}
