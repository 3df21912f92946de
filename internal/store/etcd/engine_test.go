package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"

	"github.com/claviger/claviger/internal/durable/disktest"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

var quiet = slog.New(slog.DiscardHandler)

func open(t *testing.T, endpoints []string, node string) *Engine {
	t.Helper()
	e, err := Open(t.Context(), Config{Endpoints: endpoints, Prefix: "/p/", Node: node, Instance: node, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	if err := e.Join(t.Context()); err != nil {
		t.Fatal(err)
	}
	return e
}

func put(t *testing.T, e store.Engine, key, value string) store.Rev {
	t.Helper()
	rev, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: key, Val: []byte(value)}}})
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func value(t *testing.T, e store.Engine, key string) string {
	t.Helper()
	items, _, err := e.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(items[0].Val)
}

// A node whose watch was away while the cluster forgot what happened starts from what there
// is, and says so to who watches.
func TestForgottenHistory(t *testing.T) {
	c := etcdtest.Start(t, 1)
	a, b := open(t, c.Endpoints(), "a"), open(t, c.Endpoints(), "b")
	missed := make(chan store.Rev, 1)
	a.Missed(func(_ context.Context, rev store.Rev) error {
		missed <- rev
		return nil
	})
	put(t, b, "k", "1")
	if err := a.Reach(t.Context()); err != nil || value(t, a, "k") != "1" {
		t.Fatalf("a reads %q, %v", value(t, a, "k"), err)
	}
	a.view.mu.Lock() // until the lock is free the node begins no other watch
	a.view.again()
	var last store.Rev
	for i := range 20 {
		last = put(t, b, "k", strconv.Itoa(i))
	}
	_, err := b.client.Compact(t.Context(), int64(last))
	a.view.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	select {
	case rev := <-missed:
		if rev < last {
			t.Errorf("started from %d, and %d was committed", rev, last)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nobody was told that commits were missed")
	}
	if err := a.Reach(t.Context()); err != nil || value(t, a, "k") != "19" {
		t.Errorf("a reads %q, %v", value(t, a, "k"), err)
	}
}

// Reads go on when others have written, and compacted, what is between the last commit and
// now.
func TestCompactedInstant(t *testing.T) {
	c := etcdtest.Start(t, 1)
	e := open(t, c.Endpoints(), "a")
	put(t, e, "k", "1")
	var rev int64
	for range 10 {
		r, err := e.client.Put(t.Context(), "/other/program", "x")
		if err != nil {
			t.Fatal(err)
		}
		rev = r.Header.Revision
	}
	if _, err := e.client.Compact(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	if got := value(t, e, "k"); got != "1" {
		t.Errorf("reads %q", got)
	}
}

// A cluster whose space is used up refuses changes in a sentence, and goes on with reads.
func TestQuota(t *testing.T) {
	c := etcdtest.StartWith(t, 1, func(m *etcdtest.Member) { m.Quota = 4 << 20 })
	e := open(t, c.Endpoints(), "a")
	put(t, e, "k", "1")
	var err error
	for i := 0; err == nil && i < 100; i++ {
		_, err = e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: fmt.Sprint(i), Val: make([]byte, 200<<10)}}})
	}
	if err == nil || errors.Is(err, store.ErrUnknown) || !strings.Contains(err.Error(), "space is used up") {
		t.Errorf("a full cluster: %v", err)
	}
	if err := e.Reach(t.Context()); err != nil || value(t, e, "k") != "1" {
		t.Errorf("reads of a full cluster: %v", err)
	}
	h, err := e.Health(t.Context())
	if alarms := strings.Join(h.Alarms(), "; "); err != nil || !strings.Contains(alarms, "of its quota") || !strings.Contains(alarms, "NOSPACE") {
		t.Errorf("alarms: %s, %v", alarms, err)
	}
	if e.measure(h.Members); !e.Full() {
		t.Error("the last space is not kept")
	}
}

