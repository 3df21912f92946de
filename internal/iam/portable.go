package iam

import (
	"encoding/json/v2"

	"github.com/claviger/claviger/internal/store"
)

// PortableTags are the kinds of records that exports have: all that hold no
// credential.
var PortableTags = []byte{accountKind.Tag, entityKind.Tag, uniqueIDKind.Tag, managedKind.Tag, oidcKind.Tag, OrganizationKind.Tag, TargetKind.Tag, OrganizationPolicyKind.Tag}

// Portable takes out of a record what an export does not have: access keys and MFA
// devices.
func Portable(p store.Plain) (store.Plain, error) {
	if p.Tag != entityKind.Tag {
		return p, nil
	}
	var e Entity
	if err := json.Unmarshal(p.Value, &e); err != nil {
		return p, err
	}
	e.AccessKeys, e.MFADevices = nil, nil
	var err error
	p.Value, err = json.Marshal(e)
	return p, err
}
