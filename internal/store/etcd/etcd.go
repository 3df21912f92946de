// Package etcd is the store engine for several nodes: one key space in an etcd cluster,
// which any number of programs commit to. Each keeps a view of it, which a watch brings
// forward, and reads the cluster as of the instant that its view has reached.
package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"golang.org/x/mod/semver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/grpclog"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/claviger/claviger/internal/store"
)

// oldest is the oldest server that is spoken to: before it a new watch of a quiet key
// space told nothing of how far it was (etcd#17507), and before 3.5.8 a watch could go
// back in time (etcd#15515).
const oldest = "v3.5.13"

// How long things may take before they have failed.
const (
	tryTimeout  = 2 * time.Second  // one request
	callTimeout = 15 * time.Second // a read or a commit with all that is tried for it
	openTimeout = 30 * time.Second // finding members that answer, and joining them
	liveSeconds = 10               // how long a node that has stopped answering counts as running
	patience    = 5 * time.Second  // with a cluster of which no member answers
	pause       = 50 * time.Millisecond
)

// What is under the prefix: the records, and what the engine keeps for itself.
const (
	records = "r/"
	own     = "e/"

	headKey      = own + "head"    // written by every commit, which so tells the last one
	turnPrefix   = own + "turn/"   // written by every commit of one node, on the condition that nobody else did
	digestPrefix = own + "digest/" // of what each node has changed
	nodePrefix   = own + "node/"   // there while the node is running
	leadKey      = own + "lead"    // there while a node leads
)

// A Config says where the cluster is.
type Config struct {
	Endpoints []string // URLs
	Prefix    string   // before every key; ends with a slash
	TLS       *tls.Config
	Node      string        // the name of this node; no two that run may have the same
	Instance  string        // what tells its owner: a node may take over the name that it had itself
	Lease     time.Duration // of a new store: see store.Shared
	Logger    *slog.Logger
	// Hold is closed with the engine: what keeps other processes from being this node. May be nil.
	Hold io.Closer
}

// An Engine is a store.Shared in an etcd cluster.
type Engine struct {
	client *clientv3.Client
	prefix string
	config Config
	logger *slog.Logger
	view   *view
	turns  *turns
	member atomic.Pointer[membership] // nil: this node has no name yet, or has left

	joinMu sync.Mutex // guards joined
	joined bool

	cluster uint64 // its id
	maxOps  int
	size    atomic.Int64
	full    atomic.Bool
	failed  atomic.Pointer[error] // why the engine has stopped for good

	ctx  context.Context // ends with Close
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Open connects to the cluster, as an onlooker until Join. It fails if no member answers within
// some seconds, or if one that does is too old.
func Open(ctx context.Context, c Config) (*Engine, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	client, err := clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, TLS: c.TLS, Logger: zap.NewNop(),
		DialTimeout: tryTimeout, DialKeepAliveTime: 2 * time.Second, DialKeepAliveTimeout: 2 * time.Second,
		MaxCallSendMsgSize: 2 * store.MaxTxnBytes,
		DialOptions: []grpc.DialOption{grpc.WithChainUnaryInterceptor(demandLeader),
			// A member that comes back is found again within a second.
			grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second,
				Backoff: backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}})}})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("etcd: %w", err), c.release())
	}
	e := &Engine{client: client, prefix: c.Prefix, config: c, logger: c.Logger}
	e.ctx, e.stop = context.WithCancel(context.WithoutCancel(ctx))
	e.view = newView(e)
	e.turns = newTurns(e)
	if err := e.begin(ctx); err != nil {
		return nil, errors.Join(err, e.Close())
	}
	return e, nil
}

// demandLeader makes a member without a leader, which has lost the others, refuse a request at
// once: it would keep it until that has failed, and meanwhile another one can answer.
func demandLeader(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	read, _ := req.(*etcdserverpb.RangeRequest)
	if method != "/etcdserverpb.Maintenance/Status" && !read.GetSerializable() { // which tells just that, and which needs none
		ctx = clientv3.WithRequireLeader(ctx)
	}
	return invoke(ctx, method, req, reply, cc, options...)
}

