//go:build !linux

package store

import "time"

var started = time.Now()

// bootClock counts since the program started. On systems other than Linux it may stand
// still while the machine is suspended: a shared store needs a lease of 0 there.
func bootClock() time.Duration { return time.Since(started) }
