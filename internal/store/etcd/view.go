package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/claviger/claviger/internal/store"
)

// An instant is how far the view has come.
type instant struct {
	commit  store.Rev // the last change that is in it
	through int64     // the revision of the cluster up to which there is no other
}

// A view follows what is committed, by whomever.
//
// It is complete through a revision in two ways. The watch delivers every change in order,
// each commit whole, so after an event there is nothing missing before it. And since every
// commit writes the head, a linearizable read of the head tells the last commit there was
// at the revision of its answer: if the watch has delivered that one, nothing is missing
// through that revision. Revisions of the cluster that tell of nothing delivered, those
// in the headers of a watch and of progress notices, are not used.
type view struct {
	e *Engine

	watchMu  sync.Mutex // held while watchers run; guards both
	watchers []func(store.Rev, []store.Item)
	missed   []func(context.Context, store.Rev) error

	mu      sync.Mutex // guards what follows
	at      instant
	reached store.Rev          // what the watchers were told of
	moved   chan struct{}      // closed when reached moves
	heard   time.Time          // when the watch delivered something last, or began
	again   context.CancelFunc // ends the watch there is, for another one
}

func newView(e *Engine) *view { return &view{e: e, moved: make(chan struct{}), again: func() {}} }

func (v *view) instant() instant {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.at
}

// begin finds where the cluster is and follows it from there.
func (v *view) begin(ctx context.Context) error {
	head, through, err := v.e.head(ctx)
	if err != nil {
		return err
	}
	v.set(instant{head, through}, head)
	v.e.wg.Go(v.follow)
	return nil
}

// follow watches until the engine is closed.
func (v *view) follow() {
	gone := false
	for v.e.refusal() == nil {
		if gone {
			gone = !v.recover()
		} else {
			ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(v.e.ctx))
			v.mu.Lock()
			v.again, v.heard = cancel, time.Now()
			from := v.at.through + 1
			v.mu.Unlock()
			gone = v.watch(ctx, from)
			cancel()
		}
		select {
		case <-v.e.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// watch delivers what happens from a revision on, until the watch ends. gone: the cluster
// does not know any more what happened.
func (v *view) watch(ctx context.Context, from int64) (gone bool) {
	for r := range v.e.client.Watch(ctx, v.e.prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		if r.Header.ClusterId != 0 && r.Header.ClusterId != v.e.cluster {
			v.e.fail("its id is another one")
			return false
		}
		v.deliver(r.Events)
		if err := r.Err(); err != nil {
			return errors.Is(err, rpctypes.ErrCompacted)
		}
	}
	return false
}

// deliver tells the watchers of each commit.
func (v *view) deliver(events []*clientv3.Event) {
	for len(events) > 0 {
		rev := events[0].Kv.ModRevision
		n := 1
		for n < len(events) && events[n].Kv.ModRevision == rev {
			n++
		}
		var items []store.Item
		for _, event := range events[:n] {
			if !bytes.HasPrefix(event.Kv.Key, []byte(v.e.prefix+records)) {
				continue
			}
			i := v.e.item(event.Kv)
			if event.Type == clientv3.EventTypeDelete {
				i.Val = nil
			}
			items = append(items, i)
		}
		events = events[n:]
		v.watchMu.Lock()
		if v.advance(rev) {
			for _, fn := range v.watchers {
				fn(store.Rev(rev), items)
			}
			v.tell(store.Rev(rev))
		}
		v.watchMu.Unlock()
	}
}

// advance moves to a commit, if it is a later one: an event that comes again is not told of.
func (v *view) advance(rev int64) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if rev <= int64(v.at.commit) {
		return false
	}
	v.at, v.heard = instant{store.Rev(rev), max(v.at.through, rev)}, time.Now()
	return true
}

// tell lets those go on who wait for a commit.
func (v *view) tell(rev store.Rev) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.reached = rev
	close(v.moved)
	v.moved = make(chan struct{})
}

func (v *view) set(at instant, reached store.Rev) {
	v.mu.Lock()
	v.at = at
	v.mu.Unlock()
	v.tell(reached)
}

