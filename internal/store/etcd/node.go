package etcd

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/claviger/claviger/internal/store"
)

// A presence says that a node is running. It goes when the node does not renew its lease.
type presence struct {
	Instance string // of the owner of the name
	Host     string
	Since    time.Time
}

// A membership is that of this node.
type membership struct {
	lease clientv3.LeaseID
	until chan struct{} // closed when the lease may have run out
}

// enter takes the node's name.
func (e *Engine) enter(ctx context.Context) error {
	host, _ := os.Hostname() // it is for people alone
	text, err := json.Marshal(presence{e.config.Instance, host, time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	var m membership
	err = e.patiently(ctx, func(ctx context.Context) error {
		lease, err := e.client.Grant(ctx, liveSeconds)
		if err != nil {
			return err
		}
		m = membership{lease.ID, make(chan struct{})}
		return e.present(ctx, string(text), lease.ID)
	})
	if err != nil {
		return err
	}
	e.member.Store(&m)
	e.wg.Go(func() { e.stay(m) })
	return nil
}

// errTaken reports that another node has the name.
var errTaken = errors.New("etcd: a node of this name is running")

// present puts the node's presence there, unless another one's is.
func (e *Engine) present(ctx context.Context, text string, lease clientv3.LeaseID) error {
	key := e.prefix + nodePrefix + e.config.Node
	there, err := e.client.Get(ctx, key)
	if err != nil {
		return err
	}
	var rev int64
	if len(there.Kvs) > 0 {
		rev = there.Kvs[0].ModRevision
		var p presence
		if err := json.Unmarshal(there.Kvs[0].Value, &p); err != nil || p.Instance != e.config.Instance {
			return fmt.Errorf("%w: %s, on %s since %s: give each node a name of its own, or wait %d seconds if that one was stopped just now",
				errTaken, e.config.Node, p.Host, p.Since.Format(time.RFC3339), liveSeconds)
		}
	}
	r, err := e.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", rev)).Then(clientv3.OpPut(key, text, clientv3.WithLease(lease))).Commit()
	if err == nil && !r.Succeeded {
		err = errors.New("etcd: the name of this node was taken just now")
	}
	return err
}

// stay renews the lease. A node that could not for too long takes its name again, if nobody
// else has it.
func (e *Engine) stay(m membership) {
	e.keep(m.lease)
	close(m.until)
	for e.refusal() == nil {
		err := e.enter(e.ctx)
		switch {
		case err == nil:
			return
		case errors.Is(err, errTaken):
			_ = e.fail("%w", err)
		default:
			e.logger.Warn("this node's name cannot be renewed", "err", err)
			select {
			case <-e.ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
}

// keep renews a lease until that fails for nearly as long as it lasts.
func (e *Engine) keep(lease clientv3.LeaseID) {
	ctx, cancel := context.WithCancel(e.ctx)
	defer cancel()
	answers, err := e.client.KeepAlive(ctx, lease)
	if err != nil {
		return
	}
	const last = (liveSeconds - 3) * time.Second // the cluster counts from when it answered
	timer := time.NewTimer(last)
	defer timer.Stop()
	for {
		select {
		case r, ok := <-answers:
			if !ok || r == nil {
				return
			}
			timer.Reset(last)
		case <-timer.C:
			return
		}
	}
}

// leave gives up the name.
func (e *Engine) leave() {
	m := e.member.Swap(nil)
	if m == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.ctx), tryTimeout)
	defer cancel()
	_, _ = e.client.Revoke(ctx, m.lease) // otherwise it runs out
}

// Depose makes other nodes that go on from before, without having started again, stop for good
// at their next change or probe: they have lost their turns. Without names, it is all others.
func (e *Engine) Depose(ctx context.Context, nodes ...string) error {
	return e.patiently(ctx, func(ctx context.Context) error {
		turns, err := e.client.Get(ctx, e.prefix+turnPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
		if err != nil {
			return err
		}
		for _, turn := range turns.Kvs {
			name := strings.TrimPrefix(string(turn.Key), e.prefix+turnPrefix)
			if name == e.config.Node || len(nodes) > 0 && !slices.Contains(nodes, name) {
				continue
			}
			if _, err := e.client.Put(ctx, string(turn.Key), string(nonce())); err != nil {
				return err
			}
		}
		return nil
	})
}

// Lead waits until this node leads all others, and returns a context that ends when it
// does not any more.
func (e *Engine) Lead(ctx context.Context) (context.Context, context.CancelFunc, error) {
	for {
		if m := e.member.Load(); m != nil {
			if leading, cancel, err := e.lead(ctx, *m); err == nil && leading != nil {
				return leading, cancel, nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, func() {}, ctx.Err()
		case <-e.ctx.Done():
			return nil, func() {}, store.ErrClosed
		case <-time.After(time.Second):
		}
	}
}

// lead tries once. No context and no error: another node leads.
func (e *Engine) lead(ctx context.Context, m membership) (context.Context, context.CancelFunc, error) {
	try, end := context.WithTimeout(ctx, tryTimeout)
	defer end()
	key := e.prefix + leadKey
	r, err := e.client.Txn(try).If(clientv3.Compare(clientv3.CreateRevision(key), "=", 0)).
		Then(clientv3.OpPut(key, e.config.Node, clientv3.WithLease(m.lease))).Else(clientv3.OpGet(key)).Commit()
	if err != nil {
		return nil, nil, err
	}
	if !r.Succeeded {
		kvs := r.Responses[0].GetResponseRange().Kvs
		if len(kvs) == 0 || clientv3.LeaseID(kvs[0].Lease) != m.lease {
			return nil, nil, nil
		}
	}
	leading, cancel := context.WithCancel(ctx)
	e.wg.Go(func() {
		defer cancel()
		select {
		case <-leading.Done():
		case <-m.until:
		case <-e.ctx.Done():
		}
	})
	return leading, cancel, nil
}
