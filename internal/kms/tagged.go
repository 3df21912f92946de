package kms

import (
	"context"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// TaggedKeys calls show with each key of the caller's account and Region that has
// tags and whose ARN comes after after, in order, until show returns false.
// action is what the caller must be allowed to do with all resources.
func (s *Service) TaggedKeys(ctx context.Context, call *iam.Call, action policy.Action, after string, show func(arn string, tags []Tag) bool) error {
	return call.View(ctx, s.db, func(tx *store.Tx) error {
		if err := allowed(tx, call, action, "*", &conditions{}); err != nil {
			return err
		}
		prefix, more := keyPrefix(call.Region, call.Account()), true
		_, err := store.Collect(tx, keyKind, prefix, prefix, 1, func(k *Key) bool {
			if more && len(k.Tags) > 0 && !k.gone(call.Now) && k.ARN() > after {
				more = show(k.ARN(), k.Tags)
			}
			return !more // one is enough to end
		})
		return err
	})
}
