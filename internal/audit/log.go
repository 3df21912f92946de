package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"
)

const (
	// SyncInterval is how long a record may wait for the disk.
	SyncInterval = 100 * time.Millisecond
	// SegmentSize is where a log file ends and the next begins, in bytes.
	SegmentSize = 64 << 20
	// KeepInMemory is how many lines a log without a directory holds.
	KeepInMemory = 10_000
	// maxLine bounds a line when reading, in bytes.
	maxLine = 4 << 20
)

// ErrBroken reports a log that could not be written; nothing may be done that
// it cannot record.
var ErrBroken = errors.New("audit: the log cannot be written")

// A Config says how to run a Log.
type Config struct {
	// Dir holds the log's files. Empty keeps the last KeepInMemory lines in
	// memory instead.
	Dir string
	// SyncAlways syncs every record before it counts as written. False syncs
	// within SyncInterval.
	SyncAlways bool
}

// A Log is the audit log. It is safe for concurrent use.
type Log struct {
	config Config

	mu       sync.Mutex // guards the chain and what waits to be written
	sequence uint64
	previous string
	pending  bytes.Buffer
	recent   [][]byte // without a directory

	fileMu  sync.Mutex // held by the one goroutine that writes for all; guards the rest
	file    *os.File
	size    int64
	segment int
	dirty   bool
	written uint64 // sequence of the last line handed to the operating system
	broken  error
}

// A Head is the end of the chain: the last line's sequence number and hash.
type Head struct {
	Sequence uint64
	Hash     string
}

// Open continues the log in the directory, which it creates if need be.
func Open(c Config) (*Log, error) {
	l := &Log{config: c}
	if c.Dir == "" {
		return l, nil
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	segments, err := segmentFiles(c.Dir)
	if err != nil {
		return nil, err
	}
	if n := len(segments); n > 0 {
		l.segment = n
		if l.sequence, l.previous, err = endOf(segments[n-1]); err != nil {
			return nil, err
		}
		if l.sequence == 0 && n > 1 { // the last segment has no whole line yet
			if l.sequence, l.previous, err = endOf(segments[n-2]); err != nil {
				return nil, err
			}
		}
	}
	l.written = l.sequence
	return l, l.openSegment(max(l.segment, 1))
}

func segmentName(n int) string { return fmt.Sprintf("audit-%06d.jsonl", n) }

// segmentFiles lists the log's files in order and insists that none is missing.
func segmentFiles(dir string) ([]string, error) {
	var out []string
	for n := 1; ; n++ {
		path := filepath.Join(dir, segmentName(n))
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return out, nil
		} else if err != nil {
			return nil, fmt.Errorf("audit: %w", err)
		}
		out = append(out, path)
	}
}

// endOf reads a segment's last line. A last line that a crash has cut is
// removed: its record was never acknowledged.
func endOf(path string) (sequence uint64, hash string, err error) {
	whole := int64(0)
	var last []byte
	err = eachLine(path, func(line []byte) error {
		whole += int64(len(line)) + 1
		last = append(last[:0], line...)
		return nil
	})
	if err != nil {
		return 0, "", err
	}
	if len(last) > 0 {
		var r Record
		if err := json.Unmarshal(last, &r); err != nil {
			return 0, "", fmt.Errorf("audit: %s: %w", filepath.Base(path), err)
		}
		sequence, hash = r.Claviger.Sequence, hashOf(last)
	}
	return sequence, hash, os.Truncate(path, whole)
}

