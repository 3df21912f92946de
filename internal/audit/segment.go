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
