package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/claviger/claviger/internal/server/historytest"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

var (
	testTime        = flag.Duration("cluster-time", 15*time.Second, "for how long at least TestClusterRevocations runs")
	testRevocations = flag.Int("cluster-revocations", 100, "how many revocations at least it makes")
	testClients     = flag.Int("cluster-clients", 24, "how many clients revoke at the same time")
	testLease       = flag.String("cluster-lease", "1s", "the lease of the nodes")
	testSeed        = flag.Uint64("cluster-seed", 0, "of the faults; 0 draws one")
)

// A fault is something that happens to a cluster, and how it ends.
type fault struct {
	name  string
	begin func(c *testCluster, i int)
	end   func(c *testCluster, i int)
}

// The first two leave a majority of the members, and all nodes.
var faults = []fault{
	{"kill -9 of a member", func(c *testCluster, i int) { etcdtest.Kill(c.Etcd[i]) }, func(c *testCluster, i int) { c.StartMember(i) }},
	{"a member stands still", func(c *testCluster, i int) { c.Freeze(c.Etcd[i]) }, func(c *testCluster, i int) { c.Thaw(c.Etcd[i]) }},
	{"two members stand still", func(c *testCluster, i int) {
		c.Freeze(c.Etcd[i])
		c.Freeze(c.Etcd[(i+1)%hosts])
	}, func(c *testCluster, i int) {
		c.Thaw(c.Etcd[i])
		c.Thaw(c.Etcd[(i+1)%hosts])
	}},
	{"kill -9 of a node", func(c *testCluster, i int) { etcdtest.Kill(c.nodes[i].cmd) }, (*testCluster).startNode},
	{"a node stands still", func(c *testCluster, i int) { c.Freeze(c.nodes[i].cmd) }, func(c *testCluster, i int) { c.Thaw(c.nodes[i].cmd) }},
	{"a host is cut off", func(c *testCluster, i int) { c.Cut(i) }, func(c *testCluster, i int) { c.Mend(i) }},
	{"a host is not heard", func(c *testCluster, i int) { c.Mute(i) }, func(c *testCluster, i int) { c.Quicken(i) }},
	{"a host does not hear", func(c *testCluster, i int) { c.Deafen(i) }, func(c *testCluster, i int) { c.Undeafen(i) }},
	{"a host's network is slow", func(c *testCluster, i int) { c.Slow(i) }, func(c *testCluster, i int) { c.Quicken(i) }},
}

// torment lets faults happen, one after another, until ctx ends, and counts them.
func (c *testCluster) torment(ctx context.Context, seed uint64, of []fault) (count map[string]int) {
	rng := rand.New(rand.NewPCG(seed, 2))
	count = map[string]int{}
	wait := func(least, most time.Duration) {
		select {
		case <-ctx.Done():
		case <-time.After(least + time.Duration(rng.Int64N(int64(most-least)))):
		}
	}
	for ctx.Err() == nil {
		f, i := of[rng.IntN(len(of))], rng.IntN(hosts)
		count[f.name]++
		f.begin(c, i)
		wait(300*time.Millisecond, 4*time.Second)
		f.end(c, i)
		wait(time.Second, 3*time.Second)
	}
	return count
}

// node is the client's side of a node: its address does not change.
func (c *testCluster) node(i int, id, secret string) *kms.Client {
	return kms.New(kms.Options{BaseEndpoint: aws.String(c.url(i)), Region: "us-east-1",
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, ""), Retryer: aws.NopRetryer{}, HTTPClient: c.http()})
}

func (c *testCluster) http() *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	c.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// refusedAs tells a decision from no answer at all: an error that says why something is refused.
func refusedAs(err error, code string) bool {
	var api smithy.APIError
	return errors.As(err, &api) && api.ErrorCode() == code
}

// A revoker gives alice a grant and takes it again, over and over, each time by some node.
type revoker struct {
	c       *testCluster
	n       int
	key     atomic.Pointer[string]
	alice   string
	roots   [hosts]*kms.Client
	alices  [hosts]*kms.Client
	revoked atomic.Bool  // since revokedAt, and nobody gives it again yet
	turn    atomic.Int64 // grows when revoked changes
	tally   *tally
}

// A tally is what all revokers saw.
type tally struct {
	revocations, checks, uses, refusals atomic.Int64

	mu    sync.Mutex // guards both
	stale []string
	took  []time.Duration // revocations without an error
}

func (t *tally) wrong(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.stale = append(t.stale, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
	if len(t.stale) < 20 {
		fmt.Fprintln(os.Stderr, t.stale[len(t.stale)-1]) // the test may go on for long
	}
}

func (t *tally) found() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.stale)
}