// gRPC logs nothing: what matters comes back as errors. It wants that said before anything
// of it is used.
func init() { grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard)) }

func (e *Engine) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	err := e.look(ctx)
	for begin := time.Now(); errors.Is(err, errSilent) && time.Since(begin) < patience; err = e.look(ctx) {
		time.Sleep(pause) // they may be starting too
	}
	if err != nil {
		return err
	}
	if err := e.patiently(ctx, e.view.begin); err != nil { // they may be electing a leader
		return err
	}
	if err := e.patiently(ctx, e.learnLimits); err != nil {
		return err
	}
	e.wg.Go(e.tend)
	return nil
}

// Join takes the node's name and its turn. It fails if a node of this name is running already.
func (e *Engine) Join(ctx context.Context) error {
	e.joinMu.Lock()
	defer e.joinMu.Unlock()
	if e.joined {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	if err := e.enter(ctx); err != nil {
		return err
	}
	if err := e.turns.begin(ctx); err != nil {
		return err
	}
	e.joined = true
	return nil
}

// errSilent reports that no member answers.
var errSilent = errors.New("etcd: no member of the cluster answers")

// look finds out who answers.
func (e *Engine) look(ctx context.Context) error {
	var failed error
	answers := 0
	all := e.statuses(ctx)
	for i, s := range all {
		endpoint, answer := e.config.Endpoints[i], s.answer
		if s.err != nil {
			failed = errors.Join(failed, fmt.Errorf("etcd: %s does not answer: %w", endpoint, s.err))
			continue
		}
		if semver.Compare("v"+answer.Version, oldest) < 0 {
			return fmt.Errorf("etcd: %s runs version %s, and the oldest that this program relies on is %s", endpoint, answer.Version, strings.TrimPrefix(oldest, "v"))
		}
		if e.cluster != 0 && e.cluster != answer.Header.ClusterId {
			return fmt.Errorf("etcd: %s belongs to another cluster than the endpoints before it", endpoint)
		}
		e.cluster = answer.Header.ClusterId
		answers++
		if answer.DbSizeQuota == 0 {
			e.logger.Warn("this release of etcd, before 3.6, does not tell its quota: nothing warns before its space is used up, and none is kept for what takes something away", "member", endpoint)
		}
	}
	if answers == 0 {
		for _, endpoint := range e.config.Endpoints {
			switch err := e.handshake(ctx, endpoint); {
			case errors.Is(err, errTLS):
				return fmt.Errorf("etcd: %s: %w", endpoint, err)
			case err != nil:
				failed = errors.Join(failed, fmt.Errorf("etcd: %s: %w", endpoint, err))
			}
		}
		return fmt.Errorf("%w: %w", errSilent, failed)
	}
	e.measure(e.members(all))
	if failed != nil {
		e.logger.Warn("a member of the etcd cluster does not answer", "err", failed)
	}
	return nil
}

// A status is what a member says of itself, or why it does not.
type status struct {
	answer *clientv3.StatusResponse
	err    error
}

// statuses asks all members at once.
func (e *Engine) statuses(ctx context.Context) []status {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	out := make([]status, len(e.config.Endpoints))
	var wg sync.WaitGroup
	for i, endpoint := range e.config.Endpoints {
		wg.Go(func() { out[i].answer, out[i].err = e.client.Status(ctx, endpoint) })
	}
	wg.Wait()
	return out
}

// defaultOps is how many operations a cluster takes at once that was started without
// options, and enclosing how many there are around a transaction.
const defaultOps, enclosing = 128, 8

// learnLimits finds out whether the cluster takes as much at once as this program may have
// to write, and tells the operator if it does not.
func (e *Engine) learnLimits(ctx context.Context) error {
	e.maxOps = defaultOps
	var conditions []clientv3.Cmp
	for range store.MaxTxnOps + enclosing {
		conditions = append(conditions, clientv3.Compare(clientv3.ModRevision(e.prefix+headKey), "=", -1)) // never
	}
	_, err := e.client.Txn(ctx).If(conditions...).Commit()
	switch {
	case err == nil:
		e.maxOps = store.MaxTxnOps
	case errors.Is(err, rpctypes.ErrTooManyOps):
		e.logger.Warn("etcd takes few operations at once: changes of keys with many replicas, and of what has many parts, may be refused; its members should run with",
			"max-txn-ops", store.MaxTxnOps+enclosing, "max-request-bytes", 2*store.MaxTxnBytes)
		err = nil
	}
	return err
}

// NewLease is the lease of a new store.
func (e *Engine) NewLease() time.Duration { return e.config.Lease }

// MaxOps is how many operations the cluster takes at once.
func (e *Engine) MaxOps() int { return e.maxOps }

// Instance tells the owner of this node's name.
func (e *Engine) Instance() string { return e.config.Instance }

// Node is the name of this node.
func (e *Engine) Node() string { return e.config.Node }

// Err is nil unless the engine has stopped for good.
func (e *Engine) Err() error { return e.refusal() }

// refusal is why the engine has stopped.
func (e *Engine) refusal() error {
	if p := e.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// same checks that an answer is of the cluster that this node knows.
func (e *Engine) same(h *etcdserverpb.ResponseHeader) error {
	if h.ClusterId != e.cluster {
		return e.fail("its id is another one")
	}
	return nil
}

// fail stops the engine for good: what it knows is not what the cluster has.
func (e *Engine) fail(format string, args ...any) error {
	err := fmt.Errorf("etcd: %w: "+format, append([]any{store.ErrDamaged}, args...)...)
	if e.failed.CompareAndSwap(nil, &err) {
		e.logger.Error("the cluster is not the one that this node knew: nothing is served any more", "err", err)
	}
	return e.refusal()
}

// Size is how much space the cluster takes on one member, as far as is known, in bytes.
func (e *Engine) Size() int64 { return e.size.Load() }

// Full reports whether a member has used up nearly all of its quota, as far as is known.
func (e *Engine) Full() bool { return e.full.Load() }

// Close ends the watch, gives up the node's name and closes the connections.
// Once more does no harm.
func (e *Engine) Close() error {
	if e.ctx.Err() != nil {
		return nil
	}
	closed := store.ErrClosed
	e.failed.CompareAndSwap(nil, &closed)
	e.leave()
	e.stop()
	e.wg.Wait()
	return errors.Join(e.client.Close(), e.config.release())
}

func (c *Config) release() error {
	if c.Hold == nil {
		return nil
	}
	return c.Hold.Close()
}

// patiently calls fn until it succeeds or fails for good, each time with tryTimeout.
func (e *Engine) patiently(ctx context.Context, fn func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	for {
		if err := e.refusal(); err != nil {
			return err
		}
		try, end := context.WithTimeout(ctx, tryTimeout)
		err := fn(try)
		end()
		if err == nil || final(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd: %w", err)
		case <-e.ctx.Done():
			return store.ErrClosed
		case <-time.After(pause):
		}
	}
}

// final are errors that asking again does not mend.
func final(err error) bool {
	for _, f := range []error{errTaken, errAbandoned, store.ErrDamaged, store.ErrClosed, store.ErrConflict, store.ErrTooLarge, rpctypes.ErrCompacted, rpctypes.ErrFutureRev,
		rpctypes.ErrPermissionDenied, rpctypes.ErrAuthFailed, rpctypes.ErrUserEmpty, rpctypes.ErrTooManyOps, rpctypes.ErrRequestTooLarge, rpctypes.ErrNoSpace} {
		if errors.Is(err, f) {
			return true
		}
	}
	// gRPC has no error of its own for a message that the server does not take.
	return grpcstatus.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "larger than max")
}
