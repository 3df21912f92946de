package audit

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
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
	r.EventVersion, r.EventCategory, r.ManagementEvent = "1.11", "Management", true
	if r.EventType == "" {
		r.EventType = "AwsApiCall"
	}
	r.UserAgent = Bounded(r.UserAgent)
	return &Entry{Record: r, log: l}
}

// Bounded cuts a text that callers choose to what a record may hold of it: 1,024
// bytes.
func Bounded(s string) string {
	if len(s) <= 1024 {
		return s
	}
	return strings.ToValidUTF8(s[:1024], "") + "…"
}

// Intend puts the intent of a state change on disk, once, however often it is
// called. The change must not take effect if it fails.
func (e *Entry) Intend() error {
	if e.Intended() {
		return nil
	}
	r := e.Record
	r.EventID, r.Claviger.Phase = uuid.New().String(), Intent
	head, err := e.log.Append(&r)
	if err == nil {
		e.intent = head
	}
	return err
}

// LogSynced is how far the log is on disk: at least to the intent.
func (e *Entry) LogSynced() Head { return e.log.Synced() }

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
		if r.Claviger.Committed != nil { // otherwise it was not known then
			delete(open, r.RequestID)
		}
	}
	return nil
}
