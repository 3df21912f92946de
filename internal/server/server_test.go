package server_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/server"
)

func open(t *testing.T, c server.Config) (*server.Server, error) {
	t.Helper()
	if c.Account == "" {
		c.Account = "111122223333"
	}
	c.Logger = slog.New(slog.DiscardHandler)
	return server.Open(t.Context(), c)
}

func mustOpen(t *testing.T, c server.Config) *server.Server {
	t.Helper()
	s, err := open(t, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func closeServer(t *testing.T, s *server.Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestCutLog: a store does not open beside an audit log that lacks what the
// store knows of it, until an operator says so, and that is recorded.
func TestCutLog(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, server.Config{Dir: dir})
	for _, id := range []string{"222222222222", "333333333333"} {
		if err := s.AddAccount(t.Context(), id, server.Credentials{ID: "k" + id, Secret: "s"}); err != nil {
			t.Fatal(err)
		}
	}
	closeServer(t, s)
	path := filepath.Join(server.AuditDir(dir), "audit-000001.jsonl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if err := os.WriteFile(path, bytes.Join(lines[:2], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, server.Config{Dir: dir}); err == nil {
		t.Error("a store with a cut log opens")
	}
	if _, err := open(t, server.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), ": it was cut or replaced") {
		t.Fatalf("Open beside a cut log = %v", err)
	}
	s = mustOpen(t, server.Config{Dir: dir, AcceptAuditLoss: true})
	closeServer(t, s)
	text, err = os.ReadFile(path)
	if err != nil || !bytes.Contains(text, []byte(`"eventName":"AcceptAuditLoss"`)) {
		t.Errorf("the loss is not on record: %v", err)
	}
	if err := os.RemoveAll(server.AuditDir(dir)); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, server.Config{Dir: dir}); err == nil {
		t.Error("Open without any log succeeded")
	}
}

// TestAnotherAccount: the first account's credentials are not overwritten.
// An older copy of the store put in its place would bring back what was revoked: it
// is refused.
func TestOlderStore(t *testing.T) {
	dir := t.TempDir()
	closeServer(t, mustOpen(t, server.Config{Dir: dir}))
	path := filepath.Join(dir, "store.db")
	older, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := mustOpen(t, server.Config{Dir: dir})
	if err := s.AddAccount(t.Context(), "222222222222", server.Credentials{ID: "k", Secret: "s"}); err != nil {
		t.Fatal(err)
	}
	closeServer(t, s)
	if err := os.WriteFile(path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, server.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "an older copy of the store was put in its place") {
		t.Errorf("an older copy of the store opens: %v", err)
	}
	// Refusing does not make it any better.
	if _, err := open(t, server.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "an older copy of the store was put in its place") {
		t.Errorf("an older copy of the store opens at the second attempt: %v", err)
	}
	// It is served once an operator has seen what it lacks.
	c := server.Config{Dir: dir}
	r, err := server.AcceptRestore(t.Context(), c, -1, false)
	if !errors.Is(err, server.ErrNotAccepted) || len(r.Open) != 1 || !strings.HasSuffix(r.Open[0].Event, "CreateAccount") {
		t.Fatalf("AcceptRestore = %+v, %v", r, err)
	}
	if _, err := open(t, c); err == nil || !strings.Contains(err.Error(), "restored from an older copy") {
		t.Errorf("an older copy of the store that is not accepted opens: %v", err)
	}
	if _, err := server.AcceptRestore(t.Context(), c, 1, false); err != nil {
		t.Fatal(err)
	}
	closeServer(t, mustOpen(t, c))
	if _, err := server.AcceptRestore(t.Context(), c, 1, false); err == nil || !strings.Contains(err.Error(), "was accepted already") {
		t.Errorf("accepted twice: %v", err)
	}
}

func TestAnotherAccount(t *testing.T) {
	dir := t.TempDir()
	closeServer(t, mustOpen(t, server.Config{Dir: dir}))
	before, err := os.ReadFile(filepath.Join(dir, "root-credentials"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, server.Config{Dir: dir, Account: "222222222222"}); err == nil || !strings.Contains(err.Error(), "has the accounts [111122223333] and not 222222222222") {
		t.Errorf("Open for another account = %v", err)
	}
	closeServer(t, mustOpen(t, server.Config{Dir: dir}))
	after, err := os.ReadFile(filepath.Join(dir, "root-credentials"))
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("the credentials changed: %v", err)
	}
}

