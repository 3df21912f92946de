package audit

import (
	"bytes"
	"encoding/json/jsontext"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/claviger/claviger/internal/durable"
)

const (
	// SyncInterval is how long a record may wait for the disk.
	SyncInterval = 100 * time.Millisecond
	// SegmentSize is where a log file ends and the next begins, in bytes.
	SegmentSize = 64 << 20
	// KeepInMemory is how many lines a log without a directory holds.
	KeepInMemory = 10_000
	// maxRecord is how long a record may be with its parameters, in bytes.
	maxRecord = 256 << 10
	// maxLine bounds a line, in bytes.
	maxLine = 4 << 20
	// reserved is how much of the disk a log file has ahead of it, in bytes: so that
	// requests that change nothing go on for a while when the disk is full.
	reserved = 8 << 20
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
	// within SyncInterval; the intents of state changes are always synced.
	SyncAlways bool
	// Anchor is a line that was on disk. What is damaged up to there no crash has
	// done, and Open fails. Zero takes all damage for the work of a crash.
	Anchor Head
	// Signer signs checkpoints, and Verifier checks them. Nil: there are none.
	Signer   note.Signer
	Verifier note.Verifier
	// Signed is told when the end of the log was signed. Nil ignores it.
	Signed func()
	// Copy is given all lines, each with its newline, after they were written. It must
	// neither keep them nor wait. Nil ignores them.
	Copy func(lines []byte)

	signed uint64 // how far the checkpoint of an earlier run goes
	// Closed is told the request id of each state change whose outcome has
	// reached the disk. Nil ignores it.
	Closed func(requestID string)
}

// A Log is the audit log. It is safe for concurrent use.
type Log struct {
	config  Config
	removed int64

	mu       sync.Mutex // guards the chain and what waits to be written
	sequence uint64
	previous string
	pending  []byte
	spare    []byte   // the buffer that pending was before the last write
	recent   [][]byte // without a directory
	signed   uint64   // the line of the last checkpoint
	closing  []closing
	// outcomes that were refused; they are written when the log can be written again
	unsettled []Record
	stretch   *stretch // what pending belongs to; changed with fileMu held too

	fileMu  sync.Mutex // held by the one goroutine that writes for all; guards the rest
	file    *os.File
	lock    *os.File
	size    int64
	room    int64 // how far the file has its place on the disk
	segment int
	written Head // the last line handed to the operating system
	broken  error
	failing error // why the file system refused the last write, of which nothing is left

	syncMu sync.Mutex // held by the one goroutine that syncs for all
	synced atomic.Pointer[Head]
}

// A stretch is a part of the chain that is written in one piece or, from some line
// on, not at all: its requests are refused, and the chain goes on where it broke off.
type stretch struct {
	over bool
	end  uint64 // the last line that was written, once it is over
}

// A closing is a state change whose outcome is written and not yet on disk.
type closing struct {
	sequence  uint64
	requestID string
}

// A Head is the end of the chain: the last line's sequence number and hash.
type Head struct {
	Sequence uint64
	Hash     string
}

// Open continues the log in the directory, which it creates if need be.
func Open(c Config) (*Log, error) {
	l := &Log{config: c, stretch: &stretch{}}
	l.synced.Store(&Head{})
	if c.Dir == "" {
		return l, nil
	}
	if err := durable.MakeDir(c.Dir); err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	var err error
	if l.lock, err = durable.Lock(filepath.Join(c.Dir, "lock")); err != nil {
		return nil, fmt.Errorf("audit: the log in %s: %w", c.Dir, err)
	}
	signed, err := l.config.signedBefore()
	if err == nil {
		l.signed, l.config.signed = signed.Sequence+1, signed.Sequence
		if signed.Sequence > c.Anchor.Sequence { // on disk before it was signed
			l.config.Anchor = signed
		}
		err = l.continueChain()
	}
	if err != nil {
		return nil, errors.Join(err, l.lock.Close())
	}
	return l, nil
}

