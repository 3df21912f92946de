package audit

import (
	"bytes"
	"cmp"
	"encoding/json/v2"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
)

// A ChainError names the first place where a log is not what was written.
type ChainError struct {
	File string
	Line int // counts from 1
	Msg  string
}

func (e *ChainError) Error() string {
	return fmt.Sprintf("audit: %s, line %d: %s", e.File, e.Line, e.Msg)
}

// Verify checks that the log in dir is the chain it claims to be and returns its
// end. It cannot see that lines were cut from the end: compare the returned
// head, or give the anchor that the store keeps, which must be in the chain.
func Verify(dir string, anchor Head) (Head, error) {
	segments, err := segmentFiles(dir)
	if err != nil {
		return Head{}, err
	}
	if len(segments) == 0 {
		return Head{}, errors.New("audit: there is no log in " + dir)
	}
	v := verifier{anchor: anchor, anchored: anchor.Sequence == 0}
	for _, path := range segments {
		v.file, v.line = filepath.Base(path), 0
		if err := eachLine(path, v.next); err != nil {
			return v.head, err
		}
	}
	if !v.anchored {
		return v.head, v.fail(fmt.Sprintf("the log ends before line %d, which the store knows", anchor.Sequence))
	}
	return v.head, nil
}

// CommittedSince returns the intents of the state changes that took effect after the
// line anchor, in the order of the log, which must be whole and contain that line.
func CommittedSince(dir string, anchor Head) (out []Record, err error) {
	if _, err := Verify(dir, anchor); err != nil {
		return nil, err
	}
	segments, err := segmentFiles(dir)
	if err != nil {
		return nil, err
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
			case r.Claviger.Sequence <= anchor.Sequence:
			case r.Claviger.Phase == Intent:
				open[r.RequestID] = r
			case known && r.Claviger.Committed != nil && *r.Claviger.Committed:
				r.Claviger.Sequence = intent.Claviger.Sequence // the outcome may know more of the resources
				out = append(out, r)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b Record) int { return cmp.Compare(a.Claviger.Sequence, b.Claviger.Sequence) })
	return out, nil
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

type verifier struct {
	head     Head
	anchor   Head
	anchored bool
	file     string
	line     int
}

func (v *verifier) fail(msg string) error { return &ChainError{v.file, v.line, msg} }

func (v *verifier) next(line []byte) error {
	v.line++
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return v.fail("not an audit record")
	}
	if r.Claviger.Sequence != v.head.Sequence+1 {
		return v.fail(fmt.Sprintf("sequence %d follows %d", r.Claviger.Sequence, v.head.Sequence))
	}
	if r.Claviger.Previous != v.head.Hash {
		return v.fail("does not follow from the line before: one of them was changed")
	}
	v.head = Head{r.Claviger.Sequence, hashOf(line)}
	if v.head.Sequence == v.anchor.Sequence {
		if v.head.Hash != v.anchor.Hash {
			return v.fail("is not the line the store knows")
		}
		v.anchored = true
	}
	return nil
}
