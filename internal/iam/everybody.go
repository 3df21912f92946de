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
