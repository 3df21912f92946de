package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/operate"
	"github.com/claviger/claviger/internal/server"
)

// auditVerify checks an audit log against its own chain and checkpoints and, if there is
// a data directory, against what the store knows of it.
func auditVerify(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("audit verify", stderr)
	var d dataDir
	d.register(f)
	public := f.String("public-key", "", "file with the key that checks checkpoints, as checkpoint.pub beside the log, if there is no data directory")
	checkpoint := f.String("checkpoint", "", "file with a checkpoint that was kept elsewhere, which the log must have")
	var logs nodeLogs
	f.Var(&logs, "log", "NODE=DIR: the audit log of one node of a cluster; repeated, for all of them: one that is missing is an error")
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	if len(logs) > 0 && (given(f, "checkpoint") || given(f, "public-key") || given(f, "audit-dir")) {
		return errors.New("--checkpoint, --public-key and --audit-dir are for one log: verify it without --log")
	}
	if len(logs) > 0 {
		return verifyLogs(ctx, &d, logs, *output, stdout, stderr)
	}
	if d.dir == "" && d.auditDir == "" {
		return errors.New("audit verify needs --data DIR or --audit-dir DIR")
	}
	dir := d.auditDir
	if dir == "" {
		dir = server.AuditDir(d.dir)
	}
	state, served, err := d.auditState(ctx, stderr)
	if err != nil {
		return err
	}
	if given(f, "public-key") {
		text, err := os.ReadFile(*public)
		if err != nil {
			return fmt.Errorf("--public-key: %w", err)
		}
		key := strings.TrimSpace(string(text))
		if key == "" || state.Key != "" && key != state.Key {
			return fmt.Errorf("--public-key: %s is empty, or not the key that the store signs with", *public)
		}
		state.Key = key
	}
	report, err := state.Verify(dir)
	if err == nil && given(f, "checkpoint") {
		err = holds(state, dir, *checkpoint)
	}
	if err == nil && d.dir != "" && !served {
		err = state.Since(dir)
	}
	if err != nil {
		return err
	}
	if *output == "json" {
		return writeJSON(stdout, struct {
			Lines       uint64
			Hash        string
			Anchored    bool
			Checkpoints int
			Signed      uint64
			Key         string
			Cut         int64
		}{report.Sequence, report.Hash, d.dir != "", report.Checkpoints, report.Signed, state.Key, report.Cut})
	}
	fmt.Fprintf(stdout, "%d records, unbroken; head %s\n", report.Sequence, report.Hash)
	if report.Cut > 0 {
		fmt.Fprintf(stdout, "%d bytes behind the last record: one that is being written, or that a crash has cut\n", report.Cut)
	}
	if d.dir == "" {
		fmt.Fprintln(stdout, "not compared with a store: give --data DIR")
	}
	if state.Key == "" {
		fmt.Fprintln(stdout, "checkpoints not checked: give --data DIR or --public-key FILE")
	} else {
		fmt.Fprintf(stdout, "%d checkpoints, the last in line %d, signed by %s\n", report.Checkpoints, report.Signed, state.Key)
	}
	return nil
}

// nodeLogs are the flag --log.
type nodeLogs []server.NodeLog

func (l *nodeLogs) String() string { return "" }

// Set adds NODE=DIR.
func (l *nodeLogs) Set(s string) error {
	node, dir, ok := strings.Cut(s, "=")
	if !ok || node == "" || dir == "" {
		return errors.New("must be NODE=DIR")
	}
	*l = append(*l, server.NodeLog{Node: node, Dir: dir})
	return nil
}

// verifyLogs checks the audit logs of all nodes against what their store knows.
func verifyLogs(ctx context.Context, d *dataDir, logs nodeLogs, output string, stdout, stderr io.Writer) error {
	var reports map[string]audit.Report
	err := d.operator(ctx, stderr, func(o operate.Operator) error {
		states, err := o.AuditStates(ctx)
		if err == nil {
			reports, err = server.VerifyLogs(states, logs)
		}
		return err
	})
	if output == "json" {
		return errors.Join(writeJSON(stdout, reports), err)
	}
	for _, node := range slices.Sorted(maps.Keys(reports)) {
		r := reports[node]
		fmt.Fprintf(stdout, "%s: %d records, unbroken; %d checkpoints, the last in line %d; head %s\n", node, r.Sequence, r.Checkpoints, r.Signed, r.Hash)
	}
	return err
}

// holds checks that a log has what a checkpoint in a file tells of.
func holds(state server.AuditState, dir, path string) error {
	text, err := os.ReadFile(path)
	if err == nil {
		err = state.Holds(dir, string(text))
	}
	if err != nil {
		err = fmt.Errorf("--checkpoint %s: %w", path, err)
	}
	return err
}

// auditState is what the store knows of its audit log: the one that a server has open, or
// else that of the directory.
func (d *dataDir) auditState(ctx context.Context, stderr io.Writer) (state server.AuditState, served bool, err error) {
	if d.dir == "" {
		return state, false, nil
	}
	client, err := operate.Dial(d.dir)
	if err == nil {
		state, err = client.AuditState(ctx)
		return state, true, errors.Join(err, client.Close())
	}
	if !errors.Is(err, operate.ErrNotServed) {
		return state, false, err
	}
	c, err := d.config(stderr)
	if err != nil {
		return state, false, err
	}
	state, err = server.ReadAuditState(ctx, c)
	return state, false, err
}