// continueChain finds the end of the log there is and opens it for more.
func (l *Log) continueChain() error {
	segments, err := segmentFiles(l.config.Dir)
	if err != nil {
		return err
	}
	if n := len(segments); n > 0 {
		l.segment = n
		if err := l.findEnd(segments); err != nil {
			return err
		}
	}
	l.sequence, l.previous = l.written.Sequence, l.written.Hash
	if err := l.openSegment(max(l.segment, 1)); err != nil {
		return err
	}
	return l.syncThrough(l.sequence) // what an earlier run wrote may not be on disk
}

// findEnd finds the last line and removes what a crash has left behind it: lines that
// are cut or have holes, which were not on disk yet.
func (l *Log) findEnd(segments []string) error {
	n := len(segments)
	head, known, whole, err := endOf(segments[n-1], l.config.Anchor)
	if err != nil {
		return err
	}
	if head.Sequence == 0 && n > 1 { // the last segment has no whole line yet
		if head, _, _, err = endOf(segments[n-2], Head{}); err != nil {
			return err
		}
	}
	info, err := os.Stat(segments[n-1])
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	l.written, l.removed = head, info.Size()-whole
	if head.Sequence < l.config.signed {
		return fmt.Errorf("audit: %s ends with line %d, before line %d, which was signed: it was cut or replaced", filepath.Base(segments[n-1]), head.Sequence, l.config.signed)
	}
	if l.removed > 0 && head.Sequence < l.config.Anchor.Sequence {
		return fmt.Errorf("audit: %s is damaged after line %d, before line %d, which was on disk", filepath.Base(segments[n-1]), head.Sequence, l.config.Anchor.Sequence)
	}
	return writeAgain(segments[n-1], known, whole)
}

// Removed is how many bytes that were not whole records Open found at the end, and
// removed.
func (l *Log) Removed() int64 { return l.removed }

// Append writes r as the next line, sets its place in the chain, and returns
// that place when the operating system has the line, or the disk if r is an
// intent or with SyncAlways.
func (l *Log) Append(r *Record) (Head, error) { return l.append(r, nil) }

// append appends r, once complete has seen what comes before it.
func (l *Log) append(r *Record, complete func(before Head) error) (Head, error) {
	l.mu.Lock()
	r.Claviger.Sequence, r.Claviger.Previous = l.sequence+1, l.previous
	begin := len(l.pending)
	var err error
	if complete != nil {
		err = complete(Head{l.sequence, l.previous})
	}
	lines := l.pending
	if err == nil {
		lines, err = r.appendLine(l.pending)
	}
	if err != nil {
		l.mu.Unlock()
		return Head{}, err
	}
	line := lines[begin:]
	l.sequence, l.previous = l.sequence+1, hashOf(line)
	mine, part := Head{l.sequence, l.previous}, l.stretch
	if r.Claviger.Phase != Intent && r.Claviger.Committed != nil {
		l.closing = append(l.closing, closing{mine.Sequence, r.RequestID})
	}
	if l.config.Dir == "" {
		kept := bytes.Clone(line)
		l.keep(kept)
		if l.config.Copy != nil {
			l.config.Copy(append(bytes.Clone(kept), '\n'))
		}
		l.mu.Unlock()
		l.onDisk(mine)
		return mine, nil
	}
	l.pending = append(lines, '\n')
	l.mu.Unlock()

	if err := l.write(mine, part); err != nil || !l.config.SyncAlways && r.Claviger.Phase != Intent {
		return mine, err
	}
	return mine, l.syncThrough(mine.Sequence)
}

// write returns when the operating system has the line h of a stretch. Whoever gets
// fileMu writes for all that wait.
func (l *Log) write(h Head, part *stretch) error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	runtime.Gosched() // let requests that are as far join this write
	if !part.over && l.written.Sequence < h.Sequence && l.broken == nil {
		l.flush()
	}
	switch {
	case l.broken != nil:
		return l.broken
	case part.over && h.Sequence > part.end:
		return ErrBroken
	default:
		return nil
	}
}

