package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/internal/model/trailapi"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
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
	ctx, cancel := context.WithTimeout(o.t.Context(), time.Minute) // what should be refused may serve
	defer cancel()
	out, err := exec.CommandContext(ctx, o.binary, args...).CombinedOutput()
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
	backup, log := filepath.Join(t.TempDir(), "backup"), filepath.Join(t.TempDir(), "audit")
	o.run("backup", "--data", dir, "--output", backup)
	if _, err := k.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	if _, err := k.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: key.KeyMetadata.KeyId}); err != nil {
		t.Fatal(err)
	}
	o.stop(alone)
	if err := os.CopyFS(log, os.DirFS(server.AuditDir(dir))); err != nil {
		t.Fatal(err)
	}
	o.restoredBefore(backup, log, filepath.Join(dir, "root.key"))
	if out := o.run("migrate", "--from", dir, "--to", o.store, "--node-name", "n1"); !strings.Contains(out, "copied and compared") {
		t.Error(out)
	}
	o.refused("say where with --store", "serve", "--data", dir)
	o.refused("there is a store already", "migrate", "--from", copyOfStore(t, dir), "--to", o.store, "--node-name", "n3")

	o.refused("cannot be that of other", "serve", "--data", dir, "--store", o.store, "--node-name", "other")
	one := o.serve(dir, "n1")
	decrypts(one)
	o.refused("no root key", "serve", "--data", second, "--store", o.store, "--node-name", "n2")
	copyFile(t, filepath.Join(dir, "root.key"), filepath.Join(second, "root.key"))
	copyFile(t, filepath.Join(dir, "root-credentials"), filepath.Join(second, "root-credentials"))
	another := t.TempDir()
	copyFile(t, filepath.Join(dir, "root.key"), filepath.Join(another, "root.key"))
	o.refused("a node of this name is running", "serve", "--data", another, "--store", o.store, "--node-name", "n1")
	two := o.serve(second, "n2")
	decrypts(two)
	o.refused("in use by another process", "restore", "accept", "--data", second, "--store", o.store) // and takes its name from nobody
	o.refused("in use by another process", "migrate", "--from", o.store, "--to", second)
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
	if err := two.cmd.Process.Signal(syscall.SIGSTOP); err != nil { // it does not count as running after some seconds
		t.Fatal(err)
	}
	eventually(t, func() bool { _, err := o.try("migrate", "--from", o.store, "--to", dir); return err == nil })
	if err := two.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return readiness(two) == http.StatusServiceUnavailable }) // what it knows is what was then
	k, _ = two.clients()
	if _, err := k.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob}); err == nil {
		t.Error("a node goes on with a store that went elsewhere")
	}
	etcdtest.Kill(two.cmd)
	o.refused("the store went to "+dir, "serve", "--data", second, "--store", o.store, "--node-name", "n2")
	o.refused("the store went to "+dir, "migrate", "--from", o.store, "--to", second)
	o.refused("the store went to "+dir, "restore", "accept", "--data", second, "--store", o.store)
	back := o.serve(dir, "")
	decrypts(back)
	o.run("audit", "verify", "--data", dir)
}

// restoredBefore restores a backup of before the store was shared into a cluster: it is not
// accepted without the log of then, which the first node goes on with.
func (o operator) restoredBefore(backup, log, key string) {
	o.t.Helper()
	dir := o.t.TempDir()
	copyFile(o.t, key, filepath.Join(dir, "root.key"))
	into := []string{"--data", dir, "--store", o.store + "/before", "--node-name", "n7"}
	o.run(append([]string{"restore", "--input", backup}, into...)...)
	o.refused("there is no audit log in", append([]string{"restore", "accept"}, into...)...)
	if err := os.CopyFS(server.AuditDir(dir), os.DirFS(log)); err != nil {
		o.t.Fatal(err)
	}
	o.refused("--confirm 1", append([]string{"restore", "accept"}, into...)...) // EnableKey only adds
	o.run(append([]string{"restore", "accept", "--confirm", "1"}, into...)...)
	o.refused("accepted already", append([]string{"restore", "accept"}, into...)...)
	copyFile(o.t, filepath.Join(filepath.Dir(key), "root-credentials"), filepath.Join(dir, "root-credentials"))
	there := operator{o.t, o.binary, o.store + "/before"}
	there.stop(there.serve(dir, "n7"))
}

