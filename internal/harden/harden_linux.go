package harden

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// NoCoreDumps makes the process leave no core when it dies, and keeps other processes
// of its user from reading its memory.
func NoCoreDumps() error {
	return errors.Join(unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}), unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0))
}

// LockMemory keeps the process's memory from being swapped out, as far as it is
// touched, from now on. It needs the capability CAP_IPC_LOCK or no limit on locked memory: under a limit
// the process would fail when it grows.
func LockMemory() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		return err
	}
	if limit.Cur != unix.RLIM_INFINITY && !mayLock() {
		return fmt.Errorf("the limit on locked memory is %d bytes: lift it (LimitMEMLOCK=infinity, ulimit -l unlimited), or give CAP_IPC_LOCK", limit.Cur)
	}
	return unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT)
}

// mayLock reports whether the process has CAP_IPC_LOCK.
func mayLock() bool {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return false
	}
	_, rest, found := bytes.Cut(status, []byte("\nCapEff:"))
	line, _, _ := bytes.Cut(rest, []byte{'\n'})
	effective, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 64)
	return found && err == nil && effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// Unlock lets a part of the memory, which holds no secret, be evicted again.
func Unlock(address, size uintptr) {
	_, _, _ = unix.Syscall(unix.SYS_MUNLOCK, address, size, 0) // it was not locked if this fails
}