// A member whose disk is full stops. The others go on without it, and when there is space
// again it catches up.
func TestFullDisk(t *testing.T) {
	disk := disktest.Mount(t, "160m") // of which etcd takes 128 MB before it has written anything
	h := etcdtest.StartHosts(t, 3)
	e := open(t, h.Endpoints(0)[1:], "a")
	put(t, e, "k", "1")
	etcdtest.Kill(h.Etcd[0])
	if err := os.CopyFS(filepath.Join(disk, "member"), os.DirFS(filepath.Join(h.Members[0].Dir, "member"))); err != nil {
		t.Fatal(err)
	}
	h.Members[0].Dir = disk
	h.StartMember(0)
	gone := make(chan error, 1)
	go func() { gone <- h.Etcd[0].Wait() }()
	begin := time.Now()
	for n := 0; ; n++ {
		put(t, e, fmt.Sprint("k", n%50), strings.Repeat(fmt.Sprint(n), 50_000))
		select {
		case <-gone:
		default:
			if time.Since(begin) > 2*time.Minute {
				t.Fatal("the member does not mind that its disk is full")
			}
			continue
		}
		break
	}
	put(t, e, "k", "2")
	disktest.Resize(t, disk, "1g")
	h.StartMember(0)
	var alone *Engine
	for begin := time.Now(); alone == nil; time.Sleep(100 * time.Millisecond) { // it may take a while
		var err error
		if alone, err = Open(t.Context(), Config{Endpoints: h.Endpoints(0)[:1], Prefix: "/p/", Node: "b", Instance: "b", Logger: quiet}); err != nil && time.Since(begin) > 2*time.Minute {
			t.Fatal(err)
		}
	}
	defer alone.Close()
	if err := alone.Reach(t.Context()); err != nil || value(t, alone, "k") != "2" {
		t.Errorf("the member that had no space has k = %q, %v", value(t, alone, "k"), err)
	}
}

// A member that was put back to an earlier state stops the nodes that know better.
func TestMemberFromTheRuins(t *testing.T) {
	c := etcdtest.Start(t, 1)
	e := open(t, c.Endpoints(), "a")
	put(t, e, "k", "1")
	c.Stop(0)
	earlier := t.TempDir()
	if err := os.CopyFS(earlier, os.DirFS(c.Members[0].Dir)); err != nil {
		t.Fatal(err)
	}
	c.Run(t, 0)
	c.Wait(t, 0)
	put(t, e, "k", "2")
	c.Stop(0)
	if err := os.RemoveAll(c.Members[0].Dir); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(c.Members[0].Dir, os.DirFS(earlier)); err != nil {
		t.Fatal(err)
	}
	c.Run(t, 0)
	c.Wait(t, 0)
	var err error
	for begin := time.Now(); err == nil || !errors.Is(err, store.ErrDamaged); {
		if err = e.Reach(t.Context()); time.Since(begin) > 30*time.Second {
			break
		}
	}
	if !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Reach = %v, want ErrDamaged", err)
	}
	if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "x", Val: []byte("x")}}}); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Commit = %v, want ErrDamaged", err)
	}
	if _, _, err := e.Get(t.Context(), "k"); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Get = %v, want ErrDamaged", err)
	}
}

// Of two processes that are the same node the earlier one notices.
func TestTwoOfOneName(t *testing.T) {
	c := etcdtest.Start(t, 1)
	a := open(t, c.Endpoints(), "a")
	put(t, a, "k", "1")
	other, err := Open(t.Context(), Config{Endpoints: c.Endpoints(), Prefix: "/p/", Node: "a", Instance: "another", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if got := value(t, other, "k"); got != "1" {
		t.Errorf("an onlooker reads %q", got)
	}
	if err := other.Join(t.Context()); !errors.Is(err, errTaken) {
		t.Errorf("Join with a name that is taken = %v", err)
	}
	put(t, a, "k", "1")                  // who looked on has taken nothing
	again := open(t, c.Endpoints(), "a") // the same directory, copied
	put(t, again, "k", "2")
	if _, err := a.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "k", Val: []byte("3")}}}); err == nil || !strings.Contains(err.Error(), "another process writes") {
		t.Errorf("Commit of the earlier process = %v", err)
	}
	if got := value(t, again, "k"); got != "2" {
		t.Errorf("k is %q", got)
	}
}

