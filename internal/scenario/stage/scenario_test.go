package stage

import (
	"bytes"
	"encoding/json/v2"
	"fmt"
	"github.com/claviger/claviger/internal/scenario"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"crypto/sha256"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/model"
)

func files(t *testing.T) []*scenario.File {
	t.Helper()
	out, err := scenario.Load("../testdata")
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// run runs every claim that the depth can express as a subtest.
func run(t *testing.T, depth func(t *testing.T, w *worlds, c scenario.Claim)) {
	for _, f := range files(t) {
		t.Run(strings.TrimSuffix(f.Name, ".txtar"), func(t *testing.T) {
			t.Parallel()
			w := &worlds{t: t, file: f}
			for _, c := range f.Claims {
				t.Run(c.Name, func(t *testing.T) {
					depth(t, w, c)
					if t.Failed() {
						w.last = nil
					}
				})
			}
		})
	}
}

// worlds are the worlds of one file. Claims share a world as long as they have
// the same things and change nothing.
type worlds struct {
	t      *testing.T
	file   *scenario.File
	last   *World
	things int
}

// of is a world for a claim and the claim's request there; ok is false if the
// API cannot express it.
func (w *worlds) of(c scenario.Claim) (world *World, in any, ok bool) {
	if !Expressible(w.file, c.Things) {
		return nil, nil, false
	}
	if w.last == nil || w.things != c.Things {
		w.last, w.things = NewWorld(w.t, w.file, c.Things), c.Things
	}
	world = w.last
	in, ok = world.Input(c)
	if ok && changes(c, in) {
		w.last = nil
	}
	return world, in, ok
}

// changes reports whether a claim's request may change the world.
func changes(c scenario.Claim, in any) bool {
	dry := reflect.ValueOf(in).Elem().FieldByName("DryRun").IsValid()
	read := slices.ContainsFunc([]string{"Describe", "Get", "List"}, func(verb string) bool { return strings.HasPrefix(c.Action, verb) })
	return c.Allowed && !dry && !read
}

func TestPure(t *testing.T) {
	run(t, func(t *testing.T, w *worlds, c scenario.Claim) {
		p, err := scenario.NewPure(w.file, c.Things)
		if err != nil {
			t.Fatal(err)
		}
		d, err := p.Decide(c)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Check(d.Allowed(), scenario.Told(d), func(s string) string { return s }); err != nil {
			t.Error(err)
		}
	})
}

// reason is a decision as the audit log tells it.
func reason(d audit.Decision) scenario.Reason {
	return scenario.Reason{Outcome: d.Outcome, By: d.By, Via: d.Via, Missing: d.Missing}
}

// sid drops the document: the service names policies otherwise than files do.
func sid(s string) string {
	_, after, _ := strings.Cut(s, "#")
	return after
}

// TestJudge: the claims are true by the tool that other people's claims are decided with, and
// every statement that can apply is found to.
func TestJudge(t *testing.T) {
	for _, f := range files(t) {
		verdicts, covered, err := f.Judge()
		if err != nil || len(verdicts) != len(f.Claims) {
			t.Fatalf("%s: %d verdicts of %d claims, %v", f.Name, len(verdicts), len(f.Claims), err)
		}
		for _, v := range verdicts {
			if v.Failure != "" {
				t.Errorf("%s: %s", f.Name, v.Failure)
			}
		}
		if !slices.ContainsFunc(covered, func(c scenario.Coverage) bool { return c.Applied > 0 }) && len(covered) > 0 {
			t.Errorf("%s: no statement applies", f.Name)
		}
	}
}

func TestService(t *testing.T) {
	run(t, func(t *testing.T, ws *worlds, c scenario.Claim) {
		w, in, ok := ws.of(c)
		if !ok {
			return
		}
		decisions, err := w.Perform(t, c, in)
		if len(decisions) == 0 {
			t.Fatalf("no decision: %v", err)
		}
		if err := c.Check(!Refused(err), reason(decisions[len(decisions)-1]), sid); err != nil {
			t.Error(err)
		}
	})
}

func TestHTTP(t *testing.T) {
	run(t, func(t *testing.T, ws *worlds, c scenario.Claim) {
		if OfCall(c) {
			return
		}
		w, in, ok := ws.of(c)
		if !ok {
			return
		}
		status, answer := w.overHTTP(t, c, in)
		var fault struct {
			Type string `json:"__type"`
		}
		if status != http.StatusOK {
			if err := json.Unmarshal(answer, &fault); err != nil {
				t.Fatalf("%d %q: %v", status, answer, err)
			}
		}
		lines := w.Server.Log.Recent()
		var record audit.Record
		if err := json.Unmarshal(lines[len(lines)-1], &record); err != nil {
			t.Fatal(err)
		}
		decisions := record.Claviger.Decisions
		if len(decisions) == 0 {
			t.Fatalf("no decision: %d %s", status, answer)
		}
		var err error
		if fault.Type != "" {
			err = model.NewFault(fault.Type, status, "")
		}
		if err := c.Check(!Refused(err), reason(decisions[len(decisions)-1]), sid); err != nil {
			t.Errorf("%v\n%s", err, answer)
		}
		if !changes(c, in) { // by which the policies of now are other ones
			explainable(t, w, &record)
		}
	})
}

// explainable: what the record tells is enough to decide as it was decided.
func explainable(t *testing.T, w *World, r *audit.Record) {
	t.Helper()
	cases, ok := inquire.Cases(r)
	if !ok {
		return
	}
	last := map[string]string{} // a decision that is made twice counts as it was made at last
	for _, d := range r.Claviger.Decisions {
		last[d.Action+d.Resource] = d.Outcome
	}
	for _, c := range cases {
		if t := scenario.Given(w.things, "endpoint"); t != nil {
			c.EndpointPolicy = &inquire.Text{Name: t[0].With[0], Document: w.texts(t[0].With[0])}
		}
		if r.EventName == "CreateKey" && c.Key != "" || c.Action == "kms:RetireGrant" && c.Grant == "" {
			continue // the key is not there any more, or was not made; a token does not tell its grant
		}
		e, err := w.Server.World().Explain(t.Context(), c)
		if err != nil {
			t.Errorf("not explained: %+v: %v", c, err)
		} else if was := last[e.Action+e.Resource]; e.Outcome != was {
			t.Errorf("%+v was %s, and is explained as: %s", c, was, e.Why)
		}
	}
}

// overHTTP sends a claim's request, signed by the real SDK.
func (w *World) overHTTP(t *testing.T, c scenario.Claim, in any) (int, []byte) {
	t.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://claviger.test/", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+c.Action)
	headers, who := w.Headers(c)
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	credentials := aws.Credentials{AccessKeyID: who.ID, SecretAccessKey: who.Secret, SessionToken: who.Token}
	hash := fmt.Sprintf("%x", sha256.Sum256(body))
	if err := v4.NewSigner().SignHTTP(t.Context(), credentials, r, hash, "kms", scenario.Region, time.Now()); err != nil {
		t.Fatal(err)
	}
	return w.Do(r)
}
