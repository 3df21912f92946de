package kms

import (
	"context"
	"errors"
	"time"

	"github.com/claviger/claviger/internal/store"
)

// maxJump is how far the clock may move against time that has passed, and how long a
// server may have been away, without anybody being asked before something is deleted.
const maxJump = 24 * time.Hour

// A clockState is when the clock was last seen to be right. While it is held nothing
// is done that was due: somebody has to say that the time is right.
type clockState struct {
	Seen time.Time
	Held bool      `json:",omitzero"`
	Now  time.Time `json:",omitzero"` // what it was when it was held
}

var clockKind = store.Kind[clockState]{Tag: 46, Name: "clock"}

const clockKey = "sys/clock"

// ErrClockRight reports that there is nothing to accept.
var ErrClockRight = errors.New("kms: the clock has not jumped")

// watchClock looks at the clock, elapsed after it looked last; 0 at first. It reports whether
// what is due may be done: not if the clock jumped forward by more than a day, or the
// server was away for that long, which cannot be told from a jump.
func (s *Service) watchClock(ctx context.Context, now time.Time, elapsed time.Duration) (right bool, err error) {
	now = now.UTC().Round(0)
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		tx.OnlyAdds()
		c, err := store.Edit(tx, clockKind, clockKey)
		if errors.Is(err, store.ErrNotFound) {
			c, err = &clockState{Seen: now}, nil
		}
		if err != nil {
			return err
		}
		if c.Held && now.Sub(c.Seen) <= maxJump { // it was set back
			c.Held, c.Now = false, time.Time{}
		}
		if jump := now.Sub(c.Seen) - elapsed; jump > maxJump && !c.Held {
			c.Held, c.Now = true, now
			s.config.Logger.Error("the clock jumped, or the server was away for more than a day: nothing is deleted until somebody says claviger clock accept", "before", c.Seen, "now", now)
		}
		if c.Held {
			c.Seen = c.Seen.Add(elapsed) // what has passed for sure
		}
		right = !c.Held
		if right {
			c.Seen = now
		}
		return store.Put(tx, clockKind, clockKey, c)
	})
	s.clockHeld.Store(!right)
	return right && err == nil, err
}

// ClockHeld reports whether what is due waits for AcceptClock.
func (s *Service) ClockHeld() bool { return s.clockHeld.Load() }

// AcceptClock says that the time is right although the clock jumped, and returns when it
// was last seen to be right before. What is due is done then. ErrClockRight: it has not
// jumped.
func (s *Service) AcceptClock(ctx context.Context, now time.Time) (before time.Time, err error) {
	now = now.UTC().Round(0)
	err = s.db.Update(ctx, func(tx *store.Tx) error {
		tx.OnlyAdds()
		c, err := store.Edit(tx, clockKind, clockKey)
		if errors.Is(err, store.ErrNotFound) || err == nil && !c.Held && now.Sub(c.Seen) <= maxJump {
			return ErrClockRight
		}
		if err != nil {
			return err
		}
		before = c.Seen
		return store.Put(tx, clockKind, clockKey, &clockState{Seen: now})
	})
	if err == nil {
		select {
		case s.accepted <- struct{}{}:
		default: // Run knows already
		}
	}
	return before, err
}
