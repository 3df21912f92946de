package audit

import (
	"context"
	"errors"
	"os"
	"time"
	"uuid"
)

// Run syncs the log at SyncInterval and signs it at CheckpointInterval until ctx ends;
// then it syncs once more.
func (l *Log) Run(ctx context.Context) {
	if l.config.Dir == "" {
		<-ctx.Done()
		return
	}
	tick, sign := time.NewTicker(SyncInterval), time.NewTicker(CheckpointInterval)
	defer tick.Stop()
	defer sign.Stop()
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-sign.C:
			_ = l.Checkpoint() // the next one will cover the same lines
		case <-ctx.Done():
			done = true
		}
		l.fileMu.Lock()
		written := l.written.Sequence
		l.fileMu.Unlock()
		_ = l.syncThrough(written) // a failure breaks the log, which Err tells
		l.resume()
	}
}

// resume tries whether a log that the file system refused to write can be written
// again, and notes there that it was not.
func (l *Log) resume() {
	l.fileMu.Lock()
	failing := l.failing
	l.fileMu.Unlock()
	if failing == nil {
		l.settleNow() // what came too late for the last time
		return
	}
	e := l.Begin(Record{EventType: "AwsServiceEvent", EventTime: time.Now().UTC().Truncate(time.Second), EventSource: "claviger", EventName: "ResumeAuditLog",
		RequestID: uuid.New().String(), ErrorMessage: failing.Error()})
	if e.End() == nil { // otherwise refused still
		l.settleNow()
	}
}

// syncThrough returns when the line with that sequence number, which has been
// written, is on disk. Whoever gets syncMu syncs for all that wait; writing goes
// on meanwhile.
func (l *Log) syncThrough(sequence uint64) error {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	if l.synced.Load().Sequence >= sequence {
		return nil
	}
	l.fileMu.Lock()
	f, written, broken := l.file, l.written, l.broken
	l.fileMu.Unlock()
	if broken != nil {
		return broken
	}
	if err := f.Sync(); err != nil && !errors.Is(err, os.ErrClosed) { // closed: synced, and another segment begun
		l.fileMu.Lock()
		defer l.fileMu.Unlock()
		l.fail(err)
		return l.broken
	}
	l.fileMu.Lock()
	broken = l.broken // the system tells of a failure once, and may have told somebody else
	l.fileMu.Unlock()
	if broken != nil {
		return broken
	}
	l.onDisk(written)
	return nil
}

// onDisk notes that all lines up to h are on disk and tells of the state changes
// that are closed by that.
func (l *Log) onDisk(h Head) {
	l.mu.Lock()
	if l.synced.Load().Sequence < h.Sequence {
		l.synced.Store(&h)
	}
	n := 0
	for n < len(l.closing) && l.closing[n].sequence <= h.Sequence {
		n++
	}
	closed := l.closing[:n:n]
	l.closing = l.closing[n:]
	l.mu.Unlock()
	for _, c := range closed {
		if l.config.Closed != nil {
			l.config.Closed(c.requestID)
		}
	}
}

// Synced is the last line that is known to be on disk.
func (l *Log) Synced() Head { return *l.synced.Load() }
