package server

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
)

// logDir is where the audit log is; empty if it is in memory.
func (c Config) logDir() string {
	if c.AuditDir == "" && c.Dir != "" {
		return AuditDir(c.Dir)
	}
	return c.AuditDir
}

// openLog opens the audit log, insists that it is the one the store knows, and
// settles what a crash left open.
func openLog(ctx context.Context, db *store.DB, c Config) (*audit.Log, error) {
	dir := c.logDir()
	marks, err := db.Marks(ctx)
	if err != nil {
		return nil, err
	}
	anchor, err := iam.AuditAnchor(ctx, db)
	if err != nil {
		return nil, err
	}
	var public auditKey
	on := audit.Config{Dir: dir, SyncAlways: c.AuditSyncAlways, Anchor: anchor, Closed: db.Unmark}
	if dir != "" {
		key, err := findAuditKey(ctx, db, db.Node(), true)
		if err == nil {
			on.Signer, on.Verifier, err = key.parse()
		}
		if err != nil {
			return nil, err
		}
		public = key
	}
	if len(c.AuditCopies) > 0 {
		on.Copy = func(lines []byte) {
			for _, copier := range c.AuditCopies {
				copier.Write(lines)
			}
		}
	}
	if c.AcceptAuditLoss {
		on.Anchor, on.Verifier = audit.Head{}, nil
	}
	var log *audit.Log
	on.Signed = func() {
		if err := iam.Anchor(context.WithoutCancel(ctx), db, log.Synced); err != nil && db.Err() == nil {
			c.Logger.Warn("the store does not take up how far the audit log reaches", "err", err)
		}
	}
	log, err = audit.Open(on)
	if err != nil {
		return nil, err
	}
	err = settle(ctx, db, log, dir, anchor, marks, c)
	if err == nil && dir != "" {
		err = public.publish(dir)
	}
	if err != nil { // nothing of it may look as if the store knew it
		return nil, errors.Join(err, log.Abandon())
	}
	return log, nil
}

// noteRemoved tells of what was removed from the end of the audit log, there too.
func noteRemoved(log *audit.Log, c Config) error {
	if log.Removed() == 0 {
		return nil
	}
	c.Logger.Warn("removed what a crash left half written at the end of the audit log", "bytes", log.Removed())
	e := log.Begin(audit.Record{EventType: "AwsServiceEvent", EventTime: time.Now().UTC().Truncate(time.Second), EventName: "RepairAuditLog",
		EventSource: "claviger", RequestID: uuid.New().String(), ErrorMessage: fmt.Sprintf("%d bytes that a crash left half written are removed", log.Removed())})
	return e.End()
}

// settle insists that the log is the one that the store knows, and then writes there what
// became of the changes that a crash left open.
func settle(ctx context.Context, db *store.DB, log *audit.Log, dir string, anchor audit.Head, marks map[string]bool, c Config) error {
	whole, err := audit.Contains(dir, anchor)
	if dir == "" {
		whole, err = anchor.Sequence == 0, nil
	}
	marked := func(id string) bool { return marks[id] }
	var changes audit.Changes
	if err == nil && dir != "" {
		changes, err = audit.ReadChanges(dir, anchor, marked)
	}
	switch {
	case err != nil:
		return err
	case !whole && !c.AcceptAuditLoss:
		return fmt.Errorf("server: the audit log in %q lacks line %d, which the store knows: it was cut or replaced", dir, anchor.Sequence)
	case whole && c.Dir != "":
		err = older(dir, changes)
	}
	if err == nil {
		err = noteRemoved(log, c)
	}
	if err != nil {
		return err
	}
	if !whole {
		c.Logger.Warn("the audit log was cut or replaced; going on as asked", "missing", anchor.Sequence)
		e := log.Begin(audit.Record{EventType: "AwsServiceEvent", EventTime: time.Now().UTC().Truncate(time.Second), EventName: "AcceptAuditLoss",
			EventSource: "claviger", RequestID: uuid.New().String(), ErrorMessage: fmt.Sprintf("the log lacks line %d, which the store knows", anchor.Sequence)})
		if err := e.End(); err != nil {
			return err
		}
	}
	if err := log.Settle(changes.Open, marked); err != nil {
		return err
	}
	if len(changes.Open) > 0 {
		c.Logger.Warn("settled changes that an earlier run left without an outcome", "changes", len(changes.Open))
	}
	for id := range marks { // their outcomes are on disk before the next intent is
		db.Unmark(id)
	}
	return nil
}

// errOlder reports a store that lacks what its audit log tells of.
var errOlder = errors.New("server: an older copy of the store was put in its place")

// older refuses a store that does not have what its audit log says was changed.
func older(dir string, changes audit.Changes) error {
	if changes.Missing == 0 {
		return nil
	}
	return fmt.Errorf("%w: the audit log in %q has a change in line %d that the store lacks, and what has been revoked since would be in force again; "+
		"put the newer one back, or see with claviger restore accept what was changed", errOlder, dir, changes.Missing)
}

// AuditDir is where a data directory keeps its audit log.
func AuditDir(dir string) string { return filepath.Join(dir, "audit") }
