package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/claviger/claviger/internal/store"
)

// pageItems is how many items a snapshot asks for at once.
const pageItems = 1000

// Get reads keys as of the instant that the view has reached.
func (e *Engine) Get(ctx context.Context, keys ...string) (items []store.Item, rev store.Rev, err error) {
	err = e.at(ctx, func(ctx context.Context, at instant, options ...clientv3.OpOption) error {
		items, rev = items[:0], at.commit
		for _, k := range keys {
			r, err := e.client.Get(ctx, e.prefix+records+k, options...)
			if err == nil {
				err = e.same(r.Header)
			}
			if err != nil {
				return err
			}
			item := store.Item{Key: k}
			if len(r.Kvs) > 0 {
				item = e.item(r.Kvs[0])
			}
			items = append(items, item)
		}
		return nil
	})
	return items, rev, err
}

// Scan reads a range as of the instant that the view has reached.
func (e *Engine) Scan(ctx context.Context, prefix, after string, n int) (items []store.Item, rev store.Rev, err error) {
	err = e.at(ctx, func(ctx context.Context, at instant, options ...clientv3.OpOption) error {
		items, err = e.scan(ctx, prefix, after, n, options...)
		rev = at.commit
		return err
	})
	return items, rev, err
}

func (e *Engine) scan(ctx context.Context, prefix, after string, n int, options ...clientv3.OpOption) (items []store.Item, err error) {
	if n <= 0 {
		return nil, nil
	}
	from := e.prefix + records + prefix
	if after >= prefix {
		from = e.prefix + records + after + "\x00"
	}
	end := clientv3.GetPrefixRangeEnd(e.prefix + records + prefix)
	if from >= end {
		return nil, nil
	}
	r, err := e.client.Get(ctx, from, append(options, clientv3.WithRange(end), clientv3.WithLimit(int64(n)))...)
	if err == nil {
		err = e.same(r.Header)
	}
	if err != nil {
		return nil, err
	}
	for _, kv := range r.Kvs {
		items = append(items, e.item(kv))
	}
	return items, nil
}

func (e *Engine) item(kv *mvccpb.KeyValue) store.Item {
	item := store.Item{Key: strings.TrimPrefix(string(kv.Key), e.prefix+records), Rev: store.Rev(kv.ModRevision), Val: kv.Value}
	if item.Val == nil {
		item.Val = []byte{}
	}
	return item
}

// at calls fn to read what the cluster had at the instant that the view has reached. Any
// member that has come as far knows it, whether or not it still belongs to a majority.
func (e *Engine) at(ctx context.Context, fn func(context.Context, instant, ...clientv3.OpOption) error) error {
	return e.patiently(ctx, func(ctx context.Context) error {
		at := e.view.instant()
		err := fn(ctx, at, clientv3.WithRev(at.through), clientv3.WithSerializable())
		if errors.Is(err, rpctypes.ErrFutureRev) { // this member lags: one that asks the leader does not
			err = fn(ctx, at, clientv3.WithRev(at.through))
		}
		if errors.Is(err, rpctypes.ErrCompacted) { // nothing was committed for long, and others have moved on
			if err := e.Reach(ctx); err != nil {
				return err
			}
			return errors.New("etcd: the instant that was read is gone")
		}
		return err
	})
}

// errForgotten reports that the cluster was compacted beyond an instant while it was read.
var errForgotten = fmt.Errorf("%w: the etcd cluster was compacted meanwhile; try again, or have it keep more of its history", store.ErrHasty)

// Snapshot reads everything as of one instant, page by page.
func (e *Engine) Snapshot(ctx context.Context, fn func(store.Rev, iter.Seq[store.Item]) error) error {
	if err := e.Reach(ctx); err != nil { // the later, the longer it is remembered
		return err
	}
	return e.snapshot(ctx, e.view.instant(), fn)
}

func (e *Engine) snapshot(ctx context.Context, at instant, fn func(store.Rev, iter.Seq[store.Item]) error) error {
	var failed error
	err := fn(at.commit, func(yield func(store.Item) bool) { failed = e.pages(ctx, at, yield) })
	return errors.Join(failed, err)
}

func (e *Engine) pages(ctx context.Context, at instant, yield func(store.Item) bool) error {
	after := ""
	for {
		var items []store.Item
		err := e.patiently(ctx, func(ctx context.Context) (err error) {
			items, err = e.scan(ctx, "", after, pageItems, clientv3.WithRev(at.through))
			return err
		})
		if errors.Is(err, rpctypes.ErrCompacted) {
			return errForgotten
		}
		if err != nil {
			return err
		}
		for _, i := range items {
			after = i.Key
			if !yield(i) {
				return nil
			}
		}
		if len(items) < pageItems {
			return nil
		}
	}
}