// every calls fn again and again until stop is called.
func every(d time.Duration, fn func()) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(d):
				fn()
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// unsent reports whether an error means that nobody was asked.
func unsent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// renew takes another key: a grant for which no answer came may be made at any time still.
func (r *revoker) renew(ctx context.Context, rng *rand.Rand) bool {
	return r.some(ctx, rng, func(node int) bool {
		out, err := r.roots[node].CreateKey(ctx, &kms.CreateKeyInput{})
		if err == nil {
			r.key.Store(out.KeyMetadata.KeyId)
		}
		return err == nil
	})
}

// some calls fn with one node after another until it says that it has an answer.
func (r *revoker) some(ctx context.Context, rng *rand.Rand, fn func(node int) bool) bool {
	for ctx.Err() == nil {
		if fn(rng.IntN(hosts)) {
			return true
		}
		r.tally.refusals.Add(1)
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

func (r *revoker) use(ctx context.Context, node int) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	_, err := r.alices[node].Encrypt(ctx, &kms.EncryptInput{KeyId: r.key.Load(), Plaintext: []byte("x")})
	return err
}

// run revokes until ctx ends and enough is revoked.
func (r *revoker) run(ctx context.Context, enough func() bool) {
	rng := rand.New(rand.NewPCG(uint64(r.n), 3))
	for round := 0; !enough(); round++ {
		var grant string
		if !r.some(ctx, rng, func(node int) bool {
			out, err := r.roots[node].CreateGrant(ctx, &kms.CreateGrantInput{KeyId: r.key.Load(), GranteePrincipal: &r.alice,
				Operations: []types.GrantOperation{"Encrypt"}, Name: aws.String(fmt.Sprintf("grant-%d-%d", r.n, round))})
			if err != nil {
				if !unsent(err) {
					r.renew(ctx, rng)
				}
				return false
			}
			grant = *out.GrantId
			return true
		}) {
			return
		}
		if !r.some(ctx, rng, func(node int) bool {
			err := r.use(ctx, node)
			if refusedAs(err, "AccessDeniedException") {
				r.tally.wrong("revoker %d: node %d refuses what was granted before", r.n, node+1)
			}
			return err == nil
		}) {
			return
		}
		if !r.some(ctx, rng, func(node int) bool {
			begin := time.Now()
			_, err := r.roots[node].RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: r.key.Load(), GrantId: &grant})
			if err == nil {
				r.tally.mu.Lock()
				r.tally.took = append(r.tally.took, time.Since(begin))
				r.tally.mu.Unlock()
			}
			return err == nil || refusedAs(err, "NotFoundException") // an earlier attempt did it
		}) {
			return
		}
		r.turn.Add(1)
		r.revoked.Store(true)
		r.tally.revocations.Add(1)
		var all sync.WaitGroup
		for node := range hosts {
			all.Go(func() {
				switch err := r.use(ctx, node); {
				case err == nil:
					r.tally.wrong("revoker %d: node %d allows what was revoked before", r.n, node+1)
				case refusedAs(err, "AccessDeniedException"):
					r.tally.checks.Add(1)
				default:
					r.tally.refusals.Add(1)
				}
			})
		}
		all.Wait()
		r.revoked.Store(false)
		r.turn.Add(1)
	}
}

// watch uses the key all the time: what begins and ends while the grant is revoked is denied.
func (r *revoker) watch(ctx context.Context) {
	rng := rand.New(rand.NewPCG(uint64(r.n), 4))
	for ctx.Err() == nil {
		turn, revoked, node := r.turn.Load(), r.revoked.Load(), rng.IntN(hosts)
		err := r.use(ctx, node)
		r.tally.uses.Add(1)
		if err == nil && revoked && r.turn.Load() == turn {
			r.tally.wrong("watcher %d: node %d allows what was revoked before", r.n, node+1)
		}
		if err != nil && !refusedAs(err, "AccessDeniedException") {
			time.Sleep(5 * time.Millisecond)
		}
	}
}

