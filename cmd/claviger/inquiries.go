package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json/v2"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/advisor"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/operate"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

// An inquiry is a command that asks about a world: what a server serves, what a data
// directory or an export holds, or what files say.
type inquiry struct {
	dir            dataDir
	world, output  string
	endpoint       string
	stdout, stderr io.Writer
	flags          *flag.FlagSet
}

func newInquiry(name string, stdout, stderr io.Writer) *inquiry {
	q := &inquiry{stdout: stdout, stderr: stderr, flags: newFlags(name, stderr)}
	q.dir.register(q.flags)
	q.flags.StringVar(&q.world, "world", "", "an export to ask about, in place of a data directory")
	q.flags.StringVar(&q.endpoint, "endpoint", "", "URL of a running server to ask by its API (explain, who and what)")
	q.flags.StringVar(&q.output, "output", "text", "text or json")
	return q
}

// parse reads flags and up to n words, in any order.
func (q *inquiry) parse(args []string, n int) (words []string, err error) {
	words, err = interspersed(q.flags, args)
	switch {
	case err != nil:
		return nil, err
	case q.output != "text" && q.output != "json":
		return nil, errors.New("--output is text or json")
	case len(words) > n:
		return nil, fmt.Errorf("unexpected %q", words[n])
	}
	return words, nil
}

// interspersed reads flags and words, in any order.
func interspersed(f *flag.FlagSet, args []string) (words []string, err error) {
	for {
		if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(f.Output(), "Usage of %s:\n", f.Name())
			f.PrintDefaults()
			return nil, err
		} else if err != nil {
			return nil, errUsage
		}
		if f.NArg() == 0 {
			return words, nil
		}
		words, args = append(words, f.Arg(0)), f.Args()[1:]
	}
}

// ask runs a command about a world; files makes one if there is neither a directory nor an
// export.
func (q *inquiry) ask(ctx context.Context, files func(context.Context, *inquire.World) error, command func(*inquire.World) error) error {
	switch {
	case q.world != "" && q.dir.dir != "":
		return errors.New("--world and --data cannot both be given")
	case q.world != "":
		f, err := os.Open(q.world)
		if err != nil {
			return err
		}
		defer f.Close()
		return q.read(ctx, f, command)
	case q.dir.dir != "":
		r, w := io.Pipe()
		defer r.Close() // lets the export end where reading it failed
		go func() {
			w.CloseWithError(q.dir.operator(ctx, q.stderr, func(o operate.Operator) error { return o.Export(ctx, w) }))
		}()
		return q.read(ctx, r, command)
	case files == nil:
		return errors.New("what to ask about: --data DIR or --world EXPORT")
	}
	world, db, err := server.NewWorld(ctx)
	if err != nil {
		return err
	}
	err = files(ctx, world)
	if err == nil {
		err = command(world)
	}
	return errors.Join(err, db.Close())
}

func (q *inquiry) read(ctx context.Context, r io.Reader, command func(*inquire.World) error) error {
	world, db, err := server.ReadWorld(ctx, r)
	if err != nil {
		return err
	}
	return errors.Join(command(world), db.Close())
}

// inquired ends a command with the exit status of an answer: 0, 1, or misuse for a question
// that cannot be asked.
func inquired(stderr io.Writer, err error) error {
	var status exitStatus
	if err == nil || errors.As(err, &status) || errors.Is(err, flag.ErrHelp) {
		return err
	}
	if !errors.Is(err, errUsage) {
		fmt.Fprintln(stderr, "claviger:", err)
	}
	return misuse
}

// explain tells why a request is decided as it is.
func explain(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	q := newInquiry("explain", stdout, stderr)
	var c caseFlags
	c.register(q.flags)
	return inquired(stderr, func() error {
		words, err := q.parse(args, 1)
		if err != nil {
			return err
		}
		if len(words) == 1 && q.endpoint != "" {
			var out inquire.Recorded
			if err := q.remote(ctx, "ExplainRequest", advisor.ExplainRequestInput{RequestID: words[0]}, &out); err != nil {
				return err
			}
			return q.printRecorded(&out)
		}
		if len(words) == 1 {
			return q.explainRecorded(ctx, words[0])
		}
		if c.asked.As == "" || c.asked.Action == "" {
			return errors.New("explain needs a request id, or --as and --action")
		}
		if err := c.read(); err != nil {
			return err
		}
		if c.files != nil && (q.dir.dir != "" || q.world != "" || q.endpoint != "") {
			return errors.New("--identity-policy is for questions about files alone: there, identities have the policies that they have")
		}
		if q.endpoint != "" {
			var e inquire.Explanation
			if err := q.remote(ctx, "Explain", c.asked, &e); err != nil {
				return err
			}
			return q.printExplained(&e)
		}
		return q.ask(ctx, c.inhabit, func(w *inquire.World) error {
			e, err := w.Explain(ctx, c.asked)
			if err != nil {
				return err
			}
			return q.printExplained(e)
		})
	}())
}

