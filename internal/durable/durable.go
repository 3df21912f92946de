// Package durable writes small files so that a crash at any moment leaves either
// what was there before or the whole new file, and so that the file is still
// there under its name once the call has returned.
package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Refused reports an error by which a file system refuses to write, and may take
// the same later: it is full, or read-only for now.
func Refused(err error) bool {
	for _, e := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EFBIG} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Create writes a new file, readable by its owner alone. It fails with
// fs.ErrExist if there is one of that name.
func Create(path string, text []byte) error {
	return write(path, text, Name)
}

// Name gives a file its name, which no other file may have: fs.ErrExist. SyncDir makes
// that durable. The old name may stay.
func Name(old, path string) error {
	err := os.Link(old, path)
	if err == nil || errors.Is(err, fs.ErrExist) {
		return err
	}
	if _, statErr := os.Lstat(path); statErr == nil {
		return &os.LinkError{Op: "name", Old: old, New: path, Err: fs.ErrExist}
	}
	return os.Rename(old, path) // the file system has no links, as FAT
}

// Replace writes a file, readable by its owner alone, in place of any of that name.
func Replace(path string, text []byte) error {
	return write(path, text, os.Rename)
}

// write fills a temporary file beside path and gives it its name with place.
func write(path string, text []byte, place func(old, new string) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = place(f.Name(), path)
	}
	if err != nil {
		return err
	}
	return SyncDir(filepath.Dir(path))
}

// MakeDir makes a directory for its owner alone, with those above it that are
// missing, unless it is there already. Their names are durable.
func MakeDir(path string) error {
	parent := filepath.Dir(path)
	if _, err := os.Stat(parent); errors.Is(err, fs.ErrNotExist) {
		if err := MakeDir(parent); err != nil {
			return err
		}
	}
	err := os.Mkdir(path, 0o700)
	if info, statErr := os.Stat(path); statErr == nil && info.IsDir() && errors.Is(err, fs.ErrExist) {
		err = SyncDir(parent) // a crash may have come in between
		if errors.Is(err, fs.ErrPermission) {
			err = nil // it is another's, who has made this one
		}
		return err
	}
	if err != nil {
		return err
	}
	return SyncDir(parent)
}

// SyncDir makes the names in a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
