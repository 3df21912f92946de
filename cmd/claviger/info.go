package main

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/wire"
)

// version prints what this program was built from.
func version(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("version", stderr)
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	v := struct{ Version, Revision, Go string }{"devel", "", runtime.Version()}
	if b, ok := debug.ReadBuildInfo(); ok {
		if b.Main.Version != "" && b.Main.Version != "(devel)" {
			v.Version = b.Main.Version
		}
		for _, s := range b.Settings {
			if s.Key == "vcs.revision" {
				v.Revision = s.Value
			}
		}
	}
	if *output == "json" {
		return writeJSON(stdout, v)
	}
	if v.Revision != "" {
		v.Version += " " + v.Revision
	}
	_, err := fmt.Fprintln(stdout, "claviger", v.Version, v.Go)
	return err
}

func outputFlag(f interface {
	String(name, value, usage string) *string
}) *string {
	return f.String("output", "text", "text or json")
}

func writeJSON(w io.Writer, v any) error {
	if err := json.MarshalWrite(w, v, jsontext.WithIndent("  ")); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w)
	return err
}

// operations lists what there is of each API.
func operations(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("operations", stderr)
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	all := wire.Operations()
	if *output == "json" {
		return writeJSON(stdout, all)
	}
	for _, s := range all {
		for _, name := range s.Done {
			fmt.Fprintf(stdout, "%s\t%s\timplemented\n", s.Service, name)
		}
		for _, name := range s.Missing {
			fmt.Fprintf(stdout, "%s\t%s\tnot yet: answers UnsupportedOperationException\n", s.Service, name)
		}
	}
	return nil
}

// auditVerify checks a data directory's audit log against its own chain and,
// if no server has the store open, against what the store remembers of it.
func auditVerify(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("audit verify", stderr)
	data := f.String("data", "", "the data directory")
	dir := f.String("audit-dir", "", "directory of the audit log (default DIR/audit)")
	output := outputFlag(f)
	var sealing sealFlags
	sealing.register(f, "")
	if err := parse(f, args); err != nil {
		return err
	}
	if *data == "" && *dir == "" {
		return errors.New("audit verify needs --data DIR or --audit-dir DIR")
	}
	if *dir == "" {
		*dir = server.AuditDir(*data)
	}
	var anchor audit.Head
	anchored := false
	if *data != "" {
		c := server.Config{Dir: *data}
		var err error
		if c.Seals, err = sealing.options(); err != nil {
			return err
		}
		switch anchor, err = server.ReadAnchor(ctx, c); {
		case err == nil:
			anchored = true
		case !errors.Is(err, store.ErrLocked):
			return err
		}
	}
	head, err := audit.Verify(*dir, anchor)
	if err != nil {
		return err
	}
	if *output == "json" {
		return writeJSON(stdout, struct {
			Lines    uint64
			Hash     string
			Anchored bool
		}{head.Sequence, head.Hash, anchored})
	}
	fmt.Fprintf(stdout, "%d records, unbroken; head %s\n", head.Sequence, head.Hash)
	switch {
	case anchored:
	case *data == "":
		fmt.Fprintln(stdout, "not compared with a store: give --data DIR")
	default:
		fmt.Fprintln(stdout, "not compared with the store: a server has it open")
	}
	return nil
}
