package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// writeSegments makes a log's files of texts.
func writeSegments(t *testing.T, texts ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, segmentName(i+1)), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// newestLines reads up to n lines.
func newestLines(t *testing.T, dir string, before Place, n int) (lines []string, at Place) {
	t.Helper()
	err := Newest(dir, before, func(line []byte, begin Place) bool {
		lines, at = append(lines, string(line)), begin
		return len(lines) < n
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines, at
}

func TestNewestFirst(t *testing.T) {
	long := strings.Repeat("x", 3*readAhead+7)
	tooLong := strings.Repeat("y", maxLine+1)
	for _, tt := range []struct {
		name  string
		files []string
		want  []string
	}{
		{"nothing", []string{""}, nil},
		{"one line", []string{"a\n"}, []string{"a"}},
		{"several files", []string{"a\nb\n", "c\n", "d\ne\n"}, []string{"e", "d", "c", "b", "a"}},
		{"a new file without a line", []string{"a\n", ""}, []string{"a"}},
		{"a cut tail", []string{"a\nb\n", "c\nd"}, []string{"c", "b", "a"}},
		{"only a cut tail", []string{"a\n", long}, []string{"a"}},
		{"a long line", []string{"a\n" + long + "\nb\n"}, []string{"b", long, "a"}},
		{"a long first line", []string{long + "\n"}, []string{long}},
		{"a line that is too long", []string{"a\n" + tooLong + "\nb\n"}, []string{"b", "a"}},
		{"a line that is much too long", []string{"a\n" + tooLong + tooLong + "\nb\n"}, []string{"b", "a"}},
		{"a first line that is too long", []string{tooLong + "\nb\n"}, []string{"b"}},
		{"empty lines", []string{"\na\n\n\nb\n"}, []string{"b", "a"}},
		{"a line as long as what is read at once", []string{long[:readAhead-1] + "\n" + long[:readAhead] + "\n"}, []string{long[:readAhead], long[:readAhead-1]}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, _ := newestLines(t, writeSegments(t, tt.files...), Place{}, 100)
			if !slices.Equal(got, tt.want) {
				t.Errorf("%d lines: %.80q, want %.80q", len(got), got, tt.want)
			}
		})
	}
}

// TestNewestIsTheReverse compares with the definition, line by line over all the
// places where one call can end and the next go on.
func TestNewestIsTheReverse(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var files, want []string
		for range rapid.IntRange(1, 3).Draw(rt, "files") {
			var text strings.Builder
			for range rapid.IntRange(0, 4).Draw(rt, "lines") {
				line := strings.Repeat("z", rapid.SampledFrom([]int{1, 2, 100, readAhead - 1, readAhead, readAhead + 1, 2 * readAhead}).Draw(rt, "length"))
				want = append(want, line)
				text.WriteString(line + "\n")
			}
			files = append(files, text.String())
		}
		slices.Reverse(want)
		dir := writeSegments(t, files...)
		var got []string
		at := Place{}
		for {
			lines, next := newestLines(t, dir, at, 1)
			if len(lines) == 0 {
				break
			}
			got, at = append(got, lines...), next
		}
		if !slices.Equal(got, want) {
			rt.Fatalf("%d lines, want %d", len(got), len(want))
		}
	})
}

// TestNewestReadsLittle: who stops early has not made the whole file be read.
func TestNewestReadsLittle(t *testing.T) {
	r := &counter{text: []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 1<<20/100*20))}
	n := 0
	more, err := backwards(r, int64(len(r.text)), func([]byte, int64) bool { n++; return n < 1000 })
	if err != nil || more || n != 1000 || r.read > 3*readAhead {
		t.Errorf("%d lines, more %t, %v; %d bytes were read", n, more, err, r.read)
	}
}

type counter struct {
	text []byte
	read int
}

func (c *counter) ReadAt(b []byte, at int64) (int, error) {
	c.read += len(b)
	return bytes.NewReader(c.text).ReadAt(b, at)
}

