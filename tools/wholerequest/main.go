// Wholerequest measures whole signed, authorized and audited requests over keep-alive HTTP
// against the limit, a handler in the same process that reads the body and answers the same
// bytes, and against another server that needs neither signature nor permission. The server
// has one core and the load generator another; runs alternate, and medians of ratios are
// printed as a table. It needs taskset and wrk; vegeta for latencies, and local-kms for the
// comparison.
package main

import (
	"bufio"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

var (
	serveFlag   = flag.Bool("serve", false, "be the server process")
	auditDir    = flag.String("audit-dir", "", "of the server process")
	connections = flag.Int("connections", 16, "keep-alive connections")
	rounds      = flag.Int("rounds", 5, "alternations")
	span        = flag.Duration("span", 2*time.Second, "length of one measurement")
	profile     = flag.String("profile", "", "write a CPU profile of the server process, answering the API, to this file")
	operations  = flag.String("operations", "Encrypt,Decrypt,GenerateDataKey,Sign", "which are measured")
	vegeta      = flag.String("vegeta", "", "the program; none: no latencies")
	localKMS    = flag.String("local-kms", "", "the program; none: no comparison")
)

// Cores of the two sides.
const serverCore, clientCore = "0", "1"

func main() {
	flag.Parse()
	run := measure
	if *serveFlag {
		run = func() error { return serve(*auditDir, *profile) }
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "wholerequest:", err)
		os.Exit(1)
	}
}

func measure() error {
	dir, err := os.MkdirTemp("", "wholerequest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Mkdir(filepath.Join(dir, "audit"), 0o700); err != nil {
		return err
	}
	server := pinned(serverCore, os.Args[0], "-serve", "-audit-dir", filepath.Join(dir, "audit"), "-profile", *profile)
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
	url := "http://" + strings.TrimSpace(line)
	peer, stop, err := startPeer(dir)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Println("| operation | requests/s | limit/s | of the limit | times local-kms | p99 at 70 % load, times the limit's |\n|---|---|---|---|---|---|")
	for operation := range strings.SplitSeq(*operations, ",") {
		if err := compare(dir, url, peer, operation); err != nil {
			return fmt.Errorf("%s: %w", operation, err)
		}
	}
	return nil
}

// startPeer starts local-kms, if it was named; url is empty if not.
func startPeer(dir string) (url string, stop func(), err error) {
	if *localKMS == "" {
		return "", func() {}, nil
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	peer := pinned(serverCore, *localKMS)
	peer.Env = append(os.Environ(), "PORT="+port, "KMS_DATA_PATH="+dir, "KMS_REGION=us-east-1")
	if err := peer.Start(); err != nil {
		return "", nil, err
	}
	url = "http://127.0.0.1:" + port
	for range 100 {
		if _, err = call(url, "ListKeys", []byte("{}")); err == nil {
			return url, func() { _ = peer.Process.Kill() }, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	_ = peer.Process.Kill()
	return "", nil, err
}

// compare alternates between the API, the limit and the peer.
func compare(dir, url, peer, operation string) error {
	bodies, err := prepare(url, operation)
	if err != nil {
		return err
	}
	answer, err := call(url, operation, bodies[0])
	if err != nil {
		return err
	}
	if err := post(url+"/set", string(answer)); err != nil {
		return err
	}
	limitPath := "/limit"
	if operation == "Sign" {
		limitPath = "/limit/sign"
	}
	var theirs [][]byte
	if peer != "" {
		if theirs, err = prepare(peer, operation); err != nil {
			return err
		}
	}
	var rates, limits, ofLimit, ofPeer, latencies []float64
	for range *rounds { // signed anew each time: signatures are good for minutes
		api, err := newTarget("claviger", url, operation, "/", bodies)
		if err != nil {
			return err
		}
		limit, err := newTarget("limit", url, operation, limitPath, bodies)
		if err != nil {
			return err
		}
		if *profile != "" {
			if err := post(url+"/profile/begin", ""); err != nil {
				return err
			}
		}
		a, err := api.throughput(dir, *span)
		if err != nil {
			return err
		}
		if *profile != "" {
			if err := post(url+"/profile/end", ""); err != nil {
				return err
			}
			*profile = "" // one round of it
		}
		l, err := limit.throughput(dir, *span)
		if err != nil {
			return err
		}
		rates, limits, ofLimit = append(rates, a), append(limits, l), append(ofLimit, a/l)
		if peer != "" {
			other, err := newTarget("local-kms", peer, operation, "/", theirs)
			if err != nil {
				return err
			}
			p, err := other.throughput(dir, *span)
			if err != nil {
				return err
			}
			ofPeer = append(ofPeer, a/p)
		}
		if *vegeta != "" {
			mine, err := api.latency(dir, *vegeta, 0.7*a, *span)
			var bare time.Duration
			if err == nil {
				bare, err = limit.latency(dir, *vegeta, 0.7*a, *span)
			}
			switch {
			case err == nil:
				latencies = append(latencies, float64(mine)/float64(bare))
			case !errors.Is(err, errTooSlow):
				return err
			}
		}
	}
	fmt.Printf("| %s | %.0f | %.0f | %s | %s | %s |\n", operation, median(rates), median(limits), spread(ofLimit), spread(ofPeer), spread(latencies))
	return nil
}

func post(url, body string) error {
	r, err := http.Post(url, "", strings.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// spread is a median, with the least and the most.
func spread(x []float64) string {
	if len(x) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f (%.2f-%.2f)", median(x), slices.Min(x), slices.Max(x))
}

// distinct is how many requests there are.
const distinct = 1000

// prepare makes a key and returns bodies of distinct requests to use it.
func prepare(url, operation string) (bodies [][]byte, err error) {
	spec := `{}`
	if operation == "Sign" {
		spec = `{"CustomerMasterKeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY"}` // the older name, which all servers know
	}
	created, err := call(url, "CreateKey", []byte(spec))
	if err != nil {
		return nil, err
	}
	id := member(created, "KeyId")
	for i := range distinct {
		plaintext := make([]byte, 32)
		for j := range plaintext {
			plaintext[j] = byte(rand.Uint32())
		}
		text := base64.StdEncoding.EncodeToString(plaintext)
		context := fmt.Sprintf(`{"purpose":"bench-%d"}`, i)
		body := map[string]string{
			"Encrypt":         `{"KeyId":"` + id + `","Plaintext":"` + text + `","EncryptionContext":` + context + `}`,
			"GenerateDataKey": `{"KeyId":"` + id + `","KeySpec":"AES_256","EncryptionContext":` + context + `}`,
			"Sign":            `{"KeyId":"` + id + `","Message":"` + text + `","MessageType":"RAW","SigningAlgorithm":"ECDSA_SHA_256"}`,
		}[operation]
		if operation == "Decrypt" {
			sealed, err := call(url, "Encrypt", []byte(`{"KeyId":"`+id+`","Plaintext":"`+text+`","EncryptionContext":`+context+`}`))
			if err != nil {
				return nil, err
			}
			body = `{"CiphertextBlob":"` + member(sealed, "CiphertextBlob") + `","EncryptionContext":` + context + `}`
		}
		bodies = append(bodies, []byte(body))
	}
	return bodies, nil
}

// member is the value of a text member of an answer.
func member(answer []byte, name string) string {
	_, after, _ := strings.Cut(string(answer), `"`+name+`":"`)
	value, _, _ := strings.Cut(after, `"`)
	return value
}
