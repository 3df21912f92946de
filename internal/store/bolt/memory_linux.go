package bolt

import (
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
