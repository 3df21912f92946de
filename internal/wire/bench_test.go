package wire_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

// BenchmarkEncrypt is one whole Encrypt without the network: signature, decoding,
// decision, encryption, audit record in a file, answer.
func BenchmarkEncrypt(b *testing.B) {
	s, err := server.Open(b.Context(), server.Config{Account: "111122223333", RootKeys: []server.Credentials{{ID: "test", Secret: "test"}},
		AuditDir: b.TempDir(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	call := func(operation string, body []byte) *http.Request {
		r, err := http.NewRequest(http.MethodPost, "http://127.0.0.1:5670/", bytes.NewReader(body))
		if err != nil {
			b.Fatal(err)
		}
		r.RequestURI, r.RemoteAddr = "/", "127.0.0.1:1"
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", "TrentService."+operation)
		sigv4.Sign(r, body, "test", "test", "", "us-east-1", "kms", time.Now())
		return r
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, call("CreateKey", []byte(`{}`)))
	_, after, _ := strings.Cut(w.Body.String(), `"KeyId":"`)
	id, _, _ := strings.Cut(after, `"`)
	body := []byte(`{"KeyId":"` + id + `","Plaintext":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=","EncryptionContext":{"purpose":"bench"}}`)
	r := call("Encrypt", body)
	reader := bytes.NewReader(body)
	r.Body = io.NopCloser(reader)
	b.ReportAllocs()
	for b.Loop() {
		reader.Reset(body)
		w := &discard{header: http.Header{}}
		s.Handler().ServeHTTP(w, r)
		if w.status != 0 && w.status != http.StatusOK {
			b.Fatal(w.status)
		}
	}
}

type discard struct {
	header http.Header
	status int
}

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(status int)      { d.status = status }
