package main

import (
	"context"
	"crypto/fips140"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/claviger/claviger/internal/wire"
)

// version prints what this program was built from.
func version(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("version", stderr)
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	v := struct{ Version, Revision, Go, FIPS140 string }{"devel", "", runtime.Version(), fipsMode()}
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
	_, err := fmt.Fprintln(stdout, "claviger", v.Version, v.Go, "FIPS 140-3", v.FIPS140)
	return err
}

// fipsMode says whether the program runs in FIPS 140-3 mode, and with which version of
// the Go Cryptographic Module.
func fipsMode() string {
	switch {
	case fips140.Enforced():
		return "only, module " + fips140.Version()
	case fips140.Enabled():
		return "on, module " + fips140.Version()
	default:
		return "off"
	}
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
