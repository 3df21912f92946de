//go:build !linux

package store

import "time"

var started = time.Now()

// bootClock counts since the program started. On systems other than Linux it may stand
// still while the machine is suspended.
func bootClock() time.Duration { return time.Since(started) }

// usableLease is none: a lease would last too long while the machine is suspended.
func usableLease(time.Duration) time.Duration { return 0 }
