package audit

import (
	"bytes"
	"encoding/json/v2"
	"errors"
	"fmt"
	"math"
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
	if err != nil && e.Intended() && e.Claviger.Committed != nil {
		e.log.settleLater(e.Record)
	}
	return err
}

// Changes are what a log says about the state changes of earlier runs.
type Changes struct {
	// Open are the intents that have no outcome, by request id.
	Open map[string]Record
	// Missing is the sequence number of the last intent whose change is known to have taken
	// effect and is not in the store; 0 if there is none.
	Missing uint64

	since  Head
	marked func(requestID string) bool
}

// missing reports whether a change that took effect, or may have, is not in a store: one
// that knows the log up to since, and has marks of the changes whose outcome came later. An
// outcome of 0 is not in the log.
func missing(intent, outcome uint64, requestID string, since Head, marked func(string) bool) bool {
	return intent > since.Sequence || (outcome == 0 || outcome > since.Sequence) && !marked(requestID)
}

// ReadChanges reads the log in dir from the line since on, which the store knows. An intent
// is open for moments, so that the file before that line's, and the two newest, have those
// that are. marked tells which changes the store has a mark of.
func ReadChanges(dir string, since Head, marked func(requestID string) bool) (Changes, error) {
	c := Changes{Open: map[string]Record{}, since: since, marked: marked}
	segments, err := segmentFiles(dir)
	if err != nil {
		return c, err
	}
	begin := max(0, len(segments)-2)
	for begin > 0 && firstOf(segments[begin]) > since.Sequence {
		begin--
	}
	for _, path := range segments[max(0, begin-1):] {
		if err := eachLine(path, c.note); err != nil {
			return c, fmt.Errorf("settle %s: %w", filepath.Base(path), err)
		}
	}
	return c, nil
}

// firstOf is the sequence number of a file's first line; of one that has none it is the
// last there can be.
func firstOf(path string) (sequence uint64) {
	sequence = math.MaxUint64
	_ = eachLine(path, func(line []byte) error { // what cannot be read is found when it is read whole
		var r Record
		if json.Unmarshal(line, &r) == nil {
			sequence = r.Claviger.Sequence
		}
		return errEnough
	})
	return sequence
}

// settleLater keeps an outcome that could not be written, until the log can be: there are
// no more of them than changes were running when it failed.
func (l *Log) settleLater(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unsettled = append(l.unsettled, r)
}

// settleNow writes the outcomes that could not be written before.
func (l *Log) settleNow() {
	l.mu.Lock()
	records := l.unsettled
	l.unsettled = nil
	l.mu.Unlock()
	for i, r := range records {
		r.EventID, r.Claviger.Phase = uuid.New().String(), Settled
		if _, err := l.Append(&r); err != nil {
			l.mu.Lock()
			l.unsettled = append(l.unsettled, records[i:]...)
			l.mu.Unlock()
			return
		}
	}
}

// Settle writes an outcome for each of the open intents. committed tells by request
// id whether the change took effect.
func (l *Log) Settle(open map[string]Record, committed func(requestID string) bool) error {
	for id, r := range open {
		done := committed(id)
		r.EventID, r.Claviger.Phase, r.Claviger.Committed = uuid.New().String(), Settled, &done
		if _, err := l.Append(&r); err != nil {
			return err
		}
	}
	return nil
}

func (c *Changes) note(line []byte) error {
	if !bytes.Contains(line, []byte(`"phase":"`)) {
		return nil // most lines: decoding them all would slow the start
	}
	var r Record
	if err := json.Unmarshal(line, &r); err != nil {
		return errors.New("not an audit record")
	}
	intent, known := c.Open[r.RequestID]
	switch {
	case r.Claviger.Phase == Intent:
		c.Open[r.RequestID] = r
	case r.Claviger.Committed != nil: // otherwise it was not known then
		if known && *r.Claviger.Committed && missing(intent.Claviger.Sequence, r.Claviger.Sequence, r.RequestID, c.since, c.marked) {
			c.Missing = max(c.Missing, intent.Claviger.Sequence)
		}
		delete(c.Open, r.RequestID)
	}
	return nil
}
