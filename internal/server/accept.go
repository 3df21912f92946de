package server

import (
	"cmp"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/org"
	"github.com/claviger/claviger/internal/store"
)

// A Change is a state change that the audit log tells of.
type Change struct {
	Time       time.Time
	Event      string // kms.amazonaws.com DisableKey
	By         string
	Account    string
	Region     string   `json:",omitzero"`
	Resources  []string `json:",omitzero"`
	Parameters string   `json:",omitzero"` // JSON
	RequestID  string
}

// A Recovery is what became of the changes that were made after a backup.
type Recovery struct {
	Restored store.Restored
	// Lost are keys and key material made since: what was encrypted with them cannot be
	// decrypted any more.
	Lost []Change
	// Replayed are the changes that were made again: revocations, disablements,
	// deletions, policies.
	Replayed []Change
	// Open are the changes that an operator has to look at, and perhaps make again.
	Open []Change
	// Seals are the changes of seals since the backup: the store opens with those that the
	// backup was made with, or with the one that it was restored under.
	Seals []Change
}

// makes are the events after which ciphertexts can exist that the backup has no key for.
var makes = []string{"CreateKey", "ReplicateKey", "ImportKeyMaterial", "RotateKeyOnDemand", "RotateKey"}

// ErrNotAccepted reports a restored store that was not accepted, because somebody has
// to look at what it lacks.
var ErrNotAccepted = errors.New("server: not accepted")

// AcceptRestore makes the changes again that the audit log tells of and the backup does
// not have, as far as they take something away, and lets the store be served. It says what
// it did. If keys are lost, seals were changed, or there are changes that it cannot make again,
// and always if the store did not come from a backup, it does nothing and returns
// ErrNotAccepted, unless confirmed is how many there are of these. withoutLog accepts a store whose audit
// log is lost: nothing is made again, and nobody knows what was revoked since.
func AcceptRestore(ctx context.Context, c Config, confirmed int, withoutLog bool) (r Recovery, err error) {
	c.Existing = true
	o, err := openStore(ctx, c)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if err := o.onlyNode(ctx); err != nil {
		return r, err
	}
	restored, err := o.Restored(ctx)
	if err != nil {
		return r, err
	}
	if restored != nil && restored.Moved != "" {
		return r, servable(ctx, o.DB)
	}
	put := restored == nil // perhaps a copy of the file was put back by hand
	if put {
		state, err := auditStateOf(ctx, o.DB, o.Node())
		if err == nil {
			err = state.Since(c.logDir())
		}
		if !errors.Is(err, errOlder) {
			return r, errors.Join(errors.New("server: the store did not come from a backup, or was accepted already"), err)
		}
		restored = &store.Restored{At: time.Now().UTC().Truncate(time.Second), Epoch: o.Epoch()}
	}
	r.Restored = *restored
	since, logs, err := c.since(ctx, &o, restored, withoutLog)
	if err != nil {
		return r, err
	}
	if put {
		if slices.ContainsFunc(since, func(r nodeRecord) bool { return r.Claviger.Commit != nil && r.Claviger.Commit.Epoch != restored.Epoch }) {
			return r, errors.New("server: the audit log tells of changes before the store was restored, and that was accepted without it: they may be older than what is in force; keep the log, and begin with an empty directory")
		}
		if err := o.Update(ctx, func(tx *store.Tx) error { return store.MarkRestored(tx, *restored) }); err != nil {
			return r, err
		}
	}
	do := replayer{kms.New(o.DB, c.KMS), time.Now().UTC()}
	again, err := do.plan(ctx, o.DB, since, &r)
	if err != nil {
		return r, err
	}
	if n := len(r.Open) + len(r.Lost) + len(r.Seals); (n > 0 || r.Restored.Backup == "") && confirmed != n {
		return r, ErrNotAccepted
	}
	for _, record := range again {
		err := o.Update(ctx, func(tx *store.Tx) error {
			tx.Unserved()
			switch done, err := do.replay(tx, &record.Record); {
			case err != nil:
				return err
			case !done:
				return fmt.Errorf("server: line %d of the audit log cannot be made again, although it could be just now", record.Claviger.Sequence)
			}
			return store.MadeAgain(tx, record.node, record.n)
		})
		if err != nil {
			return r, err
		}
	}
	return r, logs.accept(ctx, c, o.DB, r)
}

