package audit

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"path/filepath"
	"uuid"
)

// An Entry is the record of one request while the request runs. It belongs to
// that request's goroutine.
type Entry struct {
	Record
	log    *Log
	intent Head // zero until written
}

// Begin starts a record; r says what is known already.
func (l *Log) Begin(r Record) *Entry {
	r.EventVersion, r.EventType, r.EventCategory, r.ManagementEvent = "1.11", "AwsApiCall", "Management", true
	return &Entry{Record: r, log: l}
}

// Intend writes the intent of a state change, once, however often it is called,
// and returns its place in the chain. The change must not take effect if it
// fails.
func (e *Entry) Intend() (Head, error) {
	if e.intent != (Head{}) {
		return e.intent, nil
	}
	r := e.Record
	r.EventID, r.Claviger.Phase = uuid.New().String(), Intent
	head, err := e.log.Append(&r)
	if err == nil {
		e.intent = head
	}
	return head, err
}

// Intended reports whether an intent was written.
func (e *Entry) Intended() bool { return e.intent != (Head{}) }

// End writes the record, or the outcome of an intent. The request's result must
// not leave if it fails.
func (e *Entry) End() error {
	e.EventID = uuid.New().String()
	if e.Intended() {
		e.Claviger.Phase = Outcome
	}
	_, err := e.log.Append(&e.Record)
	return err
}

// Settle writes an outcome for every intent of earlier runs that has none, and
// returns how many there were. committed tells by request id whether the change
// took effect.
func (l *Log) Settle(committed func(requestID string) bool) (int, error) {
	if l.config.Dir == "" {
		return 0, nil
	}
	open := map[string]Record{}
	segments, err := segmentFiles(l.config.Dir)
	if err != nil {
		return 0, err
	}
	for _, path := range segments[max(0, len(segments)-2):] { // an intent is open for moments
		if err := eachLine(path, func(line []byte) error { return note(open, line) }); err != nil {
			return 0, fmt.Errorf("settle %s: %w", filepath.Base(path), err)
		}
	}
	for id, r := range open {
		done := committed(id)
		r.EventID, r.Claviger.Phase, r.Claviger.Committed = uuid.New().String(), Settled, &done
		if _, err := l.Append(&r); err != nil {
			return 0, err
		}
	}
	return len(open), nil
}

func note(open map[string]Record, line []byte) error {
	if !bytes.Contains(line, []byte(`"phase":"`)) {
		return nil // most lines: decoding them all would slow the start
	}
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return errors.New("not an audit record")
	}
	switch r.Claviger.Phase {
	case Intent:
		open[r.RequestID] = r
	case Outcome, Settled:
		delete(open, r.RequestID)
	}
	return nil
}
