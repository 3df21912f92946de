package etcd

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/claviger/claviger/internal/store"
)

// Bounds of a group of transactions that are committed as one: what a cluster takes that
// was started without any options.
const (
	groupOps   = 100
	groupBytes = 1 << 20
)

// The turns of a node are its commits: one at a time, each of which writes the node's turn
// on the condition that the one before it wrote it last. So whether a commit took effect
// whose answer was lost can be found out for certain: as soon as the turn is written again,
// it has or never will. And a second process that writes as the same node is noticed.
type turns struct {
	e *Engine

	queueMu sync.Mutex // guards queue
	queue   []*pending

	commitMu sync.Mutex // held by the one writer that commits for all; guards what follows
	hash     store.Hash // nil: there is no digest
	begun    bool       // the store began with this program run
	sum      store.Digest
	kept     []byte   // the digest as it was found
	open     *attempt // whose outcome is not known

	placeMu sync.Mutex // guards at
	at      place
}

// A place is where the turns are.
type place struct {
	last   int64 // the revision that wrote the last turn
	flight bool  // a commit is under way
	number int   // of the commit that was last under way
}

// holds reports whether the cluster may have the node's turn where it was found, between
// two looks at the place.
func (p place) holds(later place, turn int64) bool {
	return p.flight || later.number != p.number || turn == p.last
}

// An attempt is a commit that was sent.
type attempt struct {
	nonce    []byte
	settling [][]byte // what was written to settle it
	group    []*pending
	sum      store.Digest // of the node, if it took effect
	rev      store.Rev    // at which it did
}

func (a *attempt) is(group []*pending) bool { return a != nil && a.group[0] == group[0] }

// A pending transaction waits for its turn; rev, err and done are written under commitMu.
type pending struct {
	ctx  context.Context // of whoever asked for it
	txn  store.Txn
	rev  store.Rev
	err  error
	done bool
}

func newTurns(e *Engine) *turns { return &turns{e: e, at: place{flight: true}} } // where it is is not known yet

func (t *turns) place() place {
	t.placeMu.Lock()
	defer t.placeMu.Unlock()
	return t.at
}

// takeOff and land enclose what may move the turn.
func (t *turns) takeOff() {
	t.placeMu.Lock()
	defer t.placeMu.Unlock()
	t.at.flight = true
	t.at.number++
}

func (t *turns) land(last int64) {
	t.placeMu.Lock()
	defer t.placeMu.Unlock()
	t.at.flight, t.at.last = false, last
}

func (t *turns) key() string { return t.e.prefix + turnPrefix + t.e.config.Node }

// begin takes the node's turn, from an earlier run too.
func (t *turns) begin(ctx context.Context) error {
	var mine [][]byte // what was written, or is still on its way
	return t.e.patiently(ctx, func(ctx context.Context) error {
		r, err := t.e.client.Txn(ctx).Then(clientv3.OpGet(t.key()), clientv3.OpGet(t.e.prefix+digestPrefix+t.e.config.Node)).Commit()
		if err != nil {
			return err
		}
		turn, digest := r.Responses[0].GetResponseRange(), r.Responses[1].GetResponseRange()
		if len(digest.Kvs) > 0 {
			t.kept = digest.Kvs[0].Value
		}
		if len(turn.Kvs) > 0 && slices.ContainsFunc(mine, func(n []byte) bool { return bytes.Equal(n, turn.Kvs[0].Value) }) {
			t.land(modRevision(turn))
			return nil
		}
		mine = append(mine, nonce())
		done, err := t.e.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(t.key()), "=", modRevision(turn))).
			Then(clientv3.OpPut(t.key(), string(mine[len(mine)-1]))).Commit()
		if err == nil && !done.Succeeded {
			err = errOvertaken
		}
		if err != nil {
			return err
		}
		t.land(done.Header.Revision)
		return nil
	})
}

func nonce() []byte {
	n := make([]byte, 16)
	_, _ = rand.Read(n) // it never fails
	return n
}

// Commit queues t. Whoever gets commitMu commits what is queued by then: while one group is
// under way, the next one gathers, and a lone writer never waits.
//
// When ctx ends before the transaction was sent, it is not; after that it is found out what
// became of it.
func (e *Engine) Commit(ctx context.Context, txn store.Txn) (store.Rev, error) {
	t, p := e.turns, &pending{ctx: ctx, txn: txn}
	if len(txn.Do) > store.MaxTxnOps || len(txn.If) > store.MaxTxnOps || bytesOf(txn) > store.MaxTxnBytes {
		p.err, p.done = store.ErrTooLarge, true
	} else {
		t.queueMu.Lock()
		t.queue = append(t.queue, p)
		t.queueMu.Unlock()
	}
	if txn.Queued != nil {
		txn.Queued()
	}
	t.commitMu.Lock()
	if !p.done {
		t.flush()
	}
	t.commitMu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	waiting, cancel := context.WithTimeout(e.ctx, callTimeout)
	defer cancel()
	if err := e.view.wait(waiting, p.rev); err != nil {
		return 0, fmt.Errorf("%w: %w", store.ErrUnknown, err) // it is there, and this node does not see it
	}
	return p.rev, nil
}

