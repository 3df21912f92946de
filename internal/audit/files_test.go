package audit

import (
	"bytes"
	"compress/gzip"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

const ofTrail = `{"Records":[{"eventSource":"kms.amazonaws.com","eventName":"Decrypt","eventTime":"2026-01-01T00:00:00Z"},{"hello":1},{"eventSource":"kms.amazonaws.com","eventName":"Encrypt","eventTime":"2026-01-01T00:00:00Z","userIdentity":{"sessionContext":{"attributes":{"mfaAuthenticated":"false"}}}}]}`

func TestRecords(t *testing.T) {
	dir := t.TempDir()
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	if _, err := z.Write([]byte(ofTrail)); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"plain.json": []byte(ofTrail), "day/zipped.json.gz": zipped.Bytes(), "cut.json": []byte(ofTrail[:60]), "notes.txt": []byte("hello")} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	var names, places []string
	err := Records(dir, time.Time{}, func(r *Record) error { names = append(names, r.EventName); return nil }, func(place string) { places = append(places, place) })
	if err != nil || len(names) != 4 || len(places) != 3 {
		t.Errorf("records %v, not records %v, %v", names, places, err)
	}
	stop := errors.New("stop")
	if err := Records(filepath.Join(dir, "plain.json"), time.Time{}, func(*Record) error { return stop }, func(string) {}); !errors.Is(err, stop) {
		t.Errorf("an error of the caller's: %v", err)
	}
	for _, path := range []string{filepath.Join(dir, "none"), t.TempDir()} {
		if err := Records(path, time.Time{}, func(*Record) error { return nil }, func(string) {}); err == nil {
			t.Errorf("%s has records", path)
		}
	}
}

// FuzzTrailFile: whatever is in a file, what is a record in it is read and the rest is told.
func FuzzTrailFile(f *testing.F) {
	f.Add([]byte(ofTrail))
	f.Add([]byte("\x1f\x8b\x08"))
	f.Add([]byte(`{"eventSource":"kms.amazonaws.com","eventName":"Decrypt"}` + "\n{}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		err := recordsFrom("file", bytes.NewReader(text), func(r *Record) error {
			if r.EventName == "" {
				t.Error("a record without a name")
			}
			return nil
		}, func(string) {})
		if err != nil {
			t.Error(err)
		}
	})
}
