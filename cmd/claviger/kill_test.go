package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

// A process is a claviger under test.
type process struct {
	cmd    *exec.Cmd
	url    string
	id     string
	secret string
}

func start(t *testing.T, binary, dir string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, "serve", "--data", dir, "--listen", "127.0.0.1:0")}
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
	go io.Copy(io.Discard, stderr)
	text, err := os.ReadFile(filepath.Join(dir, "root-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?s)_key_id = (\S+).*_access_key = (\S+)`).FindStringSubmatch(string(text))
	p.id, p.secret = m[1], m[2]
	return p
}

// call sends a KMS request; ok is false if the answer did not come or was a fault.
func (p *process) call(operation, body string) (answer string, ok bool) {
	r, err := http.NewRequest(http.MethodPost, p.url+"/", strings.NewReader(body))
	if err != nil {
		return "", false
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	sigv4.Sign(r, []byte(body), p.id, p.secret, "", "us-east-1", "kms", time.Now())
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", false
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return string(text), err == nil && response.StatusCode == http.StatusOK
}

// TestKill kills the server at random moments under concurrent writers. What was
// acknowledged must be there after reopening, every key with its policy, and
// the audit log must be whole and have an outcome for every intent.
func TestKill(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "claviger")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	dir := t.TempDir()
	var mu sync.Mutex                   // guards acknowledged
	acknowledged := map[string]string{} // description by key id
	keyID := regexp.MustCompile(`"KeyId":"([^"]+)"`)
	for round := range 8 {
		p := start(t, binary, dir)
		for id, description := range acknowledged {
			answer, ok := p.call("DescribeKey", `{"KeyId":"`+id+`"}`)
			if !ok || !strings.Contains(answer, `"Description":"`+description+`"`) {
				t.Errorf("round %d: key %s (%s) is lost: %s", round, id, description, answer)
			}
			if answer, ok := p.call("GetKeyPolicy", `{"KeyId":"`+id+`"}`); !ok {
				t.Errorf("round %d: key %s has no policy: %s", round, id, answer)
			}
		}
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for n := 0; ; n++ {
					answer, ok := p.call("CreateKey", `{}`)
					if !ok {
						return
					}
					id, description := keyID.FindStringSubmatch(answer)[1], fmt.Sprintf("%d-%d-%d", round, w, n)
					if _, ok := p.call("UpdateKeyDescription", `{"KeyId":"`+id+`","Description":"`+description+`"}`); !ok {
						return
					}
					mu.Lock()
					acknowledged[id] = description
					mu.Unlock()
				}
			})
		}
		time.Sleep(time.Duration(20+rand.IntN(150)) * time.Millisecond)
		if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		_ = p.cmd.Wait() // killed
		writers.Wait()
	}
	if len(acknowledged) == 0 {
		t.Fatal("nothing was acknowledged: the test shows nothing")
	}
	p := start(t, binary, dir)
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	checkLog(t, dir)
}

// checkLog verifies the chain against the store and that no intent is open.
func checkLog(t *testing.T, dir string) {
	t.Helper()
	anchor, err := server.ReadAnchor(context.Background(), server.Config{Dir: dir})
	if err != nil || anchor.Sequence == 0 {
		t.Fatalf("anchor %v, %v", anchor, err)
	}
	if _, err := audit.Verify(server.AuditDir(dir), anchor); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(server.AuditDir(dir), "audit-000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	intents := bytes.Count(text, []byte(`"phase":"intent"`))
	outcomes := bytes.Count(text, []byte(`"phase":"outcome"`)) + bytes.Count(text, []byte(`"phase":"settled"`))
	if intents != outcomes || intents == 0 {
		t.Errorf("%d intents, %d outcomes", intents, outcomes)
	}
}
