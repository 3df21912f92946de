package audit

import (
	"bytes"
	"encoding/json/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// A signingKey signs checkpoints and checks them.
type signingKey struct {
	note.Signer
	verifier note.Verifier
}

func newSigningKey(t testing.TB, name string) signingKey {
	t.Helper()
	private, public, err := note.GenerateKey(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err1 := note.NewSigner(private)
	v, err2 := note.NewVerifier(public)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return signingKey{s, v}
}

func openSigned(t *testing.T, dir string, k signingKey) (*Log, error) {
	t.Helper()
	return Open(Config{Dir: dir, Signer: k, Verifier: k.verifier})
}

// signedLog makes a log of three runs, each of which ends with a checkpoint.
func signedLog(t *testing.T, k signingKey) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for range 3 {
		l, err := openSigned(t, dir, k)
		if err != nil {
			t.Fatal(err)
		}
		add(t, l, 4)
		for range 2 { // the second has nothing to sign
			if err := l.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestCheckpoints(t *testing.T) {
	k := newSigningKey(t, "claviger/test")
	dir := signedLog(t, k)
	r, err := Verify(dir, Head{}, k.verifier)
	if err != nil || r.Sequence != 15 || r.Checkpoints != 3 || r.Signed != 15 {
		t.Errorf("Verify = %+v, %v", r, err)
	}
	text, err := os.ReadFile(filepath.Join(dir, checkpointFile))
	if err != nil {
		t.Fatal(err)
	}
	if h, err := OpenCheckpoint(string(text), k.verifier); err != nil || h.Sequence != 14 {
		t.Errorf("the last checkpoint: %v, %v", h, err)
	}
	if !strings.HasPrefix(string(text), "claviger/test\n14\n") || !strings.Contains(string(text), "\n\n\u2014 claviger/test ") {
		t.Errorf("a checkpoint is not a signed note: %s", text)
	}
	if _, err := Verify(dir, Head{}, newSigningKey(t, "claviger/test").verifier); err == nil {
		t.Error("another key verifies")
	}
}

// Who writes a part of the log anew, with all hashes, cannot sign it: the place is
// found between two checkpoints.
func TestRewrittenLog(t *testing.T) {
	k := newSigningKey(t, "claviger/test")
	dir := signedLog(t, k)
	path := filepath.Join(dir, segmentName(1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var forged bytes.Buffer
	previous := ""
	for i, line := range bytes.Split(bytes.TrimSpace(text), []byte{'\n'}) {
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			t.Fatal(err)
		}
		r.Claviger.Previous = previous
		if i == 6 {
			r.EventName = "Forged"
		}
		again, err := r.appendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		previous = hashOf(again)
		forged.Write(append(again, '\n'))
	}
	if err := os.WriteFile(path, forged.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, Head{}); err != nil {
		t.Errorf("the forged chain is not one: %v", err)
	}
	r, err := Verify(dir, Head{}, k.verifier)
	if err == nil || len(r.Problems) != 2 || r.Problems[0].Line != 10 || !strings.Contains(r.Problems[0].Msg, "after line 5") {
		t.Errorf("Verify of a forged chain = %+v, %v", r, err)
	}
}

// A log that ends before its last checkpoint does not go on, nor one with another's.
func TestLogShorterThanItsCheckpoint(t *testing.T) {
	k := newSigningKey(t, "claviger/test")
	dir := signedLog(t, k)
	if _, err := openSigned(t, dir, newSigningKey(t, "claviger/test")); err == nil {
		t.Error("a log with the checkpoint of another one opens")
	}
	path := filepath.Join(dir, segmentName(1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte{'\n'})
	if err := os.WriteFile(path, bytes.Join(lines[:8], nil), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Verify(dir, Head{}, k.verifier); err == nil || !strings.Contains(err.Error(), "ends before line 14, which was signed") {
		t.Errorf("Verify of a log that was cut = %v", err)
	}
	if _, err := openSigned(t, dir, k); err == nil || !strings.Contains(err.Error(), "before line 14, which was signed") {
		t.Errorf("a log that was cut opens: %v", err)
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	k := newSigningKey(f, "claviger/test")
	text, err := signCheckpoint(k, Head{7, hashOf([]byte("x"))})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, other string) {
		if h, err := OpenCheckpoint(other, k.verifier); err == nil && h.Sequence != 7 {
			t.Errorf("%q passes for %v", other, h)
		}
	})
}

// A first line that is damaged does not take good ones with it: what was on the disk is
// refused as it is.
func TestDamagedFirstLine(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, dir)
	add(t, l, 9)
	head := l.Head()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, segmentName(1))
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	clear(text[:50])
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Dir: dir, Anchor: head}); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("Open = %v", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, text) {
		t.Errorf("the file was changed: %v", err)
	}
}
