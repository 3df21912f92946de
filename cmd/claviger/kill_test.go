package main

import (
	"bytes"
	"context"
	"flag"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/claviger/claviger/internal/server"
)

// A process is a claviger under test.
type process struct {
	cmd    *exec.Cmd
	url    string
	id     string
	secret string
	http   *http.Client
}

func start(t *testing.T, binary, dir string) *process {
	t.Helper()
	return startProcess(t, exec.Command(binary, "serve", "--data", dir, "--listen", "127.0.0.1:0", "--request-quotas", "off"), dir)
}

// client gives the process an HTTP client of its own.
func (p *process) client(t testing.TB) {
	transport := &http.Transport{MaxIdleConnsPerHost: 32}
	t.Cleanup(transport.CloseIdleConnections)
	p.http = &http.Client{Transport: transport}
}

// rootCredentials reads the root user's access key of a data directory.
func rootCredentials(t testing.TB, dir string) (id, secret string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "root-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)_key_id = (\S+).*_access_key = (\S+)`).FindStringSubmatch(string(text))
	return m[1], m[2]
}

// build builds the program.
func build(t testing.TB) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "claviger")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// clients are SDK clients of the process that try once.
func (p *process) clients() (*kms.Client, *iam.Client) {
	keys := credentials.NewStaticCredentialsProvider(p.id, p.secret, "")
	return kms.New(kms.Options{BaseEndpoint: &p.url, Region: "us-east-1", Credentials: keys, Retryer: aws.NopRetryer{}, HTTPClient: p.http}),
		iam.New(iam.Options{BaseEndpoint: &p.url, Region: "us-east-1", Credentials: keys, Retryer: aws.NopRetryer{}, HTTPClient: p.http})
}

var killRounds = flag.Int("kill-rounds", 30, "how often TestKill kills the server")

// TestKill kills the server at random moments under 16 concurrent writers of
// keys, policies, states, grants, aliases and users. What was acknowledged must be
// there after reopening, every key with its policy, and the audit log must be
// whole and have an outcome for every intent. `make torture` does it 500 times.
func TestKill(t *testing.T) {
	binary, dir := build(t), t.TempDir()
	var writers []*writer
	for n := range 16 {
		writers = append(writers, &writer{n: n, random: rand.New(rand.NewPCG(uint64(n), 1)), facts: map[fact][]string{}, grants: map[fact]string{}})
	}
	for range *killRounds {
		p := start(t, binary, dir)
		each(writers, func(w *writer) { w.check(t, p, false) })
		var running sync.WaitGroup
		for _, w := range writers {
			running.Go(func() { w.run(t, p) })
		}
		time.Sleep(time.Duration(20+rand.IntN(200)) * time.Millisecond)
		if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // killed
		running.Wait()
		if t.Failed() {
			return
		}
	}
	p := start(t, binary, dir)
	each(writers, func(w *writer) { w.check(t, p, true) })
	everyKeyHasItsPolicy(t, p)
	acknowledged := 0
	for _, w := range writers {
		acknowledged += w.acknowledged
	}
	t.Logf("%d changes acknowledged, %d kills", acknowledged, *killRounds)
	if acknowledged < *killRounds {
		t.Error("hardly anything was acknowledged: the test shows nothing")
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	checkLog(t, dir)
}

func each(writers []*writer, f func(*writer)) {
	var wg sync.WaitGroup
	for _, w := range writers {
		wg.Go(func() { f(w) })
	}
	wg.Wait()
}

func everyKeyHasItsPolicy(t *testing.T, p *process) {
	t.Helper()
	client, _ := p.clients()
	for pages := kms.NewListKeysPaginator(client, &kms.ListKeysInput{Limit: aws.Int32(1000)}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			policies, err := client.ListKeyPolicies(t.Context(), &kms.ListKeyPoliciesInput{KeyId: k.KeyId})
			if err != nil || len(policies.PolicyNames) != 1 || policies.PolicyNames[0] != "default" {
				t.Errorf("key %s has the policies %v, %v", *k.KeyId, policies, err)
			}
		}
	}
}

// checkLog verifies the chain against the store and that no intent is open.
func checkLog(t *testing.T, dir string) {
	t.Helper()
	state, err := server.ReadAuditState(context.Background(), server.Config{Dir: dir})
	if err != nil || state.Anchor.Sequence == 0 {
		t.Fatalf("what the store knows of the log: %v, %v", state, err)
	}
	if _, err := state.Verify(server.AuditDir(dir)); err != nil {
		t.Error(err)
	}
	segments, err := filepath.Glob(filepath.Join(server.AuditDir(dir), "audit-*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var text []byte
	for _, s := range segments {
		part, err := os.ReadFile(s)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, part...)
	}
	intents := bytes.Count(text, []byte(`"phase":"intent"`))
	outcomes := bytes.Count(text, []byte(`"phase":"outcome"`)) + bytes.Count(text, []byte(`"phase":"settled"`))
	if intents != outcomes || intents == 0 {
		t.Errorf("%d intents, %d outcomes", intents, outcomes)
	}
}
