package bolt

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// namelessFile makes a file that lives in memory.
func namelessFile(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	return os.NewFile(uintptr(fd), name), nil
}

// release closes a file that bbolt has locked and perhaps mapped. As long as the mapping
// is there, closing alone leaves it locked.
func release(f *os.File) error {
	return errors.Join(unix.Flock(int(f.Fd()), unix.LOCK_UN), f.Close())
}
