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
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/foreign"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/server"
)

// A recordSource is the flags that say which records of an audit log are meant.
type recordSource struct {
	logs  []string
	since time.Time
	until time.Time
}

func (s *recordSource) register(q *inquiry) {
	q.flags.Func("audit", "an audit log, its directory, or files of CloudTrail; once for each of several nodes (default that of --data)", func(path string) error {
		s.logs = append(s.logs, path)
		return nil
	})
	moment(q.flags, &s.since, "since", "records of that time or later: RFC 3339, a day as 2006-01-02, or how long ago, as 2160h")
	moment(q.flags, &s.until, "until", "records of that time or earlier, as --since")
}

// each calls fn with the records, and tells of what is none.
func (s *recordSource) each(q *inquiry, fn func(*audit.Record) error) error {
	logs := s.logs
	switch {
	case logs != nil:
	case q.dir.auditDir != "":
		logs = []string{q.dir.auditDir}
	case q.dir.dir != "":
		logs = []string{server.AuditDir(q.dir.dir)}
		if server.SharesStore(q.dir.dir) {
			fmt.Fprintln(q.stderr, "only the requests of this node are looked at: name the audit log of each node with --audit")
		}
	default:
		return errors.New("which records: --audit LOG, or --data DIR")
	}
	want := audit.Filter{Since: s.since, Until: s.until}
	strange := 0
	var err error
	for _, path := range logs {
		err = errors.Join(err, audit.Records(path, s.since, func(r *audit.Record) error {
			if !want.Match(r) {
				return nil
			}
			return fn(r)
		}, func(place string) {
			if strange++; strange <= 10 {
				fmt.Fprintln(q.stderr, "not a record:", place)
			}
		}))
	}
	if strange > 10 {
		fmt.Fprintf(q.stderr, "and %d more that are not records\n", strange-10)
	}
	return err
}

// policyReplay tells which recorded requests a key policy would decide otherwise.
func policyReplay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	q := newInquiry("policy replay", stdout, stderr)
	var from recordSource
	from.register(q)
	key := q.flags.String("key", "", "the key: ARN, id or alias")
	file := q.flags.String("policy", "", "file with the key policy to try (default the key's own, as it is now)")
	return inquired(stderr, func() error {
		if _, err := q.parse(args, 0); err != nil {
			return err
		}
		if *key == "" {
			return errors.New("policy replay needs --key")
		}
		var proposed *inquire.Text
		if *file != "" {
			t, err := readText(*file)
			if err != nil {
				return err
			}
			proposed = &t
		}
		return q.ask(ctx, nil, func(w *inquire.World) error {
			replay, err := w.Replay(ctx, *key, proposed)
			if err == nil {
				err = from.each(q, func(r *audit.Record) error { return replay.Add(ctx, r) })
			}
			if err != nil {
				return err
			}
			if q.output == "json" {
				if err := writeJSON(stdout, replay); err != nil {
					return err
				}
			} else {
				printReplay(stdout, replay)
			}
			if len(replay.Changed) > 0 {
				return exitStatus(1)
			}
			return nil
		})
	}())
}

func printReplay(w io.Writer, r *inquire.Replay) {
	changed := 0
	for _, d := range r.Changed {
		changed += d.Count
	}
	fmt.Fprintf(w, "%d requests, %d of them would be decided otherwise.\n", r.Requests, changed)
	for _, allowed := range []bool{true, false} {
		title := map[bool]string{true: "\nRefused, where they were allowed:", false: "\nAllowed, where they were refused:"}[allowed]
		for _, d := range inquire.Sorted(r.Changed) {
			if (d.Was == "Allowed") != allowed {
				continue
			}
			if title != "" {
				fmt.Fprintln(w, title)
				title = ""
			}
			fmt.Fprintf(w, "  %v\n    %s\n", d, d.Why)
		}
	}
	printUnknown(w, r.Unknown)
}

