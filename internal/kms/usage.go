package kms

import (
	"sync"
	"sync/atomic"
	"time"
)

// A usage remembers when each key was last used, since this process started:
// whatever happened before, no use older than that counts (condition-keys.md,
// kms:TrailingDaysWithoutKeyUsage). So a key never looks more unused than it is.
// It is safe for concurrent use.
type usage struct {
	since time.Time // when tracking began
	last  sync.Map  // key ARN to *atomic.Int64, Unix seconds; one entry for each key used
}

// note records a use.
func (u *usage) note(k *Key, now time.Time) {
	last, ok := u.last.Load(k.ARN())
	if !ok {
		last, _ = u.last.LoadOrStore(k.ARN(), new(atomic.Int64))
	}
	last.(*atomic.Int64).Store(now.Unix())
}

// trailingDays is how many whole days ago the key was last used; without a
// recorded use, how long ago it was created or tracking began, the later.
func (u *usage) trailingDays(k *Key, now time.Time) int {
	from := k.Created
	if u.since.After(from) {
		from = u.since
	}
	if last, ok := u.last.Load(k.ARN()); ok {
		from = time.Unix(last.(*atomic.Int64).Load(), 0)
	}
	return int(now.Sub(from) / (24 * time.Hour))
}
