package main

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/inquire"
)

func printWay(w io.Writer, by string, conditions []string) {
	fmt.Fprintln(w, "  by", by)
	for _, condition := range conditions {
		fmt.Fprintln(w, "  if", condition)
	}
}

// decided is a decision on record, in words.
func decided(d audit.Decision) string {
	text := d.Outcome
	if d.By != "" {
		text += " by " + d.By
	}
	if d.Missing != "" {
		text += ", no " + d.Missing + " allows it"
	}
	if d.Via != "" {
		text += " (" + d.Via + ")"
	}
	return text
}

func printExplanation(w io.Writer, e *inquire.Explanation) {
	fmt.Fprintf(w, "%s (%s)\n", e.Why, strings.Join(e.Rules, ", "))
	fmt.Fprintf(w, "  %s\n  %s\n  on %s\n", e.Caller, e.Action, e.Resource)
	for _, l := range e.Layers {
		fmt.Fprintf(w, "\n%s: %s\n", l.Name, l.Says)
		for _, s := range l.Statements {
			printStatement(w, &s)
		}
	}
	if e.Changes != nil {
		fmt.Fprintln(w, "\nAny of these would allow it:")
	} else if !e.Allowed {
		fmt.Fprintln(w, "\nNo change by itself, nor two together, would allow it.")
	}
	for _, c := range e.Changes {
		fmt.Fprintf(w, "  - %s\n", strings.Join(c.What, ", and "))
		for _, s := range c.Statements {
			fmt.Fprintf(w, "      %s\n", s)
		}
	}
	if e.Needs != nil {
		fmt.Fprintln(w, "\nIt would be refused without any of:")
	} else if e.Allowed {
		fmt.Fprintln(w, "\nNo single statement's removal would refuse it.")
	}
	for _, n := range e.Needs {
		fmt.Fprintf(w, "  - %s\n", n)
	}
}

func printStatement(w io.Writer, s *inquire.Statement) {
	where := s.Policy
	if s.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", filepath.Clean(s.Policy), s.Line, s.Column)
	}
	fmt.Fprintf(w, "  %s, statement %d", where, s.Number)
	if s.Sid != "" {
		fmt.Fprintf(w, " %s", s.Sid)
	}
	fmt.Fprintf(w, ": %s", s.Effect)
	if s.Names != "" {
		fmt.Fprintf(w, ", names %s", s.Names)
	}
	if s.Applies {
		fmt.Fprintln(w, "; it applies")
	} else {
		fmt.Fprintf(w, "; %s\n", s.Because)
	}
	for _, f := range s.Failed {
		fmt.Fprintf(w, "    %d:%d %s %s: wants %s, the request has %s\n", f.Line, f.Column, f.Operator, f.Key, strings.Join(f.Wants, " or "), f.Has)
	}
}
