package etcdtest

import (
	"encoding/json/v2"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// memberVariable makes a test program run an etcd member, which its value describes.
const memberVariable = "CLAVIGER_TEST_ETCD_MEMBER"

// RunMember runs a member if Hosts has started this process for that, and does not return
// then. A TestMain calls it first.
func RunMember() {
	text := os.Getenv(memberVariable)
	if text == "" {
		return
	}
	var m Member
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

// Main is a program that runs the one member of a cluster: etcdmember DIR CLIENT PEER, the
// latter two HOST:PORT.
func Main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: etcdmember DIR CLIENT PEER")
		os.Exit(2)
	}
	m := []Member{{Name: "m1", Dir: os.Args[1], Client: "http://" + os.Args[2], Peer: "http://" + os.Args[3], Ops: 8192, Bytes: 16 << 20}}
	Join(m)
	if _, err := m[0].Start(); err != nil {
		fmt.Fprintln(os.Stderr, "etcdmember:", err)
		os.Exit(1)
	}
	select {} // until it is killed
}

// Hosts are network namespaces, each with an etcd member that is a process of its own. They
// reach each other by one bridge, and the test reaches them by another one, so that a host
// can be cut off from the others and still be asked.
type Hosts struct {
	Members []Member
	Etcd    []*exec.Cmd

	t  testing.TB
	id string // begins the names of all that is made
	n  int32  // which cluster of this process it is
}

// clusters counts those of this process. Tests of several packages run at the same time:
// their process ids tell them apart.
var clusters atomic.Int32

// StartHosts starts n hosts until the test ends. It needs the rights of root, and ip and tc
// of iproute2.
func StartHosts(t testing.TB, n int) *Hosts {
	t.Helper()
	h := &Hosts{t: t, n: clusters.Add(1), Etcd: make([]*exec.Cmd, n)}
	h.id = fmt.Sprintf("c%d-%d", os.Getpid()%100000, h.n)
	dir := t.TempDir() // before the clean-up that ends who writes there
	t.Cleanup(h.stop)
	for i := range n {
		name := fmt.Sprintf("m%d", i+1)
		h.Members = append(h.Members, Member{Name: name, Dir: filepath.Join(dir, name), Client: "http://" + h.Address(i) + ":2379", Peer: "http://" + h.inner(i) + ":2380"})
	}
	h.network()
	Join(h.Members)
	for i := range n {
		h.StartMember(i)
	}
	return h
}

// Endpoints are the URLs of the members, beginning with that of one host.
func (h *Hosts) Endpoints(first int) (out []string) {
	for i := range h.Members {
		out = append(out, h.Members[(first+i)%len(h.Members)].Client)
	}
	return out
}

// Address is a host's, for the test; inner is its address for the others.
func (h *Hosts) Address(i int) string { return h.net(1, i+1) }
func (h *Hosts) inner(i int) string   { return h.net(0, i+1) }

func (h *Hosts) net(bridge int32, host int) string {
	return fmt.Sprintf("10.%d.%d.%d", 100+os.Getpid()%128, (2*h.n+bridge)%256, host)
}

func (h *Hosts) host(i int) string { return fmt.Sprintf("%sh%d", h.id, i+1) }

// ip runs ip.
func (h *Hosts) ip(format string, args ...any) {
	h.t.Helper()
	h.run("ip "+format, args...)
}

// run runs a command that must succeed.
func (h *Hosts) run(format string, args ...any) {
	h.t.Helper()
	words := strings.Fields(fmt.Sprintf(format, args...))
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		h.t.Fatalf("%s: %v\n%s", words, err, out)
	}
}

// network makes the namespaces and what connects them.
func (h *Hosts) network() {
	for _, bridge := range []string{"d", "c"} {
		h.ip("link add %s%s type bridge", h.id, bridge)
		h.ip("link set %s%s up", h.id, bridge)
	}
	h.ip("addr add %s/24 dev %sc", h.net(1, 254), h.id)
	for i := range h.Members {
		h.ip("netns add %s", h.host(i))
		h.ip("-n %s link set lo up", h.host(i))
		for bridge, address := range map[string]string{"d": h.inner(i), "c": h.Address(i)} {
			out, in := fmt.Sprintf("%s%s%d", h.id, bridge, i+1), "eth"+bridge
			h.ip("link add %s type veth peer name %s netns %s", out, in, h.host(i))
			h.ip("link set %s master %s%s up", out, h.id, bridge)
			h.ip("-n %s addr add %s/24 dev %s", h.host(i), address, in)
			h.ip("-n %s link set %s up", h.host(i), in)
		}
	}
}

// Cut takes a host from the others; Mend brings it back.
func (h *Hosts) Cut(i int)  { h.ip("link set %sd%d nomaster", h.id, i+1) }
func (h *Hosts) Mend(i int) { h.ip("link set %sd%d master %sd", h.id, i+1, h.id) }

// Slow lets a host say little to the others in a second, until Quicken.
func (h *Hosts) Slow(i int) {
	h.run("tc -n %s qdisc replace dev ethd root tbf rate 256kbit burst 16kbit latency 2s", h.host(i))
}

// Quicken ends Slow and Mute.
func (h *Hosts) Quicken(i int) { h.run("tc -n %s qdisc del dev ethd root", h.host(i)) }

// Mute loses what a host says to the others, until Quicken; it still hears them.
func (h *Hosts) Mute(i int) { h.run("tc -n %s qdisc replace dev ethd root pfifo limit 0", h.host(i)) }

// Deafen loses what the others say to a host, until Undeafen; they still hear it.
func (h *Hosts) Deafen(i int) {
	h.run("tc qdisc replace dev %sd%d root pfifo limit 0", h.id, i+1)
}

// Undeafen ends Deafen.
func (h *Hosts) Undeafen(i int) { h.run("tc qdisc del dev %sd%d root", h.id, i+1) }

// Command is a program on a host, which does not outlive the test.
func (h *Hosts) Command(i int, name string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.host(i), name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// StartMember starts a member that is not running.
func (h *Hosts) StartMember(i int) {
	h.t.Helper()
	text, err := json.Marshal(h.Members[i])
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := h.Command(i, os.Args[0])
	cmd.Env = append(os.Environ(), memberVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.Etcd[i] = cmd
}

// Freeze makes a process stand still; Thaw lets it go on.
func (h *Hosts) Freeze(cmd *exec.Cmd) { h.signal(cmd, syscall.SIGSTOP) }
func (h *Hosts) Thaw(cmd *exec.Cmd)   { h.signal(cmd, syscall.SIGCONT) }

func (h *Hosts) signal(cmd *exec.Cmd, s syscall.Signal) {
	if err := cmd.Process.Signal(s); err != nil {
		h.t.Error(err)
	}
}

// Kill ends a process at once, also one that stands still.
func Kill(cmd *exec.Cmd) {
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // killed
}

func (h *Hosts) stop() {
	for i, cmd := range h.Etcd {
		if cmd != nil {
			Kill(cmd)
		}
		for _, bridge := range []string{"d", "c"} {
			_ = exec.Command("ip", "link", "del", fmt.Sprintf("%s%s%d", h.id, bridge, i+1)).Run()
		}
		_ = exec.Command("ip", "netns", "del", h.host(i)).Run()
	}
	for _, bridge := range []string{"d", "c"} {
		_ = exec.Command("ip", "link", "del", h.id+bridge).Run()
	}
}
