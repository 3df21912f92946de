package audit_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/durable/disktest"
)

// The outcome of a change that a full disk refused is written when there is space again.
func TestOutcomeOnFullDisk(t *testing.T) {
	dir := disktest.Mount(t, "256k")
	closed := make(chan string, 1)
	l, err := audit.Open(audit.Config{Dir: dir, Closed: func(id string) { closed <- id }})
	if err != nil {
		t.Fatal(err)
	}
	e := l.Begin(audit.Record{EventName: "DisableKey", RequestID: "the-change"})
	if err := e.Intend(); err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = l.Append(&audit.Record{EventName: strings.Repeat("x", 100)})
	}
	e.Claviger.Committed = new(true)
	if err := e.End(); !errors.Is(err, audit.ErrBroken) {
		t.Fatalf("End on a full disk = %v", err)
	}
	disktest.Resize(t, dir, "16m")
	ctx, stop := context.WithCancel(t.Context())
	var run sync.WaitGroup
	run.Go(func() { l.Run(ctx) })
	if id := <-closed; id != "the-change" {
		t.Errorf("%s is closed", id)
	}
	stop()
	run.Wait()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if c, err := audit.ReadChanges(dir, audit.Head{}, func(string) bool { return false }); err != nil || len(c.Open) != 0 || c.Missing != 1 {
		t.Errorf("the log tells of %+v, %v", c, err)
	}
}

// On a full disk records are refused; those that are not are in the file, in one
// whole chain, also of writers that met the end of the disk at once.
func TestFullDisk(t *testing.T) {
	dir := disktest.Mount(t, "256k")
	l, err := audit.Open(audit.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // guards taken and refused
	taken, refused := map[string]bool{}, 0
	write := func(n int) {
		var writers sync.WaitGroup
		for w := range 8 {
			writers.Go(func() {
				for i := range 60 {
					id := fmt.Sprintf("r-%d-%d-%d", n, w, i)
					_, err := l.Append(&audit.Record{EventName: strings.Repeat("x", 1000), RequestID: id})
					mu.Lock()
					if err == nil {
						taken[id] = true
					} else if refused++; !errors.Is(err, audit.ErrBroken) {
						t.Error(err)
					}
					mu.Unlock()
				}
			})
		}
		writers.Wait()
	}
	write(0)
	if refused == 0 || l.Err() == nil {
		t.Fatalf("%d records are refused, %v", refused, l.Err())
	}
	disktest.Resize(t, dir, "16m")
	before := refused
	write(1)
	if refused != before || l.Err() != nil {
		t.Errorf("%d records are refused with space again, %v", refused-before, l.Err())
	}
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := audit.Verify(dir, head); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "audit-000001.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(string(text), "\n"); lines != len(taken) {
		t.Errorf("%d lines of %d records", lines, len(taken))
	}
	for id := range taken {
		if !strings.Contains(string(text), `"`+id+`"`) {
			t.Errorf("the record of %s is lost", id)
		}
	}
}
