// Compatibility writes docs/compatibility.md from the tables of operations.
package main

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/wire"
)

func main() {
	var b strings.Builder
	b.WriteString("# Compatibility\n\nWritten by `go generate` from the tables of operations; do not edit.\n\n" +
		"These are the operations of each service that keys, and who may use them, have to do with. One that is not there yet is authenticated\n" +
		"like any other and then answers `UnsupportedOperationException`; other operations of AWS's are unknown (`UnknownOperationException`,\n" +
		"`InvalidAction`).\n")
	for _, s := range wire.Operations() {
		fmt.Fprintf(&b, "\n## %s: %d of %d operations\n\n| operation | |\n|---|---|\n", s.Service, len(s.Done), len(s.Done)+len(s.Missing))
		all := append(slices.Clone(s.Done), s.Missing...)
		slices.Sort(all)
		for _, name := range all {
			state := "yes"
			if slices.Contains(s.Missing, name) {
				state = "not yet"
			}
			fmt.Fprintf(&b, "| %s | %s |\n", name, state)
		}
	}
	if err := os.WriteFile("docs/compatibility.md", []byte(b.String()), 0o644); err != nil {
		fmt.Fprintln(os.Stderr, "compatibility:", err)
		os.Exit(1)
	}
}
