package store

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock counts since the machine started, also while it is suspended, which the clock
// of package time does not (go#24595).
func bootClock() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // there since Linux 2.6.39
	return time.Duration(t.Nano())
}
