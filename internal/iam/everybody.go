package iam

import (
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/store"
)

// Everybody lists the root users, users and roles of all accounts, by ARN in order, and the
// accounts. It sees what there is at the transaction's revision.
func Everybody(tx *store.Tx) (principals, accounts []string, err error) {
	all, err := store.List(tx, accountKind, accountKey(""), "", 1<<20)
	for _, a := range all {
		accounts = append(accounts, a.Value.ID)
		principals = append(principals, arn.Root(Partition, a.Value.ID))
		for _, class := range []Class{UserClass, RoleClass} {
			prefix := entityPrefix(a.Value.ID, class)
			entities, err := store.List(tx, entityKind, prefix, "", 1<<20)
			if err != nil {
				return nil, nil, err
			}
			for _, e := range entities {
				principals = append(principals, e.Value.ARN())
			}
		}
	}
	return principals, accounts, err
}

// Members lists the accounts of an organization, in order.
func Members(tx *store.Tx, organization string) (accounts []string, err error) {
	prefix := TargetKey("")
	targets, err := store.Collect(tx, TargetKind, prefix, prefix, 1<<20, func(t *Target) bool { return t.Organization == organization && arn.IsAccount(t.ID) })
	for _, t := range targets {
		accounts = append(accounts, t.ID)
	}
	return accounts, err
}
