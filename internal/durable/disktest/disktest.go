//go:build linux

// Package disktest mounts small file systems for tests of full disks. That needs
// root: others skip these tests, CI does not.
package disktest

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts an empty file system of a size such as 24m until the test ends, and
// returns where.
func Mount(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := unix.Mount("claviger-test", dir, "tmpfs", 0, "size="+size)
	if errors.Is(err, unix.EPERM) {
		t.Skip("mounting a small disk needs root")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Resize makes a mounted file system larger.
func Resize(t testing.TB, dir, size string) {
	t.Helper()
	if err := unix.Mount("claviger-test", dir, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}