// errPlanned ends a transaction that was only to show what would happen.
var errPlanned = errors.New("server: planned")

// A nodeRecord is a record of the audit log of a node; without a name, of the only one.
type nodeRecord struct {
	audit.Record
	node string
	n    int           // counts those of the node, from 1
	at   *audit.Commit // its place in the store or, if that is not known, that of the one before it
}

// What an acceptance reads of audit logs.
type readLogs struct {
	ends    map[string]audit.Head // of the logs of other nodes that the store knows
	adopted bool                  // this node has the log of the store before that was shared
	marks   map[string]bool       // of that one
}

// since are the changes that the audit logs tell of and the store does not have, in the order
// in which they took effect. Of a shared store every node has a log, and all are needed.
func (c Config) since(ctx context.Context, o *opened, restored *store.Restored, withoutLog bool) (out []nodeRecord, read readLogs, err error) {
	nodes, err := members(ctx, o.DB)
	if err != nil {
		return nil, read, err
	}
	isNode := func(name string) bool {
		return slices.ContainsFunc(nodes, func(m member) bool { return m.Name == name })
	}
	before, err := iam.AuditAnchorOf(ctx, o.DB, "") // the store was shared
	if err != nil {
		return nil, read, err
	}
	logs := c.NodeLogs
	if own := (NodeLog{o.Node(), c.logDir()}); own.Node == "" || isNode(own.Node) || own.there() || before.Sequence > 0 {
		logs = slices.Concat([]NodeLog{own}, slices.DeleteFunc(slices.Clone(logs), func(l NodeLog) bool { return l.Node == own.Node }))
	}
	for _, m := range nodes {
		if !withoutLog && !slices.ContainsFunc(logs, func(l NodeLog) bool { return l.Node == m.Name }) {
			return nil, read, fmt.Errorf("server: the node %s has an audit log too, which tells what was revoked after the backup: say where it is with --log %s=DIR; if it is lost, say --without-audit-log", m.Name, m.Name)
		}
	}
	read.ends = map[string]audit.Head{}
	for _, l := range logs {
		if !l.there() {
			if withoutLog {
				continue
			}
			return nil, read, fmt.Errorf("server: there is no audit log in %s: put the one there that the store had, which tells what was revoked after the backup; "+
				"if it is lost, say --without-audit-log", l.Dir)
		}
		own := l.Node == o.Node()
		state, err := auditStateOf(ctx, o.DB, l.Node)
		joined := err == nil && l.Node != "" && !isNode(l.Node) && state.Anchor.Sequence == 0 // after the backup
		if joined && own {
			if state, err = auditStateOf(ctx, o.DB, ""); err == nil && state.Anchor.Sequence == 0 {
				return nil, read, fmt.Errorf("%w: the log in %s cannot go on; begin with an empty directory, and give that log with --log", errUnknownNode, l.Dir)
			}
			joined, read.adopted, read.marks = false, true, state.marks
		}
		if err != nil {
			return nil, read, err
		}
		records, end, err := state.lacks(l.Dir)
		if err != nil {
			return nil, read, err
		}
		if joined && slices.ContainsFunc(records, func(r audit.Record) bool {
			return r.Claviger.Commit != nil && r.Claviger.Commit.Epoch != restored.Epoch
		}) {
			return nil, read, fmt.Errorf("server: the audit log in %s is of a node that the store did not have at the time of the backup, and tells of changes of another store", l.Dir)
		}
		if !joined && !own {
			read.ends[l.Node] = end
		}
		changes := ordered(records, l.Node)
		if joined {
			changes = after(changes, int64(restored.Head))
		}
		out = merged(out, changes)
	}
	return out, read, nil
}

