package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

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
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	if d.dir == "" && d.auditDir == "" {
		return errors.New("audit verify needs --data DIR or --audit-dir DIR")
	}
	dir := d.auditDir
	if dir == "" {
		dir = server.AuditDir(d.dir)
	}
	state, err := d.auditState(ctx, stderr)
	if err != nil {
		return err
	}
	if *public != "" {
		text, err := os.ReadFile(*public)
		if err != nil {
			return err
		}
		state.Key = strings.TrimSpace(string(text))
	}
	report, err := state.Verify(dir)
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
		}{report.Sequence, report.Hash, d.dir != "", report.Checkpoints, report.Signed, state.Key})
	}
	fmt.Fprintf(stdout, "%d records, unbroken; head %s\n", report.Sequence, report.Hash)
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

// auditState is what the store knows of its audit log: the one that a server has open, or
// else that of the directory.
func (d *dataDir) auditState(ctx context.Context, stderr io.Writer) (state server.AuditState, err error) {
	if d.dir == "" {
		return state, nil
	}
	client, err := operate.Dial(d.dir)
	if err == nil {
		state, err = client.AuditState(ctx)
		return state, errors.Join(err, client.Close())
	}
	if !errors.Is(err, operate.ErrNotServed) {
		return state, err
	}
	c, err := d.config(stderr)
	if err != nil {
		return state, err
	}
	return server.ReadAuditState(ctx, c)
}