// What somebody changes in the cluster is found.
func TestTampering(t *testing.T) {
	c := etcdtest.Start(t, 1)
	e := open(t, c.Endpoints(), "a")
	hash := func(key string, _ store.Rev, val []byte) store.Digest {
		d := store.Digest{uint64(len(key)), uint64(len(val))}
		for i, b := range val {
			d[2] += uint64(b) << (i % 8)
		}
		return d
	}
	e.Protect(hash, true)
	other := open(t, c.Endpoints(), "b")
	other.Protect(hash, false)
	for i := range 20 {
		put(t, []*Engine{e, other}[i%2], fmt.Sprint("k", i%5), fmt.Sprint("value ", i))
	}
	if _, err := other.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "k1"}}}); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(e.Reach(t.Context()), e.Verify(t.Context())); err != nil {
		t.Fatal(err)
	}
	if _, err := e.client.Put(t.Context(), "/p/r/k3", "value 8"); err != nil { // what it was once
		t.Fatal(err)
	}
	if err := errors.Join(other.Reach(t.Context()), other.Verify(t.Context())); !errors.Is(err, store.ErrDamaged) {
		t.Errorf("Verify = %v, want ErrDamaged", err)
	}
}

// A transaction of more than the cluster takes at once is refused, one of 100 parts is not.
func TestOperationsAtOnce(t *testing.T) {
	e := open(t, etcdtest.Start(t, 1).Endpoints(), "a")
	of := func(n int) (t store.Txn) {
		for i := range n {
			t.Do = append(t.Do, store.Item{Key: fmt.Sprint(i), Val: []byte("x")})
		}
		return t
	}
	if _, err := e.Commit(t.Context(), of(100)); err != nil {
		t.Error(err)
	}
	if _, err := e.Commit(t.Context(), of(200)); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("200 operations: %v, want ErrTooLarge", err)
	}
	if _, err := e.Commit(t.Context(), store.Txn{Do: []store.Item{{Key: "x", Val: make([]byte, 3<<20)}}}); !errors.Is(err, store.ErrTooLarge) {
		t.Errorf("3 MB: %v, want ErrTooLarge", err)
	}
	put(t, e, "k", "1")
}

// What nobody waits for any more is not committed, and holds nobody up.
func TestAbandoned(t *testing.T) {
	e := open(t, etcdtest.Start(t, 1).Endpoints(), "a")
	gone, leave := context.WithCancel(t.Context())
	leave()
	e.turns.commitMu.Lock() // until all are in the queue
	var wg sync.WaitGroup
	for i, ctx := range []context.Context{t.Context(), gone, t.Context()} {
		wg.Go(func() {
			_, err := e.Commit(ctx, store.Txn{Do: []store.Item{{Key: fmt.Sprint(i), Val: []byte("x")}}})
			if want := ctx.Err(); !errors.Is(err, want) || errors.Is(err, store.ErrUnknown) {
				t.Errorf("Commit %d = %v, want %v", i, err, want)
			}
		})
	}
	for queued := 0; queued < 3; time.Sleep(time.Millisecond) {
		e.turns.queueMu.Lock()
		queued = len(e.turns.queue)
		e.turns.queueMu.Unlock()
	}
	e.turns.commitMu.Unlock()
	wg.Wait()
	if got := value(t, e, "0") + value(t, e, "1") + value(t, e, "2"); got != "xx" {
		t.Errorf("there is %q, want what two have written", got)
	}
}

