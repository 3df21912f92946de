// Package front is where connections come in: TLS and its certificates, HTTP, and the
// bounds that keep strangers from taking the place of callers.
package front

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of every connection.
const (
	MaxHeader     = 32 << 10 // bytes
	headerTime    = 10 * time.Second
	requestTime   = 30 * time.Second
	idleTime      = 2 * time.Minute
	drainTime     = 20 * time.Second
	streams       = 32 // requests at once on one HTTP/2 connection
	pingAfter     = 30 * time.Second
	uploadBuffer  = 1 << 20 // bytes that one HTTP/2 connection may send ahead
	requestBuffer = 256 << 10
)

// newServer sets every bound that net/http leaves open.
func newServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: requestTime, WriteTimeout: requestTime, IdleTimeout: idleTime,
		MaxHeaderBytes: MaxHeader, ConnContext: withConn,
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug), // strangers must not be able to fill a log
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams, SendPingTimeout: pingAfter,
			MaxReceiveBufferPerConnection: uploadBuffer, MaxReceiveBufferPerStream: requestBuffer},
	}
}

// Serve answers on each listener by its handler until ctx ends, then lets requests in
// flight finish, for 20 seconds at most. Listeners give out TLS connections already, or
// plain ones.
func Serve(ctx context.Context, listeners []net.Listener, handlers []http.Handler) error {
	done := make(chan error, len(listeners))
	var servers []*http.Server
	for i, l := range listeners {
		hs := newServer(handlers[i])
		servers = append(servers, hs)
		go func() { done <- hs.Serve(l) }()
	}
	var err error
	waiting := len(servers)
	select {
	case err = <-done:
		waiting--
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer cancel()
	var wg sync.WaitGroup
	failed := make([]error, len(servers))
	for i, hs := range servers {
		wg.Go(func() { failed[i] = hs.Shutdown(drain) })
	}
	wg.Wait()
	for i, hs := range servers { // who has not finished by now is a stranger, or hopeless
		if errors.Is(failed[i], context.DeadlineExceeded) {
			failed[i] = hs.Close()
		}
	}
	for range waiting {
		<-done // http.ErrServerClosed
	}
	return errors.Join(append(failed, err)...)
}
