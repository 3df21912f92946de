package store

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// probeEvery is how often a node makes sure that its view is current, while the lease
	// lasts long enough.
	probeEvery = 75 * time.Millisecond
	// probeTimeout is when a probe has failed.
	probeTimeout = 300 * time.Millisecond
	// patience is how long a request waits for a probe that succeeds.
	patience = 5 * time.Second
)

// A freshness says whether the view that a node has of a shared store is current enough
// to decide by. A probe proves that it has everything that was committed before the probe
// began. For as long as the lease lasts from then on, no change that takes something away
// takes effect unless the node has seen its fence: those who make such a change put the
// fence there first, and wait until every lease that began before has run out.
type freshness struct {
	reach func(context.Context) error
	stops func() error         // why nothing is decided any more; nil: it may be
	clock func() time.Duration // counts also while the machine is suspended
	lease atomic.Int64         // a time.Duration; 0: every decision needs a probe of its own
	since atomic.Int64         // by the clock: the view has everything from before

	mu      sync.Mutex // guards the rest
	running *probe
	next    *probe // starts when running is done; nil: nobody waits for one
	failed  error  // the last probe
}

// A probe is shared by all who came before it began.
type probe struct {
	done chan struct{}
	err  error
}

func newFreshness(e Shared, clock func() time.Duration) *freshness {
	f := &freshness{reach: e.Reach, stops: e.Err, clock: clock}
	f.since.Store(math.MinInt64 / 2)
	return f
}

// check returns when it is right to decide by the view as it is then.
func (f *freshness) check(ctx context.Context) error {
	if err := f.stops(); err != nil {
		return err
	}
	if l := time.Duration(f.lease.Load()); l > 0 && f.clock()-time.Duration(f.since.Load()) < l {
		return nil
	}
	return f.confirm(ctx)
}

// optimistic reports whether there is no lease, and probes go on succeeding: who commits now
// has no reason to expect that the cluster cannot be reached.
func (f *freshness) optimistic() bool {
	return f.stops() == nil && f.lease.Load() == 0 && f.clock()-time.Duration(f.since.Load()) < probeTimeout
}

// confirm returns when the view has everything that was committed before the call.
// ErrDoubt: that cannot be known.
func (f *freshness) confirm(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		if err := f.stops(); err != nil {
			return err
		}
		p := f.join()
		select {
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrDoubt, ctx.Err())
		}
		if p.err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ErrDoubt, p.err)
		}
		select { // a probe that fails at once is not repeated at once
		case <-time.After(probeEvery):
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ErrDoubt, p.err)
		}
	}
}

// join returns a probe that begins after the call.
func (f *freshness) join() *probe {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.running == nil {
		f.running = &probe{done: make(chan struct{})}
		go f.run(f.running)
		return f.running
	}
	if f.next == nil {
		f.next = &probe{done: make(chan struct{})}
	}
	return f.next
}

// run runs a probe, and those that were asked for meanwhile.
func (f *freshness) run(p *probe) {
	for p != nil {
		began := f.clock() // before asking: what is committed while the answer is on its way is not in it
		ctx, cancel := context.WithTimeout(context.Background(), probeTimeout)
		p.err = f.reach(ctx)
		cancel()
		if p.err == nil {
			f.since.Store(max(f.since.Load(), int64(began)))
		}
		close(p.done)
		f.mu.Lock()
		f.failed = p.err
		p = f.next
		f.running, f.next = p, nil
		f.mu.Unlock()
	}
}

// err says why nothing can be decided; nil: it can, or that has not been tried lately.
func (f *freshness) err() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failed == nil || f.clock()-time.Duration(f.since.Load()) < max(time.Duration(f.lease.Load()), probeTimeout) {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrDoubt, f.failed)
}

// leaseWait is how long a change that takes something away waits behind its fence: until
// leases from before have run out, on clocks that differ by an eighth.
func leaseWait(lease time.Duration) time.Duration {
	if lease <= 0 {
		return 0
	}
	return lease + lease/4 + 10*time.Millisecond
}
