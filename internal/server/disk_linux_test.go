package server_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/claviger/claviger/internal/durable/disktest"
	"github.com/claviger/claviger/internal/server"
)

// A served server runs behind HTTP until its test ends or it is closed.
type served struct {
	*kms.Client
	url   string
	close func() error
}

func (s served) stop(t *testing.T) {
	t.Helper()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

func serve(t *testing.T, c server.Config) served {
	t.Helper()
	c.RootKeys = rootKeys
	return run(t, mustOpen(t, c))
}

var rootKeys = []server.Credentials{{ID: "test", Secret: "test"}}

// run does the server's background work too.
func run(t *testing.T, s *server.Server) served {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	return behindHTTP(t, s, func() error {
		cancel()
		wg.Wait()
		return s.Close()
	})
}

func behindHTTP(t *testing.T, s *server.Server, end func() error) served {
	t.Helper()
	srv := httptest.NewServer(s.Handler())
	stop := sync.OnceValue(func() error {
		srv.Close()
		return end()
	})
	t.Cleanup(func() { _ = stop() }) // whoever wants to know has called it
	return served{kms.New(kms.Options{BaseEndpoint: &srv.URL, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		Retryer: aws.NopRetryer{}, HTTPClient: srv.Client()}), srv.URL, stop}
}

func (s served) ready(t *testing.T) int {
	t.Helper()
	r, err := http.Get(s.url + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	return r.StatusCode
}

// eventually waits for what happens within seconds by itself.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for range 1000 {
		if f() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal(what)
}

// create makes a key; the error is nil or the internal fault.
func (s served) create(t *testing.T) (string, error) {
	t.Helper()
	out, err := s.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != "KMSInternalException" {
			t.Fatalf("CreateKey: %v", err)
		}
		return "", err
	}
	return *out.KeyMetadata.KeyId, nil
}

// A full disk: what would change something is refused, what reads is answered from
// the room that the audit log has in reserve, and when there is space again
// everything goes on, also after a restart.
func TestFullDisk(t *testing.T) {
	dir := disktest.Mount(t, "24m")
	s := serve(t, server.Config{Dir: dir})
	first, err := s.create(t)
	if err != nil || s.ready(t) != http.StatusOK {
		t.Fatal(err)
	}
	ballast := filepath.Join(dir, "ballast")
	full, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = full.Write(block)
	}
	full.Close()

	made := map[string]bool{first: true}
	failed := false
	for range 200 {
		id, err := s.create(t)
		if failed = err != nil; failed {
			break
		}
		made[id] = true
	}
	if !failed {
		t.Fatal("the disk is full and keys are made")
	}
	for range 50 {
		if _, err := s.create(t); err == nil {
			t.Error("a key was made on a full disk")
		}
		if _, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &first}); err != nil {
			t.Fatalf("DescribeKey on a full disk: %v", err)
		}
		out, err := s.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &first, Plaintext: []byte("x")})
		if err == nil {
			_, err = s.Decrypt(t.Context(), &kms.DecryptInput{CiphertextBlob: out.CiphertextBlob})
		}
		if err != nil {
			t.Fatalf("Encrypt and Decrypt on a full disk: %v", err)
		}
	}
	if status := s.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz says %d", status)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, "/readyz does not recover", func() bool { return s.ready(t) == http.StatusOK })
	last, err := s.create(t)
	if err != nil {
		t.Fatal(err)
	}
	made[last] = true
	s.stop(t)
	s.verify(t, server.Config{Dir: dir}, made, 0)
}

// verify opens the directory again: the keys that were acknowledged are there, of
// the others as many as may be, and the audit log is whole.
func (served) verify(t *testing.T, c server.Config, made map[string]bool, more int) {
	t.Helper()
	s := serve(t, c)
	found := 0
	for pages := kms.NewListKeysPaginator(s.Client, &kms.ListKeysInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			if made[*k.KeyId] {
				found++
			} else {
				more--
			}
		}
	}
	if found != len(made) || more < 0 {
		t.Errorf("%d keys of %d are there, and %d too many", found, len(made), -more)
	}
	s.stop(t)
	if err := verifyLog(t.Context(), c); err != nil {
		t.Error(err)
	}
}

func verifyLog(ctx context.Context, c server.Config) error {
	state, err := server.ReadAuditState(ctx, c)
	if err != nil {
		return err
	}
	_, err = state.Verify(cmp.Or(c.AuditDir, server.AuditDir(c.Dir)))
	return err
}

// A full disk that the audit log has used up too: nothing is served, since nothing
// can be recorded; then it is again, and the log tells of it.
func TestFullAuditLog(t *testing.T) {
	dir, small := t.TempDir(), disktest.Mount(t, "200k") // less than the reserve
	if err := os.Symlink(small, server.AuditDir(dir)); err != nil {
		t.Fatal(err)
	}
	s := serve(t, server.Config{Dir: dir})
	made, refused := map[string]bool{}, 1
	var err error
	for id := ""; err == nil; id, err = s.create(t) {
		made[id] = true
	}
	delete(made, "")
	for range 20 {
		if _, err := s.ListKeys(t.Context(), &kms.ListKeysInput{}); err == nil {
			continue // a short record may fit
		}
		refused++
		if _, err := s.create(t); err == nil {
			t.Error("a key was made without a record")
		}
	}
	if s.ready(t) != http.StatusServiceUnavailable {
		t.Error("/readyz says that all is well")
	}
	disktest.Resize(t, small, "16m")
	eventually(t, "/readyz does not recover", func() bool { return s.ready(t) == http.StatusOK })
	for i := range 10 {
		id, err := s.create(t)
		if err != nil {
			t.Fatal(i, err)
		}
		made[id] = true
	}
	s.stop(t)
	text, err := os.ReadFile(filepath.Join(small, "audit-000001.jsonl"))
	if err != nil || !bytes.Contains(text, []byte(`"eventName":"ResumeAuditLog"`)) {
		t.Errorf("the log does not tell of the gap: %v", err)
	}
	s.verify(t, server.Config{Dir: dir}, made, refused) // whose outcome could not be written, while the intent was
}