// A member that has lost the others says so at once to whoever can still ask it, so that they ask
// another one.
func TestMemberWithoutLeader(t *testing.T) {
	h := etcdtest.StartHosts(t, 3)
	e := open(t, h.Endpoints(2)[:1], "a")
	h.Cut(2)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	var err error
	for ctx.Err() == nil && !errors.Is(err, rpctypes.ErrNoLeader) { // it takes it some moments to know
		err = e.Reach(ctx)
	}
	if !errors.Is(err, rpctypes.ErrNoLeader) {
		t.Fatalf("Reach by a member that is cut off = %v", err)
	}
	h.Mend(2)
	put(t, e, "k", "1")
}

// Whatever happens to the members, of every commit it is known in the end whether it took
// effect: a counter has as many as were acknowledged.
func TestLostAnswers(t *testing.T) {
	h := etcdtest.StartHosts(t, 3)
	e := open(t, h.Endpoints(0), "a")
	ctx, stop := context.WithTimeout(t.Context(), 15*time.Second)
	defer stop()
	var wg sync.WaitGroup
	acked, unknown := make([]int, 4), make([]int, 4)
	for w := range 4 {
		wg.Go(func() {
			key, n := fmt.Sprint("counter", w), 0
			var rev store.Rev
			for ctx.Err() == nil {
				at, err := e.Commit(ctx, store.Txn{If: []store.Item{{Key: key, Rev: rev}}, Do: []store.Item{{Key: key, Val: []byte(strconv.Itoa(n + 1))}}})
				switch {
				case err == nil:
					n, rev = n+1, at
					acked[w]++
				case errors.Is(err, store.ErrConflict):
					t.Errorf("%s: somebody else has written it", key)
					return
				case errors.Is(err, store.ErrUnknown):
					unknown[w]++
					items, _, err := e.Get(t.Context(), key)
					if err == nil {
						n, _ = strconv.Atoi(string(items[0].Val))
						rev = items[0].Rev
					}
				}
			}
		})
	}
	for ctx.Err() == nil {
		i := rand.IntN(3)
		switch rand.IntN(3) {
		case 0:
			etcdtest.Kill(h.Etcd[i])
			wait(ctx, 300*time.Millisecond)
			h.StartMember(i)
		case 1:
			h.Freeze(h.Etcd[i])
			wait(ctx, 1500*time.Millisecond)
			h.Thaw(h.Etcd[i])
		case 2:
			h.Cut(i)
			wait(ctx, 1500*time.Millisecond)
			h.Mend(i)
		}
		wait(ctx, 700*time.Millisecond)
	}
	wg.Wait()
	time.Sleep(2 * time.Second)
	if err := e.Reach(t.Context()); err != nil {
		t.Fatal(err)
	}
	for w := range 4 {
		n, _ := strconv.Atoi(value(t, e, fmt.Sprint("counter", w)))
		t.Logf("%d commits acknowledged, %d of unknown outcome, the counter is %d", acked[w], unknown[w], n)
		if n < acked[w] || n > acked[w]+unknown[w] || acked[w] < 50 {
			t.Error("that is not as it should be")
		}
	}
}

// oldServer is a member of a version that is not relied on.
type oldServer struct {
	etcdserverpb.UnimplementedMaintenanceServer
}

func (oldServer) Status(context.Context, *etcdserverpb.StatusRequest) (*etcdserverpb.StatusResponse, error) {
	return &etcdserverpb.StatusResponse{Header: &etcdserverpb.ResponseHeader{ClusterId: 1}, Version: "3.5.12"}, nil
}

func TestOldServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	etcdserverpb.RegisterMaintenanceServer(s, oldServer{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Serve(l) })
	defer wg.Wait()
	defer s.Stop()
	_, err = Open(t.Context(), Config{Endpoints: []string{"http://" + l.Addr().String()}, Prefix: "/p/", Node: "a", Instance: "a", Logger: quiet})
	if err == nil || !strings.Contains(err.Error(), "runs version 3.5.12, and the oldest that this program relies on is 3.5.13") {
		t.Errorf("Open = %v", err)
	}
}