func bytesOf(t store.Txn) (n int) {
	for _, i := range t.Do {
		n += len(i.Key) + len(i.Val)
	}
	return n
}

// flush commits the queue. commitMu is held.
func (t *turns) flush() {
	t.queueMu.Lock()
	queue := t.queue
	t.queue = nil
	t.queueMu.Unlock()
	var err error
	for len(queue) > 0 {
		n := together(queue)
		if abandoned(queue[:1]) {
			n = 1
			finish(queue[:n], 0, errAbandoned)
		} else if err != nil { // the cluster cannot be reached: nobody waits for it one after another
			finish(queue[:n], 0, err)
		} else {
			err = t.commit(queue[:n])
		}
		queue = queue[n:]
	}
}

// errAbandoned reports that whoever asked for a transaction was gone before it was sent: it
// must not take effect long after they have asked for something else.
var errAbandoned = fmt.Errorf("etcd: not committed: %w", context.Canceled)

// abandoned reports whether nobody waits for any of a group.
func abandoned(group []*pending) bool {
	return !slices.ContainsFunc(group, func(p *pending) bool { return p.ctx.Err() == nil })
}

func finish(group []*pending, rev store.Rev, err error) {
	for _, p := range group {
		p.rev, p.err, p.done = rev, err, true
	}
}

// together is how many transactions, from the first on, may be committed as one: none of
// them asks for what one before it changes, and somebody waits for each.
func together(queue []*pending) int {
	written := map[string]bool{}
	conditions, size := map[string]bool{}, 0
	for n, p := range queue {
		if n > 0 && p.ctx.Err() != nil {
			return n
		}
		for _, i := range p.txn.If {
			if written[i.Key] {
				return n
			}
			conditions[i.Key] = true
		}
		for _, i := range p.txn.Do {
			written[i.Key] = true
		}
		size += bytesOf(p.txn)
		if n > 0 && (len(conditions)+len(written) > groupOps || size > groupBytes) {
			return n
		}
	}
	return len(queue)
}

// commit commits a group as one or, if that cannot be, its transactions one after another.
// The error is why others will fare no better.
func (t *turns) commit(group []*pending) error {
	rev, err := t.try(group)
	refused := errors.Is(err, store.ErrConflict) || errors.Is(err, store.ErrTooLarge)
	if refused && len(group) > 1 {
		for i := range group {
			if err := t.commit(group[i : i+1]); err != nil {
				finish(group[i+1:], 0, err)
				return err
			}
		}
		return nil
	}
	finish(group, rev, err)
	switch {
	case err == nil, refused, errors.Is(err, errAbandoned):
		return nil
	case errors.Is(err, store.ErrUnknown):
		return errSilent // they were not even sent
	}
	return err
}

// try commits a group, again if it did not take effect because an answer was lost or a
// record was overtaken that no condition is about.
func (t *turns) try(group []*pending) (rev store.Rev, err error) {
	exact := false // read what is replaced from a majority
	err = t.e.patiently(t.e.ctx, func(ctx context.Context) error {
		settled, err := t.settle(ctx)
		if err != nil {
			return err
		}
		if settled.is(group) {
			rev = settled.rev
			return nil
		}
		if abandoned(group) {
			return errAbandoned
		}
		overtaken := false
		rev, overtaken, err = t.send(ctx, group, exact)
		exact = exact || overtaken
		return err
	})
	switch {
	case err == nil:
		return rev, nil
	case t.open.is(group): // it was sent, and nobody knows
		return 0, fmt.Errorf("%w: %w", store.ErrUnknown, err)
	case errors.Is(err, rpctypes.ErrTooManyOps), errors.Is(err, rpctypes.ErrRequestTooLarge), grpcstatus.Code(err) == codes.ResourceExhausted && !errors.Is(err, rpctypes.ErrNoSpace):
		return 0, fmt.Errorf("%w: etcd: %w", store.ErrTooLarge, err)
	case errors.Is(err, rpctypes.ErrNoSpace):
		return 0, fmt.Errorf("etcd: its space is used up, and nothing can be changed before it is compacted, defragmented and its alarm disarmed: %w", err)
	default:
		return 0, err
	}
}

var errOvertaken = errors.New("etcd: a record that is replaced was replaced by another node")

