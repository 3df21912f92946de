package audit

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func openLog(t *testing.T, dir string) *Log {
	t.Helper()
	l, err := Open(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func add(t *testing.T, l *Log, n int) {
	t.Helper()
	for i := range n {
		if _, err := l.Append(&Record{EventName: fmt.Sprintf("Event%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestLogContinuesItsChain(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		l := openLog(t, dir)
		add(t, l, 5)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	head, err := Verify(dir, Head{})
	if err != nil || head.Sequence != 15 {
		t.Errorf("Verify = %v, %v; want 15 lines", head, err)
	}
}

func TestConcurrentAppends(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	ctx, stop := context.WithCancel(t.Context())
	var running, writers sync.WaitGroup
	running.Go(func() { l.Run(ctx) })
	for range 8 {
		writers.Go(func() { add(t, l, 50) })
	}
	writers.Wait()
	stop()
	running.Wait()
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	report, err := Verify(dir, head)
	got := report.Head
	if err != nil || got != head || got.Sequence != 400 {
		t.Errorf("Verify = %v, %v; want %v", got, err, head)
	}
}

// TestTampering changes a log in every way and expects the place to be named.
func TestTampering(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, 6)
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(bytes.TrimSpace(text), []byte("\n"))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	tests := []struct {
		name string
		text []byte
		line int
	}{
		{"a word changed", bytes.Replace(text, []byte("Event2"), []byte("Event9"), 1), 4},
		{"a line dropped", join(lines[0], lines[2], lines[3], lines[4], lines[5]), 2},
		{"two lines swapped", join(lines[0], lines[2], lines[1], lines[3], lines[4], lines[5]), 2},
		{"the tail cut", join(lines[:4]...), 4},
		{"the last line changed", bytes.Replace(text, []byte("Event5"), []byte("Event9"), 1), 6},
		{"a line that is no record", append(bytes.Clone(text), "\nnothing\n"...), 7},
		{"everything removed", nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := os.WriteFile(path, tt.text, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Verify(dir, head)
			var chain *ChainError
			if !errors.As(err, &chain) || chain.Line != tt.line {
				t.Errorf("Verify = %v, want an error at line %d", err, tt.line)
			}
		})
	}
}

// TestMissingSegment: a log with a file missing in the middle is not a log.
func TestMissingSegment(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, segmentName(3)), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var chain *ChainError
	if _, err := Verify(dir, Head{}); !errors.As(err, &chain) {
		t.Errorf("Verify = %v, want a ChainError", err)
	}
	if _, err := Open(Config{Dir: dir}); !errors.As(err, &chain) {
		t.Errorf("Open = %v, want a ChainError", err)
	}
	if _, err := Verify(t.TempDir(), Head{}); err == nil {
		t.Error("Verify of an empty directory succeeded")
	}
}

// TestClosed: a state change is closed only once its outcome is on disk.
func TestClosed(t *testing.T) {
	var closed []string
	l, err := Open(Config{Dir: t.TempDir(), Closed: func(id string) { closed = append(closed, id) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"a", "unknown"} {
		e := l.Begin(Record{RequestID: id})
		if err := e.Intend(); err != nil {
			t.Fatal(err)
		}
		if id == "a" {
			e.Claviger.Committed = new(true)
		}
		if err := e.End(); err != nil {
			t.Fatal(err)
		}
	}
	if l.Synced().Sequence != 3 || len(closed) != 1 { // the second intent was synced, and with it the first outcome
		t.Errorf("synced to %d, closed %q", l.Synced().Sequence, closed)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if len(closed) != 1 || closed[0] != "a" {
		t.Errorf("closed: %q, want a", closed)
	}
}

// TestCutLine opens a log whose last write a crash has cut.
func TestCutLine(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, 2)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(1))
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"eventVersion":"1.11","claviger":{"seq`); err != nil {
		t.Fatal(err)
	}
	f.Close()
	l = openLog(t, dir)
	add(t, l, 1)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if head, err := Verify(dir, Head{}); err != nil || head.Sequence != 3 {
		t.Errorf("Verify = %v, %v; want 3 lines", head, err)
	}
}

func TestSettle(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	for _, id := range []string{"done", "lost", "finished"} {
		e := l.Begin(Record{RequestID: id, EventName: "CreateKey"})
		for range 2 { // once is enough
			if err := e.Intend(); err != nil {
				t.Fatal(err)
			}
		}
		if id == "finished" {
			e.Claviger.Committed = new(true)
			if err := e.End(); err != nil {
				t.Fatal(err)
			}
		}
	}
	l.Close()
	l = openLog(t, dir)
	c, err := ReadChanges(dir, Head{}, nobody)
	if err != nil || len(c.Open) != 2 || c.Missing != 3 {
		t.Fatalf("Changes = %+v, %v; want 2 open and line 3 committed", c, err)
	}
	if err := l.Settle(c.Open, func(id string) bool { return id == "done" }); err != nil {
		t.Fatal(err)
	}
	if c, err := ReadChanges(dir, Head{}, nobody); err != nil || len(c.Open) != 0 {
		t.Errorf("Changes after Settle = %+v, %v; want none open", c, err)
	}
	l.Close()
	text, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(text)) {
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Claviger.Phase == Settled {
			got[r.RequestID] = fmt.Sprint(*r.Claviger.Committed)
		}
	}
	if got["done"] != "true" || got["lost"] != "false" || len(got) != 2 {
		t.Errorf("settled: %v", got)
	}
	if _, err := Verify(dir, Head{}); err != nil {
		t.Error(err)
	}
}

// TestBrokenLog: after a failed write nothing more counts as recorded.
func TestBrokenLog(t *testing.T) {
	l := openLog(t, t.TempDir())
	l.file.Close() // the next write fails
	if _, err := l.Append(&Record{}); !errors.Is(err, ErrBroken) {
		t.Errorf("Append = %v, want ErrBroken", err)
	}
	if _, err := l.Append(&Record{}); !errors.Is(err, ErrBroken) {
		t.Errorf("a second Append = %v, want ErrBroken", err)
	}
	if !errors.Is(l.Err(), ErrBroken) {
		t.Errorf("Err = %v, want ErrBroken", l.Err())
	}
}

// TestHoles: a crash has left the last lines with holes, in any order. They are
// removed, the whole ones among them too, but none that is known to be on disk.
func TestHoles(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, 10)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(1))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(whole, []byte("\n"))
	start := len(bytes.Join(lines[:6], nil)) // of line 7
	for name, hole := range map[string][2]int{
		"a line and its end": {start, start + len(lines[6])}, "inside": {start + 20, start + 30}, "the end of a line": {start + len(lines[6]) - 1, start + len(lines[6])},
		"the chain": {start + bytes.Index(lines[6], []byte("previous")), start + len(lines[6]) - 2}, "all": {start, len(whole)},
	} {
		text := bytes.Clone(whole)
		clear(text[hole[0]:hole[1]])
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(Config{Dir: dir, Anchor: Head{7, hashOf(lines[6])}}); err == nil {
			t.Errorf("%s: Open = nil for a hole in line 7, which was on disk", name)
		}
		if left, err := os.ReadFile(path); err != nil || !bytes.Equal(left, text) {
			t.Errorf("%s: it changed what it refused, %v", name, err)
		}
		l, err := Open(Config{Dir: dir, Anchor: Head{6, hashOf(bytes.TrimSuffix(lines[5], []byte("\n")))}})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l.Head().Sequence != 6 || l.Removed() != int64(len(whole)-start) {
			t.Errorf("%s: the end is %v, with %d bytes removed", name, l.Head(), l.Removed())
		}
		add(t, l, 2)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if head, err := Verify(dir, Head{}); err != nil || head.Sequence != 8 {
			t.Errorf("%s: Verify = %v, %v", name, head, err)
		}
	}
}

func TestMemoryLogForgetsTheOldest(t *testing.T) {
	l, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	add(t, l, KeepInMemory+1)
	lines := l.Recent()
	if len(lines) != KeepInMemory || !bytes.Contains(lines[0], []byte(`"Event1"`)) {
		t.Errorf("%d lines, the first %s", len(lines), lines[0])
	}
}

func TestParametersHideSecrets(t *testing.T) {
	type inner struct {
		Secret *string `json:"Secret,omitzero" secret:"true"`
		Open   *string `json:"Open,omitzero"`
	}
	type request struct {
		KeyID     *string           `json:"KeyId,omitzero"`
		Plaintext []byte            `json:"Plaintext,omitzero"`
		Password  *string           `json:"Password,omitzero" secret:"true"`
		Context   map[string]string `json:"EncryptionContext,omitzero"`
		Inner     *inner            `json:"Inner,omitzero"`
		Tags      []inner           `json:"Tags,omitzero"`
		Number    *int32            `json:"Number,omitzero"`
	}
	in := &request{KeyID: new("k"), Plaintext: []byte("canary"), Password: new("canary"), Context: map[string]string{"b": "2", "a": "1"},
		Inner: &inner{new("canary"), new("o")}, Tags: []inner{{Open: new("t")}}, Number: new(int32(7))}
	want := `{"keyId":"k","encryptionContext":{"a":"1","b":"2"},"inner":{"open":"o"},"tags":[{"open":"t"}],"number":7}`
	if got := string(Parameters(in)); got != want {
		t.Errorf("Parameters = %s, want %s", got, want)
	}
	if got := Parameters(&request{Plaintext: []byte("canary")}); got != nil {
		t.Errorf("Parameters of nothing to show = %s", got)
	}
}

// FuzzVerify feeds Verify anything: it must neither panic nor accept a line it
// did not write.
func FuzzVerify(f *testing.F) {
	f.Add([]byte("{}\n"))
	f.Add([]byte(`{"claviger":{"sequence":1,"previous":""}}` + "\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, segmentName(1)), text, 0o600); err != nil {
			t.Fatal(err)
		}
		head, err := Verify(dir, Head{})
		if err == nil && head.Sequence > uint64(bytes.Count(text, []byte("\n"))) {
			t.Fatalf("%d lines verified of %q", head.Sequence, text)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l, err := Open(Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	r := Record{EventVersion: "1.11", EventTime: time.Now(), EventSource: "kms.amazonaws.com", EventName: "Encrypt", AWSRegion: "us-east-1",
		UserIdentity: &Identity{Type: "IAMUser", ARN: "arn:aws:iam::111122223333:user/alice"}, RequestID: "r", EventID: "e",
		Claviger: Extra{Decisions: []Decision{{Action: "kms:Encrypt", Resource: "arn", Outcome: "Allowed"}}}}
	for b.Loop() {
		if _, err := l.Append(&r); err != nil {
			b.Fatal(err)
		}
	}
}

// A change far back in a log tells of an older store, also when it is not in the newest files.
func TestReadChangesFarBack(t *testing.T) {
	line := func(sequence uint64, phase Phase, committed *bool) string {
		text, err := (&Record{RequestID: "r", Claviger: Extra{Sequence: sequence, Phase: phase, Committed: committed}}).appendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	dir := writeSegments(t, line(1, "", nil), line(2, "", nil)+line(3, Intent, nil), line(4, Outcome, new(true)), line(5, "", nil), line(6, "", nil), line(7, "", nil))
	for since, want := range map[uint64]uint64{1: 3, 2: 3, 3: 3, 6: 0} {
		if c, err := ReadChanges(dir, Head{Sequence: since}, nobody); err != nil || c.Missing != want || len(c.Open) != 0 {
			t.Errorf("since line %d: %+v, %v; want %d", since, c, err, want)
		}
	}
}

// nobody has a mark.
func nobody(string) bool { return false }

// A change that was under way when a store was copied is missing in the copy, unless it has
// its mark.
func TestMissingUnderWay(t *testing.T) {
	line := func(sequence uint64, id string, phase Phase, committed *bool) string {
		text, err := (&Record{RequestID: id, Claviger: Extra{Sequence: sequence, Phase: phase, Committed: committed}}).appendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	dir := writeSegments(t, line(1, "a", Intent, nil)+line(2, "b", Intent, nil)+line(3, "b", Outcome, new(true))+line(4, "a", Outcome, new(true)))
	for _, tt := range []struct {
		since  uint64
		marked string
		want   uint64
	}{{2, "b", 1}, {2, "a", 2}, {3, "", 1}, {3, "a", 0}, {4, "", 0}, {1, "", 2}} {
		c, err := ReadChanges(dir, Head{Sequence: tt.since}, func(id string) bool { return id == tt.marked })
		if err != nil || c.Missing != tt.want {
			t.Errorf("since line %d, with a mark of %q: %d is missing, %v; want %d", tt.since, tt.marked, c.Missing, err, tt.want)
		}
	}
}
