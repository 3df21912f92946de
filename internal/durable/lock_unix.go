//go:build unix

package durable

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrLocked reports that another process has a lock.
var ErrLocked = errors.New("in use by another process")

// Foreign reports whether this process is root's and a file is not: what it makes beside it would
// be root's too.
func Foreign(info os.FileInfo) bool {
	s, ok := info.Sys().(*syscall.Stat_t)
	return ok && os.Geteuid() == 0 && s.Uid != 0
}

// Lock takes the lock that is the file at path, which it makes, for this process alone: it goes
// when the file is closed. ErrLocked: another one has it.
func Lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrLocked, err), f.Close())
	}
	return f, nil
}
