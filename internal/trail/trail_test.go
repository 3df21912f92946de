package trail

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/leakcheck"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/trailapi"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Run(m)) }

// A world is the service over a log of its own, and its root user.
type world struct {
	*Service
	t   testing.TB
	now time.Time
	n   int
}

const account = "111122223333"

// newWorld has its log in a directory, or in memory if that is empty.
func newWorld(t testing.TB, dir string) *world {
	t.Helper()
	engine, err := bolt.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), engine, seal.NewEphemeral())
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := log.Close(); err != nil {
			t.Error(err)
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{Service: New(db, log, nil, nil), t: t, now: time.Now().UTC().Truncate(time.Second)}
	err = db.Update(t.Context(), func(tx *store.Tx) error {
		if err := iam.AddAccount(tx, iam.Account{ID: account, Created: w.now}); err != nil {
			return err
		}
		return iam.AddRootKey(tx, account, "root", "secret", w.now)
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// happened records something about a KMS key, ago before now.
func (w *world) happened(ago time.Duration, edit func(*audit.Record)) {
	w.t.Helper()
	w.n++
	r := audit.Record{EventTime: w.now.Add(-ago), EventSource: "kms.amazonaws.com", EventName: "Encrypt", AWSRegion: "eu-west-1", RecipientAccountID: account,
		UserIdentity: &audit.Identity{Type: "IAMUser", UserName: "alice", AccessKeyID: "AKIA1"}, RequestID: fmt.Sprint("r", w.n), EventID: fmt.Sprint("e", w.n), ReadOnly: true,
		Resources: []audit.Resource{{Type: "AWS::KMS::Key", ARN: "arn:aws:kms:eu-west-1:111122223333:key/1"}}}
	if edit != nil {
		edit(&r)
	}
	if _, err := w.log.Append(&r); err != nil {
		w.t.Fatal(err)
	}
}

// ask looks up as root, in eu-west-1.
func (w *world) ask(in Request) (*trailapi.LookupEventsResponse, error) {
	return w.askIn("eu-west-1", in)
}

func (w *world) askIn(region string, in Request) (*trailapi.LookupEventsResponse, error) {
	w.t.Helper()
	log, err := audit.Open(audit.Config{}) // of the requests themselves
	if err != nil {
		w.t.Fatal(err)
	}
	c := &iam.Credential{Account: account, AccessKeyID: "root"}
	return w.LookupEvents(w.t.Context(), &iam.Call{Credential: c, Region: region, Now: w.now, Entry: log.Begin(audit.Record{})}, &in)
}

// ids are the events of all pages, and how many pages there are.
func (w *world) ids(in Request) (ids []string, pages int) {
	w.t.Helper()
	for {
		out, err := w.ask(in)
		if err != nil {
			w.t.Fatal(err)
		}
		pages++
		for _, e := range out.Events {
			ids = append(ids, *e.EventId)
		}
		if in.NextToken = out.NextToken; in.NextToken == nil {
			return ids, pages
		}
	}
}

func (w *world) expect(name string, in Request, want string) {
	w.t.Helper()
	if ids, _ := w.ids(in); strings.Join(ids, " ") != want {
		w.t.Errorf("%s: %s, want %s", name, ids, want)
	}
}

func by(key, value string) Request {
	return Request{LookupAttributes: []trailapi.LookupAttribute{{AttributeKey: &key, AttributeValue: &value}}}
}

func TestAttributes(t *testing.T) {
	w := newWorld(t, "")
	w.happened(9*time.Second, nil)
	w.happened(8*time.Second, func(r *audit.Record) {
		r.EventName, r.ReadOnly, r.Resources = "CreateKey", false, nil
		r.UserIdentity = &audit.Identity{Type: "Root", AccessKeyID: "AKIA2"}
	})
	w.happened(7*time.Second, func(r *audit.Record) {
		r.UserIdentity = &audit.Identity{Type: "AssumedRole", ARN: "arn:aws:sts::111122223333:assumed-role/reader/session"}
		r.Resources = append(r.Resources, audit.Resource{Type: "AWS::KMS::Alias", ARN: "alias"})
	})
	w.happened(6*time.Second, func(r *audit.Record) { r.UserIdentity, r.Resources = nil, nil })
	w.happened(5*time.Second, func(r *audit.Record) {
		r.EventSource, r.UserIdentity, r.Resources = "tagging.amazonaws.com", &audit.Identity{Type: "AWSService", InvokedBy: "s3.amazonaws.com"}, nil
	})
	w.expect("all", Request{}, "e5 e4 e3 e2 e1")
	w.expect("an empty list", Request{LookupAttributes: []trailapi.LookupAttribute{}}, "e5 e4 e3 e2 e1")
	for _, tt := range []struct{ key, value, want string }{
		{"EventId", "e3", "e3"},
		{"EventName", "Encrypt", "e5 e4 e3 e1"},
		{"EventName", "encrypt", ""},
		{"ReadOnly", "false", "e2"},
		{"ReadOnly", "true", "e5 e4 e3 e1"},
		{"Username", "alice", "e1"},
		{"Username", "root", "e2"},
		{"Username", "session", "e3"},
		{"ResourceType", "AWS::KMS::Key", "e3 e1"},
		{"ResourceType", "AWS::KMS::Alias", "e3"},
		{"ResourceName", "arn:aws:kms:eu-west-1:111122223333:key/1", "e3 e1"},
		{"EventSource", "kms.amazonaws.com", "e4 e3 e2 e1"},
		{"AccessKeyId", "AKIA2", "e2"},
	} {
		w.expect(tt.key+"="+tt.value, by(tt.key, tt.value), tt.want)
	}
}

func TestTimes(t *testing.T) {
	w := newWorld(t, "")
	for _, hours := range []int{91 * 24, 90 * 24, 48, 24, 25, 2, 1} {
		w.happened(time.Duration(hours)*time.Hour, nil)
	}
	ago := func(hours float64) *model.Time {
		return &model.Time{Time: w.now.Add(-time.Duration(hours * float64(time.Hour)))}
	}
	w.expect("90 days", Request{}, "e7 e6 e4 e5 e3 e2")
	w.expect("a start before that", Request{StartTime: ago(92 * 24)}, "e7 e6 e4 e5 e3 e2")
	w.expect("since then", Request{StartTime: ago(24)}, "e7 e6 e4")
	w.expect("since later", Request{StartTime: ago(23.9)}, "e7 e6")
	w.expect("until then", Request{EndTime: ago(25)}, "e5 e3 e2")
	w.expect("until earlier", Request{EndTime: ago(25.1)}, "e3 e2")
	w.expect("between", Request{StartTime: ago(25), EndTime: ago(2)}, "e6 e4 e5")
	w.expect("one instant", Request{StartTime: ago(2), EndTime: ago(2)}, "e6")
	w.expect("the future", Request{StartTime: ago(-1), EndTime: ago(-2)}, "")
	w.expect("events of now", Request{StartTime: ago(1), EndTime: ago(-2)}, "e7")
}

// TestWhose: events of other accounts and Regions are not shown; those of services
// without Regions are in one.
func TestWhose(t *testing.T) {
	w := newWorld(t, "")
	w.happened(3*time.Second, func(r *audit.Record) { r.RecipientAccountID = "444455556666" })
	w.happened(2*time.Second, func(r *audit.Record) { r.RecipientAccountID = "" })
	w.happened(time.Second, nil)
	for _, s := range []string{"iam", "sts", "organizations"} {
		w.happened(0, func(r *audit.Record) { r.EventSource = s + ".amazonaws.com" })
	}
	for region, want := range map[string]string{"eu-west-1": "[e3]", "us-east-1": "[e6 e5 e4]", "us-west-2": "[]"} {
		out, err := w.askIn(region, Request{})
		if err != nil {
			t.Fatal(err)
		}
		ids := []string{}
		for _, e := range out.Events {
			ids = append(ids, *e.EventId)
		}
		if got := fmt.Sprint(ids); got != want {
			t.Errorf("in %s: %s, want %s", region, got, want)
		}
	}
}

// TestOwner: who owns a key sees which account has used it, and not who in that account.
func TestOwner(t *testing.T) {
	w := newWorld(t, "")
	use := func(code string) {
		w.happened(0, func(r *audit.Record) {
			r.RecipientAccountID, r.ErrorCode = "444455556666", code
			r.UserIdentity = &audit.Identity{Type: "IAMUser", PrincipalID: "AROA:alice", AccessKeyID: "AKIABOB", AccountID: "444455556666", ARN: "arn:aws:iam::444455556666:user/bob", UserName: "bob"}
			r.Resources = []audit.Resource{{AccountID: account, Type: "AWS::KMS::Key", ARN: "arn:aws:kms:eu-west-1:111122223333:key/1"},
				{AccountID: "444455556666", Type: "AWS::KMS::Key", ARN: "arn:aws:kms:eu-west-1:444455556666:key/other-key"}}
			r.RequestParameters = jsontext.Value(`{"sourceEncryptionContext":{"patient":"secret"}}`)
		})
	}
	use("")
	use("AccessDenied")
	out, err := w.askIn("eu-west-1", Request{})
	if err != nil || len(out.Events) != 1 {
		t.Fatalf("%d events, %v; want 1", len(out.Events), err)
	}
	text := *out.Events[0].CloudTrailEvent
	for _, want := range []string{`"recipientAccountId":"111122223333"`, `"type":"AWSAccount"`, `"accountId":"444455556666"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %s", want, text)
		}
	}
	for key, value := range map[string]string{trailapi.LookupAttributeKeyUsername: "bob", trailapi.LookupAttributeKeyAccessKeyId: "AKIABOB"} {
		out, err := w.askIn("eu-west-1", Request{LookupAttributes: []trailapi.LookupAttribute{{AttributeKey: &key, AttributeValue: &value}}})
		if err != nil || len(out.Events) != 0 {
			t.Errorf("%s tells: %d events, %v", key, len(out.Events), err)
		}
	}
	if strings.Contains(text, "alice") || strings.Contains(text, "other-key") || strings.Contains(text, "secret") {
		t.Errorf("it tells of what is others': %s", text)
	}
	if strings.Contains(text, "bob") || strings.Contains(text, "claviger") || out.Events[0].Username != nil {
		t.Errorf("it tells more: %s", text)
	}
}

// TestPhases: a state change is one event, that of its outcome.
func TestPhases(t *testing.T) {
	w := newWorld(t, "")
	line := func(request string, phase audit.Phase, committed *bool) {
		w.happened(0, func(r *audit.Record) {
			r.RequestID, r.Claviger.Phase, r.Claviger.Committed = request, phase, committed
		})
	}
	line("open", audit.Intent, nil)
	line("done", audit.Intent, nil)
	line("done", audit.Outcome, new(true)) // e3
	line("unknown", audit.Intent, nil)
	line("unknown", audit.Outcome, nil)       // e5
	line("unknown", audit.Settled, new(true)) // e6: the same change
	line("crashed", audit.Intent, nil)
	line("crashed", audit.Settled, new(false)) // e8
	line("now", audit.Intent, nil)
	line("now", audit.Outcome, nil) // e10
	w.expect("all", Request{}, "e10 e8 e6 e3")
	w.expect("a page each", Request{MaxResults: new(int32(1))}, "e10 e8 e6 e3")

	// One that was settled late is of long ago, and what stands before it is not.
	w.happened(72*time.Hour, func(r *audit.Record) { r.RequestID, r.Claviger.Phase = "late", audit.Settled })
	w.expect("of today", Request{StartTime: &model.Time{Time: w.now.Add(-time.Hour)}}, "e10 e8 e6 e3")
	w.expect("with that", Request{}, "e10 e8 e6 e3 e11")

	// A cursor remembers what was settled until it has passed the intent.
	p := page{query: &query{Account: account, Region: "eu-west-1", End: w.now, Limit: maxPage}}
	var most int
	if err := w.log.Newest(audit.Place{}, func(line []byte, begin audit.Place) bool {
		more := p.next(line, begin)
		most = max(most, len(p.Settled))
		return more
	}); err != nil || most != 2 || !slices.Equal(p.Settled, []string{"late"}) {
		t.Errorf("%d settled requests, in the end %q, %v", most, p.Settled, err)
	}
}

// TestPages reads logs of every kind page by page.
func TestPages(t *testing.T) {
	for _, dir := range []string{"", t.TempDir()} {
		w := newWorld(t, dir)
		var want []string
		for i := range 120 {
			w.happened(time.Duration(500-i)*time.Second, nil)
			want = append(want, fmt.Sprint("e", i+1))
		}
		slices.Reverse(want)
		for _, tt := range []struct {
			max   *int32
			pages int
		}{{nil, 3}, {new(int32(50)), 3}, {new(int32(7)), 18}} {
			ids, pages := w.ids(Request{MaxResults: tt.max})
			if !slices.Equal(ids, want) || pages != tt.pages {
				t.Errorf("directory %q: %d pages with %d events", dir, pages, len(ids))
			}
		}
	}
}

// others are the nodes that a world does not have in itself.
type others map[string]*Service

func (o others) Nodes(context.Context) ([]string, error) { return slices.Sorted(maps.Keys(o)), nil }

func (o others) Lookup(ctx context.Context, node string, question []byte) ([]byte, error) {
	if o[node] == nil {
		return nil, errors.New(node + " is silent")
	}
	return o[node].Answer(ctx, question)
}

// TestFind: the record of a request is found on whichever node, in parts.
func TestFind(t *testing.T) {
	here, there := newWorld(t, ""), newWorld(t, t.TempDir())
	here.happened(time.Second, func(r *audit.Record) { r.RequestID = "here" })
	there.happened(time.Second, func(r *audit.Record) { r.RequestID, r.Claviger.Phase = "there", audit.Intent })
	there.happened(time.Second, func(r *audit.Record) { r.RequestID, r.Claviger.Phase = "there", audit.Outcome })
	for range maxSearched>>20 + 1 { // the rest is another part
		there.happened(time.Second, func(r *audit.Record) { r.UserAgent = strings.Repeat("there", 1<<20/5) })
	}
	find := func(id, want string) {
		t.Helper()
		r, err := here.Find(t.Context(), id)
		got := "none"
		if r != nil {
			got = r.EventID
		}
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("the request %s: %s, want %s", id, got, want)
		}
	}
	find("here", "e1")
	find("there", "none")
	here.others = others{"b": there.Service}
	find("here", "e1")
	find("there", "e2")
	find("nowhere", "none")
	here.others, here.logger = others{"a": nil, "b": there.Service}, slog.New(slog.DiscardHandler)
	find("there", "e2")
	find("nowhere", "InternalFailure: The nodes that answer have no request nowhere on record, and not all do.")
}

// TestShortPages: one request reads a part of the log, and the next one goes on there.
func TestShortPages(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.happened(2*time.Second, nil)
	for range maxLines + 10 {
		w.happened(time.Second, func(r *audit.Record) { r.RecipientAccountID = "444455556666" })
	}
	out, err := w.ask(Request{})
	if err != nil || len(out.Events) != 0 || out.NextToken == nil {
		t.Fatalf("the first page: %v, %v", out, err)
	}
	w.expect("all pages", Request{}, "e1")

	long := audit.Record{EventTime: w.now, RecipientAccountID: "444455556666", RequestParameters: []byte(`"` + strings.Repeat("x", 250<<10) + `"`)}
	w = newWorld(t, t.TempDir())
	w.happened(2*time.Second, nil)
	for range maxRead/(250<<10) + 1 {
		w.happened(time.Second, func(r *audit.Record) { *r = long })
	}
	if out, err = w.ask(Request{}); err != nil || len(out.Events) != 0 || out.NextToken == nil {
		t.Fatalf("the first page of long lines: %v, %v", out, err)
	}
	w.expect("behind long lines", Request{}, "e1")

	w = newWorld(t, "")
	for range 10 {
		w.happened(time.Second, func(r *audit.Record) { r.RequestParameters = []byte(`"` + strings.Repeat("x", 200<<10) + `"`) })
	}
	if out, err = w.ask(Request{}); err != nil || len(out.Events) != 6 || out.NextToken == nil {
		t.Errorf("a page of long events has %d, %v", len(out.Events), err)
	}
	w.expect("long events", Request{}, "e10 e9 e8 e7 e6 e5 e4 e3 e2 e1")
}

// TestFarBack: files that begin after the end are not read.
func TestFarBack(t *testing.T) {
	dir := t.TempDir()
	segment := func(n int, ago time.Duration, lines int) {
		var text strings.Builder
		for i := range lines {
			r := audit.Record{EventTime: time.Now().UTC().Add(-ago), AWSRegion: "eu-west-1", RecipientAccountID: account, EventID: fmt.Sprintf("f%d-%d", n, i),
				Claviger: audit.Extra{Sequence: uint64(i + 1)}}
			b, err := json.Marshal(r)
			if err != nil {
				t.Fatal(err)
			}
			text.Write(append(b, '\n'))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("audit-%06d.jsonl", n)), []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	segment(1, 50*time.Hour, 1)
	segment(2, 24*time.Hour, maxLines)
	segment(3, time.Hour, 1)
	w := newWorld(t, dir)
	out, err := w.ask(Request{EndTime: &model.Time{Time: w.now.Add(-49 * time.Hour)}})
	if err != nil || len(out.Events) != 1 || *out.Events[0].EventId != "f1-0" {
		t.Errorf("the first page: %v, %v", out, err)
	}
}

func TestEvent(t *testing.T) {
	w := newWorld(t, "")
	w.happened(time.Second, func(r *audit.Record) { r.RequestParameters = []byte(`{"claviger":{"keyId":"1"}}`) })
	out, err := w.ask(Request{})
	if err != nil || len(out.Events) != 1 {
		t.Fatalf("%v, %v", out, err)
	}
	got, err := json.Marshal(out.Events[0])
	if err != nil {
		t.Fatal(err)
	}
	at := w.now.Add(-time.Second)
	whole := `{"eventVersion":"","userIdentity":{"type":"IAMUser","accessKeyId":"AKIA1","userName":"alice"},"eventTime":"` + at.Format(time.RFC3339) +
		`","eventSource":"kms.amazonaws.com","eventName":"Encrypt","awsRegion":"eu-west-1","sourceIPAddress":"","userAgent":"","requestParameters":{"claviger":{"keyId":"1"}},` +
		`"requestID":"r1","eventID":"e1","readOnly":true,"resources":[{"type":"AWS::KMS::Key","ARN":"arn:aws:kms:eu-west-1:111122223333:key/1"}],` +
		`"eventType":"","managementEvent":false,"recipientAccountId":"111122223333","eventCategory":""}`
	quoted, err := json.Marshal(whole)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"EventId":"e1","EventName":"Encrypt","ReadOnly":"true","AccessKeyId":"AKIA1","EventTime":` + fmt.Sprint(at.Unix()) + `,"EventSource":"kms.amazonaws.com",` +
		`"Username":"alice","Resources":[{"ResourceType":"AWS::KMS::Key","ResourceName":"arn:aws:kms:eu-west-1:111122223333:key/1"}],"CloudTrailEvent":` + string(quoted) + `}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// BenchmarkLookupEvents is one request that finds nothing in all it may read.
func BenchmarkLookupEvents(b *testing.B) {
	w := newWorld(b, b.TempDir())
	for range maxLines {
		w.happened(time.Second, func(r *audit.Record) { r.UserAgent = strings.Repeat("agent", 100) })
	}
	for b.Loop() {
		if out, err := w.ask(by("EventId", "none")); err != nil || out.NextToken == nil {
			b.Fatal(out, err)
		}
	}
}

// FuzzRecord: whatever a line is, it is shown as an event that is JSON and has nothing
// of ours, or not at all.
func FuzzRecord(f *testing.F) {
	for _, line := range []string{`{}`, ``, `{"claviger":{"phase":"settled"},"recipientAccountId":"111122223333","awsRegion":"eu-west-1","eventTime":"2026-01-01T00:00:00Z"}`,
		`{"recipientAccountId":"111122223333","awsRegion":"eu-west-1","eventTime":"2026-01-01T00:00:00Z","userIdentity":{"type":"AssumedRole"},"resources":[{}]}`, `[`, `{"a"`} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		q := &query{Account: account, Region: "eu-west-1", End: time.Now(), Limit: maxPage}
		p := page{query: q}
		p.next(line, audit.Place{})
		for _, e := range p.found {
			var members map[string]any
			if err := json.Unmarshal([]byte(*e.Event.CloudTrailEvent), &members); err != nil || members["claviger"] != nil {
				t.Fatalf("%q is shown as %q: %v", line, *e.Event.CloudTrailEvent, err)
			}
			for key, has := range attributes {
				var r audit.Record
				if err := json.Unmarshal(line, &r); err != nil {
					t.Fatal(err)
				}
				has(&r, key)
			}
		}
		plain(line)
	})
}