// appendLine appends the record as it is written. Parameters that would make it
// too long to read again are left out, as CloudTrail does.
func (r *Record) appendLine(b []byte) ([]byte, error) {
	lines, err := r.appendTo(b)
	if err == nil && len(lines)-len(b) > maxRecord {
		short := *r
		short.RequestParameters = jsontext.Value(`{"omitted":true,"reason":"requestParameters are too large"}`)
		lines, err = short.appendTo(b)
	}
	if err == nil && len(lines)-len(b) > maxLine {
		err = errors.New("a record is too long")
	}
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	return lines, nil
}

func (l *Log) keep(line []byte) {
	if len(l.recent) == KeepInMemory {
		l.recent = append(l.recent[:0], l.recent[1:]...)
	}
	l.recent = append(l.recent, line)
}

// flush hands all pending lines to the operating system. fileMu is held. If the
// file system refuses, as a full one does, the lines are dropped. After any other
// failure the log stays broken: what reached the file is not known.
func (l *Log) flush() {
	l.mu.Lock()
	lines, last := l.pending, Head{l.sequence, l.previous}
	l.pending, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		l.spare = lines
		l.mu.Unlock()
	}()

	if l.size > 0 && l.size+int64(len(lines)) > SegmentSize {
		full := l.file
		_ = full.Truncate(l.size) // gives back what was reserved, if it may
		err := full.Sync()        // so that syncing the current file is always enough
		if durable.Refused(err) {
			l.drop(err)
			return
		}
		l.fail(err)
		if l.broken == nil {
			if err := l.openSegment(l.segment + 1); err != nil {
				l.drop(err)
				return
			}
			l.fail(full.Close())
		}
	}
	if l.broken != nil {
		return
	}
	n, err := l.file.Write(lines)
	if err != nil && durable.Refused(err) {
		if back := l.file.Truncate(l.size); n == 0 || back == nil {
			l.drop(err)
			return
		}
	}
	l.size += int64(n)
	l.fail(err)
	if err == nil && l.config.Copy != nil {
		l.config.Copy(lines)
	}
	l.written, l.failing = last, nil
	l.reserve()
}

// drop forgets the lines that could not be written, with all that follow them in
// the chain. fileMu is held.
func (l *Log) drop(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = fmt.Errorf("%w: %w", ErrBroken, err)
	l.room = l.size // truncating gave the rest back
	l.stretch.over, l.stretch.end = true, l.written.Sequence
	l.stretch = &stretch{}
	l.sequence, l.previous, l.pending = l.written.Sequence, l.written.Hash, l.pending[:0]
	l.closing = slices.DeleteFunc(l.closing, func(c closing) bool { return c.sequence > l.written.Sequence })
}

func (l *Log) fail(err error) {
	if err != nil && l.broken == nil {
		l.broken = fmt.Errorf("%w: %w", ErrBroken, err)
	}
}

// Err is nil while the log can be written.
func (l *Log) Err() error {
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	return l.failing
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

// Close signs, syncs and closes the log.
func (l *Log) Close() error {
	if l.config.Dir == "" {
		return nil
	}
	var err error
	if l.Err() == nil {
		err = l.Checkpoint()
	}
	return errors.Join(err, l.Abandon())
}

// Abandon syncs and closes a log that is not the one it should be: its end is not signed.
func (l *Log) Abandon() error {
	if l.config.Dir == "" {
		return nil
	}
	l.fileMu.Lock()
	written := l.written.Sequence
	l.fileMu.Unlock()
	err := l.syncThrough(written)
	l.fileMu.Lock()
	defer l.fileMu.Unlock()
	if l.broken == nil {
		err = errors.Join(err, l.file.Truncate(l.size)) // gives back what was reserved
	}
	return errors.Join(err, l.file.Close(), l.lock.Close())
}
