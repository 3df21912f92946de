package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/claviger/claviger/internal/store"
)

// Protect makes the engine keep a digest from the next commit on: of what each node has
// changed one of its own, so that no two wait for each other. Their sum is that of all
// records. It does not hash revisions, which the cluster gives: no record has the same
// sealed value twice.
func (e *Engine) Protect(hash store.Hash, begin bool) {
	e.turns.commitMu.Lock()
	defer e.turns.commitMu.Unlock()
	e.turns.hash, e.turns.begun = hash, begin
	if hash != nil && e.turns.kept != nil {
		e.turns.sum, e.turns.kept = unmasked(hash, e.config.Node, e.turns.kept), nil
	}
}

// Verify reads everything as of one instant and checks it against the digests of all
// nodes.
func (e *Engine) Verify(ctx context.Context) error {
	if err := e.refusal(); err != nil {
		return err
	}
	e.turns.commitMu.Lock()
	hash, begun := e.turns.hash, e.turns.begun
	e.turns.commitMu.Unlock()
	if hash == nil {
		return nil
	}
	at := e.view.instant()
	var sum, want store.Digest
	var digests *clientv3.GetResponse
	err := e.patiently(ctx, func(ctx context.Context) (err error) {
		digests, err = e.client.Get(ctx, e.prefix+digestPrefix, clientv3.WithPrefix(), clientv3.WithRev(at.through))
		return err
	})
	if errors.Is(err, rpctypes.ErrCompacted) {
		return errForgotten
	}
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	for _, kv := range digests.Kvs {
		want.Add(unmasked(hash, strings.TrimPrefix(string(kv.Key), e.prefix+digestPrefix), kv.Value))
	}
	err = e.snapshot(ctx, at, func(_ store.Rev, items iter.Seq[store.Item]) error {
		for i := range items {
			if store.Digested(i.Key) {
				sum.Add(hash(i.Key, 0, i.Val))
			}
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case len(digests.Kvs) == 0 && !begun:
		return e.fail("the digests are missing")
	case sum != want:
		return e.fail("the records are not those that were written")
	}
	return nil
}
