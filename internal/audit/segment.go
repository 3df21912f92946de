package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/claviger/claviger/internal/durable"
)

func segmentName(n int) string { return fmt.Sprintf("audit-%06d.jsonl", n) }

// segmentFiles lists the log's files in order and insists that none is missing.
func segmentFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	var out []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "audit-") {
			continue
		}
		if want := segmentName(len(out) + 1); e.Name() != want {
			return nil, &ChainError{e.Name(), 0, "is there and " + want + " is not"}
		}
		out = append(out, filepath.Join(dir, e.Name()))
	}
	return out, nil
}

// endOf reads how far a segment is a chain: the last line of that, and where it ends;
// known is where the anchor ends, or 0. It checks each line by the hash in the next
// one, and reads only the last.
func endOf(path string, anchor Head) (head Head, known, whole int64, err error) {
	type end struct {
		Head
		at   int64
		line []byte
	}
	var last, before end
	first, broken := true, false
	err = eachLine(path, func(line []byte) error {
		next := Head{last.Sequence + 1, hashOf(line)}
		if first {
			first = false
			var r Record
			broken = json.Unmarshal(line, &r) != nil
			next.Sequence = r.Claviger.Sequence
		} else if !broken {
			broken = !bytes.Contains(line, fmt.Appendf(nil, `"claviger":{"sequence":%d,"previous":"%s"`, next.Sequence, last.Hash))
		}
		if !broken {
			last.line, before.line = before.line, last.line
			before.Head, before.at = last.Head, last.at
			last = end{next, before.at + int64(len(line)) + 1, append(last.line[:0], line...)}
			if last.Head == anchor {
				known = last.at
			}
		}
		return nil
	})
	if err != nil && !errors.Is(err, bufio.ErrTooLong) { // a long hole
		return Head{}, 0, 0, err
	}
	if last.line != nil && json.Unmarshal(last.line, &Record{}) != nil {
		last = before
	}
	return last.Head, min(known, last.at), last.at, nil
}

// writeAgain cuts a file off at end and writes what is from known on once more. After a
// sync that failed it may be in memory alone, where no later sync looks for it.
func writeAgain(path string, known, end int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	err = f.Truncate(end)
	if err == nil {
		text := make([]byte, end-known)
		if _, err = f.ReadAt(text, known); err == nil {
			_, err = f.WriteAt(text, known)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// eachLine is scanLines for a file.
func eachLine(path string, fn func([]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	return scanLines(f, fn)
}

// scanLines calls fn with every line that ends in a newline, without it.
func scanLines(r io.Reader, fn func([]byte) error) error {
	s := bufio.NewScanner(r)
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
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if err := durable.SyncDir(l.config.Dir); err != nil {
		return errors.Join(err, f.Close())
	}
	l.file, l.size, l.room, l.segment = f, size, size, n
	l.reserve()
	return nil
}

// reserve keeps room on the disk for what is written next, if the disk has it.
// fileMu is held.
func (l *Log) reserve() {
	if l.room-l.size < reserved/2 && durable.Reserve(l.file, l.room, l.size+reserved-l.room) == nil {
		l.room = l.size + reserved
	}
}
