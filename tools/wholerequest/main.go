// Wholerequest measures a whole signed, authorized and audited Encrypt over
// keep-alive HTTP against the limit: a handler in the same process that reads
// the body and answers the same bytes. Server and load generator are processes
// that share the machine; runs alternate, and the median of the ratios is printed.
package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

var (
	serveFlag   = flag.Bool("serve", false, "be the server process")
	auditDir    = flag.String("audit-dir", "", "of the server process")
	connections = flag.Int("connections", 16, "keep-alive connections")
	rounds      = flag.Int("rounds", 5, "alternations")
	span        = flag.Duration("span", 2*time.Second, "length of one measurement")
	profile     = flag.String("profile", "", "write a CPU profile of the server process to this file")
	operation   = flag.String("operation", "Encrypt", "Encrypt, Decrypt or GenerateDataKey")
)

func main() {
	flag.Parse()
	run := measure
	if *serveFlag {
		run = serve
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "wholerequest:", err)
		os.Exit(1)
	}
}

// serve serves the API, and under /limit the limit: it answers what the first
// request to /set brought.
func serve() error {
	debug.SetGCPercent(800) // as claviger serve does
	s, err := server.Open(context.Background(), server.Config{Account: "111122223333", AuditDir: *auditDir,
		RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	var answer atomic.Pointer[[]byte]
	mux := http.NewServeMux()
	mux.Handle("/", s.Handler())
	mux.HandleFunc("/set", func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		answer.Store(&b)
	})
	mux.HandleFunc("/limit", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		h := w.Header() // the same bytes, head and body
		h["Content-Type"], h["X-Amzn-Requestid"] = []string{"application/x-amz-json-1.1"}, []string{"00000000-0000-4000-8000-000000000000"}
		h["Cache-Control"] = []string{"no-cache, no-store, must-revalidate, private"}
		_, _ = w.Write(*answer.Load())
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go s.Run(context.Background())
	if *profile != "" {
		f, err := os.Create(*profile)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		mux.HandleFunc("/profile", func(http.ResponseWriter, *http.Request) { pprof.StopCPUProfile() })
	}
	return http.Serve(l, mux)
}

func measure() error {
	dir, err := os.MkdirTemp("", "wholerequest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	server := exec.Command(os.Args[0], "-serve", "-audit-dir", dir, "-profile", *profile)
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer server.Process.Kill()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	address := strings.TrimSpace(line)
	body, answer, err := prepare(address)
	if err != nil {
		return err
	}
	if _, err := http.Post("http://"+address+"/set", "", bytes.NewReader(answer)); err != nil {
		return err
	}
	if err := compare(address, body); err != nil {
		return err
	}
	_, err = http.Get("http://" + address + "/profile")
	return err
}

// prepare makes a key and returns the body to send and an answer to it.
func prepare(address string) (body, answer []byte, err error) {
	created, err := call(address, "CreateKey", []byte(`{}`))
	if err != nil {
		return nil, nil, err
	}
	_, after, _ := strings.Cut(string(created), `"KeyId":"`)
	id, _, _ := strings.Cut(after, `"`)
	sealed, err := call(address, "Encrypt", []byte(`{"KeyId":"`+id+`","Plaintext":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=","EncryptionContext":{"purpose":"bench"}}`))
	if err != nil {
		return nil, nil, err
	}
	_, after, _ = strings.Cut(string(sealed), `"CiphertextBlob":"`)
	blob, _, _ := strings.Cut(after, `"`)
	bodies := map[string]string{
		"Encrypt":         `{"KeyId":"` + id + `","Plaintext":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=","EncryptionContext":{"purpose":"bench"}}`,
		"Decrypt":         `{"CiphertextBlob":"` + blob + `","EncryptionContext":{"purpose":"bench"}}`,
		"GenerateDataKey": `{"KeyId":"` + id + `","KeySpec":"AES_256"}`,
	}
	body = []byte(bodies[*operation])
	answer, err = call(address, *operation, body)
	return body, answer, err
}

func request(address, operation string, body []byte, at time.Time) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+address+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("User-Agent", "wholerequest")
	sigv4.Sign(r, body, "test", "test", "", "us-east-1", "kms", at)
	return r, nil
}

func call(address, operation string, body []byte) ([]byte, error) {
	r, err := request(address, operation, body, time.Now())
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", operation, text)
	}
	return text, err
}

// compare alternates between the API and the limit.
func compare(address string, body []byte) error {
	var ratios []float64
	for range *rounds {
		now := time.Now()
		var raw [][]byte // distinct requests: each signed for another second
		for i := range 60 {
			r, err := request(address, *operation, body, now.Add(-time.Duration(i)*time.Second))
			if err != nil {
				return err
			}
			var b bytes.Buffer
			if err := r.Write(&b); err != nil {
				return err
			}
			raw = append(raw, b.Bytes())
		}
		api, err := load(address, raw)
		if err != nil {
			return err
		}
		for i := range raw {
			raw[i] = bytes.Replace(raw[i], []byte("POST / HTTP"), []byte("POST /limit HTTP"), 1)
		}
		limit, err := load(address, raw)
		if err != nil {
			return err
		}
		ratios = append(ratios, api/limit)
		fmt.Printf("%-16s %8.0f/s   limit %8.0f/s   ratio %.2f\n", *operation, api, limit, api/limit)
	}
	slices.Sort(ratios)
	fmt.Printf("median ratio %.2f\n", ratios[len(ratios)/2])
	return nil
}

// load replays raw requests over all connections and returns answers a second.
func load(address string, raw [][]byte) (float64, error) {
	var wg sync.WaitGroup
	var count atomic.Int64
	errs := make(chan error, *connections)
	begin := time.Now()
	for c := range *connections {
		wg.Go(func() {
			if err := replay(address, raw, c, begin.Add(*span), &count); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(count.Load()) / time.Since(begin).Seconds(), nil
	}
}

func replay(address string, raw [][]byte, first int, until time.Time, count *atomic.Int64) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for i := first; time.Now().Before(until); i++ {
		if _, err := conn.Write(raw[i%len(raw)]); err != nil {
			return err
		}
		if err := skipAnswer(r); err != nil {
			return err
		}
		count.Add(1)
	}
	return nil
}

// skipAnswer reads one answer and insists on 200.
func skipAnswer(r *bufio.Reader) error {
	length := 0
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		switch {
		case first && !bytes.Contains(line, []byte(" 200 ")):
			return fmt.Errorf("answered %q", line)
		case bytes.HasPrefix(line, []byte("Content-Length: ")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[16:]))); err != nil {
				return err
			}
		case len(line) == 2:
			_, err := r.Discard(length)
			return err
		}
	}
}
