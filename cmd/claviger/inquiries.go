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
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/advisor"
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/operate"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
	"github.com/claviger/claviger/internal/store"
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

// A caseFlags is the flags that describe a case.
type caseFlags struct {
	asked                    inquire.Case
	given, session, identity fileList
	keyPolicy, endpoint, at  string
	files                    []inquire.Text // identity policies
}

func (c *caseFlags) register(f *flag.FlagSet) {
	f.StringVar(&c.asked.As, "as", "", "who asks: the ARN of a root user, user, role or session, or a service principal")
	f.StringVar(&c.asked.Action, "action", "", "the action, as kms:Decrypt")
	f.StringVar(&c.asked.Key, "key", "", "the key: ARN, id or alias")
	f.StringVar(&c.asked.Region, "region", "", "the Region (default that of the key's ARN, or us-east-1)")
	f.Var(&c.given, "given", "value of a condition key, as kms:EncryptionContext:app=web; may be repeated")
	f.Var(&c.session, "session-policy", "file with a session policy; may be repeated")
	f.StringVar(&c.keyPolicy, "key-policy", "", "file with a key policy, in place of the key's")
	f.Var(&c.identity, "identity-policy", "file with an identity policy of --as, if nothing but files is asked about; may be repeated")
	f.StringVar(&c.endpoint, "endpoint-policy", "", "file with the policy of the VPC endpoint that --given aws:SourceVpce names (default: it allows everything)")
	f.StringVar(&c.asked.Grant, "grant", "", "id of the grant, for kms:RetireGrant")
	f.StringVar(&c.at, "at", "", "time of the request, RFC 3339 (default now)")
}

// read reads the files.
func (c *caseFlags) read() (err error) {
	c.asked.Given = c.given
	if c.at != "" {
		if c.asked.Now, err = time.Parse(time.RFC3339, c.at); err != nil {
			return fmt.Errorf("--at: %w", err)
		}
	}
	for _, name := range c.session {
		t, err := readText(name)
		if err != nil {
			return err
		}
		c.asked.Session = append(c.asked.Session, t)
	}
	if c.keyPolicy != "" {
		t, err := readText(c.keyPolicy)
		if err != nil {
			return err
		}
		c.asked.KeyPolicy = &t
	}
	if c.endpoint != "" {
		t, err := readText(c.endpoint)
		if err != nil {
			return err
		}
		c.asked.EndpointPolicy = &t
	}
	for _, name := range c.identity {
		t, err := readText(name)
		if err != nil {
			return err
		}
		c.files = append(c.files, t)
	}
	return nil
}

func readText(name string) (inquire.Text, error) {
	text, err := os.ReadFile(name)
	return inquire.Text{Name: name, Document: string(text)}, err
}

// inhabit makes the world of a case that files alone describe: whoever asks, and the key.
func (c *caseFlags) inhabit(ctx context.Context, w *inquire.World) error {
	if c.keyPolicy == "" {
		return errors.New("what to ask about: --data DIR, --world EXPORT, or --key-policy FILE")
	}
	who, err := arn.Parse(c.asked.As)
	if err != nil && !iam.IsServicePrincipal(c.asked.As) {
		return fmt.Errorf("--as: %q is not the ARN of a principal, and not a service principal", c.asked.As)
	}
	account := who.Account
	key, err := arn.Parse(c.asked.Key)
	if c.asked.Key == "" || err != nil {
		region := cmp.Or(c.asked.Region, "us-east-1")
		if account == "" {
			return errors.New("--key: the ARN of the key is needed")
		}
		key = arn.ARN{Partition: arn.Partition(region), Service: "kms", Region: region, Account: account, Resource: "key/00000000-0000-0000-0000-000000000000"}
		c.asked.Key = key.String()
	}
	id, ok := strings.CutPrefix(key.Resource, "key/")
	if key.Service != "kms" || !ok {
		return fmt.Errorf("--key: %q is not the ARN of a KMS key", c.asked.Key)
	}
	e, err := c.entity(who)
	if err != nil {
		return err
	}
	return w.DB.Update(ctx, func(tx *store.Tx) error {
		if account != "" {
			if err := iam.AddAccount(tx, iam.Account{ID: account}); err != nil {
				return err
			}
		}
		if e != nil {
			if err := iam.LoadIdentity(tx, e); err != nil {
				return err
			}
		}
		return kms.LoadKey(tx, &kms.Key{ID: id, Account: key.Account, Region: key.Region,
			Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}]}`})
	})
}

// entity is the user or role of an ARN, with the policies of the files.
func (c *caseFlags) entity(who arn.ARN) (*iam.Entity, error) {
	parts := strings.Split(who.Resource, "/")
	e := &iam.Entity{Account: who.Account, Class: iam.Class(parts[0]), Name: parts[len(parts)-1], Inline: map[string]string{}}
	switch {
	case who.Service == "iam" && (parts[0] == "user" || parts[0] == "role") && len(parts) > 1:
		e.Path = "/" + strings.Join(append(parts[1:len(parts)-1:len(parts)-1], ""), "/")
	case who.Service == "sts" && parts[0] == "assumed-role" && len(parts) == 3:
		e.Class, e.Name = iam.RoleClass, parts[1]
	default:
		if c.files != nil {
			return nil, errors.New("--identity-policy: " + c.asked.As + " has no identity policies")
		}
		return nil, nil
	}
	for _, t := range c.files {
		e.Inline[t.Name] = t.Document
	}
	return e, nil
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

func printWay(w io.Writer, by string, conditions []string) {
	fmt.Fprintln(w, "  by", by)
	for _, condition := range conditions {
		fmt.Fprintln(w, "  if", condition)
	}
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
