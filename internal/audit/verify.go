package audit

import (
	"bytes"
	"cmp"
	"encoding/json/v2"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/mod/sumdb/note"
)

// A ChainError names a place where a log is not what was written.
type ChainError struct {
	File string
	Line int // counts from 1
	Msg  string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("audit: %s, line %d: %s", e.File, e.Line, e.Msg)
}

// maxProblems is how many places Verify tells of.
const maxProblems = 20

// A Report is what Verify has found.
type Report struct {
	Head            // the end of the chain
	Checkpoints int // how many there are, all of them good if a key was given
	Signed      uint64
	// Cut is how many bytes are behind the last line: of one that is being written, or
	// that a crash has cut.
	Cut      int64
	Problems []*ChainError
}

// Verify checks that the log in dir is the chain it claims to be, and where it is not.
// The anchor, which the store keeps, must be in it; without one nobody can see that lines
// were cut from the end. With the key that signs checkpoints it checks those too: they
// show when a part of the log was written anew, hashes and all. The error joins the
// problems of the report.
func Verify(dir string, anchor Head, keys ...note.Verifier) (r Report, err error) {
	segments, err := segmentFiles(dir)
	if err != nil {
		return r, err
	}
	if len(segments) == 0 {
		return r, errors.New("audit: there is no log in " + dir)
	}
	v := verifier{report: &r, anchor: anchor, anchored: anchor.Sequence == 0, keys: keys}
	for i, path := range segments {
		v.file, v.line, v.size = filepath.Base(path), 0, 0
		if err := eachLine(path, v.next); err != nil {
			return r, &ChainError{v.file, v.line + 1, err.Error()}
		}
		switch info, err := os.Stat(path); {
		case i < len(segments)-1 && (err != nil || info.Size() != v.size):
			v.problem(v.line+1, "there is something without an end behind the last line")
		case err == nil:
			r.Cut = max(0, info.Size()-v.size)
		}
	}
	for _, key := range keys {
		signed, err := (&Config{Dir: dir, Verifier: key}).signedBefore()
		if err != nil {
			v.problem(v.line, "the file checkpoint beside the log is not signed by its key")
		} else if signed.Sequence > r.Sequence {
			v.problem(v.line, fmt.Sprintf("the log ends before line %d, which was signed", signed.Sequence))
		}
	}
	if !v.anchored && r.Sequence < anchor.Sequence {
		v.problem(v.line, fmt.Sprintf("the log ends before line %d, which the store knows", anchor.Sequence))
	}
	for _, p := range r.Problems {
		err = errors.Join(err, p)
	}
	return r, err
}

type verifier struct {
	report   *Report
	anchor   Head
	anchored bool
	keys     []note.Verifier
	file     string
	line     int
	size     int64
}

func (v *verifier) problem(line int, msg string) {
	if len(v.report.Problems) < maxProblems {
		v.report.Problems = append(v.report.Problems, &ChainError{v.file, line, msg})
	}
}

func (v *verifier) next(line []byte) error {
	v.line++
	v.size += int64(len(line)) + 1
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		v.problem(v.line, "is not an audit record: it was changed")
		v.report.Sequence, v.report.Hash = v.report.Sequence+1, hashOf(line)
		return nil
	}
	at, before := r.Claviger.Sequence, v.report.Head
	switch want := before.Sequence + 1; {
	case at > want:
		v.problem(v.line, fmt.Sprintf("lines %d to %d are missing before it", want, at-1))
	case at < want:
		v.problem(v.line, fmt.Sprintf("line %d stands after line %d: it was put in, or moved", at, before.Sequence))
	case r.Claviger.Previous != before.Hash:
		v.problem(v.line, "does not follow from the line before: that one was changed, or this one")
	}
	if r.Claviger.Checkpoint != "" {
		v.checkpoint(&r, before)
	}
	v.report.Head = Head{at, hashOf(line)}
	if at == v.anchor.Sequence {
		v.anchored = true
		if v.report.Hash != v.anchor.Hash {
			v.problem(v.line, "is not the line the store knows")
		}
	}
	return nil
}

// checkpoint checks a checkpoint against what stands before it.
func (v *verifier) checkpoint(r *Record, before Head) {
	for _, key := range v.keys {
		switch h, err := OpenCheckpoint(r.Claviger.Checkpoint, key); {
		case err != nil:
			v.problem(v.line, "the checkpoint is not signed by the key of this log")
			return
		case h != before:
			v.problem(v.line, fmt.Sprintf("the checkpoint was signed over other lines: something after line %d, which the last good one is, was written anew", v.report.Signed))
			return
		}
	}
	v.report.Checkpoints++
	v.report.Signed = r.Claviger.Sequence
}

// CommittedSince returns the state changes that took effect, or of which nobody knows that
// they did not, and that a store does not have, in the order of the log, which must be whole
// and contain the line anchor, and the log's end. That line is the last that the store knows;
// marked tells which changes it has a mark of; keys are those of Verify.
func CommittedSince(dir string, anchor Head, marked func(requestID string) bool, keys ...note.Verifier) (out []Record, end Head, err error) {
	report, err := Verify(dir, anchor, keys...)
	if err != nil {
		return nil, end, err
	}
	segments, err := segmentFiles(dir)
	if err != nil {
		return nil, end, err
	}
	open := map[string]Record{}
	for _, path := range segments {
		err := eachLine(path, func(line []byte) error {
			if !bytes.Contains(line, []byte(`"phase":"`)) {
				return nil
			}
			var r Record
			if err := json.Unmarshal(line, &r); err != nil {
				return err
			}
			switch intent, known := open[r.RequestID]; {
			case r.Claviger.Phase == Intent:
				open[r.RequestID] = r
			case known && r.Claviger.Committed != nil:
				delete(open, r.RequestID)
				if *r.Claviger.Committed && missing(intent.Claviger.Sequence, r.Claviger.Sequence, r.RequestID, anchor, marked) {
					r.Claviger.Sequence = intent.Claviger.Sequence // the outcome may know more of the resources
					out = append(out, r)
				}
			}
			return nil
		})
		if err != nil {
			return nil, end, err
		}
	}
	for id, r := range open {
		if missing(r.Claviger.Sequence, 0, id, anchor, marked) {
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Claviger.Sequence, b.Claviger.Sequence) })
	return out, report.Head, nil
}

// Contains reports whether the log in dir holds the line h, and refuses one that
// has another line in its place. It reads the newest lines first.
func Contains(dir string, h Head) (found bool, err error) {
	segments, err := segmentFiles(dir)
	if err != nil || h.Sequence == 0 {
		return err == nil, err
	}
	mark := []byte(fmt.Sprintf(`"sequence":%d,`, h.Sequence))
	for _, path := range slices.Backward(segments) {
		err := eachLine(path, func(line []byte) error {
			if bytes.Contains(line, mark) && hashOf(line) == h.Hash {
				found = true
			}
			return nil
		})
		if err != nil || found {
			return found, err
		}
	}
	return false, nil
}
