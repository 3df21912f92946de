package main

import (
	"bufio"
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

// memberVariable makes a test program run an etcd member, which its value describes.
const memberVariable = "CLAVIGER_TEST_ETCD_MEMBER"

func runMember(text string) {
	var m etcdtest.Member
	err := json.Unmarshal([]byte(text), &m)
	if err == nil {
		_, err = m.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "member:", err)
		os.Exit(1)
	}
	select {} // until it is killed
}

// A testCluster is etcd members and nodes, each a process of its own.
type testCluster struct {
	t       *testing.T
	binary  string
	members []etcdtest.Member
	etcd    []*exec.Cmd
	dirs    []string
	nodes   []*process
	args    []string // of every node
}

// startCluster starts three members and as many nodes.
func startCluster(t *testing.T, binary string, nodes int, args ...string) *testCluster {
	t.Helper()
	members, err := etcdtest.Members(3, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &testCluster{t: t, binary: binary, members: members, etcd: make([]*exec.Cmd, 3), dirs: make([]string, nodes), nodes: make([]*process, nodes), args: args}
	t.Cleanup(c.stop)
	for i := range members {
		c.startMember(i)
	}
	for i := range nodes {
		c.dirs[i] = t.TempDir()
		if i > 0 {
			copyFile(t, filepath.Join(c.dirs[0], "root.key"), filepath.Join(c.dirs[i], "root.key"))
			copyFile(t, filepath.Join(c.dirs[0], "root-credentials"), filepath.Join(c.dirs[i], "root-credentials"))
		}
		c.startNode(i)
	}
	return c
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	text, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(to, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (c *testCluster) startMember(i int) {
	c.t.Helper()
	text, err := json.Marshal(c.members[i])
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), memberVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.etcd[i] = cmd
}

// endpoints are those of the members, as --store takes them.
func (c *testCluster) endpoints() string {
	var hosts []string
	for _, m := range c.members {
		hosts = append(hosts, strings.TrimPrefix(m.Client, "http://"))
	}
	return "etcd://" + strings.Join(hosts, ",")
}

// startNode starts a node, on the address that it had before.
func (c *testCluster) startNode(i int) {
	c.t.Helper()
	args := append([]string{"--store", c.endpoints(), "--node-name", fmt.Sprintf("n%d", i+1)}, c.args...)
	listen := "127.0.0.1:0"
	if c.nodes[i] != nil {
		listen = strings.TrimPrefix(c.nodes[i].url, "http://")
	}
	c.nodes[i] = startWith(c.t, c.binary, c.dirs[i], append(args, "--listen", listen)...)
}

func (c *testCluster) kill(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGCONT) // it may be stopped
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
}

func (c *testCluster) stop() {
	for _, n := range c.nodes {
		if n != nil {
			c.kill(n.cmd)
		}
	}
	for _, m := range c.etcd {
		if m != nil {
			c.kill(m)
		}
	}
}

// startWith starts a server on a data directory, with further arguments.
func startWith(t *testing.T, binary, dir string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, append([]string{"serve", "--data", dir, "--request-quotas", "off"}, args...)...)}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := p.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
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
		t.Fatalf("not ready: %q", seen)
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
	return p
}
