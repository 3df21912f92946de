package server

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
)

type number struct{ N int }

var numberKind = store.Kind[number]{Tag: 251, Name: "number"}

// Backups are made while many change something. Each change is in the backup, or is one that
// the audit log says is missing there, and never both.
func TestChangesUnderWay(t *testing.T) {
	dir := t.TempDir()
	quiet := slog.New(slog.DiscardHandler)
	s, err := Open(t.Context(), Config{Dir: dir, NewAccount: "111122223333", Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var done atomic.Int64
	var writers sync.WaitGroup
	for w := range 48 {
		writers.Go(func() {
			for i := 0; !stop.Load(); i++ {
				key := fmt.Sprintf("number/%d/%d", w, i)
				e := s.Log.Begin(operatorRecord("Count", map[string]string{"key": key}))
				err := iam.Change(context.WithoutCancel(t.Context()), s.DB, e, func(tx *store.Tx) error { return store.Put(tx, numberKind, key, &number{i}) })
				if err = errors.Join(err, e.End()); err != nil {
					t.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	var backups []io.Reader
	for n := range int64(8) {
		for done.Load() < 300*n && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
		var b bytes.Buffer
		if err := s.Backup(t.Context(), &b, nil); err != nil {
			t.Error(err)
		}
		backups = append(backups, &b)
	}
	stop.Store(true)
	writers.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	all := changes(t, dir, audit.Head{}, func(string) bool { return false })
	for i, b := range backups {
		c := Config{Dir: filepath.Join(t.TempDir(), "restored"), Seals: []seal.Options{{Kind: "file", KeyFile: filepath.Join(dir, "root.key")}}, Existing: true, Logger: quiet}
		if _, err := Restore(t.Context(), c, []io.Reader{b}, nil); err != nil {
			t.Fatal(err)
		}
		o, err := openStore(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		state, err := auditStateOf(t.Context(), o.DB, "")
		if err != nil {
			t.Fatal(err)
		}
		missing := changes(t, dir, state.Anchor, func(id string) bool { return state.marks[id] })
		err = o.View(t.Context(), func(tx *store.Tx) error {
			for key := range all {
				if _, err := store.Get(tx, numberKind, key); (err != nil) != missing[key] {
					t.Errorf("backup %d: %s: %v, and missing by the log: %v", i, key, err, missing[key])
				}
			}
			return nil
		})
		if err := errors.Join(err, o.Close()); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d changes, %d backups", len(all), len(backups))
}

// changes are the keys of the numbers of which the log in dir says that a store lacks them.
func changes(t *testing.T, dir string, anchor audit.Head, marked func(string) bool) map[string]bool {
	t.Helper()
	records, _, err := audit.CommittedSince(AuditDir(dir), anchor, marked)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, r := range records {
		var parameters struct{ Key string }
		if r.EventName == "Count" {
			if err := json.Unmarshal(r.RequestParameters, &parameters, json.MatchCaseInsensitiveNames(true)); err != nil {
				t.Fatal(err)
			}
			out[parameters.Key] = true
		}
	}
	return out
}

// Two logs are put together by the places that their changes have in the store. One whose place
// nobody knows stays behind the one before it, whatever the clocks say.
func TestMerged(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	record := func(id string, second int, revision int64) audit.Record {
		r := audit.Record{RequestID: id, EventTime: noon.Add(time.Duration(second) * time.Second)}
		if revision > 0 {
			r.Claviger.Commit = &audit.Commit{Epoch: "e", Revision: revision}
		}
		return r
	}
	a := ordered([]audit.Record{record("a2", 9, 2), record("a?", 9, 0), record("a3", 0, 3)}, "a")
	b := ordered([]audit.Record{record("b5", 1, 5), record("b4", 1, 4)}, "b")
	var got []string
	for _, r := range merged(a, b) {
		got = append(got, r.RequestID)
	}
	if want := []string{"a2", "a?", "a3", "b4", "b5"}; !slices.Equal(got, want) {
		t.Errorf("the order is %v, want %v", got, want)
	}
}

// Of a log of which a store knows nothing, what is older than the backup is in it already.
func TestAfter(t *testing.T) {
	record := func(id string, revision int64) audit.Record {
		r := audit.Record{RequestID: id}
		if revision > 0 {
			r.Claviger.Commit = &audit.Commit{Epoch: "e", Revision: revision}
		}
		return r
	}
	for want, records := range map[string][]audit.Record{
		"? 11":      {record("?", 0), record("11", 11)}, // it joined after the backup
		"12":        {record("?", 0), record("9", 9), record("still", 0), record("12", 12)},
		"11 late 9": {record("11", 11), record("late 9", 0)},
		"":          {record("?", 0), record("10", 10)},
	} {
		var got []string
		for _, r := range after(ordered(records, "n"), 10) {
			got = append(got, r.RequestID)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q remain, want %q", got, want)
		}
	}
}

// What gives something on the strength of a change that cannot be made again is not made again.
func TestUncertain(t *testing.T) {
	record := func(source, event, parameters string) *audit.Record {
		return &audit.Record{EventSource: source + ".amazonaws.com", EventName: event, RequestParameters: []byte(parameters)}
	}
	open := []Change{changeOf(record("organizations", "CreatePolicy", `{"name":"new"}`)), changeOf(record("iam", "CreatePolicy", `{"policyArn":"p"}`))}
	for _, tt := range []struct {
		record *audit.Record
		want   bool
	}{
		{record("organizations", "DetachPolicy", `{"policyId":"old"}`), true},
		{record("organizations", "AttachPolicy", `{"policyId":"old"}`), false},
		{record("iam", "SetDefaultPolicyVersion", `{"policyArn":"p"}`), true},
		{record("iam", "SetDefaultPolicyVersion", `{"policyArn":"q"}`), false},
		{record("iam", "DetachUserPolicy", `{"policyArn":"p"}`), false},
	} {
		if _, loosens := loosening[tt.record.EventSource+" "+tt.record.EventName]; uncertain(tt.record, nil, true) != loosens {
			t.Errorf("%s when it is resumed: %v", tt.record.EventName, !loosens)
		}
		if got := uncertain(tt.record, open, false); got != tt.want {
			t.Errorf("%s %s: %v", tt.record.EventName, tt.record.RequestParameters, got)
		}
	}
}
