package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/tools/kmsclient"
)

// A target is something that answers requests.
type target struct {
	name, url string
	requests  []*http.Request
	bodies    [][]byte
}

// newTarget makes many distinct requests for one operation: each has a body of its own,
// and they are signed for different seconds.
func newTarget(name, url, operation, path string, bodies [][]byte) (*target, error) {
	t := &target{name: name, url: url, bodies: bodies}
	now := time.Now()
	for i, body := range bodies {
		r, err := kmsclient.NewRequest(url, region, operation, body, now.Add(-time.Duration(i%60)*time.Second))
		if err != nil {
			return nil, err
		}
		r.URL.Path = path // the limit reads no signature
		t.requests = append(t.requests, r)
	}
	return t, nil
}

func call(url, operation string, body []byte) ([]byte, error) {
	return kmsclient.Call(http.DefaultClient, url, region, operation, body)
}

const region = "us-east-1"

// pinned runs a program on one core.
func pinned(core string, name string, args ...string) *exec.Cmd {
	return exec.Command("taskset", append([]string{"-c", core, name}, args...)...)
}

var rate = regexp.MustCompile(`Requests/sec:\s+([0-9.]+)`)

// throughput is how many answers a second wrk gets.
func (t *target) throughput(dir string, span time.Duration) (float64, error) {
	script := filepath.Join(dir, "requests.lua")
	var b strings.Builder
	b.WriteString("local all = {}\n")
	for i, r := range t.requests {
		var raw bytes.Buffer
		r.Body = io.NopCloser(bytes.NewReader(t.bodies[i]))
		if err := r.Write(&raw); err != nil {
			return 0, err
		}
		fmt.Fprintf(&b, "all[%d] = %s\n", i+1, luaString(raw.String()))
	}
	b.WriteString("local i = 0\nfunction request()\n  i = i % #all + 1\n  return all[i]\nend\n")
	if err := os.WriteFile(script, []byte(b.String()), 0o600); err != nil {
		return 0, err
	}
	out, err := pinned(clientCore, "wrk", "-t1", "-c"+strconv.Itoa(*connections), "-d"+span.String(), "-s", script, t.url).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, out)
	}
	m := rate.FindSubmatch(out)
	if m == nil || bytes.Contains(out, []byte("Non-2xx")) || bytes.Contains(out, []byte("Socket errors")) {
		return 0, fmt.Errorf("%s: %s", t.name, out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

func luaString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\%03d`, c)
	}
	b.WriteByte('"')
	return b.String()
}

// errTooSlow reports that vegeta did not manage the rate: the machine was busy.
var errTooSlow = errors.New("vegeta did not manage the rate")

// latency is the 99th percentile of answers to so many requests a second, by vegeta.
func (t *target) latency(dir, vegeta string, rate float64, span time.Duration) (time.Duration, error) {
	type one struct {
		Method string      `json:"method"`
		URL    string      `json:"url"`
		Header http.Header `json:"header"`
		Body   []byte      `json:"body"`
	}
	targets := filepath.Join(dir, "targets.json")
	f, err := os.Create(targets)
	if err != nil {
		return 0, err
	}
	for i, r := range t.requests {
		b, err := json.Marshal(one{r.Method, t.url + r.URL.Path, r.Header, t.bodies[i]})
		if err != nil {
			return 0, err
		}
		_, _ = f.Write(append(b, '\n'))
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	results := filepath.Join(dir, "results")
	n := strconv.Itoa(*connections)
	out, err := pinned(clientCore, vegeta, "attack", "-format", "json", "-targets", targets, "-rate", strconv.Itoa(int(rate))+"/s", "-duration", span.String(),
		"-connections", n, "-workers", n, "-max-workers", n, "-output", results).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("vegeta: %w: %s", err, out)
	}
	out, err = exec.Command(vegeta, "report", "-type", "json", results).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("vegeta: %w: %s", err, out)
	}
	var report struct {
		Success    float64 `json:"success"`
		Throughput float64 `json:"throughput"`
		Latencies  struct {
			P99 time.Duration `json:"99th"`
		} `json:"latencies"`
	}
	if err := json.Unmarshal(out, &report); err != nil {
		return 0, err
	}
	if report.Success < 1 {
		return 0, fmt.Errorf("vegeta: %s", out)
	}
	if report.Throughput < 0.95*rate {
		return 0, errTooSlow
	}
	return report.Latencies.P99, nil
}
