package peer

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/leakcheck"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Run(m)) }

type plainSeal struct{}

func (plainSeal) Kind() string                    { return "plain" }
func (plainSeal) Wrap(b []byte) ([]byte, error)   { return slices.Clone(b), nil }
func (plainSeal) Unwrap(b []byte) ([]byte, error) { return slices.Clone(b), nil }

func openStore(t *testing.T) *store.DB {
	t.Helper()
	e, err := bolt.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), e, plainSeal{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// serve answers at a desk, and keeps what it was asked.
func serve(t *testing.T, d *Desk) (url string, last *[]byte) {
	last = new([]byte)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*last, _ = io.ReadAll(r.Body)
		q, err := d.Open(*last)
		if err != nil {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		text, err := d.Answer(r.Context(), q)
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(text)
	}))
	t.Cleanup(s.Close)
	return s.URL, last
}

// Nodes understand each other; nobody else understands them, or is understood.
func TestAsk(t *testing.T) {
	db := openStore(t) // of a node without a name
	asker := New(db, nil)
	defer asker.Close()
	url, last := serve(t, NewDesk(db, map[string]Answerer{"it": func(_ context.Context, body []byte) ([]byte, error) {
		if string(body) == "fail" {
			return nil, errors.New("no")
		}
		return append([]byte("you asked "), body...), nil
	}}))
	answer, err := asker.Ask(t.Context(), "", url, "it", []byte("something secret"))
	if err != nil || string(answer) != "you asked something secret" {
		t.Fatalf("Ask = %q, %v", answer, err)
	}
	if strings.Contains(string(*last), "secret") {
		t.Error("the question can be read on its way")
	}
	if _, err := asker.Ask(t.Context(), "", url, "it", []byte("fail")); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("a node that cannot answer: %v", err)
	}
	if _, err := asker.Ask(t.Context(), "another", url, "it", nil); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a question to another node: %v", err)
	}
	if _, err := asker.Ask(t.Context(), "", url, "the weather", nil); err == nil || !strings.Contains(err.Error(), "500") {
		t.Errorf("a question about what nobody answers: %v", err)
	}
	stranger := New(openStore(t), nil)
	defer stranger.Close()
	if _, err := stranger.Ask(t.Context(), "", url, "it", nil); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("a stranger's question: %v", err)
	}
	other, _ := serve(t, NewDesk(openStore(t), nil))
	if _, err := asker.Ask(t.Context(), "", other, "it", nil); err == nil {
		t.Error("a stranger answers")
	}
	liar := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("yes")) }))
	defer liar.Close()
	if _, err := asker.Ask(t.Context(), "", liar.URL, "it", nil); err == nil || !strings.Contains(err.Error(), "does not share this store") {
		t.Errorf("an answer that nobody sealed: %v", err)
	}
	redirect := httptest.NewServer(http.RedirectHandler(url+Path, http.StatusTemporaryRedirect))
	defer redirect.Close()
	if _, err := asker.Ask(t.Context(), "", redirect.URL, "it", nil); err == nil || !strings.Contains(err.Error(), "307") {
		t.Errorf("a redirect: %v", err)
	}
}
