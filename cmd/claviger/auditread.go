package main

import (
	"cmp"
	"context"
	"encoding/json/v2"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/server"
)

// A logReader is the flags of a command that reads an audit log, and how it shows the
// lines. It reads files alone: a server may be writing them.
type logReader struct {
	data, auditDir, output string
	stdout, stderr         io.Writer
	strange                int // lines that are no records
}

func (l *logReader) register(f *flag.FlagSet) {
	f.StringVar(&l.data, "data", "", "the data directory")
	f.StringVar(&l.auditDir, "audit-dir", "", "directory of the audit log (default DIR/audit)")
	f.StringVar(&l.output, "output", "text", "text, or json: the lines as they are stored")
}

// dir is where the log is.
func (l *logReader) dir(f *flag.FlagSet) (string, error) {
	switch {
	case l.data == "" && l.auditDir == "":
		return "", errors.New(strings.TrimPrefix(f.Name(), "claviger ") + " needs --data DIR or --audit-dir DIR")
	case l.output != "text" && l.output != "json":
		return "", errors.New("--output is text or json")
	default:
		return cmp.Or(l.auditDir, server.AuditDir(l.data)), nil
	}
}

// decode reads a line, and counts it if it is no record.
func (l *logReader) decode(line []byte) (r audit.Record, ok bool) {
	ok = json.Unmarshal(line, &r) == nil
	if !ok {
		l.strange++
	}
	return r, ok
}

func (l *logReader) print(line []byte, r *audit.Record) error {
	var err error
	if l.output == "json" {
		_, err = fmt.Fprintf(l.stdout, "%s\n", line)
	} else {
		_, err = fmt.Fprintln(l.stdout, readable(r))
	}
	return err
}

// end tells of lines that are no records.
func (l *logReader) end() {
	if l.strange > 0 {
		fmt.Fprintf(l.stderr, "%d lines are not audit records: see claviger audit verify\n", l.strange)
	}
}

// auditQuery prints the records that are meant, oldest first.
func auditQuery(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("audit query", stderr)
	l := logReader{stdout: stdout, stderr: stderr}
	l.register(f)
	var want audit.Filter
	moment(f, &want.Since, "since", "records of that time or later: RFC 3339, a day as 2006-01-02, or how long ago, as 2h30m")
	moment(f, &want.Until, "until", "records of that time or earlier, as --since")
	f.StringVar(&want.EventName, "event-name", "", "records of that operation")
	f.StringVar(&want.EventSource, "event-source", "", "records of that service, as kms or kms.amazonaws.com")
	f.StringVar(&want.User, "user", "", "records whose caller's ARN has that in it")
	f.StringVar(&want.Key, "key", "", "records about the KMS key with that id or ARN")
	f.StringVar(&want.Error, "error", "", "records with that error code, as AccessDenied")
	f.StringVar(&want.RequestID, "request-id", "", "records of that request")
	f.StringVar(&want.Account, "account", "", "records of callers or resources of that account")
	limit := f.Int("limit", 0, "print only the newest so many (default all)")
	if err := parse(f, args); err != nil {
		return err
	}
	dir, err := l.dir(f)
	if err != nil {
		return err
	}
	defer l.end()
	if *limit > 0 {
		_, err := l.last(dir, *limit, &want)
		return err
	}
	return audit.Oldest(dir, want.Since, func(line []byte) error {
		if r, ok := l.decode(line); ok && want.Match(&r) {
			return l.print(line, &r)
		}
		return nil
	})
}

// last prints the n newest records that are meant, oldest first, and returns the place
// behind them.
func (l *logReader) last(dir string, n int, want *audit.Filter) (end audit.Place, err error) {
	var lines [][]byte
	end = audit.Place{Segment: 1}
	begun := false
	err = audit.Newest(dir, audit.Place{}, func(line []byte, begin audit.Place) bool {
		if !begun {
			begun, end = true, audit.Place{Segment: begin.Segment, Offset: begin.Offset + int64(len(line)) + 1}
		}
		if len(lines) == n {
			return false
		}
		r, ok := l.decode(line)
		if ok && want.Match(&r) {
			lines = append(lines, slices.Clone(line))
		}
		return !ok || r.Claviger.Phase == audit.Settled || !r.EventTime.Add(audit.Unordered).Before(want.Since)
	})
	for _, line := range slices.Backward(lines) {
		r, _ := l.decode(line)
		err = errors.Join(err, l.print(line, &r))
	}
	return end, err
}

// auditTail prints the newest records and, with --follow, those that come.
func auditTail(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("audit tail", stderr)
	l := logReader{stdout: stdout, stderr: stderr}
	l.register(f)
	n := f.Int("n", 10, "how many records to begin with")
	follow := f.Bool("follow", false, "go on with the records that are written, until interrupted")
	if err := parse(f, args); err != nil {
		return err
	}
	dir, err := l.dir(f)
	if err != nil {
		return err
	}
	defer l.end()
	end, err := l.last(dir, max(*n, 0), &audit.Filter{})
	if err != nil || !*follow {
		return err
	}
	return audit.Follow(ctx, dir, end, func(line []byte) error {
		if r, ok := l.decode(line); ok {
			return l.print(line, &r)
		}
		return nil
	})
}

// moment is a flag for a time.
func moment(f *flag.FlagSet, t *time.Time, name, usage string) {
	f.Func(name, usage, func(s string) (err error) {
		if ago, err := time.ParseDuration(s); err == nil {
			*t = time.Now().Add(-ago)
			return nil
		}
		for _, layout := range []string{time.RFC3339, time.DateOnly} {
			if *t, err = time.Parse(layout, s); err == nil {
				return nil
			}
		}
		return errors.New("not a time, a day or a duration")
	})
}

// readable is a record as one line of text: when, what, who, about what, how it ended
// and why.
func readable(r *audit.Record) string {
	who := "-"
	if id := r.UserIdentity; id != nil {
		who = cmp.Or(id.ARN, id.InvokedBy, id.Type, "-")
	}
	var about []string
	for _, resource := range r.Resources {
		about = append(about, resource.ARN)
	}
	words := []string{r.EventTime.UTC().Format(time.RFC3339), strings.TrimSuffix(r.EventSource, ".amazonaws.com") + ":" + r.EventName, who,
		cmp.Or(strings.Join(about, ","), "-"), ending(r)}
	for _, d := range r.Claviger.Decisions {
		words = append(words, d.Action+" "+reason(d))
	}
	return strings.Map(func(c rune) rune {
		if unicode.IsPrint(c) {
			return c
		}
		return '\uFFFD' // nothing that would steer a terminal
	}, strings.Join(words, "  "))
}

// ending is how a request ended.
func ending(r *audit.Record) string {
	done := r.Claviger.Committed
	switch {
	case r.ErrorCode != "":
		return r.ErrorCode
	case r.Claviger.Phase == audit.Intent:
		return "intended"
	case r.Claviger.Phase == "":
		return "ok"
	case done == nil:
		return "changed or not: unknown"
	case *done:
		return "changed"
	default:
		return "not changed"
	}
}
