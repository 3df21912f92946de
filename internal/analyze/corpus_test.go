package analyze

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/policy"
)

// testKey is a key of an account.
func testKey(account string) Key {
	return Key("arn:aws:kms:us-east-1:" + account + ":key/1234abcd-12ab-34cd-56ef-1234567890ab")
}

// A record is a key policy of the corpus.
type record struct {
	ID     string          `json:"id"`
	Policy json.RawMessage `json:"policy"`
}

func corpus(t testing.TB) (ids []string, docs []*policy.Document) {
	t.Helper()
	f, err := os.Open("../authz/testdata/key-policies.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Fatal(err)
		}
		doc, err := policy.Parse(r.Policy)
		if err != nil {
			continue
		}
		ids, docs = append(ids, r.ID), append(docs, doc)
	}
	return ids, docs
}

func without(doc *policy.Document, i int) *policy.Document {
	out := *doc
	out.Statements = append(append([]policy.Statement(nil), doc.Statements[:i]...), doc.Statements[i+1:]...)
	return &out
}

// Each statement of each policy of the corpus is taken out and put back: what that allows
// is found, with requests that the evaluation confirms; one condition is of a kind that the
// analysis does not know.
func TestCorpusEdits(t *testing.T) {
	ids, docs := corpus(t)
	var count [3]int
	for n, doc := range docs {
		whole := policy.Compile(doc, policy.Key, "whole")
		for i := range doc.Statements {
			part := policy.Compile(without(doc, i), policy.Key, "part")
			for _, pair := range [][2]*policy.Policy{{part, whole}, {whole, part}} {
				a, err := NewAccess(testKey(here), pair[0], pair[1])
				if err != nil {
					t.Fatalf("%s: %v", ids[n], err)
				}
				count[a.Verdict]++
				for _, w := range a.Witnesses {
					if w.allowed(pair[0]) || !w.allowed(pair[1]) {
						t.Errorf("%s, statement %d: %+v is no witness", ids[n], i+1, w.Request)
					}
				}
				for _, doubt := range a.Doubts {
					t.Logf("%s, statement %d: %s", ids[n], i+1, doubt)
				}
			}
		}
	}
	t.Logf("%d proven, %d refuted, %d undecided", count[Proven], count[Refuted], count[Undecided])
	if count[Undecided] > 1 || count[Refuted] < 700 || count[Proven] < 1500 {
		t.Error("that is not what was counted before")
	}
}

// What is redundant can be left out, and nobody is allowed anything else.
func TestRedundantOnCorpus(t *testing.T) {
	ids, docs := corpus(t)
	found := 0
	for n, doc := range docs {
		p := policy.Compile(doc, policy.Key, ids[n])
		lints, err := Redundant(testKey(here), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lints {
			found++
			part := policy.Compile(without(doc, int(l.Statement)-1), policy.Key, "part")
			for _, pair := range [][2]*policy.Policy{{part, p}, {p, part}} {
				if a, err := NewAccess(testKey(here), pair[0], pair[1]); err != nil || a.Verdict == Refuted {
					t.Errorf("%s, statement %d is not redundant: %+v, %v", ids[n], l.Statement, a, err)
				}
			}
		}
	}
	if found < 100 {
		t.Errorf("only %d statements are redundant", found)
	}
}

// Of the policies of the corpus 37 let strangers in, each with a witness that names nobody.
func TestPublicOnCorpus(t *testing.T) {
	ids, docs := corpus(t)
	public := 0
	for n, doc := range docs {
		p := policy.Compile(doc, policy.Key, ids[n])
		a, err := Public(testKey(here), p)
		if err != nil || a.Verdict == Undecided {
			t.Errorf("%s: %+v, %v", ids[n], a, err)
		}
		for _, w := range a.Witnesses {
			if text := w.Request.Caller.Account; !w.allowed(p) || text == here || strings.Contains(doc.String(), text) {
				t.Errorf("%s: %+v is no stranger", ids[n], w.Request.Caller)
			}
		}
		if a.Verdict == Refuted {
			public++
		}
	}
	if public != 37 {
		t.Errorf("%d of %d are public", public, len(docs))
	}
}