// recover starts again where the cluster is now, after changes that nobody can tell of.
// Until it reports that it has, nobody's wait ends.
func (v *view) recover() bool {
	v.e.logger.Warn("the etcd cluster has forgotten changes that this node has not seen; starting from its present state")
	err := v.e.patiently(v.e.ctx, func(ctx context.Context) error {
		head, through, err := v.e.head(ctx)
		if err != nil {
			return err
		}
		v.watchMu.Lock()
		defer v.watchMu.Unlock()
		v.mu.Lock()
		v.at = instant{head, through}
		v.mu.Unlock()
		for _, fn := range v.missed {
			if err := fn(ctx, head); err != nil {
				return err
			}
		}
		v.tell(head)
		return nil
	})
	if err != nil && v.e.refusal() == nil {
		v.e.logger.Warn("the present state of the etcd cluster cannot be read", "err", err)
	}
	return err == nil
}

// wait returns when the watchers were told of a commit.
func (v *view) wait(ctx context.Context, rev store.Rev) error {
	for {
		v.mu.Lock()
		reached, moved := v.reached, v.moved
		v.mu.Unlock()
		if reached >= rev {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("etcd: the watch lags behind: %w", ctx.Err())
		case <-v.e.ctx.Done():
			return store.ErrClosed
		}
	}
}

// silent is how long a watch that lags may deliver nothing before another one is begun.
const silent = 1500 * time.Millisecond

// rewatch gives up the watch for one of another member, if it has delivered nothing for a
// while.
func (v *view) rewatch() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.heard) > silent {
		v.again()
	}
}

// extend makes the view complete through a revision at which its commit was the last one.
func (v *view) extend(head store.Rev, through int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.at.commit >= head {
		v.at.through = max(v.at.through, through)
	}
}

// Watch registers fn for the commits to come.
func (e *Engine) Watch(fn func(store.Rev, []store.Item)) {
	e.view.watchMu.Lock()
	defer e.view.watchMu.Unlock()
	e.view.watchers = append(e.view.watchers, fn)
}

// Missed registers fn for when commits were missed.
func (e *Engine) Missed(fn func(context.Context, store.Rev) error) {
	e.view.watchMu.Lock()
	defer e.view.watchMu.Unlock()
	e.view.missed = append(e.view.missed, fn)
}

// head asks a majority for the last commit, and for the revision at which it was the last.
// It checks that the cluster is the one that it was.
func (e *Engine) head(ctx context.Context) (head store.Rev, through int64, err error) {
	at, mine := e.view.instant(), e.turns.place() // of before: both move while the question is on its way
	r, err := e.client.Txn(ctx).Then(clientv3.OpGet(e.prefix+headKey), clientv3.OpGet(e.prefix+turnPrefix+e.config.Node)).Commit()
	if err != nil {
		return 0, 0, err
	}
	var turn int64
	for i, place := range []*int64{(*int64)(&head), &turn} {
		if kvs := r.Responses[i].GetResponseRange().Kvs; len(kvs) > 0 {
			*place = kvs[0].ModRevision
		}
	}
	switch {
	case r.Header.ClusterId != e.cluster:
		return 0, 0, e.fail("its id is another one")
	case r.Header.Revision < at.through:
		return 0, 0, e.fail("it was at revision %d and is at %d: it was restored from a backup", at.through, r.Header.Revision)
	case !mine.holds(e.turns.place(), turn):
		return 0, 0, e.fail("this node's last change is not there, or another process writes as %s", e.config.Node)
	}
	return head, r.Header.Revision, nil
}

// Head returns the revision of the last commit that the view has.
func (e *Engine) Head(context.Context) (store.Rev, error) { return e.view.instant().commit, nil }

// Reach returns when the view has everything that was committed before the call.
func (e *Engine) Reach(ctx context.Context) error {
	if err := e.refusal(); err != nil {
		return err
	}
	head, through, err := e.head(ctx)
	if err != nil {
		if refused := e.refusal(); refused != nil {
			return refused
		}
		return fmt.Errorf("etcd: %s: %w", strings.Join(e.config.Endpoints, ", "), err)
	}
	if err := e.view.wait(ctx, head); err != nil {
		e.view.rewatch()
		return err
	}
	e.view.extend(head, through)
	return nil
}
