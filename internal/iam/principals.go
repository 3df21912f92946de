package iam

import (
	"errors"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// ErrPrincipal reports a principal in a resource policy that does not exist or
// cannot stand there.
var ErrPrincipal = errors.New("iam: a principal in the policy is not valid")

// A PrincipalError is ErrPrincipal with the principal it is about.
type PrincipalError struct {
	Type, Text string // as in the policy
}

func (e *PrincipalError) Error() string { return ErrPrincipal.Error() + ": " + e.Type + " " + e.Text }

// Is makes every PrincipalError an ErrPrincipal.
func (e *PrincipalError) Is(target error) bool { return target == ErrPrincipal }

// ResolvePrincipals turns the principals of a resource policy into the form in
// which it is stored: users and roles by unique id, accounts by root ARN
// (AUTH-2.16). Every principal must exist in the partition; allowFederated
// admits identity providers, for trust policies. It changes doc.
func ResolvePrincipals(tx *store.Tx, doc *policy.Document, partition string, allowFederated bool) error {
	r := resolver{tx, partition, allowFederated}
	return doc.EachPrincipal(func(kind string, entry *policy.Item) error {
		stored, err := r.resolve(kind, entry.Text)
		if errors.Is(err, ErrPrincipal) {
			return &PrincipalError{kind, entry.Text}
		}
		if err == nil {
			entry.Text = stored
		}
		return err
	})
}

// ResolveKnown does the same as far as principals exist, and leaves the others.
func ResolveKnown(tx *store.Tx, doc *policy.Document, partition string) error {
	r := resolver{tx, partition, true}
	return doc.EachPrincipal(func(kind string, entry *policy.Item) error {
		stored, err := r.resolve(kind, entry.Text)
		if err == nil {
			entry.Text = stored
		} else if errors.Is(err, ErrPrincipal) {
			err = nil
		}
		return err
	})
}

// ResolvePrincipal is ResolvePrincipals for one principal, that of a grant: an account, a
// user, a role, or one of their sessions, by ARN. It returns the stored form.
// ErrPrincipal: there is no such principal, or it cannot stand there.
func ResolvePrincipal(tx *store.Tx, principalARN, partition string) (string, error) {
	if !strings.HasPrefix(principalARN, "arn:") {
		return "", ErrPrincipal
	}
	return resolver{tx, partition, false}.resolve("AWS", principalARN)
}

type resolver struct {
	tx             *store.Tx
	partition      string
	allowFederated bool
}

func (r resolver) resolve(kind, text string) (string, error) {
	switch {
	case kind == "Service" && IsServicePrincipal(text), kind == "Federated" && r.allowFederated:
		return text, nil
	case kind != "AWS":
		return "", ErrPrincipal // AUTH-2.8 (UNVERIFIED) and 2.9
	case text == "*":
		return text, nil
	case arn.IsAccount(text):
		return arn.Root(r.partition, text), nil
	case policy.IsUniqueID(text):
		return text, r.exists(FindUnique(r.tx, text))
	}
	a, err := arn.Parse(text)
	if err != nil || a.Partition != r.partition || a.Region != "" || !arn.IsAccount(a.Account) || strings.ContainsAny(text, "*?") {
		return "", ErrPrincipal
	}
	switch {
	case a.Service == "iam" && a.Resource == "root":
		return text, nil
	case a.Service == "iam":
		e, err := findARN(r.tx, arn.ARN{Partition: Partition, Service: "iam", Account: a.Account, Resource: a.Resource})
		if err := r.exists(e, err); err != nil {
			return "", err
		}
		return e.ID, nil
	case a.Service == "sts":
		return text, r.session(a)
	default:
		return "", ErrPrincipal
	}
}

func (r resolver) exists(_ *Entity, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return ErrPrincipal
	}
	return err
}

// session is the UNVERIFIED reading of AUTH-2.17: the role of a session ARN must
// exist, the session's name is free, as is that of a federated user.
func (r resolver) session(a arn.ARN) error {
	parts := strings.Split(a.Resource, "/")
	switch {
	case len(parts) == 3 && parts[0] == "assumed-role" && parts[2] != "":
		return r.exists(FindEntity(r.tx, a.Account, RoleClass, parts[1]))
	case len(parts) == 2 && parts[0] == "federated-user" && parts[1] != "":
		return nil
	default:
		return ErrPrincipal
	}
}

// IsServicePrincipal reports whether s has the form of a service principal, as
// s3.amazonaws.com.
func IsServicePrincipal(s string) bool {
	name, ok := strings.CutSuffix(s, ".amazonaws.com")
	if !ok {
		name, ok = strings.CutSuffix(s, ".amazonaws.com.cn")
	}
	return ok && name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && !strings.Contains(name, "..")
}

// RestorePrincipals turns unique ids back into ARNs, as readers see them. The
// ids of deleted entities stay (AUTH-2.16). It changes doc.
func RestorePrincipals(tx *store.Tx, doc *policy.Document, partition string) error {
	return doc.EachPrincipal(func(_ string, entry *policy.Item) (err error) {
		entry.Text, err = RestorePrincipal(tx, entry.Text, partition)
		return err
	})
}

// RestorePrincipal does the same for one principal.
func RestorePrincipal(tx *store.Tx, stored, partition string) (string, error) {
	if !policy.IsUniqueID(stored) {
		return stored, nil
	}
	e, err := FindUnique(tx, stored)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return stored, nil
	case err != nil:
		return "", err
	}
	return arn.IAM(partition, e.Account, string(e.Class)+e.Path+e.Name), nil
}
