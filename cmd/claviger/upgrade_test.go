package main

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

var testUpgradeFrom = flag.String("upgrade-from", "", "the program that TestRollingUpgrade replaces, and goes back to; empty: the present one")

// A balancer sends requests to the nodes of which it knows that they are ready; when none is,
// they wait. It asks the nodes a few times a second, and does not send anything twice.
type balancer struct {
	c     *testCluster
	ready [hosts]atomic.Bool
	next  atomic.Int64
}

func (b *balancer) watch(ctx context.Context) {
	client := &http.Client{Timeout: time.Second}
	var wg sync.WaitGroup
	for i := range hosts {
		wg.Go(func() {
			for ctx.Err() == nil {
				answer, err := client.Get(b.c.url(i) + "/readyz")
				if err == nil {
					answer.Body.Close()
				}
				b.ready[i].Store(err == nil && answer.StatusCode == http.StatusOK)
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	client.CloseIdleConnections()
}

// await waits until the balancer knows a node to be ready.
func (b *balancer) await(t *testing.T, i int) {
	t.Helper()
	for begin := time.Now(); !b.ready[i].Load(); time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("node %d is not ready", i+1)
		}
	}
}

func (b *balancer) rewrite(r *httputil.ProxyRequest) {
	i := int(b.next.Add(1) % hosts)
	for n := 1; !b.ready[i].Load() && r.In.Context().Err() == nil; n++ {
		if i = (i + 1) % hosts; n%hosts == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	target, _ := url.Parse(b.c.url(i)) // it is one
	r.SetURL(target)
	r.Out.Host = r.In.Host // which is signed
}

// TestRollingUpgrade: while clients work, one node after the other is stopped and started as
// another release, and then as the first one again. Nobody is refused anything, nor asks twice.
func TestRollingUpgrade(t *testing.T) {
	to := build(t)
	from := to
	if *testUpgradeFrom != "" {
		from = *testUpgradeFrom
	}
	c := startCluster(t, from, "--drain-delay", "3s")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	b := &balancer{c: c}
	var work, watching sync.WaitGroup
	finish := func() {
		stop()
		work.Wait()
		watching.Wait()
	}
	defer finish() // also when a node does not come back
	watching.Go(func() { b.watch(ctx) })
	for i := range hosts {
		b.await(t, i)
	}
	door := httptest.NewServer(&httputil.ReverseProxy{Rewrite: b.rewrite})
	defer door.Close()
	root := c.nodes[0]
	client := kms.New(kms.Options{BaseEndpoint: &door.URL, Region: "us-east-1", HTTPClient: c.http(), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(root.id, root.secret, "")})
	var done atomic.Int64
	for n := range 4 {
		work.Go(func() {
			for round := 0; ctx.Err() == nil; round++ {
				if err := useOnce(context.WithoutCancel(ctx), client, fmt.Sprintf("%d-%d", n, round)); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	for _, binary := range []string{to, from} {
		c.binary = binary
		for i := range hosts {
			if err := c.nodes[i].cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			if err := c.nodes[i].cmd.Wait(); err != nil {
				t.Errorf("node %d: SIGTERM: %v", i+1, err)
			}
			c.startNode(i)
			b.await(t, i)
		}
	}
	finish()
	t.Logf("%d rounds of requests while six nodes were replaced", done.Load())
	if done.Load() < 10 {
		t.Error("that is too few")
	}
}

// useOnce makes a key, gives it to somebody, takes it back, uses and disables it.
func useOnce(ctx context.Context, client *kms.Client, name string) error {
	key, err := client.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		return err
	}
	id := key.KeyMetadata.KeyId
	for range 50 {
		time.Sleep(10 * time.Millisecond) // the nodes have two cores, or fewer
		sealed, err := client.Encrypt(ctx, &kms.EncryptInput{KeyId: id, Plaintext: []byte(name)})
		if err != nil {
			return err
		}
		if _, err := client.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil {
			return err
		}
	}
	grant, err := client.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: id, GranteePrincipal: aws.String("arn:aws:iam::111122223333:root"), Operations: []types.GrantOperation{"Encrypt"}})
	if err != nil {
		return err
	}
	if _, err := client.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: id, GrantId: grant.GrantId}); err != nil {
		return err
	}
	_, err = client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: id})
	return err
}
