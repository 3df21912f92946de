//go:build !linux

package harden

import "errors"

// NoCoreDumps makes the process leave no core when it dies, where that is known how.
func NoCoreDumps() error { return errors.ErrUnsupported }

// LockMemory keeps the process's memory from being swapped out, where that is known
// how.
func LockMemory() error { return errors.ErrUnsupported }

// Unlock lets a part of the memory be evicted again.
func Unlock(uintptr, uintptr) {}
