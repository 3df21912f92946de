// Rules writes docs/rules.md: which scenarios hold each rule of the decision, and
// at which depths they run.
package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/scenario"
	"github.com/claviger/claviger/internal/scenario/stage"
)

// A row is one rule.
type row struct {
	rule                string
	pure, service, http int
	files               []string
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "rules:", err)
		os.Exit(1)
	}
}

func run() error {
	files, err := scenario.Load("internal/scenario/testdata")
	if err != nil {
		return err
	}
	rows := map[string]*row{}
	for _, f := range files {
		for _, c := range f.Claims {
			service, http := stage.Depths(f, c)
			for _, name := range c.Rules() {
				r := rows[name]
				if r == nil {
					r = &row{rule: name}
					rows[name] = r
				}
				r.count(f.Name, service, http)
			}
		}
	}
	return os.WriteFile("docs/rules.md", []byte(page(rows)), 0o644)
}

func (r *row) count(file string, service, http bool) {
	r.pure++
	if service {
		r.service++
	}
	if http {
		r.http++
	}
	if !slices.Contains(r.files, file) {
		r.files = append(r.files, file)
	}
}

func page(rows map[string]*row) string {
	var b strings.Builder
	b.WriteString("# Rules and their scenarios\n\nWritten by `go generate` from internal/scenario/testdata; do not edit.\n\n" +
		"How many claims there are about each rule of the decision, and how many of them run by the decision alone, through the service,\n" +
		"and over HTTP with real signatures. What a claim at a lower depth only lacks is a way to say it in a request.\n\n" +
		"| rule | decision | service | HTTP | scenarios |\n|---|---:|---:|---:|---|\n")
	sorted := make([]*row, 0, len(rows))
	for _, r := range rows {
		sorted = append(sorted, r)
	}
	slices.SortFunc(sorted, func(a, b *row) int {
		return cmp.Or(slices.Compare(order(a.rule), order(b.rule)), cmp.Compare(a.rule, b.rule))
	})
	for _, r := range sorted {
		fmt.Fprintf(&b, "| %s | %d | %d | %d |", r.rule, r.pure, r.service, r.http)
		for i, f := range r.files {
			if i > 0 {
				b.WriteString(",")
			}
			fmt.Fprintf(&b, " [%s](../internal/scenario/testdata/%s)", strings.TrimSuffix(f, ".txtar"), f)
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// order is a rule's numbers; examples come last.
func order(rule string) []int {
	var section, number int
	if n, _ := fmt.Sscanf(rule, "AUTH-%d.%d", &section, &number); n > 0 {
		return []int{section, number}
	}
	_, _ = fmt.Sscanf(rule, "Example %d", &number)
	return []int{99, number}
}
