package store

import (
	"context"
	"errors"
	"iter"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"
)

// A simCluster is what an etcd cluster is to its clients, in simulated time: one order of
// commits, which each node is told of late.
type simCluster struct {
	mu    sync.Mutex // guards the rest; never held while time passes
	rng   *rand.Rand
	state map[string]Item
	log   []simCommit
	grown chan struct{} // closed when log grows
	rough bool          // things go wrong
	lease time.Duration // of a new store
}

type simCommit struct {
	rev   Rev
	items []Item
}

func newSimCluster(rng *rand.Rand) *simCluster {
	return &simCluster{rng: rng, state: map[string]Item{}, grown: make(chan struct{})}
}

func (c *simCluster) duration(limit time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Duration(c.rng.Int64N(int64(limit)))
}

// chance is true once in n times.
func (c *simCluster) chance(n int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rough && c.rng.IntN(n) == 0
}

func (c *simCluster) getRough() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rough = true
}

// latency is how long something takes on the network: mostly a moment, sometimes much longer
// than anybody waits.
func (c *simCluster) latency() {
	switch {
	case c.chance(40):
		time.Sleep(c.duration(2 * time.Second))
	case c.chance(6):
		time.Sleep(c.duration(250 * time.Millisecond))
	default:
		time.Sleep(c.duration(2 * time.Millisecond))
	}
}

func (c *simCluster) commit(t Txn) (Rev, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, i := range t.If {
		if c.state[i.Key].Rev != i.Rev {
			return 0, ErrConflict
		}
	}
	rev := Rev(len(c.log) + 1)
	for _, i := range t.Do {
		if i.Val == nil {
			delete(c.state, i.Key)
		} else {
			c.state[i.Key] = Item{i.Key, i.Val, rev}
		}
	}
	c.log = append(c.log, simCommit{rev, t.Do})
	close(c.grown)
	c.grown = make(chan struct{})
	return rev, nil
}

func (c *simCluster) head() Rev {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Rev(len(c.log))
}

// A simNode is the engine of one node.
type simNode struct {
	c     *simCluster
	reach func(context.Context) error // nil: the right one
	full  bool
	stop  chan struct{}

	mu       sync.Mutex // guards the rest
	state    map[string]Item
	rev      Rev
	reached  Rev
	moved    chan struct{}
	watchers []func(Rev, []Item)
	missed   func(context.Context, Rev) error
}

func newSimNode(c *simCluster) *simNode {
	n := &simNode{c: c, stop: make(chan struct{}), state: map[string]Item{}, moved: make(chan struct{})}
	go n.follow()
	return n
}

// follow brings the commits, late, and sometimes forgets some.
func (n *simNode) follow() {
	for {
		n.c.mu.Lock()
		var next *simCommit
		if int(n.rev) < len(n.c.log) {
			next = &n.c.log[n.rev]
		}
		grown := n.c.grown
		n.c.mu.Unlock()
		if next == nil {
			select {
			case <-grown:
				continue
			case <-n.stop:
				return
			}
		}
		if n.c.chance(30) { // the member is cut off
			time.Sleep(n.c.duration(4 * time.Second))
		} else {
			n.c.latency()
		}
		select {
		case <-n.stop:
			return
		default:
		}
		if n.c.chance(60) {
			n.forget()
			continue
		}
		n.mu.Lock()
		for _, i := range next.items {
			if i.Val == nil {
				delete(n.state, i.Key)
			} else {
				n.state[i.Key] = Item{i.Key, i.Val, next.rev}
			}
		}
		n.rev = next.rev
		n.mu.Unlock()
		for _, fn := range n.watchers {
			fn(next.rev, next.items)
		}
		n.tell(next.rev)
	}
}

func (n *simNode) forget() {
	n.c.mu.Lock()
	state, rev := maps.Clone(n.c.state), Rev(len(n.c.log))
	n.c.mu.Unlock()
	n.mu.Lock()
	n.state, n.rev = state, rev
	missed := n.missed
	n.mu.Unlock()
	if missed != nil {
		_ = missed(context.Background(), rev)
	}
	n.tell(rev)
}

func (n *simNode) tell(rev Rev) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.reached = rev
	close(n.moved)
	n.moved = make(chan struct{})
}

func (n *simNode) wait(ctx context.Context, rev Rev) error {
	for {
		n.mu.Lock()
		reached, moved := n.reached, n.moved
		n.mu.Unlock()
		if reached >= rev {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.stop:
			return ErrClosed
		}
	}
}

// Reach asks for the head, and waits for it.
func (n *simNode) Reach(ctx context.Context) error {
	if n.reach != nil {
		return n.reach(ctx)
	}
	n.c.latency()
	head := n.c.head()
	if n.c.chance(2) { // the answer comes just in time
		time.Sleep(n.c.duration(probeTimeout))
	}
	n.c.latency()
	if err := ctx.Err(); err != nil {
		return err
	}
	return n.wait(ctx, head)
}

func (n *simNode) Get(_ context.Context, keys ...string) ([]Item, Rev, error) {
	n.c.latency()
	n.mu.Lock()
	defer n.mu.Unlock()
	var items []Item
	for _, k := range keys {
		i := n.state[k]
		i.Key = k
		items = append(items, i)
	}
	return items, n.rev, nil
}

func (n *simNode) Scan(_ context.Context, prefix, after string, limit int) ([]Item, Rev, error) {
	n.c.latency()
	n.mu.Lock()
	defer n.mu.Unlock()
	var items []Item
	for _, k := range slices.Sorted(maps.Keys(n.state)) {
		if strings.HasPrefix(k, prefix) && k > after && len(items) < limit {
			items = append(items, n.state[k])
		}
	}
	return items, n.rev, nil
}

func (n *simNode) Commit(ctx context.Context, t Txn) (Rev, error) {
	if t.Queued != nil {
		t.Queued()
	}
	n.c.latency()
	rev, err := n.c.commit(t)
	if err != nil {
		return 0, err
	}
	n.c.latency()
	if n.c.chance(50) { // the answer is lost
		return 0, ErrUnknown
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if err := n.wait(ctx, rev); err != nil {
		return 0, errors.Join(ErrUnknown, err)
	}
	return rev, nil
}

func (n *simNode) Watch(fn func(Rev, []Item)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.watchers = append(n.watchers, fn)
}

func (n *simNode) Missed(fn func(context.Context, Rev) error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.missed = fn
}

func (n *simNode) Head(context.Context) (Rev, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.rev, nil
}

func (n *simNode) Lead(ctx context.Context) (context.Context, context.CancelFunc, error) {
	ctx, cancel := context.WithCancel(ctx)
	return ctx, cancel, nil
}

func (n *simNode) Snapshot(context.Context, func(Rev, iter.Seq[Item]) error) error {
	return errors.ErrUnsupported
}
func (n *simNode) Protect(Hash, bool)           {}
func (n *simNode) Verify(context.Context) error { return nil }
func (n *simNode) Err() error                   { return nil }
func (n *simNode) Size() int64                  { return 0 }
func (n *simNode) Node() string                 { return "node" }
func (n *simNode) Join(context.Context) error   { return nil }
func (n *simNode) NewLease() time.Duration      { return n.c.lease }
func (n *simNode) MaxOps() int                  { return 128 }
func (n *simNode) Full() bool                   { return n.full }
func (n *simNode) Close() error                 { close(n.stop); return nil }