func copyOfStore(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	copyFile(t, filepath.Join(dir, "store.db.migrated"), filepath.Join(to, "store.db"))
	copyFile(t, filepath.Join(dir, "root.key"), filepath.Join(to, "root.key"))
	return to
}

// shorten takes the last two lines of an audit log away: a checkpoint, and what it is over.
func shorten(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "audit-*.jsonl"))
	if err != nil || len(segments) == 0 {
		t.Fatal(segments, err)
	}
	last := segments[len(segments)-1]
	text, err := os.ReadFile(last)
	if err == nil {
		for range 2 {
			text = bytes.TrimSuffix(text, []byte("\n"))
			text = text[:bytes.LastIndexByte(text, '\n')+1]
		}
		err = os.WriteFile(last, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// readiness is what a process answers at /readyz; 0: nothing.
func readiness(p *process) int {
	answer, err := http.Get(p.url + "/readyz")
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
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
	one := o.serve(first, "n1", "--lease", "100ms")
	node := func(dir string) string {
		copyFile(t, filepath.Join(first, "root.key"), filepath.Join(dir, "root.key"))
		copyFile(t, filepath.Join(first, "root-credentials"), filepath.Join(dir, "root-credentials"))
		return dir
	}
	two := o.serve(node(second), "n2")
	k, _ := one.clients()
	key, err := k.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	grant, err := k.CreateGrant(t.Context(), &kms.CreateGrantInput{KeyId: key.KeyMetadata.KeyId, GranteePrincipal: aws.String("arn:aws:iam::111122223333:root"),
		Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt}})
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
	late := node(t.TempDir())
	three := o.serve(late, "n3") // of which the backup knows nothing
	l, _ := three.clients()
	if _, err := l.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: key.KeyMetadata.KeyId, GrantId: grant.GrantId}); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*process{one, two, three} {
		o.stop(p)
	}

	into := []string{"--data", third, "--store", o.store + "/restored", "--node-name", "n2"}
	if err := os.Mkdir(third, 0o700); err != nil {
		t.Fatal(err)
	}
	node(third)
	o.run(append([]string{"restore", "--input", backup}, into...)...)
	o.refused("there is something in it already", append([]string{"restore", "--input", backup}, into...)...)
	o.refused("restore accept", append([]string{"serve"}, into...)...)
	if err := os.CopyFS(server.AuditDir(third), os.DirFS(server.AuditDir(second))); err != nil {
		t.Fatal(err)
	}
	o.refused("the node n1 has an audit log too", append([]string{"restore", "accept"}, into...)...)
	logs := []string{"restore", "accept", "--log", "n1=" + server.AuditDir(first), "--log", "n3=" + server.AuditDir(late)}
	cut := filepath.Join(t.TempDir(), "audit")
	if err := os.CopyFS(cut, os.DirFS(server.AuditDir(first))); err != nil {
		t.Fatal(err)
	}
	shorten(t, cut)
	o.refused("the log ends before line", append([]string{"restore", "accept", "--log", "n1=" + cut, "--log", "n3=" + server.AuditDir(late)}, into...)...)
	out := o.run(append(logs, into...)...)
	if !strings.Contains(out, "Made again") || !strings.Contains(out, "DisableKey") || !strings.Contains(out, "RevokeGrant") {
		t.Error(out)
	}
	elsewhere := []string{"--data", node(t.TempDir()), "--store", o.store + "/elsewhere", "--node-name", "n9"} // a new machine
	o.run(append([]string{"restore", "--input", backup}, elsewhere...)...)
	o.refused("the node n2 has an audit log too", append(logs, elsewhere...)...)
	if out := o.run(slices.Concat(logs, []string{"--log", "n2=" + server.AuditDir(second)}, elsewhere)...); !strings.Contains(out, "RevokeGrant") {
		t.Error(out)
	}
	o.store += "/restored"
	serving := o.serve(third, "n2")
	again, _ := serving.clients()
	o.stop(o.serve(first, "n1")) // goes on with its own log
	o.refused("the node n2 is running", "restore", "accept", "--data", first, "--store", o.store, "--node-name", "n1")
	o.refused("begin with an empty directory", "serve", "--data", late, "--store", o.store, "--node-name", "n3")
	o.stop(o.serve(node(t.TempDir()), "n3"))
	found, err := again.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: key.KeyMetadata.KeyId})
	if err != nil || found.KeyMetadata.Enabled {
		t.Errorf("the key is enabled again: %v", err)
	}
	grants, err := again.ListGrants(t.Context(), &kms.ListGrantsInput{KeyId: key.KeyMetadata.KeyId})
	if err != nil || len(grants.Grants) != 0 {
		t.Errorf("a grant is in force again: %v, %v", grants, err)
	}
	put, err := again.GetKeyPolicy(t.Context(), &kms.GetKeyPolicyInput{KeyId: key.KeyMetadata.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(*put.Policy, `"Last"`) {
		t.Errorf("the key policy is not the last one: %s", *put.Policy)
	}
}

// TestClusterTLS: members and nodes that demand certificates of whoever comes, nodes of each
// other too.
func TestClusterTLS(t *testing.T) {
	dir, strange := t.TempDir(), t.TempDir()
	if err := errors.Join(writeCertificate(dir), writeCertificate(strange)); err != nil {
		t.Fatal(err)
	}
	pem := func(dir, name string) string { return filepath.Join(dir, name+".pem") }
	cluster := etcdtest.StartWith(t, 1, func(m *etcdtest.Member) {
		m.Client, m.Cert, m.Key = strings.Replace(m.Client, "http:", "https:", 1), pem(dir, "cert"), pem(dir, "key")
	})
	o := operator{t, build(t), "etcd://" + strings.TrimPrefix(cluster.Endpoints()[0], "https://")}
	first, second := t.TempDir(), t.TempDir()
	serve := []string{"serve", "--data", first, "--store", o.store, "--node-name", "n1"}
	o.refused("the member speaks it, and this node has no --etcd-ca", serve...)
	o.refused("certificate signed by unknown authority", append(serve, "--etcd-ca", pem(strange, "cert"))...)
	o.refused("remote error: tls: certificate required", append(serve, "--etcd-ca", pem(dir, "cert"))...)
	o.refused("remote error: tls: ", append(serve, "--etcd-ca", pem(dir, "cert"), "--etcd-cert", pem(strange, "cert"), "--etcd-key", pem(strange, "key"))...)

	with := []string{"--etcd-ca", pem(dir, "cert"), "--etcd-cert", pem(dir, "cert"), "--etcd-key", pem(dir, "key"),
		"--tls-cert", pem(dir, "cert"), "--tls-key", pem(dir, "key"), "--tls-client-ca", pem(dir, "cert")}
	own, err := tls.LoadX509KeyPair(pem(dir, "cert"), pem(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	node := func(dir, name string) *process {
		p := o.serve(dir, name, with...)
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{own}}}
		t.Cleanup(transport.CloseIdleConnections)
		p.http = &http.Client{Transport: transport}
		return p
	}
	one := node(first, "n1")
	copyFile(t, filepath.Join(first, "root.key"), filepath.Join(second, "root.key"))
	copyFile(t, filepath.Join(first, "root-credentials"), filepath.Join(second, "root-credentials"))
	two := node(second, "n2")
	k, _ := one.clients()
	if _, err := k.CreateKey(t.Context(), &kms.CreateKeyInput{}); err != nil {
		t.Fatal(err)
	}
	question := []byte(`{"LookupAttributes":[{"AttributeKey":"EventName","AttributeValue":"CreateKey"}]}`)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, two.url, bytes.NewReader(question))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", trailapi.TargetPrefix+".LookupEvents")
	sigv4.Sign(r, question, two.id, two.secret, "", "us-east-1", "cloudtrail", time.Now())
	answer, err := two.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if found, err := io.ReadAll(answer.Body); err != nil || !strings.Contains(string(found), `"EventName":"CreateKey"`) {
		t.Errorf("one node does not tell of what happened on the other: %s, %v", found, err)
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
	o.refused("the member does not speak TLS", "serve", "--data", first, "--store", store, "--node-name", "n1", "--etcd-ca", filepath.Join(wrong, "cert.pem"))
}

// expiring imports key material that expires in a moment, into n new keys.
func expiring(t *testing.T, k *kms.Client, n int) {
	t.Helper()
	for range n {
		key, err := k.CreateKey(t.Context(), &kms.CreateKeyInput{Origin: kmstypes.OriginTypeExternal})
		if err != nil {
			t.Fatal(err)
		}
		p, err := k.GetParametersForImport(t.Context(), &kms.GetParametersForImportInput{KeyId: key.KeyMetadata.KeyId, WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048"})
		if err != nil {
			t.Fatal(err)
		}
		public, err := x509.ParsePKIXPublicKey(p.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), make([]byte, 32), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.ImportKeyMaterial(t.Context(), &kms.ImportKeyMaterialInput{KeyId: key.KeyMetadata.KeyId, EncryptedKeyMaterial: wrapped, ImportToken: p.ImportToken,
			ValidTo: aws.Time(time.Now().Add(2 * time.Second))}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestBackgroundOnce: what one node does for all is done once, by another one when that one
// stands still or dies.
func TestBackgroundOnce(t *testing.T) {
	cluster := etcdtest.Start(t, 1)
	o := operator{t, build(t), "etcd://" + strings.TrimPrefix(cluster.Endpoints()[0], "http://")}
	dirs := []string{t.TempDir(), t.TempDir(), t.TempDir()}
	var nodes []*process
	for i, dir := range dirs {
		if i > 0 {
			copyFile(t, filepath.Join(dirs[0], "root.key"), filepath.Join(dir, "root.key"))
			copyFile(t, filepath.Join(dirs[0], "root-credentials"), filepath.Join(dir, "root-credentials"))
		}
		nodes = append(nodes, o.serve(dir, fmt.Sprint("n", i+1)))
	}
	erased := func() (n int) { // of all nodes' logs
		for _, dir := range dirs {
			out := o.run("audit", "query", "--data", dir, "--event-name", "DeleteExpiredKeyMaterial", "--output", "json")
			n += strings.Count(out, `"committed":true`)
		}
		return n
	}
	leads := func(asked int, name string) bool {
		return slices.ContainsFunc(o.state(dirs[asked]).Nodes, func(n server.NodeState) bool { return n.Name == name && n.Leads })
	}
	eventually(t, func() bool { return leads(2, "n1") })
	k, _ := nodes[2].clients()
	expiring(t, k, 4)
	if err := nodes[0].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return erased() == 4 })
	if err := nodes[0].cmd.Process.Signal(syscall.SIGCONT); err != nil { // which believes to lead, for a moment
		t.Fatal(err)
	}
	eventually(t, func() bool { return readiness(nodes[0]) == http.StatusOK })
	expiring(t, k, 4)
	second := 1
	if leads(2, "n3") {
		second = 2
	}
	etcdtest.Kill(nodes[second].cmd)
	eventually(t, func() bool { return erased() == 8 })
	o.stop(nodes[0])
	o.stop(nodes[3-second])
	if n := erased(); n != 8 {
		t.Errorf("of 8 keys material was erased %d times", n)
	}
}
