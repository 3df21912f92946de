package main

import (
	"encoding/json/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

// An operator runs commands.
type operator struct {
	t      *testing.T
	binary string
	store  string
}

// run runs a command that must succeed.
func (o operator) run(args ...string) string {
	o.t.Helper()
	out, err := o.try(args...)
	if err != nil {
		o.t.Fatalf("claviger %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (o operator) try(args ...string) (string, error) {
	out, err := exec.Command(o.binary, args...).CombinedOutput()
	return string(out), err
}

// refused runs a command that must fail and say something.
func (o operator) refused(says string, args ...string) {
	o.t.Helper()
	out, err := o.try(args...)
	if err == nil || !strings.Contains(out, says) {
		o.t.Errorf("claviger %s: %v, and does not say %q:\n%s", strings.Join(args, " "), err, says, out)
	}
}

// serve serves a directory; with a name, as a node.
func (o operator) serve(dir, node string, more ...string) *process {
	o.t.Helper()
	args := append([]string{"serve", "--data", dir, "--listen", "127.0.0.1:0"}, more...)
	if node != "" {
		args = append(args, "--store", o.store, "--node-name", node)
	}
	cmd := exec.Command(o.binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	p := startProcess(o.t, cmd, dir)
	o.t.Cleanup(func() { etcdtest.Kill(cmd) })
	return p
}

func (o operator) stop(p *process) {
	o.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		o.t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		o.t.Errorf("SIGTERM: %v", err)
	}
}

func (o operator) state(dir string) (c server.ClusterState) {
	o.t.Helper()
	out, _ := exec.Command(o.binary, "cluster", "status", "--data", dir, "--output", "json").Output() // 1: there are alarms
	if err := json.Unmarshal(out, &c); err != nil {
		o.t.Fatalf("%v\n%s", err, out)
	}
	return c
}

// TestMigration: a store goes from a data directory to a cluster, is served by two nodes, and
// goes back; what was encrypted can be decrypted all the way, and the audit logs are whole.
func TestMigration(t *testing.T) {
	cluster := etcdtest.Start(t, 3)
	o := operator{t, build(t), "etcd://" + strings.ReplaceAll(strings.Join(cluster.Endpoints(), ","), "http://", "")}
	dir, second := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	alone := o.serve(dir, "")
	k, _ := alone.clients()
	key, err := k.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := k.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("secret")})
	if err != nil {
		t.Fatal(err)
	}
	decrypts := func(p *process) {
		t.Helper()
		k, _ := p.clients()
		if out, err := k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err != nil || string(out.Plaintext) != "secret" {
			t.Fatalf("Decrypt = %v", err)
		}
	}
	o.refused("in use", "migrate", "--from", dir, "--to", o.store, "--node-name", "n1")
	o.stop(alone)
	if out := o.run("migrate", "--from", dir, "--to", o.store, "--node-name", "n1"); !strings.Contains(out, "copied and compared") {
		t.Error(out)
	}
	o.refused("say where with --store", "serve", "--data", dir)
	o.refused("there is a store already", "migrate", "--from", copyOfStore(t, dir), "--to", o.store, "--node-name", "n3")

	one := o.serve(dir, "n1")
	decrypts(one)
	o.refused("no root key", "serve", "--data", second, "--store", o.store, "--node-name", "n2")
	copyFile(t, filepath.Join(dir, "root.key"), filepath.Join(second, "root.key"))
	copyFile(t, filepath.Join(dir, "root-credentials"), filepath.Join(second, "root-credentials"))
	o.refused("a node of this name is running", "serve", "--data", t.TempDir(), "--store", o.store, "--node-name", "n1")
	o.refused("cannot be that of other", "serve", "--data", second, "--store", o.store, "--node-name", "other")
	two := o.serve(second, "n2")
	decrypts(two)

	running := func(dir string) (names, leads []string) {
		c := o.state(dir)
		for _, n := range c.Nodes {
			if n.Running {
				names = append(names, n.Name)
			}
			if n.Leads {
				leads = append(leads, n.Name)
			}
		}
		return names, leads
	}
	if names, leads := running(second); len(names) != 2 || len(leads) != 1 || leads[0] != "n1" {
		t.Errorf("running %v, leading %v", names, leads)
	}
	logs := []string{"--log", "n1=" + server.AuditDir(dir), "--log", "n2=" + server.AuditDir(second)}
	o.run(append([]string{"audit", "verify", "--data", dir}, logs...)...)
	o.refused("missing: n2", append([]string{"audit", "verify", "--data", dir}, logs[:2]...)...)
	o.refused("n1", "audit", "verify", "--data", dir, "--log", "n1="+server.AuditDir(second), "--log", "n2="+server.AuditDir(dir))
	o.run("cluster", "lease", "--data", dir, "--to", "200ms")
	eventually(t, func() bool { return o.state(second).Lease == "200ms" })

	etcdtest.Kill(one.cmd) // who leads
	eventually(t, func() bool {
		names, leads := running(second)
		return len(names) == 1 && len(leads) == 1 && leads[0] == "n2"
	})
	o.refused("n2 is running", "migrate", "--from", o.store, "--to", dir)
	o.stop(two)
	o.run("migrate", "--from", o.store, "--to", dir)
	back := o.serve(dir, "")
	decrypts(back)
	o.run("audit", "verify", "--data", dir)
}

func copyOfStore(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	copyFile(t, filepath.Join(dir, "store.db.migrated"), filepath.Join(to, "store.db"))
	copyFile(t, filepath.Join(dir, "root.key"), filepath.Join(to, "root.key"))
	return to
}

// eventually waits for what happens by itself.
func eventually(t *testing.T, holds func() bool) {
	t.Helper()
	for begin := time.Now(); !holds(); time.Sleep(100 * time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatal("that has not happened within 30 s")
		}
	}
}

