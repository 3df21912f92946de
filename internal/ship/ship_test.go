package ship_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claviger/claviger/internal/leakcheck"
	"github.com/claviger/claviger/internal/ship"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Run(m)) }

var quiet = slog.New(slog.DiscardHandler)

// A memory keeps what is sent; it fails while failing is set, and waits for gate if
// that is not nil.
type memory struct {
	mu      sync.Mutex
	got     bytes.Buffer
	failing bool
	gate    chan struct{}
}

func (m *memory) Send(ctx context.Context, lines []byte) error {
	if m.gate != nil {
		select {
		case <-m.gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failing {
		return errors.New("out of order")
	}
	m.got.Write(lines)
	return nil
}

func (m *memory) text() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.got.String()
}

func start(t *testing.T, c *ship.Copier) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		wg.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func TestCopies(t *testing.T) {
	m := &memory{}
	c := ship.New("memory", m, quiet)
	stop := start(t, c)
	var want strings.Builder
	for range 1000 {
		c.Write([]byte("a line\n"))
		want.WriteString("a line\n")
	}
	stop()
	if err := c.Close(); err != nil { // which sends what is left
		t.Fatal(err)
	}
	if m.text() != want.String() || c.Sent() != 1000 || c.Dropped() != 0 {
		t.Errorf("sent %d, dropped %d, %d bytes", c.Sent(), c.Dropped(), len(m.text()))
	}
}

// A destination that takes nothing makes nobody wait: what does not fit is dropped and
// counted, whole lines at a time.
func TestStuckDestination(t *testing.T) {
	m := &memory{gate: make(chan struct{})}
	c := ship.New("stuck", m, quiet)
	stop := start(t, c)
	line := append(bytes.Repeat([]byte("x"), 1<<20), '\n')
	for range 40 {
		c.Write(line)
	}
	if c.Dropped() < 20 || c.Dropped() > 25 {
		t.Errorf("%d of 40 lines of a megabyte are dropped", c.Dropped())
	}
	close(m.gate)
	stop()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(m.text(), "\n"); uint64(got)+c.Dropped() != 40 || strings.Trim(m.text(), "x\n") != "" {
		t.Errorf("%d lines sent and %d dropped of 40", got, c.Dropped())
	}
}

// What a destination refuses is sent again, later and later.
func TestRefusingDestination(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{failing: true}
		c := ship.New("refusing", m, quiet)
		stop := start(t, c)
		c.Write([]byte("first\n"))
		time.Sleep(10 * time.Minute)
		m.mu.Lock()
		m.failing = false
		m.mu.Unlock()
		c.Write([]byte("second\n"))
		time.Sleep(2 * time.Minute)
		if m.text() != "first\nsecond\n" {
			t.Errorf("sent %q", m.text())
		}
		stop()
	})
}

// What a destination does not take before the end is counted.
func TestCloseInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{failing: true}
		c := ship.New("refusing", m, quiet)
		stop := start(t, c)
		c.Write([]byte("first\nsecond\n"))
		time.Sleep(time.Minute)
		stop()
		c.Write([]byte("last\n"))
		if err := c.Close(); err != nil || c.Sent() != 0 || c.Dropped() != 3 {
			t.Errorf("%v, %d sent, %d dropped", err, c.Sent(), c.Dropped())
		}
	})
}

func TestWebhook(t *testing.T) {
	status := http.StatusNoContent
	var body, authorization, contentType string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		body, authorization, contentType = string(text), r.Header.Get("Authorization"), r.Header.Get("Content-Type")
		w.WriteHeader(status)
	}))
	defer srv.Close()
	w := &ship.Webhook{URL: srv.URL, Token: "secret", Client: srv.Client()}
	if err := w.Send(t.Context(), []byte("{}\n{}\n")); err != nil || body != "{}\n{}\n" || authorization != "Bearer secret" || contentType != "application/x-ndjson" {
		t.Errorf("Send = %v: %q, %q, %q", err, body, authorization, contentType)
	}
	status = http.StatusBadGateway
	if err := w.Send(t.Context(), []byte("{}\n")); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Send to a server that fails = %v", err)
	}
	srv.Close()
	if w.Send(t.Context(), []byte("{}\n")) == nil {
		t.Error("Send to nobody succeeded")
	}
}

func TestSyslogStream(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := ship.NewSyslog("tcp://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Send(t.Context(), []byte("{\"a\":1}\n{\"b\":2}\n")); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, want := range []string{`{"a":1}`, `{"b":2}`} {
		message := counted(t, r)
		if !strings.HasPrefix(message, "<86>1 20") || !strings.HasSuffix(message, " audit - "+want) || strings.Count(message, " ") != 7 {
			t.Errorf("message %q", message)
		}
	}
}

// counted reads a message behind its length (RFC 6587).
func counted(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	n := 0
	for {
		c, err := r.ReadByte()
		if err != nil {
			t.Fatal(err)
		}
		if c == ' ' {
			break
		}
		n = n*10 + int(c-'0')
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestSyslogDatagrams(t *testing.T) {
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	path := filepath.Join(t.TempDir(), "log")
	unix, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	for target, from := range map[string]net.PacketConn{"udp://" + udp.LocalAddr().String(): udp, "unix:" + path: unix} {
		s, err := ship.NewSyslog(target)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Send(t.Context(), []byte("{\"a\":1}\n")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 1000)
		n, _, err := from.ReadFrom(b)
		if err != nil || !strings.HasSuffix(string(b[:n]), `audit - {"a":1}`) {
			t.Errorf("%s: %q, %v", target, b[:n], err)
		}
	}
}

func TestBadSyslog(t *testing.T) {
	for _, target := range []string{"", "host:514", "udp://host", "unix:", "http://host:1"} {
		if _, err := ship.NewSyslog(target); err == nil {
			t.Errorf("%q is a target", target)
		}
	}
	s, err := ship.NewSyslog("unix:" + filepath.Join(t.TempDir(), "nothing"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Send(t.Context(), []byte("x\n")) == nil {
		t.Error("Send to nobody succeeded")
	}
}