func printUnknown(w io.Writer, unknown []inquire.Difference) {
	if len(unknown) > 0 {
		fmt.Fprintln(w, "\nNot known:")
	}
	for _, d := range inquire.Sorted(unknown) {
		fmt.Fprintf(w, "  %v\n    %s\n", d, d.Why)
	}
}

// policySuggest writes a key policy that allows what was used.
func policySuggest(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	q := newInquiry("policy suggest", stdout, stderr)
	var from recordSource
	from.register(q)
	key := q.flags.String("key", "", "the key: ARN, id or alias")
	return inquired(stderr, func() error {
		if _, err := q.parse(args, 0); err != nil {
			return err
		}
		if *key == "" {
			return errors.New("policy suggest needs --key")
		}
		return q.ask(ctx, nil, func(w *inquire.World) error {
			s, err := w.Suggest(ctx, *key)
			if err == nil {
				err = from.each(q, func(r *audit.Record) error { return s.Add(ctx, r) })
			}
			if err != nil {
				return err
			}
			out, err := s.Finish(ctx)
			if err != nil {
				return err
			}
			if q.output == "json" {
				err = writeJSON(stdout, struct {
					Requests int
					Unused   []inquire.Difference `json:",omitzero"`
					*inquire.Suggested
				}{s.Requests, s.Unused, out})
			} else {
				fmt.Fprintln(stdout, out.Policy)
				fmt.Fprintf(stderr, "It is made of %d requests, all of which it allows: %v.\n", s.Requests, out.Kept)
				fmt.Fprintf(stderr, "That it allows nothing that the present policy does not: %s.\n", out.Within)
				if out.Dropped != "proven" {
					fmt.Fprintln(stderr, "The present policy allows more: claviger policy diff shows what is taken away.")
				}
				for _, m := range out.Missing {
					fmt.Fprintln(stderr, "not allowed by it:", m)
				}
				printUnknown(stderr, s.Unused)
			}
			if err == nil && (!out.Kept || out.Within != "proven") {
				err = exitStatus(1)
			}
			return err
		})
	}())
}

// policyPreview tells what a proposal would let in from outside.
func policyPreview(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	q := newInquiry("policy preview", stdout, stderr)
	key := q.flags.String("key", "", "ARN of the key")
	file := q.flags.String("policy", "", "file with the proposed key policy (default the key's)")
	grants := q.flags.String("grants", "", "file with the proposed grants, all of them, as aws kms list-grants prints (default none with a proposed policy)")
	organization := q.flags.Bool("organization", false, "the organization is inside, and not the key's account alone")
	return inquired(stderr, func() error {
		if _, err := q.parse(args, 0); err != nil {
			return err
		}
		if *key == "" || *file == "" && *grants == "" {
			return errors.New("policy preview needs --key, and --policy or --grants")
		}
		var proposal inquire.Proposal
		if *file != "" {
			t, err := readText(*file)
			if err != nil {
				return err
			}
			proposal.Policy = &t
		}
		if *grants != "" {
			text, err := os.ReadFile(*grants)
			if err == nil {
				proposal.Grants, err = foreign.ReadGrants(text)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", *grants, err)
			}
		}
		return q.ask(ctx, nil, func(w *inquire.World) error {
			found, err := w.Preview(ctx, *key, *organization, proposal)
			if err != nil || q.output == "json" {
				return errors.Join(err, q.json(err, found))
			}
			more := false
			for _, x := range found {
				more = more || x.Change == inquire.NewAccess || x.Change == inquire.ChangedAccess
				fmt.Fprintf(stdout, "%s: %s: %s\n", x.Change, x.Principal, strings.Join(x.Actions, ", "))
				for _, k := range slices.Sorted(maps.Keys(x.Conditions)) {
					fmt.Fprintf(stdout, "  if %s is %s\n", k, x.Conditions[k])
				}
				if x.Public {
					fmt.Fprintln(stdout, "  public")
				}
			}
			if len(found) == 0 {
				fmt.Fprintln(stdout, "Nobody from outside, now or then.")
			}
			if more {
				return exitStatus(1)
			}
			return nil
		})
	}())
}
