package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Reserve gives a file room on the disk without making it longer.
func Reserve(f *os.File, offset, length int64) error {
	return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, offset, length)
}