// TestClusterRevocations takes grants away on nodes of a cluster to which everything
// happens that happens to clusters. What was taken away on one node is refused on all of
// them from then on; what was acknowledged is there in the end.
func TestClusterRevocations(t *testing.T) {
	c := startCluster(t, build(t), "--lease", *testLease)
	seed := *testSeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-cluster-seed %d", seed)
	root := c.nodes[0]
	ctx := t.Context()
	user, secret := c.user(ctx, "alice")
	var sum tally
	var revokers []*revoker
	for n := range *testClients {
		r := &revoker{c: c, n: n, alice: user, tally: &sum}
		for i := range hosts {
			r.roots[i], r.alices[i] = c.node(i, root.id, root.secret), c.node(i, secret.id, secret.secret)
		}
		if !r.renew(ctx, rand.New(rand.NewPCG(uint64(n), 5))) {
			t.Fatal(ctx.Err())
		}
		revokers = append(revokers, r)
	}
	begin := time.Now()
	enough := func() bool {
		return time.Since(begin) > *testTime && sum.revocations.Load() >= int64(*testRevocations)
	}
	watching, stopWatching := context.WithCancel(ctx)
	var work, watchers sync.WaitGroup
	for _, r := range revokers {
		work.Go(func() { r.run(ctx, enough) })
		if r.n < 6 {
			watchers.Go(func() { r.watch(watching) })
		}
	}
	tormenting, stopTormenting := context.WithCancel(ctx)
	counts := make(chan map[string]int, 1)
	go func() {
		defer close(counts) // also when a node could not be started again
		counts <- c.torment(tormenting, seed, faults)
	}()
	stopTelling := every(time.Minute, func() {
		t.Logf("%d revocations, %d refusals checked, %d stale answers", sum.revocations.Load(), sum.checks.Load(), sum.found())
	})
	work.Wait()
	stopTelling()
	stopTormenting()
	happened := <-counts
	stopWatching()
	watchers.Wait()
	for _, s := range sum.stale {
		t.Error(s)
	}
	slices.Sort(sum.took)
	t.Logf("%d revocations in %v, at the median in %v; %d refusals checked, %d uses meanwhile, %d questions without an answer; %v",
		sum.revocations.Load(), time.Since(begin).Round(time.Second), sum.took[len(sum.took)/2].Round(time.Millisecond), sum.checks.Load(), sum.uses.Load(), sum.refusals.Load(), happened)
	c.settled(ctx, revokers)
}

// settled checks that all nodes come back by themselves, and that none has a grant that was
// taken away.
func (c *testCluster) settled(ctx context.Context, revokers []*revoker) {
	c.t.Helper()
	for i := range hosts {
		deadline := time.Now().Add(30 * time.Second)
		for {
			answer, err := c.http().Get(c.url(i) + "/readyz")
			if err == nil {
				answer.Body.Close()
			}
			if err == nil && answer.StatusCode == http.StatusOK {
				break
			}
			if time.Now().After(deadline) {
				c.t.Fatalf("node %d is not ready 30 s after the last fault: %v", i+1, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
		for _, r := range revokers {
			out, err := r.roots[i].ListGrants(ctx, &kms.ListGrantsInput{KeyId: r.key.Load()})
			if err != nil {
				c.t.Error(err)
			} else if len(out.Grants) > 0 {
				c.t.Errorf("node %d has %d grants that were taken away", i+1, len(out.Grants))
			}
		}
	}
}

// user makes a user with an access key.
func (c *testCluster) user(ctx context.Context, name string) (arn string, keys struct{ id, secret string }) {
	c.t.Helper()
	p := c.nodes[0]
	client := iam.New(iam.Options{BaseEndpoint: &p.url, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(p.id, p.secret, ""), HTTPClient: p.http})
	u, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: &name})
	if err != nil {
		c.t.Fatal(err)
	}
	k, err := client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		c.t.Fatal(err)
	}
	keys.id, keys.secret = *k.AccessKey.AccessKeyId, *k.AccessKey.SecretAccessKey
	return *u.User.Arn, keys
}

// TestClusterLinearizable: the histories of clients that ask any node are those of one
// server, while members come and go.
func TestClusterLinearizable(t *testing.T) {
	binary := build(t)
	for _, p := range historytest.Plots {
		t.Run(p.Name, func(t *testing.T) {
			c := startCluster(t, binary, "--lease", "150ms")
			var servers []historytest.Server
			for i, n := range c.nodes {
				servers = append(servers, historytest.Server{URL: c.url(i), AccessKeyID: n.id, SecretAccessKey: n.secret, Account: "111122223333", Client: c.http()})
			}
			s := historytest.New(t, p, servers...)
			ctx, stop := context.WithCancel(t.Context())
			counts := make(chan map[string]int, 1)
			go func() {
				defer close(counts)
				counts <- c.torment(ctx, rand.Uint64(), faults)
			}()
			history := s.Run(600)
			stop()
			if result := historytest.Check(t, p, history); result != porcupine.Ok {
				t.Errorf("the history is %s", result)
			}
			t.Logf("%d changes without an answer; %v", s.Open(), <-counts)
		})
	}
}
