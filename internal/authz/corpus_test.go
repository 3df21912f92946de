package authz_test

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// A record is a policy that somebody published.
type record struct {
	ID     string          `json:"id"`
	Type   string          `json:"type"` // of the policies that are not key policies
	Policy json.RawMessage `json:"policy"`
}

// unparsed are the records that Parse refuses, and why.
var unparsed = map[string]string{
	"kp-0027": "Principal is an array",
	"kp-0032": `Principal is a string other than "*"`,
	"kp-0033": "Principal is an array",
	"kp-0583": "a principal is null",
	"kp-0590": "a principal is null",
	"kp-0631": "a principal is null",
	"kp-0632": "a principal is null",
	"ip-0600": "a resource is null",
	"ip-0601": `Effect is "denY"`,
	"ip-0866": "a condition value is null",
	"ip-0958": "Resource is null",
	"ip-0959": "Resource is null",
}

// records reads a file of testdata, a record a line.
func records(t *testing.T, name string) (out []record) {
	t.Helper()
	f, err := os.Open("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r io.Reader = f
	if strings.HasSuffix(name, ".gz") {
		if r, err = gzip.NewReader(f); err != nil {
			t.Fatal(err)
		}
	}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var one record
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, one)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// parsed parses a record; nil is for one that is listed as unparsed.
func (r *record) parsed(t *testing.T) *policy.Document {
	t.Helper()
	doc, err := policy.Parse(r.Policy)
	reason, listed := unparsed[r.ID]
	switch {
	case err != nil && !listed:
		t.Errorf("Parse: %v", err)
	case err == nil && listed:
		t.Errorf("Parse accepts what is listed as refused: %s", reason)
	case err != nil:
		return nil
	}
	return doc
}

// TestCorpusOfKeyPolicies holds published key policies to the rules: every
// action, by everybody they name and by strangers, with identity policies that
// allow everything and without.
func TestCorpusOfKeyPolicies(t *testing.T) {
	t.Parallel()
	full := []*policy.Document{document(t, "2012-10-17", []map[string]any{fullAccess})}
	var count [3]int
	for _, r := range records(t, "key-policies.jsonl") {
		t.Run(r.ID+" decides alike", func(t *testing.T) {
			if doc := r.parsed(t); doc != nil {
				c := newCase(doc)
				c.ask(t, &papers{key: doc, identity: full}, c.context(doc), &count)
				c.ask(t, &papers{key: doc}, authz.Request{Region: "us-east-1", ServiceCondition: facts{}}, &count)
			}
		})
	}
	everyOutcome(t, count)
}

// TestCorpusOfOtherPolicies does the same with published identity policies, SCPs,
// RCPs and endpoint policies, where all other policies allow everything.
func TestCorpusOfOtherPolicies(t *testing.T) {
	t.Parallel()
	open := document(t, "2012-10-17", []map[string]any{{"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}})
	account := document(t, "2012-10-17", []map[string]any{{"Effect": "Allow", "Principal": map[string]any{"AWS": []string{home, abroad}},
		"Action": "*", "Resource": "*"}})
	full := []*policy.Document{document(t, "2012-10-17", []map[string]any{fullAccess})}
	var count [3]int
	for _, r := range records(t, "iam-policies.jsonl.gz") {
		t.Run(r.ID+" decides alike", func(t *testing.T) {
			doc := r.parsed(t)
			if doc == nil {
				return
			}
			c, p := newCase(doc), &papers{key: open, identity: full}
			switch r.Type {
			case "scp":
				p.scp = [][]*policy.Document{full, {doc}}
			case "rcp":
				p.rcp = []*policy.Document{doc}
			case "vpc-endpoint":
				p.endpoint, p.throughEndpoint = doc, true
			default:
				p.key, p.identity = account, []*policy.Document{doc}
				c.callers = slices.DeleteFunc(c.callers, func(c authz.Caller) bool { return c.EntityARN == "" }) // who has no identity policies
			}
			c.ask(t, p, c.context(doc), &count)
			c.ask(t, p, authz.Request{Region: "us-east-1", ServiceCondition: facts{}}, &count)
		})
	}
	everyOutcome(t, count)
}

// everyOutcome fails if some outcome never came about.
func everyOutcome(t *testing.T, count [3]int) {
	t.Helper()
	for outcome, n := range count {
		t.Logf("%v: %d", authz.Outcome(outcome), n)
		if n == 0 {
			t.Errorf("no request came to %v", authz.Outcome(outcome))
		}
	}
}
