package audit

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// readAhead is how much of a file is read at once, in bytes.
	readAhead = 64 << 10
	// followInterval is how often Follow looks for new lines.
	followInterval = 200 * time.Millisecond
	// Unordered is how much earlier than a line's time that of a line after it may be:
	// the time is when a request came, and its line is written when it is done. The
	// outcomes that a start settles may be of any time.
	Unordered = time.Hour
)

// A Place is between two lines of a log, which never moves: a file's number and how far
// it is from the file's beginning, in bytes. In a log without a directory, which is one
// file, Offset counts lines instead. The zero Place is the end.
type Place struct {
	Segment int
	Offset  int64
}

// Newest calls fn with the lines before a place, newest first, until it returns false.
// begin is the place before the line, from which the next call can go on. The line may
// be read until fn returns. Lines that are appended meanwhile are not seen.
func (l *Log) Newest(before Place, fn func(line []byte, begin Place) (more bool)) error {
	if l.config.Dir == "" {
		l.newestInMemory(before, fn)
		return nil
	}
	l.fileMu.Lock()
	end := Place{l.segment, l.size}
	l.fileMu.Unlock()
	if before != (Place{}) && !end.behind(before) {
		end = before
	}
	return newest(l.config.Dir, end, fn)
}

func (p Place) behind(other Place) bool {
	return p.Segment < other.Segment || p.Segment == other.Segment && p.Offset < other.Offset
}

func (l *Log) newestInMemory(before Place, fn func([]byte, Place) bool) {
	l.mu.Lock()
	lines, end := slices.Clone(l.recent), int64(l.sequence)
	l.mu.Unlock()
	forgotten := end - int64(len(lines))
	if before != (Place{}) {
		end = min(end, before.Offset)
	}
	for ; end > forgotten; end-- {
		if !fn(lines[end-forgotten-1], Place{1, end - 1}) {
			return
		}
	}
}

// Newest is Log.Newest for the log in a directory that somebody else may be writing. A
// last line that is cut is not seen.
func Newest(dir string, before Place, fn func(line []byte, begin Place) (more bool)) error {
	if before != (Place{}) {
		return newest(dir, before, fn)
	}
	segments, err := logFiles(dir)
	if err != nil {
		return err
	}
	last := segments[len(segments)-1]
	info, err := os.Stat(last)
	if err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return newest(dir, Place{len(segments), info.Size()}, fn)
}

// logFiles is segmentFiles for a log that has to be there.
func logFiles(dir string) ([]string, error) {
	segments, err := segmentFiles(dir)
	if err == nil && len(segments) == 0 {
		err = errors.New("audit: there is no log in " + dir)
	}
	return segments, err
}

func newest(dir string, end Place, fn func([]byte, Place) bool) error {
	for n := end.Segment; n > 0; n-- {
		f, err := os.Open(filepath.Join(dir, segmentName(n)))
		if err != nil {
			return fmt.Errorf("audit: %w", err)
		}
		size := end.Offset
		if n < end.Segment {
			size, err = f.Seek(0, io.SeekEnd)
		}
		more := false
		if err == nil {
			more, err = backwards(f, size, func(line []byte, begin int64) bool { return fn(line, Place{n, begin}) })
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("audit: %s: %w", segmentName(n), err)
		}
		if !more {
			return nil
		}
	}
	return nil
}

// backwards calls fn with the lines of the first size bytes, the last one first, until
// it returns false. What is behind the last newline, and lines that are too long to be
// records, are left out.
func backwards(r io.ReaderAt, size int64, fn func(line []byte, begin int64) bool) (more bool, err error) {
	var tail []byte // the end of a line whose beginning is not read yet
	ended, long := false, false
	chunk := make([]byte, readAhead)
	line := func(begin []byte, at int64) bool {
		if !ended || long || len(begin)+len(tail) == 0 || len(begin)+len(tail) > maxLine {
			return true
		}
		if len(tail) > 0 {
			begin = slices.Concat(begin, tail)
		}
		return fn(begin, at)
	}
	for size > 0 {
		rest := chunk[:min(size, int64(len(chunk)))]
		size -= int64(len(rest))
		if _, err := r.ReadAt(rest, size); err != nil {
			return false, err
		}
		for i := bytes.LastIndexByte(rest, '\n'); i >= 0; i = bytes.LastIndexByte(rest, '\n') {
			if !line(rest[i+1:], size+int64(i)+1) {
				return false, nil
			}
			rest, tail, ended, long = rest[:i], nil, true, false
		}
		switch {
		case !ended || long:
		case len(rest)+len(tail) > maxLine:
			tail, long = nil, true
		default:
			tail = slices.Concat(rest, tail)
		}
	}
	return line(nil, 0), nil
}

// Oldest calls fn with the lines of the log in a directory, oldest first. It may leave
// out lines of before since, in whole files.
func Oldest(dir string, since time.Time, fn func(line []byte) error) error {
	segments, err := logFiles(dir)
	if err != nil {
		return err
	}
	for len(segments) > 1 && begins(segments[1], false).Before(since.Add(-Unordered)) {
		segments = segments[1:]
	}
	for _, path := range segments {
		if err := eachLine(path, fn); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(path), err)
		}
	}
	return nil
}

// errEnough ends reading.
var errEnough = errors.New("enough")

// begins is the time of a file's first line, of one that a start settled only if it is
// asked for. Of a file that has none it is now.
func begins(path string, settled bool) time.Time {
	at := time.Now()
	_ = eachLine(path, func(line []byte) error { // nothing is left out of what cannot be read
		var r Record
		if json.Unmarshal(line, &r) != nil || r.Claviger.Phase == Settled && !settled {
			return nil
		}
		at = r.EventTime
		return errEnough
	})
	return at
}

// Until is a place behind all lines of up to t: the end of a file. The zero Place, the
// end of the log, is one too.
func (l *Log) Until(t time.Time) (Place, error) {
	if l.config.Dir == "" {
		return Place{}, nil
	}
	segments, err := logFiles(l.config.Dir)
	n := len(segments)
	for n > 1 && begins(segments[n-1], true).After(t.Add(Unordered)) {
		n--
	}
	if err != nil || n == len(segments) {
		return Place{}, err
	}
	info, err := os.Stat(segments[n-1])
	if err != nil {
		return Place{}, fmt.Errorf("audit: %w", err)
	}
	return Place{n, info.Size()}, nil
}

// Follow calls fn with each line behind a place of the log in a directory, and with
// those that are appended, until ctx is done.
func Follow(ctx context.Context, dir string, from Place, fn func(line []byte) error) error {
	wait := time.NewTicker(followInterval)
	defer wait.Stop()
	for {
		_, err := os.Stat(filepath.Join(dir, segmentName(from.Segment+1))) // before the read: then the file before it is complete
		read, readErr := linesFrom(filepath.Join(dir, segmentName(from.Segment)), from.Offset, fn)
		from.Offset += read
		switch {
		case readErr != nil && !errors.Is(readErr, fs.ErrNotExist):
			return readErr
		case err == nil:
			from = Place{Segment: from.Segment + 1}
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return fmt.Errorf("audit: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
	}
}

// linesFrom calls fn with the lines of a file behind offset and returns how many bytes
// they are.
func linesFrom(path string, offset int64, fn func([]byte) error) (read int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	defer f.Close()
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return 0, fmt.Errorf("audit: %w", err)
	}
	err = scanLines(f, func(line []byte) error {
		read += int64(len(line)) + 1
		return fn(line)
	})
	return read, err
}
