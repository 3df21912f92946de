package store

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock counts since the machine started, also while it is suspended, which the clock
// of package time does not (go#24595).
func bootClock() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil { // there since Linux 2.6.39
		panic(err) // by a clock that stood still a lease would last for ever
	}
	return time.Duration(t.Nano())
}

// usableLease is for how long a node may decide by what it was last sure of.
func usableLease(agreed time.Duration) time.Duration { return agreed }
