//go:build !unix

package durable

import (
	"errors"
	"os"
)

// ErrLocked reports that another process has a lock.
var ErrLocked = errors.New("in use by another process")

// Foreign is not known.
func Foreign(os.FileInfo) bool { return false }

// Lock opens the file at path; without flock it cannot keep others out.
func Lock(path string) (*os.File, error) { return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) }
