package seal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type wrapper interface {
	Wrap([]byte) ([]byte, error)
	Unwrap([]byte) ([]byte, error)
}

func testSeal(t *testing.T, s, other wrapper) {
	t.Helper()
	secret := []byte("a store key of thirty-two bytes!")
	wrapped, err := s.Wrap(secret)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(wrapped, secret[:8]) {
		t.Error("the wrapped key shows the secret")
	}
	got, err := s.Unwrap(wrapped)
	if err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("Unwrap = %q, %v", got, err)
	}
	if _, err := other.Unwrap(wrapped); !errors.Is(err, ErrWrongKey) {
		t.Errorf("another seal: Unwrap = %v, want ErrWrongKey", err)
	}
	wrapped[len(wrapped)-1] ^= 1
	if _, err := s.Unwrap(wrapped); !errors.Is(err, ErrWrongKey) {
		t.Errorf("damaged: Unwrap = %v, want ErrWrongKey", err)
	}
	if _, err := s.Unwrap(wrapped[:3]); !errors.Is(err, ErrWrongKey) {
		t.Errorf("cut: Unwrap = %v, want ErrWrongKey", err)
	}
}

func TestFile(t *testing.T) {
	dir := t.TempDir()
	a, err := CreateFile(filepath.Join(dir, "a"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := CreateFile(filepath.Join(dir, "b"))
	if err != nil {
		t.Fatal(err)
	}
	testSeal(t, a, b)
	if _, err := CreateFile(filepath.Join(dir, "a")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateFile over an existing key = %v, want ErrExist", err)
	}
	if err := os.Chmod(filepath.Join(dir, "a"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Wrap([]byte("x")); err == nil || !strings.Contains(err.Error(), "others may read") {
		t.Errorf("a key others may read: Wrap = %v", err)
	}
	short := filepath.Join(dir, "short")
	if err := os.WriteFile(short, []byte("AAAA"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewFile(short).Wrap([]byte("x")); err == nil {
		t.Error("a short key was accepted")
	}
	if _, err := NewFile(filepath.Join(dir, "none")).Unwrap(nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: Unwrap = %v, want ErrNotExist", err)
	}
}

func TestPassphrase(t *testing.T) {
	a, err := NewPassphrase([]byte("correct horse battery staple"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := NewPassphrase([]byte("correct horse battery stable"))
	if err != nil {
		t.Fatal(err)
	}
	testSeal(t, a, b)
	if _, err := NewPassphrase([]byte("short")); err == nil {
		t.Error("a short passphrase was accepted")
	}
	huge := append([]byte{0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff, 4}, make([]byte, 64)...)
	if _, err := a.Unwrap(huge); !errors.Is(err, ErrWrongKey) {
		t.Errorf("absurd costs: Unwrap = %v, want ErrWrongKey", err)
	}
}