// An older copy of a store is known by the seals that were changed since: one that was removed
// would open it.
func TestOlderSeals(t *testing.T) {
	dir, spare := t.TempDir(), filepath.Join(t.TempDir(), "spare.key")
	s := mustOpen(t, server.Config{Dir: dir})
	if _, err := s.AddSeal(t.Context(), "spare", seal.Options{Kind: "file", KeyFile: spare}); err != nil {
		t.Fatal(err)
	}
	closeServer(t, s)
	older, err := os.ReadFile(filepath.Join(dir, "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	s = mustOpen(t, server.Config{Dir: dir})
	if err := s.RemoveSeal(t.Context(), "spare", false); err != nil {
		t.Fatal(err)
	}
	closeServer(t, s)
	if err := os.WriteFile(filepath.Join(dir, "store.db"), older, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := open(t, server.Config{Dir: dir, Seals: []seal.Options{{Kind: "file", KeyFile: spare}}}); err == nil || !strings.Contains(err.Error(), "older copy") {
			t.Errorf("a store from before a seal was removed opens: %v", err)
		}
	}
}

// The last seal that is known to open the store is not removed: one that opened it and was
// rotated since is another one.
func TestLastKnownSeal(t *testing.T) {
	dir, keys := t.TempDir(), t.TempDir()
	s := mustOpen(t, server.Config{Dir: dir})
	defer closeServer(t, s)
	key := func(name string) seal.Options { return seal.Options{Kind: "file", KeyFile: filepath.Join(keys, name)} }
	if _, err := s.AddSeal(t.Context(), "third", key("third")); err != nil {
		t.Fatal(err)
	}
	if _, err := s.RotateSeal(t.Context(), "file", key("next")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(keys, "next")); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveSeal(t.Context(), "third", false); err == nil || !strings.Contains(err.Error(), "no seal but") {
		t.Errorf("the last seal that opens the store was removed: %v", err)
	}
	if err := s.RemoveSeal(t.Context(), "file", false); err != nil {
		t.Error(err)
	}
}

// A store that is gone is not made anew beside what is left of it: its keys would be lost
// for good, and the credentials be others.
func TestStoreGone(t *testing.T) {
	for name, empty := range map[string]bool{"missing": false, "empty": true} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			closeServer(t, mustOpen(t, server.Config{Dir: dir}))
			before, err := os.ReadFile(filepath.Join(dir, "root-credentials"))
			if err != nil {
				t.Fatal(err)
			}
			err = os.Remove(filepath.Join(dir, "store.db"))
			if empty {
				err = os.WriteFile(filepath.Join(dir, "store.db"), nil, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if _, err := open(t, server.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "of another store") {
				t.Errorf("opened: %v", err)
			}
			after, err := os.ReadFile(filepath.Join(dir, "root-credentials"))
			if err != nil || !bytes.Equal(before, after) {
				t.Errorf("the credentials changed: %v", err)
			}
		})
	}
}

// A crash between the store and its first account leaves a store that is finished with
// the same words.
func TestUnfinished(t *testing.T) {
	dir := t.TempDir()
	c := server.Config{Dir: dir, NewAccount: "123456789012", Logger: slog.New(slog.DiscardHandler)}
	if err := os.Mkdir(filepath.Join(dir, "root-credentials"), 0o700); err != nil { // so that it fails there
		t.Fatal(err)
	}
	if _, err := server.Open(t.Context(), c); err == nil {
		t.Fatal("opened")
	}
	if err := os.Remove(filepath.Join(dir, "root-credentials")); err != nil {
		t.Fatal(err)
	}
	s, err := server.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	closeServer(t, s)
	c.NewAccount = "111122223333"
	if s, err = server.Open(t.Context(), c); err != nil { // of which there is no need any more
		t.Fatal(err)
	}
	closeServer(t, s)
}

// Metrics are where they were asked for, and nowhere else.
func TestMetricsApart(t *testing.T) {
	for apart, want := range map[bool]int{false: 200, true: 404} {
		s := mustOpen(t, server.Config{RootKeys: rootKeys, MetricsApart: apart, Connections: front.NewConnections(1)})
		for _, ask := range []struct {
			h      http.Handler
			status int
		}{{s.Handler(), want}, {s.Metrics(), 200}} {
			w := httptest.NewRecorder()
			ask.h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			if w.Code != ask.status || ask.status == 200 && !strings.Contains(w.Body.String(), "claviger_connections_open 0") {
				t.Errorf("apart %v: %d, %s", apart, w.Code, w.Body)
			}
		}
		closeServer(t, s)
	}
}

// TestMissingKeyFile: a store that exists never gets a new root key.
func TestMissingKeyFile(t *testing.T) {
	dir := t.TempDir()
	closeServer(t, mustOpen(t, server.Config{Dir: dir}))
	other := filepath.Join(t.TempDir(), "none.key")
	if _, err := open(t, server.Config{Dir: dir, Seals: []seal.Options{{Kind: "file", KeyFile: other}}}); err == nil {
		t.Error("Open without the root key succeeded")
	}
	if _, err := os.Stat(other); err == nil {
		t.Error("a root key was made for a store that has one")
	}
}

// TestReadAuditStateCreatesNothing: tools that read do not initialise.
func TestReadAuditStateCreatesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "typo")
	if _, err := server.ReadAuditState(t.Context(), server.Config{Dir: dir}); err == nil {
		t.Error("ReadAuditState of nothing succeeded")
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("ReadAuditState made a directory")
	}
}

// TestOneLogOneServer: two servers do not write one audit log.
func TestOneLogOneServer(t *testing.T) {
	dir := t.TempDir()
	keys := []server.Credentials{{ID: "test", Secret: "test"}}
	s := mustOpen(t, server.Config{AuditDir: dir, RootKeys: keys})
	defer closeServer(t, s)
	if _, err := open(t, server.Config{AuditDir: dir, RootKeys: keys}); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("a second server on the log: %v", err)
	}
}

// TestSettlesAfterCrash: an intent whose outcome a crash took with it is settled
// by what the store says.
func TestSettlesAfterCrash(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, server.Config{Dir: dir})
	e := s.Log.Begin(audit.Record{RequestID: "crashed", EventName: "CreateKey"})
	if err := e.Intend(); err != nil { // and then nothing
		t.Fatal(err)
	}
	closeServer(t, s)
	closeServer(t, mustOpen(t, server.Config{Dir: dir}))
	text, err := os.ReadFile(filepath.Join(server.AuditDir(dir), "audit-000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte(`"phase":"settled","committed":false`)) {
		t.Errorf("not settled: %s", text)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	s := mustOpen(t, server.Config{Dir: t.TempDir()})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	stop()
	<-done
	closeServer(t, s)
}

// Two rotations at once leave one key that opens the store.
func TestConcurrentRotations(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, server.Config{Dir: dir})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := s.RotateSeal(t.Context(), "file", seal.Options{Kind: "file"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	closeServer(t, s)
	closeServer(t, mustOpen(t, server.Config{Dir: dir}))
}