// send sends a group once.
func (t *turns) send(ctx context.Context, group []*pending, exact bool) (rev store.Rev, overtaken bool, err error) {
	conditions, do := map[string]store.Rev{}, map[string][]byte{}
	for _, p := range group {
		for _, i := range p.txn.If {
			if old, ok := conditions[i.Key]; ok && old != i.Rev {
				return 0, false, store.ErrConflict // they cannot both be right
			}
			conditions[i.Key] = i.Rev
		}
		for _, i := range p.txn.Do {
			do[i.Key] = i.Val
		}
	}
	a := &attempt{nonce: nonce(), sum: t.sum, group: group}
	var implied []clientv3.Cmp
	if t.hash != nil {
		if implied, err = t.digest(ctx, a, conditions, do, exact); err != nil {
			return 0, false, err
		}
	}
	e := t.e
	cmps, ops, look := implied, []clientv3.Op{}, []clientv3.Op{}
	for k, rev := range conditions {
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(e.prefix+records+k), "=", int64(rev)))
		look = append(look, clientv3.OpGet(e.prefix+records+k, clientv3.WithKeysOnly()))
	}
	for k, v := range do {
		if v == nil {
			ops = append(ops, clientv3.OpDelete(e.prefix+records+k))
		} else {
			ops = append(ops, clientv3.OpPut(e.prefix+records+k, string(v)))
		}
	}
	last, seen := t.place().last, e.view.instant().through
	cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(t.key()), "=", last))
	ops = append(ops, clientv3.OpPut(t.key(), string(a.nonce)), clientv3.OpPut(e.prefix+headKey, ""))
	if t.hash != nil {
		ops = append(ops, clientv3.OpPut(e.prefix+digestPrefix+e.config.Node, string(t.masked(a.sum))))
	}
	t.takeOff()
	r, err := e.client.Txn(ctx).If(cmps...).Then(ops...).Else(append(look, clientv3.OpGet(t.key()))...).Commit()
	if errors.Is(err, rpctypes.ErrNoSpace) { // which may come after it took effect
		if rev, err = t.despite(ctx, a, err); err == nil {
			t.sum = a.sum
			t.land(int64(rev))
			return rev, false, nil
		}
	}
	switch {
	case err != nil && final(err):
		t.land(last)
		return 0, false, err
	case err != nil:
		t.open = a
		return 0, false, err
	case r.Header.ClusterId != e.cluster || r.Header.Revision < seen || r.Succeeded && r.Header.Revision == seen:
		t.land(last)
		return 0, false, e.fail("it answers with revision %d and was at %d: it was restored from a backup, or is another one", r.Header.Revision, seen)
	case r.Succeeded:
		t.sum = a.sum
		t.land(r.Header.Revision)
		return store.Rev(r.Header.Revision), false, nil
	}
	t.land(last)
	if turn := r.Responses[len(look)].GetResponseRange(); len(turn.Kvs) == 0 || turn.Kvs[0].ModRevision != last {
		return 0, false, e.fail("another process writes as the node %s", e.config.Node)
	}
	for i, op := range look {
		want := conditions[string(op.KeyBytes())[len(e.prefix+records):]]
		if modRevision(r.Responses[i].GetResponseRange()) != int64(want) {
			return 0, false, store.ErrConflict
		}
	}
	return 0, true, errOvertaken
}

func modRevision(r *etcdserverpb.RangeResponse) int64 {
	if len(r.Kvs) == 0 {
		return 0
	}
	return r.Kvs[0].ModRevision
}

// despite looks whether a commit took effect that was answered with an error: then its turn
// is there, and otherwise it never will be, because it has been answered.
func (t *turns) despite(ctx context.Context, a *attempt, answer error) (store.Rev, error) {
	r, err := t.e.client.Get(ctx, t.key())
	switch {
	case err != nil:
		return 0, err // nobody knows
	case len(r.Kvs) > 0 && bytes.Equal(r.Kvs[0].Value, a.nonce):
		return store.Rev(r.Kvs[0].ModRevision), nil
	}
	return 0, answer
}

// settle finds out what became of a commit whose answer was lost, if there is one, and
// returns it if it took effect. It writes the turn again: either that succeeds, and the
// commit never will, or the commit is there, or an earlier attempt to settle it.
func (t *turns) settle(ctx context.Context) (*attempt, error) {
	a := t.open
	if a == nil {
		return nil, nil
	}
	mine := nonce()
	a.settling = append(a.settling, mine)
	r, err := t.e.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(t.key()), "=", t.place().last)).
		Then(clientv3.OpPut(t.key(), string(mine))).Else(clientv3.OpGet(t.key())).Commit()
	if err != nil {
		return nil, err // it may have taken effect: then its number is found next time
	}
	if r.Succeeded {
		t.open = nil
		t.land(r.Header.Revision)
		return nil, nil
	}
	var found []byte
	turn := r.Responses[0].GetResponseRange()
	if len(turn.Kvs) > 0 {
		found = turn.Kvs[0].Value
	}
	switch {
	case bytes.Equal(found, a.nonce):
		t.open, t.sum, a.rev = nil, a.sum, store.Rev(modRevision(turn))
		t.land(int64(a.rev))
		return a, nil
	case slices.ContainsFunc(a.settling, func(n []byte) bool { return bytes.Equal(n, found) }):
		t.open = nil
		t.land(modRevision(turn))
		return nil, nil
	}
	return nil, t.e.fail("another process writes as the node %s", t.e.config.Node)
}
