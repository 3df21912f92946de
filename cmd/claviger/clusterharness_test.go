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

// hosts is how many there are in a test cluster: each has an etcd member and a node.
const hosts = 3

// A testCluster is hosts, each a network namespace. They reach each other by one bridge,
// and clients reach their nodes by another one, so that a host can be cut off from the others
// and still be asked.
type testCluster struct {
	t       *testing.T
	binary  string
	id      string // begins the names of all that is made
	members []etcdtest.Member
	etcd    [hosts]*exec.Cmd
	dirs    [hosts]string
	nodes   [hosts]*process
	args    []string // of every node
}

// startCluster starts the hosts. It needs the rights of root, and ip of iproute2.
func startCluster(t *testing.T, binary string, args ...string) *testCluster {
	t.Helper()
	c := &testCluster{t: t, binary: binary, id: fmt.Sprintf("clv%d", os.Getpid()%100000), args: args}
	dir := t.TempDir() // before the clean-up that ends who writes there
	t.Cleanup(c.stop)
	c.network()
	for i := range hosts {
		name := fmt.Sprintf("m%d", i+1)
		c.members = append(c.members, etcdtest.Member{Name: name, Dir: filepath.Join(dir, name), Client: fmt.Sprintf("http://%s:2379", c.data(i)), Peer: fmt.Sprintf("http://%s:2380", c.data(i))})
	}
	etcdtest.Join(c.members)
	for i := range hosts {
		c.startMember(i)
	}
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

// ip runs ip.
func (c *testCluster) ip(words string) {
	c.t.Helper()
	if out, err := exec.Command("ip", strings.Fields(words)...).CombinedOutput(); err != nil {
		c.t.Fatalf("ip %s: %v\n%s", words, err, out)
	}
}

// Addresses: of hosts to each other, and to clients.
func (c *testCluster) data(i int) string   { return fmt.Sprintf("10.213.1.%d", i+1) }
func (c *testCluster) client(i int) string { return fmt.Sprintf("10.213.2.%d", i+1) }
func (c *testCluster) host(i int) string   { return fmt.Sprintf("%sh%d", c.id, i+1) }

// network makes the namespaces and what connects them.
func (c *testCluster) network() {
	for _, bridge := range []string{"d", "c"} {
		c.ip(fmt.Sprintf("link add %s%s type bridge", c.id, bridge))
		c.ip(fmt.Sprintf("link set %s%s up", c.id, bridge))
	}
	c.ip(fmt.Sprintf("addr add 10.213.2.254/24 dev %sc", c.id))
	for i := range hosts {
		c.ip("netns add " + c.host(i))
		c.ip(fmt.Sprintf("-n %s link set lo up", c.host(i)))
		for bridge, address := range map[string]string{"d": c.data(i), "c": c.client(i)} {
			out, in := fmt.Sprintf("%s%s%d", c.id, bridge, i+1), "eth"+bridge
			c.ip(fmt.Sprintf("link add %s type veth peer name %s netns %s", out, in, c.host(i)))
			c.ip(fmt.Sprintf("link set %s master %s%s up", out, c.id, bridge))
			c.ip(fmt.Sprintf("-n %s addr add %s/24 dev %s", c.host(i), address, in))
			c.ip(fmt.Sprintf("-n %s link set %s up", c.host(i), in))
		}
	}
}

// cut takes a host from the others; mend brings it back.
func (c *testCluster) cut(i int)  { c.ip(fmt.Sprintf("link set %sd%d nomaster", c.id, i+1)) }
func (c *testCluster) mend(i int) { c.ip(fmt.Sprintf("link set %sd%d master %sd", c.id, i+1, c.id)) }

// slow lets a host say little to the others in a second.
func (c *testCluster) slow(i int) {
	c.tc("qdisc replace", i, " root tbf rate 256kbit burst 16kbit latency 2s")
}
func (c *testCluster) quick(i int) { c.tc("qdisc del", i, " root") }

func (c *testCluster) tc(what string, i int, how string) {
	words := strings.Fields(fmt.Sprintf("netns exec %s tc %s dev ethd%s", c.host(i), what, how))
	if out, err := exec.Command("ip", words...).CombinedOutput(); err != nil {
		c.t.Errorf("%v: %v\n%s", words, err, out)
	}
}

// command runs a program on a host.
func (c *testCluster) command(i int, name string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", c.host(i), name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (c *testCluster) startMember(i int) {
	c.t.Helper()
	text, err := json.Marshal(c.members[i])
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := c.command(i, os.Args[0])
	cmd.Env = append(os.Environ(), memberVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.etcd[i] = cmd
}

// store is the cluster as --store takes it, the member of the same host first.
func (c *testCluster) store(i int) string {
	var endpoints []string
	for j := range hosts {
		endpoints = append(endpoints, c.data((i+j)%hosts)+":2379")
	}
	return "etcd://" + strings.Join(endpoints, ",")
}

func (c *testCluster) startNode(i int) {
	c.t.Helper()
	args := append([]string{"serve", "--data", c.dirs[i], "--request-quotas", "off", "--store", c.store(i), "--insecure-plain-etcd", "--insecure-plain-http",
		"--node-name", fmt.Sprintf("n%d", i+1), "--listen", c.client(i) + ":5670"}, c.args...)
	c.nodes[i] = startProcess(c.t, c.command(i, c.binary, args...), c.dirs[i])
}

func kill(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(syscall.SIGCONT) // it may be stopped
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
}

func (c *testCluster) stop() {
	for i := range hosts {
		if c.nodes[i] != nil {
			kill(c.nodes[i].cmd)
		}
		if c.etcd[i] != nil {
			kill(c.etcd[i])
		}
		_ = exec.Command("ip", "netns", "del", c.host(i)).Run() // its links go with it
	}
	for _, bridge := range []string{"d", "c"} {
		_ = exec.Command("ip", "link", "del", c.id+bridge).Run()
	}
}

// startProcess starts a server, which keeps its credentials in dir, and waits until it is
// ready.
func startProcess(t *testing.T, cmd *exec.Cmd, dir string) *process {
	t.Helper()
	p := &process{cmd: cmd}
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