// TestClusterRestore: a backup of a cluster is restored into another one, and accepted only
// with the audit logs of all nodes, which make what was revoked since revoked again.
func TestClusterRestore(t *testing.T) {
	cluster := etcdtest.Start(t, 1)
	o := operator{t, build(t), "etcd://" + strings.TrimPrefix(cluster.Endpoints()[0], "http://")}
	first, second, third := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "three")
	one := o.serve(first, "n1", "--lease", "0")
	copyFile(t, filepath.Join(first, "root.key"), filepath.Join(second, "root.key"))
	copyFile(t, filepath.Join(first, "root-credentials"), filepath.Join(second, "root-credentials"))
	two := o.serve(second, "n2")
	k, _ := one.clients()
	key, err := k.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	o.run("backup", "--data", second, "--output", backup)
	if _, err := k.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	policy := func(p *process, sid string) {
		t.Helper()
		k, _ := p.clients()
		text := `{"Version":"2012-10-17","Statement":[{"Sid":"` + sid + `","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`
		if _, err := k.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key.KeyMetadata.KeyId, Policy: &text}); err != nil {
			t.Fatal(err)
		}
	}
	for i, sid := range []string{"First", "Second", "Third", "Last"} { // within a second
		policy([]*process{one, two}[i%2], sid)
	}
	o.stop(one)
	o.stop(two)

	into := []string{"--data", third, "--store", o.store + "/restored", "--node-name", "n2"}
	if err := os.Mkdir(third, 0o700); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(first, "root.key"), filepath.Join(third, "root.key"))
	copyFile(t, filepath.Join(first, "root-credentials"), filepath.Join(third, "root-credentials"))
	o.run(append([]string{"restore", "--input", backup}, into...)...)
	o.refused("there is something in it already", append([]string{"restore", "--input", backup}, into...)...)
	o.refused("restore accept", append([]string{"serve"}, into...)...)
	if err := os.CopyFS(server.AuditDir(third), os.DirFS(server.AuditDir(second))); err != nil {
		t.Fatal(err)
	}
	o.refused("the node n1 has an audit log too", append([]string{"restore", "accept"}, into...)...)
	out := o.run(append([]string{"restore", "accept", "--log", "n1=" + server.AuditDir(first)}, into...)...)
	if !strings.Contains(out, "Made again") || !strings.Contains(out, "DisableKey") {
		t.Error(out)
	}
	o.store += "/restored"
	again, _ := o.serve(third, "n2").clients()
	found, err := again.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: key.KeyMetadata.KeyId})
	if err != nil || found.KeyMetadata.Enabled {
		t.Errorf("the key is enabled again: %v", err)
	}
	put, err := again.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: key.KeyMetadata.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(*put.Policy, `"Last"`) {
		t.Errorf("the key policy is not the last one: %s", *put.Policy)
	}
}

// TestClusterRefusals: what a cluster cannot be opened with is told in a sentence.
func TestClusterRefusals(t *testing.T) {
	o := operator{t: t, binary: build(t)}
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	unused := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o.refused("does not answer", "serve", "--data", dir, "--store", "etcd://"+unused)
	o.refused("is not etcd://", "serve", "--data", dir, "--store", "http://"+unused)
	o.refused("without TLS", "serve", "--data", dir, "--store", "etcd://10.1.1.1:2379")
	o.refused("go with --store", "serve", "--data", dir, "--node-name", "n1")
	o.refused("exclude each other", "serve", "--dev", "--store", "etcd://"+unused)
	o.refused("cannot be the name", "serve", "--data", dir, "--store", "etcd://"+unused, "--node-name", "a/b")
	pem := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(pem, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.refused("has no certificates", "serve", "--data", dir, "--store", "etcd://"+unused, "--etcd-ca", pem)
	o.refused("go together", "serve", "--data", dir, "--store", "etcd://"+unused, "--etcd-cert", pem)

	cluster := etcdtest.Start(t, 1)
	store := "etcd://" + strings.TrimPrefix(cluster.Endpoints()[0], "http://")
	o.store = store
	first, other := t.TempDir(), t.TempDir()
	o.stop(o.serve(first, "n1"))
	alone := o.serve(other, "")
	o.stop(alone)
	stranger := t.TempDir()
	copyFile(t, filepath.Join(other, "root.key"), filepath.Join(stranger, "root.key"))
	o.refused("does not open this store", "serve", "--data", stranger, "--store", store, "--node-name", "n2") // another installation's
	o.refused("has a store of its own", "serve", "--data", other, "--store", store, "--node-name", "n2")
	wrong := t.TempDir()
	if err := writeCertificate(wrong); err != nil {
		t.Fatal(err)
	}
	o.refused("does not answer", "serve", "--data", first, "--store", store, "--node-name", "n1", "--etcd-ca", filepath.Join(wrong, "cert.pem"))
}