// eachLine calls fn with every line that ends in a newline, without it.
func eachLine(path string, fn func([]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(make([]byte, 64<<10), maxLine)
	s.Split(func(data []byte, _ bool) (int, []byte, error) {
		if i := bytes.IndexByte(data, '\n'); i >= 0 {
			return i + 1, data[:i], nil
		}
		return 0, nil, nil
	})
	for s.Scan() {
		if err := fn(s.Bytes()); err != nil {
			return err
		}
	}
	return s.Err()
}

func hashOf(line []byte) string {
	h := sha256.Sum256(line)
	return hex.EncodeToString(h[:])
}

func (l *Log) openSegment(n int) error {
	f, err := os.OpenFile(filepath.Join(l.config.Dir, segmentName(n)), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	size, err := f.Seek(0, 2)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if dir, err := os.Open(l.config.Dir); err == nil {
		_ = dir.Sync() // a file system without directory sync loses at most an empty file
		dir.Close()
	}
	l.file, l.size, l.segment = f, size, n
	return nil
}

// Append writes r as the next line, sets its place in the chain, and returns
// that place when the operating system has the line, or the disk with
// SyncAlways. Whoever gets fileMu writes for all that wait.
func (l *Log) Append(r *Record) (Head, error) {
	l.mu.Lock()
	r.Claviger.Sequence, r.Claviger.Previous = l.sequence+1, l.previous
	line, err := r.appendTo(make([]byte, 0, 1536))
	if err != nil {
		l.mu.Unlock()
		return Head{}, fmt.Errorf("audit: %w", err)
	}
	l.sequence, l.previous = l.sequence+1, hashOf(line)
	mine := Head{l.sequence, l.previous}
	if l.config.Dir == "" {
		l.keep(line)
		l.mu.Unlock()
		return mine, nil
	}
	l.pending.Write(line)
	l.pending.WriteByte('\n')
	l.mu.Unlock()

	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	runtime.Gosched() // let requests that are as far join this write
	if l.written < mine.Sequence && l.broken == nil {
		l.flush()
	}
	return mine, l.broken
}

func (l *Log) keep(line []byte) {
	if len(l.recent) == KeepInMemory {
		l.recent = append(l.recent[:0], l.recent[1:]...)
	}
	l.recent = append(l.recent, line)
}

// flush hands all pending lines to the operating system. fileMu is held. After
// a failure the log stays broken: what reached the file is not known.
func (l *Log) flush() {
	l.mu.Lock()
	lines, last := bytes.Clone(l.pending.Bytes()), l.sequence
	l.pending.Reset()
	l.mu.Unlock()

	if l.size > 0 && l.size+int64(len(lines)) > SegmentSize {
		l.fail(l.file.Sync())
		l.fail(l.file.Close())
		l.fail(l.openSegment(l.segment + 1))
	}
	if l.broken != nil {
		return
	}
	n, err := l.file.Write(lines)
	l.size += int64(n)
	l.fail(err)
	l.dirty = true
	if l.config.SyncAlways {
		l.sync()
	}
	l.written = last
}

func (l *Log) sync() {
	if l.dirty && l.broken == nil {
		l.fail(l.file.Sync())
		l.dirty = false
	}
}

func (l *Log) fail(err error) {
	if err != nil && l.broken == nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	}
}

// Run syncs the log at SyncInterval until ctx ends, then once more.
func (l *Log) Run(ctx context.Context) {
	if l.config.Dir == "" {
		<-ctx.Done()
		return
	}
	tick := time.NewTicker(SyncInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.syncNow()
		case <-ctx.Done():
			l.syncNow()
			return
		}
	}
}

// syncNow syncs what has been written, without holding up writers longer than
// it takes to see that there is something to sync.
func (l *Log) syncNow() {
	l.fileMu.Lock()
	f, dirty := l.file, l.dirty && l.broken == nil
	l.dirty = false
	l.fileMu.Unlock()
	if !dirty {
		return
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		l.fileMu.Lock()
		l.fail(err)
		l.fileMu.Unlock()
	}
}

// Err is nil while the log can be written.
func (l *Log) Err() error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	return l.broken
}

// Head is the end of the chain.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Head{l.sequence, l.previous}
}

// Recent returns the last lines of a log without a directory, oldest first.
func (l *Log) Recent() [][]byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([][]byte(nil), l.recent...)
}

// Close syncs and closes the log.
func (l *Log) Close() error {
	if l.config.Dir == "" {
		return nil
	}
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	l.sync()
	return errors.Join(l.broken, l.file.Close())
}
