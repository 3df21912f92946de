//go:build linux

// Package disktest mounts small file systems for tests of full disks. It needs
// root, as CI has.
package disktest

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Mount mounts an empty file system of a size such as 24m until the test ends, and
// returns where.
func Mount(t testing.TB, size string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("claviger-test", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Fatalf("mounting a small disk (tests of full disks need root): %v", err)
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
