package iam

import (
	"encoding/json/v2"
	"errors"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// replayed are the parameters of the changes that can be made again from their audit
// record.
type replayed struct {
	UserName            string `json:"userName"`
	RoleName            string `json:"roleName"`
	GroupName           string `json:"groupName"`
	PolicyName          string `json:"policyName"`
	PolicyDocument      string `json:"policyDocument"`
	PolicyARN           string `json:"policyArn"`
	PermissionsBoundary string `json:"permissionsBoundary"`
	AccessKeyID         string `json:"accessKeyId"`
	Status              string `json:"status"`
	VersionID           string `json:"versionId"`
	SetAsDefault        bool   `json:"setAsDefault"`
	SerialNumber        string `json:"serialNumber"`
	Tags                []iamapi.Tag
	TagKeys             []string `json:"tagKeys"`
	Omitted             bool     `json:"omitted"` // they were too long for the record
}

// Replay makes a change again that the audit log tells of, in a store that came from a
// backup of before it. It reports false for a change that it cannot make again, and
// for one about an identity or policy that is not there; a fault says why it does not fit.
func Replay(tx *store.Tx, r *audit.Record) (bool, error) {
	var p replayed
	if json.Unmarshal(r.RequestParameters, &p, json.MatchCaseInsensitiveNames(true)) != nil || p.Omitted {
		return false, nil
	}
	switch r.EventName {
	case "UpdateAccessKey", "DeleteAccessKey":
		return replayAccessKey(tx, r, &p)
	case "RemoveUserFromGroup":
		return replayLeaving(tx, r.RecipientAccountID, &p)
	case "CreatePolicyVersion", "SetDefaultPolicyVersion", "DeletePolicyVersion":
		return replayVersions(tx, r, &p)
	case "AddUserToGroup":
		g, err := editEntity(tx, r.RecipientAccountID, GroupClass, p.GroupName)
		if errors.Is(err, store.ErrNotFound) {
			return false, nil
		}
		if err == nil {
			err = join(tx, g, p.UserName)
		}
		if err != nil {
			return false, err
		}
		return true, putEntity(tx, g)
	case "DeactivateMFADevice":
		return replayDevice(tx, r.RecipientAccountID, &p)
	}
	verb, class := replayedVerb(r.EventName)
	name := map[Class]string{UserClass: p.UserName, RoleClass: p.RoleName, GroupClass: p.GroupName}[class]
	if name == "" {
		return false, nil
	}
	e, err := editEntity(tx, r.RecipientAccountID, class, name)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if verb == "Delete" {
		return true, discard(tx, e)
	}
	done, err := replayPolicy(tx, verb, &p, e)
	if err != nil || !done {
		return false, err
	}
	return true, putEntity(tx, e)
}

// replayedVerb takes the class out of an event's name: PutUserPolicy is PutPolicy of a
// user.
func replayedVerb(event string) (verb string, c Class) {
	for word, c := range map[string]Class{"User": UserClass, "Role": RoleClass, "Group": GroupClass} {
		if before, after, ok := strings.Cut(event, word); ok && (after == "" || after == "Policy" || after == "PermissionsBoundary") {
			return before + after, c
		}
	}
	return "", ""
}

func replayPolicy(tx *store.Tx, verb string, p *replayed, e *Entity) (bool, error) {
	switch verb {
	case "PutPolicy":
		if _, err := document(p.PolicyDocument, policy.Identity); err != nil {
			return false, nil
		}
		if e.Inline == nil {
			e.Inline = map[string]string{}
		}
		e.Inline[p.PolicyName] = p.PolicyDocument
	case "DeletePolicy":
		delete(e.Inline, p.PolicyName)
	case "AttachPolicy":
		if slices.Contains(e.Attached, p.PolicyARN) {
			return true, nil
		}
		if _, err := findManaged(tx, p.PolicyARN); err != nil {
			return false, nil
		}
		e.Attached = append(e.Attached, p.PolicyARN)
		return true, count(tx, e.Account, p.PolicyARN, 1, 0)
	case "DetachPolicy":
		if !slices.Contains(e.Attached, p.PolicyARN) {
			return true, nil
		}
		e.Attached = slices.DeleteFunc(e.Attached, func(a string) bool { return a == p.PolicyARN })
		return true, count(tx, e.Account, p.PolicyARN, -1, 0)
	case "UpdateAssumePolicy": // of a role
		return true, setTrust(tx, e, p.PolicyDocument)
	case "Tag":
		if slices.ContainsFunc(p.Tags, func(t iamapi.Tag) bool { return t.Key == nil || t.Value == nil }) {
			return false, nil
		}
		tags, err := addTags(e.Tags, p.Tags)
		e.Tags = tags
		return true, err
	case "Untag":
		e.Tags = removeTags(e.Tags, p.TagKeys)
	case "PutPermissionsBoundary":
		if _, err := findManaged(tx, p.PermissionsBoundary); err != nil {
			return false, nil
		}
		return true, setBoundary(tx, e, p.PermissionsBoundary)
	default:
		return false, nil
	}
	return true, nil
}

// discard removes an identity with all that it holds.
func discard(tx *store.Tx, e *Entity) error {
	for _, id := range e.AccessKeys {
		tx.Delete(accessKeyKey(id))
	}
	for _, serial := range e.MFADevices {
		tx.Delete(mfaKey(serial))
	}
	for _, a := range e.Attached {
		if err := count(tx, e.Account, a, -1, 0); err != nil {
			return err
		}
	}
	for _, g := range e.Groups {
		if err := editMembers(tx, e.Account, g, without(e.Name)); err != nil {
			return err
		}
	}
	for _, m := range e.Members {
		u, err := editEntity(tx, e.Account, UserClass, m)
		if err != nil {
			return err
		}
		u.Groups = without(e.Name)(u.Groups)
		if err := putEntity(tx, u); err != nil {
			return err
		}
	}
	if err := clearBoundary(tx, e); err != nil {
		return err
	}
	removeEntity(tx, e)
	return nil
}

func without(name string) func([]string) []string {
	return func(names []string) []string {
		return slices.DeleteFunc(names, func(n string) bool { return n == name })
	}
}

// replayAccessKey deactivates or removes an access key.
func replayAccessKey(tx *store.Tx, r *audit.Record, p *replayed) (bool, error) {
	k, err := store.Edit(tx, accessKeyKind, accessKeyKey(p.AccessKeyID))
	if errors.Is(err, store.ErrNotFound) {
		return true, nil // it was created since, and is not here
	}
	if err != nil {
		return false, err
	}
	if r.EventName == "UpdateAccessKey" {
		k.Active = k.Active && p.Status == "Active"
		return true, store.Put(tx, accessKeyKind, accessKeyKey(k.ID), k)
	}
	tx.Delete(accessKeyKey(k.ID))
	e, err := editEntity(tx, k.Account, UserClass, k.User)
	if err != nil {
		return false, err
	}
	e.AccessKeys = without(k.ID)(e.AccessKeys)
	return true, putEntity(tx, e)
}

// replayVersions makes changes of a managed policy again.
func replayVersions(tx *store.Tx, r *audit.Record, p *replayed) (bool, error) {
	m, err := findManaged(tx, p.PolicyARN)
	if err != nil || m.Account == "" {
		return false, nil
	}
	key := managedKey(m.Account, m.Name)
	if m, err = store.Edit(tx, managedKind, key); err != nil {
		return false, err
	}
	switch r.EventName {
	case "CreatePolicyVersion":
		_, err = m.createVersion(p.PolicyDocument, r.EventTime, p.SetAsDefault)
	case "SetDefaultPolicyVersion":
		err = m.setDefault(p.VersionID, r.EventTime)
	default:
		err = m.deleteVersion(p.VersionID)
	}
	if err != nil {
		return false, err
	}
	return true, store.Put(tx, managedKind, key, m)
}

// replayDevice takes a device from its user.
func replayDevice(tx *store.Tx, account string, p *replayed) (bool, error) {
	d, err := store.Edit(tx, mfaKind, mfaKey(p.SerialNumber))
	if errors.Is(err, store.ErrNotFound) || err == nil && d.UserID == "" {
		return true, nil // it was made since, or nobody has it
	}
	if err != nil {
		return false, err
	}
	e, err := editEntity(tx, account, UserClass, d.User)
	if err == nil {
		err = deactivate(tx, e, d)
	}
	if err != nil {
		return false, err
	}
	return true, putEntity(tx, e)
}

// replayLeaving ends a membership.
func replayLeaving(tx *store.Tx, account string, p *replayed) (bool, error) {
	u, userErr := editEntity(tx, account, UserClass, p.UserName)
	g, groupErr := editEntity(tx, account, GroupClass, p.GroupName)
	if errors.Is(userErr, store.ErrNotFound) || errors.Is(groupErr, store.ErrNotFound) {
		return false, nil
	}
	if err := errors.Join(userErr, groupErr); err != nil {
		return false, err
	}
	u.Groups, g.Members = without(g.Name)(u.Groups), without(u.Name)(g.Members)
	return true, errors.Join(putEntity(tx, u), putEntity(tx, g))
}