func (q *inquiry) printExplained(e *inquire.Explanation) (err error) {
	if q.output == "json" {
		err = writeJSON(q.stdout, e)
	} else {
		printExplanation(q.stdout, e)
	}
	if err == nil && !e.Allowed {
		err = exitStatus(1)
	}
	return err
}

// remote asks a server by its API, with the credentials of the environment: AWS_ACCESS_KEY_ID
// and the like, or else those of development mode.
func (q *inquiry) remote(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(q.endpoint, "/")+"/", bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", advisor.TargetPrefix+"."+operation)
	sigv4.Sign(r, body, cmp.Or(os.Getenv("AWS_ACCESS_KEY_ID"), "test"), cmp.Or(os.Getenv("AWS_SECRET_ACCESS_KEY"), "test"), os.Getenv("AWS_SESSION_TOKEN"),
		cmp.Or(os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION"), "us-east-1"), "claviger", time.Now())
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusOK {
		return json.UnmarshalRead(answer.Body, out)
	}
	var fault struct {
		Type    string `json:"__type"`
		Message string `json:"message"`
	}
	if err := json.UnmarshalRead(io.LimitReader(answer.Body, 1<<20), &fault); err != nil {
		return fmt.Errorf("%s: %s", q.endpoint, answer.Status)
	}
	return fmt.Errorf("%s: %s: %s", q.endpoint, fault.Type, fault.Message)
}

// who lists who may do something with a key.
func who(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	q := newInquiry("who", stdout, stderr)
	var asked inquire.WhoQuestion
	var given fileList
	q.flags.Var(&given, "given", "value of a condition key, as aws:SourceIp=10.0.0.1; may be repeated")
	q.flags.StringVar(&asked.Outside, "outside", "", "only who is outside of the key's account, or org")
	q.flags.StringVar(&asked.Region, "region", "", "the Region (default that of the key's ARN, or us-east-1)")
	return inquired(stderr, func() error {
		words, err := q.parse(args, 2)
		if err != nil {
			return err
		}
		if len(words) < 2 {
			return errors.New("who needs a key, or * for all, and an action, as: claviger who KEY Decrypt")
		}
		asked.Key, asked.Action, asked.Given = words[0], words[1], given
		print := func(rows []inquire.Row, err error) error {
			if err != nil || q.output == "json" {
				return errors.Join(err, q.json(err, rows))
			}
			for _, r := range rows {
				title := strings.Join(r.Principals, "\n")
				if r.Open {
					title = "whoever is " + strings.Join(r.Principals, ", or ")
				}
				fmt.Fprintln(stdout, title)
				printWay(stdout, r.By, r.Conditions)
			}
			if len(rows) == 0 {
				fmt.Fprintln(stdout, "nobody")
			}
			return nil
		}
		if asked.Key == "*" {
			return q.ask(ctx, nil, func(w *inquire.World) error { return q.whoOfAll(ctx, w, asked, print) })
		}
		if q.endpoint != "" {
			var out advisor.WhoOutput
			err := q.remote(ctx, "Who", asked, &out)
			return print(out.Rows, err)
		}
		return q.ask(ctx, nil, func(w *inquire.World) error { return print(w.Who(ctx, asked)) })
	}())
}

// whoOfAll tells who may do something with any key.
func (q *inquiry) whoOfAll(ctx context.Context, w *inquire.World, asked inquire.WhoQuestion, print func([]inquire.Row, error) error) error {
	all, err := w.WhoOfAll(ctx, asked)
	if err != nil || q.output == "json" {
		return errors.Join(err, q.json(err, all))
	}
	for i, some := range all {
		if i > 0 {
			fmt.Fprintln(q.stdout)
		}
		fmt.Fprintln(q.stdout, strings.Join(some.Keys, "\n")+":")
		if err := print(some.Rows, nil); err != nil {
			return err
		}
	}
	return nil
}

// what lists what a principal may do.
func what(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	q := newInquiry("what", stdout, stderr)
	var given fileList
	q.flags.Var(&given, "given", "value of a condition key, as aws:SourceIp=10.0.0.1; may be repeated")
	key := q.flags.String("key", "", "a key, by ARN (default all keys)")
	return inquired(stderr, func() error {
		words, err := q.parse(args, 1)
		if err != nil {
			return err
		}
		if len(words) < 1 {
			return errors.New("what needs a principal, as: claviger what arn:aws:iam::111122223333:role/app")
		}
		print := func(rights []inquire.Right, err error) error {
			if err != nil || q.output == "json" {
				return errors.Join(err, q.json(err, rights))
			}
			for _, r := range rights {
				fmt.Fprintf(stdout, "%s: %s\n", r.Key, strings.Join(r.Actions, ", "))
				printWay(stdout, r.By, r.Conditions)
			}
			if len(rights) == 0 {
				fmt.Fprintln(stdout, "nothing")
			}
			return nil
		}
		if q.endpoint != "" {
			var out advisor.WhatOutput
			err := q.remote(ctx, "What", advisor.WhatInput{As: words[0], Key: *key, Given: given}, &out)
			return print(out.Rights, err)
		}
		return q.ask(ctx, nil, func(w *inquire.World) error { return print(w.What(ctx, words[0], *key, given)) })
	}())
}

// json writes an answer, if there is one; a list without anything in it is empty and not null.
func (q *inquiry) json(failed error, v any) error {
	if failed != nil {
		return nil
	}
	return writeJSON(q.stdout, v)
}

// explainRecorded explains a request by its id.
func (q *inquiry) explainRecorded(ctx context.Context, id string) error {
	if q.dir.dir == "" && q.dir.auditDir == "" {
		return errors.New("explain REQUEST-ID needs --data DIR, where the audit log is")
	}
	var found *audit.Record
	log := logReader{stderr: q.stderr}
	err := audit.Newest(cmp.Or(q.dir.auditDir, server.AuditDir(q.dir.dir)), audit.Place{}, func(line []byte, _ audit.Place) bool {
		if r, ok := log.decode(line); ok && r.RequestID == id && (found == nil || len(r.Claviger.Decisions) > 0) {
			found = &r
		}
		return found == nil
	})
	if err != nil {
		return err
	}
	if found == nil && server.SharesStore(q.dir.dir) {
		return fmt.Errorf("the audit log of this node has no request %s: --audit-dir names another node's, and --endpoint a node that asks all", id)
	}
	if found == nil {
		return fmt.Errorf("the audit log has no request %s", id)
	}
	var out *inquire.Recorded
	err = q.ask(ctx, nil, func(w *inquire.World) error {
		out, err = w.Recorded(ctx, found)
		return err
	})
	if err != nil {
		return err
	}
	return q.printRecorded(out)
}

func (q *inquiry) printRecorded(out *inquire.Recorded) error {
	var status error
	if slices.ContainsFunc(out.Decisions, func(d audit.Decision) bool { return d.Outcome != "Allowed" }) {
		status = exitStatus(1)
	}
	if q.output == "json" {
		return errors.Join(writeJSON(q.stdout, out), status)
	}
	fmt.Fprintf(q.stdout, "%s %s at %s %s\n", out.RequestID, out.EventName, out.Time.Format(time.RFC3339), cmp.Or(out.ErrorCode, "succeeded"))
	for _, d := range out.Decisions {
		fmt.Fprintf(q.stdout, "  decided then: %s on %s: %s\n", d.Action, d.Resource, decided(d))
	}
	if out.Now == nil && out.NotNow == nil {
		fmt.Fprintln(q.stdout, "Only requests to KMS are explained further.")
	}
	if out.Differently {
		fmt.Fprintln(q.stdout, "By the policies of now it would be decided otherwise:")
	}
	for _, e := range out.Now {
		fmt.Fprintln(q.stdout)
		printExplanation(q.stdout, e)
	}
	for _, why := range out.NotNow {
		fmt.Fprintln(q.stdout, "Not by the policies of now:", why)
	}
	return status
}
