package server_test

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

// A flood by those who cannot sign: connections that say nothing, requests that are
// unsigned or signed wrongly, long bodies sent slowly. Who can sign is answered, on new
// connections and on old ones.
func TestFlood(t *testing.T) {
	s := mustOpen(t, server.Config{RootKeys: rootKeys})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	var serving, flood sync.WaitGroup
	serving.Go(func() {
		if err := front.Serve(ctx, []net.Listener{front.NewConnections(100).Listen(l)}, []http.Handler{s.Handler()}); err != nil {
			t.Error(err)
		}
	})
	defer func() {
		stop()
		flood.Wait()
		serving.Wait()
		closeServer(t, s)
	}()
	var refused atomic.Int64
	for range 150 {
		flood.Go(func() { silence(ctx, address) })
	}
	for i := range 40 {
		flood.Go(func() { lies(ctx, address, i%2 == 0, &refused) })
	}
	for range 80 { // more than may send long bodies at once
		flood.Go(func() { trickle(ctx, address) })
	}
	url := "http://" + address
	client := func(keepAlive bool) *kms.Client {
		transport := &http.Transport{DisableKeepAlives: !keepAlive}
		t.Cleanup(transport.CloseIdleConnections)
		return kms.New(kms.Options{BaseEndpoint: &url, Region: "us-east-1", HTTPClient: &http.Client{Transport: transport},
			Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")}) // tries three times, as everybody does
	}
	kept := client(true)
	key, err := kept.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	for n := 0; n < 60 || n < 2000 && refused.Load() == 0; n++ {
		for _, c := range []*kms.Client{kept, client(false)} {
			if _, err := c.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("x")}); err != nil {
				t.Fatalf("Encrypt in a flood: %v", err)
			}
		}
	}
	long := aws.String(string(bytes.Repeat([]byte(" "), 20_000)) + rootOnly)
	if _, err := client(false).PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key.KeyMetadata.KeyId, Policy: long}); err != nil {
		t.Errorf("a long body in a flood: %v", err)
	}
	if refused.Load() == 0 {
		t.Error("there was no flood")
	}
}

// anew is how long those wait whose connection was closed before they make another one: all at
// once, without a pause, would measure how quick this machine is, since a connection lasts for as
// long as it takes them to make a hundred others.
const anew = 50 * time.Millisecond

// silence holds connections and says nothing.
func silence(ctx context.Context, address string) {
	for ctx.Err() == nil {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			continue
		}
		closed := context.AfterFunc(ctx, func() { c.Close() })
		_, _ = c.Read(make([]byte, 1)) // until it is closed
		closed()
		c.Close()
		time.Sleep(anew)
	}
}

// lies sends requests with wrong signatures, or none, as fast as it can.
func lies(ctx context.Context, address string, sign bool, refused *atomic.Int64) {
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	body := []byte(`{"KeyId":"x"}`)
	for ctx.Err() == nil {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/", bytes.NewReader(body))
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "TrentService.DescribeKey")
		if sign {
			sigv4.Sign(r, body, "test", "wrong", "", "us-east-1", "kms", time.Now())
		}
		answer, err := transport.RoundTrip(r)
		if err != nil {
			time.Sleep(anew)
			continue
		}
		_, _ = io.Copy(io.Discard, answer.Body)
		answer.Body.Close()
		if answer.StatusCode == http.StatusBadRequest {
			refused.Add(1)
		}
	}
}

// trickle sends a long body a byte at a time.
func trickle(ctx context.Context, address string) {
	for ctx.Err() == nil {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			continue
		}
		_, err = io.WriteString(c, "POST / HTTP/1.1\r\nHost: kms\r\nX-Amz-Target: TrentService.Encrypt\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 1000000\r\n\r\n")
		for err == nil && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
			_, err = c.Write([]byte("x"))
		}
		c.Close()
		time.Sleep(anew)
	}
}