// there reports whether there is a log in the directory.
func (l NodeLog) there() bool {
	files, _ := filepath.Glob(filepath.Join(l.Dir, "audit-*.jsonl"))
	return len(files) > 0
}

// ordered puts the records of one log, which come as they were intended, in the order in which
// they took effect: two that were under way at the same time may have changed places. One whose
// place in the store is not known stays behind the one before it.
func ordered(records []audit.Record, node string) (out []nodeRecord) {
	type place struct {
		epoch    int // how many there were before it
		revision int64
	}
	places, at := map[string]place{}, place{}
	epochs := map[string]int{}
	for _, r := range records {
		if c := r.Claviger.Commit; c != nil {
			if _, ok := epochs[c.Epoch]; !ok {
				epochs[c.Epoch] = len(epochs)
			}
			at = place{epochs[c.Epoch], c.Revision}
		}
		places[r.RequestID] = at
	}
	slices.SortStableFunc(records, func(a, b audit.Record) int {
		x, y := places[a.RequestID], places[b.RequestID]
		return cmp.Or(cmp.Compare(x.epoch, y.epoch), cmp.Compare(x.revision, y.revision))
	})
	var last *audit.Commit
	for i, r := range records {
		if r.Claviger.Commit != nil {
			last = r.Claviger.Commit
		}
		out = append(out, nodeRecord{r, node, i + 1, last})
	}
	return out
}

// after leaves the changes of a log that came after a revision: of a node that the store does not
// know, because it joined later or was forgotten before. One whose place nobody knows is left out
// if others of the log are.
func after(records []nodeRecord, head int64) []nodeRecord {
	older := func(r nodeRecord) bool { return r.at != nil && r.at.Revision <= head }
	forgotten := slices.ContainsFunc(records, older)
	return slices.DeleteFunc(records, func(r nodeRecord) bool { return older(r) || r.at == nil && forgotten })
}

// merged puts the records of two logs in one order: of both as they are, between them by
// their places in the store and, where these are not known, by time.
func merged(a, b []nodeRecord) (out []nodeRecord) {
	for len(a) > 0 && len(b) > 0 {
		next := &a
		before, known := b[0].at.Before(a[0].at)
		if !known {
			before = b[0].EventTime.Before(a[0].EventTime)
		}
		if before {
			next = &b
		}
		out = append(out, (*next)[0])
		*next = (*next)[1:]
	}
	return slices.Concat(out, a, b)
}

// plan sorts the changes, without making any, and returns those to be made again.
func (do replayer) plan(ctx context.Context, db *store.DB, since []nodeRecord, r *Recovery) (again []nodeRecord, err error) {
	err = db.Update(ctx, func(tx *store.Tx) error {
		again, r.Seals, r.Lost, r.Replayed, r.Open = nil, nil, nil, nil, nil
		for _, record := range since {
			if record.n <= r.Restored.Again[record.node] {
				continue
			}
			change := changeOf(&record.Record)
			if uncertain(&record.Record, r.Open, len(r.Restored.Again) > 0) {
				r.Open = append(r.Open, change)
				continue
			}
			done, err := do.replay(tx, &record.Record)
			_, fault := errors.AsType[*model.Fault](err) // it does not fit what there is
			switch {
			case fault:
				r.Open = append(r.Open, change)
			case err != nil:
				return fmt.Errorf("line %d of the audit log: %w", record.Claviger.Sequence, err)
			case record.EventSource == "claviger":
				r.Seals = append(r.Seals, change)
			case slices.Contains(makes, record.EventName):
				r.Lost = append(r.Lost, change)
			case done:
				again = append(again, record)
				r.Replayed = append(r.Replayed, change)
			default:
				r.Open = append(r.Open, change)
			}
		}
		return errPlanned
	})
	if errors.Is(err, errPlanned) {
		err = nil
	}
	return again, err
}

