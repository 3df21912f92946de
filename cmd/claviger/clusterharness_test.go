package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

// hosts is how many there are in a test cluster: each has an etcd member and a node.
const hosts = 3

// A testCluster is hosts with nodes.
type testCluster struct {
	*etcdtest.Hosts
	t      *testing.T
	binary string
	dirs   [hosts]string
	nodes  [hosts]*process
	args   []string // of every node
	own    bool     // each node asks the member of its host alone
}

// startCluster starts the hosts and their nodes.
func startCluster(t *testing.T, binary string, args ...string) *testCluster {
	t.Helper()
	return (&testCluster{t: t, binary: binary, args: args}).start()
}

func (c *testCluster) start() *testCluster {
	t := c.t
	t.Helper()
	c.Hosts = etcdtest.StartHosts(t, hosts)
	t.Cleanup(func() {
		for _, n := range c.nodes {
			if n != nil {
				etcdtest.Kill(n.cmd)
			}
		}
	})
	for i := range hosts {
		c.dirs[i] = t.TempDir()
		if i > 0 {
			copyFile(t, filepath.Join(c.dirs[0], "root.key"), filepath.Join(c.dirs[i], "root.key"))
			copyFile(t, filepath.Join(c.dirs[0], "root-credentials"), filepath.Join(c.dirs[i], "root-credentials"))
		}
		c.startNode(i)
	}
	return c
}

func copyFile(t testing.TB, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// store is the cluster as --store takes it, the member of the same host first.
func (c *testCluster) store(i int) string {
	endpoints := c.Endpoints(i)
	if c.own {
		endpoints = endpoints[:1]
	}
	return "etcd://" + strings.ReplaceAll(strings.Join(endpoints, ","), "http://", "")
}

// url is where a node listens.
func (c *testCluster) url(i int) string { return "http://" + c.Address(i) + ":5670" }

func (c *testCluster) startNode(i int) {
	c.t.Helper()
	args := append([]string{"serve", "--data", c.dirs[i], "--request-quotas", "off", "--store", c.store(i), "--insecure-plain-etcd", "--insecure-plain-http",
		"--node-name", fmt.Sprintf("n%d", i+1), "--listen", c.Address(i) + ":5670"}, c.args...)
	var err error
	for range 3 { // one that finds no majority gives up, and is started again, as systemd does
		if c.nodes[i], err = tryProcess(c.t, c.Command(i, c.binary, args...), c.dirs[i]); err == nil {
			return
		}
		c.t.Log(err)
	}
	c.t.Fatal(err)
}

// startProcess starts a server, which keeps its credentials in dir, and waits until it is
// ready.
func startProcess(t testing.TB, cmd *exec.Cmd, dir string) *process {
	t.Helper()
	p, err := tryProcess(t, cmd, dir)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func tryProcess(t testing.TB, cmd *exec.Cmd, dir string) (*process, error) {
	t.Helper()
	p := &process{cmd: cmd}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(stderr)
	var seen []string
	for p.url == "" && lines.Scan() {
		seen = append(seen, lines.Text())
		if url, ok := strings.CutPrefix(lines.Text(), "claviger: ready on "); ok {
			p.url = url
		}
	}
	if p.url == "" {
		_ = p.cmd.Wait() // it has said why
		return nil, fmt.Errorf("not ready: %q", seen)
	}
	go func() {
		for lines.Scan() {
			if os.Getenv("CLAVIGER_TEST_LOGS") != "" {
				fmt.Fprintln(os.Stderr, time.Now().Format("05.000"), lines.Text())
			}
		}
	}()
	p.id, p.secret = rootCredentials(t, dir)
	p.client(t)
	return p, nil
}