// TestNewestBesideAppends reads a log, with and without a directory, that is being
// written: always whole lines, without a gap.
func TestNewestBesideAppends(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		l := openLog(t, dir)
		add(t, l, 10)
		var writer sync.WaitGroup
		writer.Go(func() { add(t, l, 300) })
		for range 50 {
			var last uint64
			err := l.Newest(Place{}, func(line []byte, _ Place) bool {
				r := record(t, line)
				if last != 0 && r.Claviger.Sequence != last-1 {
					t.Errorf("line %d after line %d", r.Claviger.Sequence, last)
				}
				last = r.Claviger.Sequence
				return true
			})
			if err != nil || last != 1 {
				t.Fatalf("read to line %d: %v", last, err)
			}
		}
		writer.Wait()
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNewestGoesOn: what was appended or forgotten meanwhile does not matter.
func TestNewestGoesOn(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		l := openLog(t, dir)
		add(t, l, 5)
		var seen []uint64
		at := Place{}
		for range 7 {
			err := l.Newest(at, func(line []byte, begin Place) bool {
				seen, at = append(seen, record(t, line).Claviger.Sequence), begin
				return false
			})
			if err != nil {
				t.Fatal(err)
			}
			add(t, l, 1)
		}
		if !slices.Equal(seen, []uint64{5, 4, 3, 2, 1}) {
			t.Errorf("directory %q: lines %d", dir, seen)
		}
		if dir == "" {
			add(t, l, KeepInMemory)
			if err := l.Newest(Place{1, 3}, func([]byte, Place) bool { t.Error("a forgotten line"); return true }); err != nil {
				t.Error(err)
			}
		}
		if err := l.Newest(Place{9, 9}, func(line []byte, _ Place) bool {
			if got := record(t, line).Claviger.Sequence; got != l.Head().Sequence {
				t.Errorf("behind the end is line %d", got)
			}
			return false
		}); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func record(t *testing.T, line []byte) Record {
	t.Helper()
	r, err := decoded(line)
	if err != nil {
		t.Errorf("%v: %s", err, line)
	}
	return r
}

// at is a line of a record of a time, in hours after midnight.
func at(hour int, phase Phase) string {
	r := Record{EventTime: time.Date(2026, 1, 1, hour, 0, 0, 0, time.UTC), EventName: fmt.Sprint(hour), Claviger: Extra{Phase: phase}}
	line, err := r.appendTo(nil)
	if err != nil {
		panic(err)
	}
	return string(line) + "\n"
}

func hour(h int) time.Time { return time.Date(2026, 1, 1, h, 0, 0, 0, time.UTC) }

// TestOldest: files that end before a time are left out, and no line of after it.
func TestOldest(t *testing.T) {
	dir := writeSegments(t, at(1, "")+at(2, ""), at(0, Settled)+at(6, "")+"nothing\n", at(10, "")+at(11, "")+"cut")
	for _, tt := range []struct {
		name  string
		since time.Time
		lines int
	}{
		{"all", time.Time{}, 7},
		{"a file may hold later lines", hour(6), 7},
		{"one file ends before", hour(8), 5},
		{"two files end before", hour(12), 2},
	} {
		n := 0
		if err := Oldest(dir, tt.since, func([]byte) error { n++; return nil }); err != nil || n != tt.lines {
			t.Errorf("%s: %d lines, %v; want %d", tt.name, n, err, tt.lines)
		}
	}
	stop := errors.New("stop")
	if err := Oldest(dir, time.Time{}, func([]byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Oldest = %v, want the callback's error", err)
	}
	if err := Oldest(t.TempDir(), time.Time{}, nil); err == nil {
		t.Error("there is a log where there is none")
	}
	if err := Newest(t.TempDir(), Place{}, nil); err == nil {
		t.Error("there is a log where there is none")
	}
}

// TestUntil leaves out files whose lines are all of later.
func TestUntil(t *testing.T) {
	first := at(1, "")
	l := &Log{config: Config{Dir: writeSegments(t, first, at(6, ""), at(2, Settled)+at(10, ""))}}
	for _, tt := range []struct {
		t    time.Time
		want Place
	}{
		{hour(12), Place{}},
		{hour(3), Place{}}, // what a start settled may be older
		{hour(0), Place{1, int64(len(first))}},
	} {
		if got, err := l.Until(tt.t); err != nil || got != tt.want {
			t.Errorf("Until(%v) = %v, %v; want %v", tt.t, got, err, tt.want)
		}
	}
}

// TestFollow: each line is seen once, in order, over the change of files, and not
// before it is whole.
func TestFollow(t *testing.T) {
	dir := writeSegments(t, "a\nb\n")
	ctx, stop := context.WithCancel(t.Context())
	seen := make(chan string)
	var follower sync.WaitGroup
	follower.Go(func() {
		if err := Follow(ctx, dir, Place{1, 2}, func(line []byte) error { seen <- string(line); return nil }); err != nil {
			t.Error(err)
		}
	})
	write := func(n int, text string) {
		t.Helper()
		f, err := os.OpenFile(filepath.Join(dir, segmentName(n)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expect := func(want ...string) {
		t.Helper()
		for _, w := range want {
			if got := <-seen; got != w {
				t.Errorf("saw %q, want %q", got, w)
			}
		}
	}
	expect("b")
	write(1, "c\nd")
	expect("c")
	write(1, "d\ne\n")
	write(2, "f\n")
	write(3, "")
	write(4, "g\n")
	expect("dd", "e", "f", "g")
	stop()
	follower.Wait()

	enough := errors.New("enough")
	if err := Follow(t.Context(), dir, Place{1, 0}, func([]byte) error { return enough }); !errors.Is(err, enough) {
		t.Errorf("Follow = %v, want the callback's error", err)
	}
}
