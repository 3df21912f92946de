// Modelgen writes the wire types, constraint checks and faults of one service
// from its API model.
//
//	modelgen -model internal/model/api/kms.json -package kmsapi -out internal/model/kmsapi
package main

import (
	"encoding/json/v2"
	"flag"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
)

// secrets are the shapes that the models do not mark sensitive and that must not
// be repeated: one-time codes, which may still be good for another device.
var secrets = []string{"authenticationCodeType", "tokenCodeType"}

func main() {
	in := flag.String("model", "", "the API model, a JSON file")
	pkg := flag.String("package", "", "name of the generated package")
	out := flag.String("out", "", "directory to write to")
	flag.Parse()
	if err := run(*in, *pkg, *out); err != nil {
		fmt.Fprintln(os.Stderr, "modelgen:", err)
		os.Exit(1)
	}
}

func run(in, pkg, out string) error {
	text, err := os.ReadFile(in)
	if err != nil {
		return err
	}
	var m Model
	if err := json.Unmarshal(text, &m); err != nil {
		return fmt.Errorf("read %s: %w", in, err)
	}
	for _, name := range secrets {
		if shape, ok := m.Shapes[name]; ok {
			shape.Sensitive = true
			m.Shapes[name] = shape
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	g := generator{model: &m, pkg: pkg}
	for name, write := range map[string]func(){
		"types.go": g.types, "checks.go": g.checks, "faults.go": g.faults, "enums.go": g.enums,
	} {
		g.buf.Reset()
		write()
		source, err := format.Source(g.buf.Bytes())
		if err != nil {
			return fmt.Errorf("format %s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(out, name), source, 0o644); err != nil {
			return err
		}
	}
	return nil
}
