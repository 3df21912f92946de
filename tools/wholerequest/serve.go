package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"runtime/pprof"
	"sync/atomic"

	"github.com/claviger/claviger/internal/server"
)

// serve serves the API; under /limit the limit, which answers what the first request to
// /set brought; and under /limit/sign the limit with an ECDSA signature over its body.
func serve(auditDir, profile string) error {
	debug.SetGCPercent(800) // as claviger serve does
	s, err := server.Open(context.Background(), server.Config{Account: "111122223333", AuditDir: auditDir,
		RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	var cpu *os.File
	if profile != "" {
		if cpu, err = os.Create(profile); err != nil {
			return err
		}
	}
	var answer atomic.Pointer[[]byte]
	limit := func(w http.ResponseWriter) {
		h := w.Header() // the same bytes, head and body
		h["Content-Type"], h["X-Amzn-Requestid"] = []string{"application/x-amz-json-1.1"}, []string{"00000000-0000-4000-8000-000000000000"}
		h["Cache-Control"] = []string{"no-cache, no-store, must-revalidate, private"}
		_, _ = w.Write(*answer.Load())
	}
	api := s.Handler()
	handler := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/limit":
			_, _ = io.ReadAll(r.Body)
			limit(w)
		case "/limit/sign":
			b, _ := io.ReadAll(r.Body)
			digest := sha256.Sum256(b)
			if _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); err != nil {
				panic(err)
			}
			limit(w)
		case "/set":
			b, _ := io.ReadAll(r.Body)
			answer.Store(&b)
		case "/profile/begin":
			_ = pprof.StartCPUProfile(cpu)
		case "/profile/end":
			pprof.StopCPUProfile()
		default:
			api.ServeHTTP(w, r)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go s.Run(context.Background())
	return http.Serve(l, http.HandlerFunc(handler))
}
