// Package etcdtest runs real etcd members on loopback addresses, for tests.
package etcdtest

import (
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// A Member says where a member is and where it keeps its data.
type Member struct {
	Name    string
	Dir     string
	Client  string // URL
	Peer    string // URL
	Cluster string // all members, as --initial-cluster has them
	Ops     uint   // --max-txn-ops; 0: the default
	Bytes   uint   // --max-request-bytes; 0: the default
	Quota   int64  // --quota-backend-bytes; 0: the default
	Cert    string // file: its certificate, which certifies its clients too; empty: no TLS for them
	Key     string // file: of the certificate
}

// Members draws n members with free ports, below dir.
func Members(n int, dir string) ([]Member, error) {
	members := make([]Member, n)
	for i := range members {
		var urls [2]string
		for j := range urls {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			defer l.Close() // all are drawn before any is free again
			urls[j] = "http://" + l.Addr().String()
		}
		name := fmt.Sprintf("m%d", i+1)
		members[i] = Member{Name: name, Dir: filepath.Join(dir, name), Client: urls[0], Peer: urls[1]}
	}
	Join(members)
	return members, nil
}

// Join makes members know each other.
func Join(members []Member) {
	var cluster []string
	for _, m := range members {
		cluster = append(cluster, m.Name+"="+m.Peer)
	}
	for i := range members {
		members[i].Cluster = strings.Join(cluster, ",")
	}
}

// Start runs the member in this process. It returns before it is ready: a majority of the
// others must have started.
func (m Member) Start() (*embed.Etcd, error) {
	c := embed.NewConfig()
	c.Name, c.Dir, c.InitialCluster = m.Name, m.Dir, m.Cluster
	c.LogLevel, c.LogOutputs = "fatal", []string{"/dev/null"}
	c.TickMs, c.ElectionMs = 50, 500
	c.ListenClientUrls, c.AdvertiseClientUrls = urls(m.Client), urls(m.Client)
	c.ListenPeerUrls, c.AdvertisePeerUrls = urls(m.Peer), urls(m.Peer)
	if m.Cert != "" {
		t := &c.ClientTLSInfo
		t.CertFile, t.KeyFile, t.TrustedCAFile, t.ClientCertAuth = m.Cert, m.Key, m.Cert, true
	}
	if m.Ops > 0 {
		c.MaxTxnOps = m.Ops
	}
	if m.Bytes > 0 {
		c.MaxRequestBytes = m.Bytes
	}
	c.QuotaBackendBytes = m.Quota
	c.AutoCompactionMode, c.AutoCompactionRetention = "revision", "100000"
	return embed.StartEtcd(c)
}

func urls(s string) []url.URL {
	u, err := url.Parse(s)
	if err != nil {
		panic(err) // it was made here
	}
	return []url.URL{*u}
}

// A Cluster is members that run in the process of the test.
type Cluster struct {
	Members []Member
	running []*embed.Etcd
}

// Start runs a cluster of n members until the test ends.
func Start(t testing.TB, n int) *Cluster {
	t.Helper()
	return StartWith(t, n, func(*Member) {})
}

// StartWith is Start with members that are changed before.
func StartWith(t testing.TB, n int, change func(*Member)) *Cluster {
	t.Helper()
	members, err := Members(n, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range members {
		change(&members[i])
	}
	c := &Cluster{Members: members, running: make([]*embed.Etcd, n)}
	t.Cleanup(func() {
		for i := range c.running {
			c.Stop(i)
		}
	})
	for i := range members {
		c.Run(t, i)
	}
	for i := range members {
		c.Wait(t, i)
	}
	return c
}

// Run starts a member that is not running.
func (c *Cluster) Run(t testing.TB, i int) {
	t.Helper()
	var err error
	if c.running[i], err = c.Members[i].Start(); err != nil {
		t.Fatal(err)
	}
}

// Wait waits until a member is ready.
func (c *Cluster) Wait(t testing.TB, i int) {
	t.Helper()
	select {
	case <-c.running[i].Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatalf("etcd member %d is not ready within a minute", i)
	}
}

// Stop stops a member that is running.
func (c *Cluster) Stop(i int) {
	if c.running[i] != nil {
		c.running[i].Close()
		c.running[i] = nil
	}
}

// Endpoints are the URLs of all members.
func (c *Cluster) Endpoints() (out []string) {
	for _, m := range c.Members {
		out = append(out, m.Client)
	}
	return out
}
