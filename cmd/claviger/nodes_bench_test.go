package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/claviger/claviger/internal/sigv4"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

// BenchmarkNodes is an Encrypt over HTTP of a node that is alone, of one beside two others that
// nobody asks, and of three. All have core 0 together. The second figure tells what being one of
// several costs a node; in the third, processes that take turns on a core cost more. Whoever
// asks, and etcd, should have another core:
//
//	taskset -c 1 go test ./cmd/claviger -run '^$' -bench Nodes -benchtime 3s
func BenchmarkNodes(b *testing.B) {
	cluster := etcdtest.Start(b, 1)
	program, first := build(b), b.TempDir()
	var nodes []*process
	start := func(dir string) {
		cmd := exec.Command("taskset", "-c", "0", program, "serve", "--data", dir, "--store", "etcd://"+strings.TrimPrefix(cluster.Endpoints()[0], "http://"),
			"--node-name", fmt.Sprintf("n%d", len(nodes)+1), "--listen", "127.0.0.1:0", "--request-quotas", "off")
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		nodes = append(nodes, startProcess(b, cmd, dir))
		b.Cleanup(func() { etcdtest.Kill(cmd) })
	}
	start(first)
	client, _ := nodes[0].clients()
	key, err := client.CreateKey(b.Context(), &kms.CreateKeyInput{})
	if err != nil {
		b.Fatal(err)
	}
	body := `{"KeyId":"` + *key.KeyMetadata.KeyId + `","Plaintext":"` + strings.Repeat("A", 44) + `"}`
	b.Run("one", func(b *testing.B) { ask(b, nodes, body) })
	for _, name := range []string{"two", "three"} {
		dir := filepath.Join(b.TempDir(), name)
		if err := os.Mkdir(dir, 0o700); err != nil {
			b.Fatal(err)
		}
		copyFile(b, filepath.Join(first, "root.key"), filepath.Join(dir, "root.key"))
		copyFile(b, filepath.Join(first, "root-credentials"), filepath.Join(dir, "root-credentials"))
		start(dir)
	}
	b.Run("one of three", func(b *testing.B) { ask(b, nodes[:1], body) })
	b.Run("three", func(b *testing.B) { ask(b, nodes, body) })
}

// encrypt is a request of a node to Encrypt, signed for a moment.
func (p *process) encrypt(body string, at time.Time) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodPost, p.url+"/", nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService.Encrypt")
	r.ContentLength = int64(len(body))
	sigv4.Sign(r, []byte(body), p.id, p.secret, "", "us-east-1", "kms", at)
	return r, nil
}

// ask asks nodes in turn, over 16 connections.
func ask(b *testing.B, nodes []*process, body string) {
	const connections, signatures = 16, 50
	var signed []*http.Request
	for i := range signatures * len(nodes) {
		r, err := nodes[i%len(nodes)].encrypt(body, time.Now().Add(-time.Duration(i)*time.Second/3))
		if err != nil {
			b.Fatal(err)
		}
		signed = append(signed, r)
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for c := range connections {
		wg.Go(func() {
			for i := c; left.Add(-1) >= 0; i++ {
				r := *signed[i%len(signed)]
				r.Body = io.NopCloser(bytes.NewReader([]byte(body)))
				answer, err := nodes[i%len(nodes)].http.Do(&r)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, answer.Body)
				answer.Body.Close()
				if err != nil || answer.StatusCode != http.StatusOK {
					b.Errorf("%s, %v", answer.Status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
}