// loosening are changes that give something, or choose what is in force, on the strength of
// others, by the parameter that says of what.
var loosening = map[string]string{
	"organizations.amazonaws.com DetachPolicy": "", "organizations.amazonaws.com MoveAccount": "", "organizations.amazonaws.com UpdatePolicy": "",
	"iam.amazonaws.com AddUserToGroup": "groupName", "iam.amazonaws.com CreatePolicyVersion": "policyArn", "iam.amazonaws.com SetDefaultPolicyVersion": "policyArn", "iam.amazonaws.com DeletePolicyVersion": "policyArn",
}

// uncertain reports whether a change must not be made again because one before it, of the same
// thing, was not: what it relies on may be missing. resumed: which those were that an earlier
// attempt passed is not known any more.
func uncertain(r *audit.Record, open []Change, resumed bool) bool {
	by, loosens := loosening[r.EventSource+" "+r.EventName]
	if !loosens || resumed {
		return loosens
	}
	return slices.ContainsFunc(open, func(c Change) bool {
		return strings.HasPrefix(c.Event, r.EventSource+" ") && (by == "" || parameter(c.Parameters, by) == parameter(string(r.RequestParameters), by))
	})
}

// parameter is one of a request's, if it is a string.
func parameter(parameters, name string) string {
	var p map[string]any
	if json.Unmarshal([]byte(parameters), &p) != nil {
		return ""
	}
	s, _ := p[name].(string)
	return s
}

// A replayer makes changes again.
type replayer struct {
	kms *kms.Service
	now time.Time // what is planned anew is planned from here
}

// replay makes one change again, if that can be done.
func (do replayer) replay(tx *store.Tx, r *audit.Record) (bool, error) {
	switch r.EventSource {
	case "kms.amazonaws.com":
		return do.kms.Replay(tx, r, do.now)
	case "iam.amazonaws.com":
		return iam.Replay(tx, r)
	case "organizations.amazonaws.com":
		return org.Replay(tx, r)
	default:
		return false, nil
	}
}

func changeOf(r *audit.Record) Change {
	c := Change{Time: r.EventTime, Event: r.EventSource + " " + r.EventName, Account: r.RecipientAccountID, Region: r.AWSRegion,
		Parameters: string(r.RequestParameters), RequestID: r.RequestID}
	if id := r.UserIdentity; id != nil {
		c.By = id.ARN
		if c.By == "" {
			c.By = id.Type
		}
	}
	for _, about := range r.Resources {
		c.Resources = append(c.Resources, about.ARN)
	}
	return c
}

// accept lets the store be served, and the audit log tell of it. The store takes up
// how far the log reaches now, and where those of other nodes end.
func (read readLogs) accept(ctx context.Context, c Config, db *store.DB, r Recovery) error {
	key, err := findAuditKey(ctx, db, read.keyOf(db.Node()), true)
	if err != nil {
		return err
	}
	on := audit.Config{Dir: c.logDir()}
	if on.Signer, on.Verifier, err = key.parse(); err != nil {
		return err
	}
	log, err := audit.Open(on)
	if err != nil {
		return err
	}
	entry := log.Begin(operatorRecord("AcceptRestore", map[string]string{"backup": r.Restored.Backup, "created": r.Restored.Created.Format(time.RFC3339),
		"replayed": strconv.Itoa(len(r.Replayed)), "open": strconv.Itoa(len(r.Open)), "lost": strconv.Itoa(len(r.Lost))}))
	err = iam.Change(ctx, db, entry, func(tx *store.Tx) error {
		tx.Unserved()
		store.AcceptRestored(tx)
		err := store.Put(tx, auditKeyKind, auditKeyKey(db.Node()), &key)
		if read.adopted { // it is this node's now
			for _, key := range []string{iam.AuditAnchorKey(""), auditKeyKey("")} {
				tx.Delete(key)
			}
			for id := range read.marks {
				tx.Delete(store.MarksOf("") + id)
			}
		}
		for node, end := range read.ends {
			err = errors.Join(err, iam.PutAuditAnchor(tx, node, end))
		}
		return err
	})
	return errors.Join(err, entry.End(), log.Close())
}

// keyOf is the node that had the log of this one; without a name, the store before it was
// shared.
func (read readLogs) keyOf(node string) string {
	if read.adopted {
		return ""
	}
	return node
}
