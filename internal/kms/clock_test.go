package kms

import (
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
)

// The clock moves in every way. What is due waits after a jump forward of more than a
// day, and after a long absence, until it is accepted or set back.
func TestClock(t *testing.T) {
	e, err := bolt.OpenMemory()
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), e, seal.NewEphemeral())
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := New(db, Config{Logger: slog.New(slog.DiscardHandler)})
	begin := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	look := func(now, elapsed time.Duration, want bool) {
		t.Helper()
		if right, err := s.watchClock(t.Context(), begin.Add(now), elapsed); err != nil || right != want || s.ClockHeld() == want {
			t.Errorf("%v after the beginning, and %v after looking last: right is %v, %v; want %v", now, elapsed, right, err, want)
		}
	}
	accept := func(now time.Duration, want error) {
		t.Helper()
		if _, err := s.AcceptClock(t.Context(), begin.Add(now)); !errors.Is(err, want) {
			t.Errorf("AcceptClock = %v, want %v", err, want)
		}
	}
	accept(0, ErrClockRight) // nobody has looked yet
	look(0, 0, true)
	look(time.Hour, time.Hour, true)
	accept(time.Hour, ErrClockRight)
	look(24*time.Hour, time.Hour, true)      // forward by less than a day
	look(0, time.Hour, true)                 // back
	look(-1000*time.Hour, time.Hour, true)   // far back
	look(-500*time.Hour, time.Hour, false)   // and forward again
	look(-499*time.Hour, time.Hour, false)   // it goes on
	look(-990*time.Hour, time.Hour, true)    // set back: it was right before
	look(1000*time.Hour, time.Hour, false)   // forward
	accept(1001*time.Hour, nil)              // it is right now
	look(1002*time.Hour, time.Hour, true)    //
	look(1100*time.Hour, 98*time.Hour, true) // time that has passed while nobody looked
	look(1110*time.Hour, 0, true)            // started again, soon
	look(1135*time.Hour, 0, false)           // started again, after more than a day
	look(1136*time.Hour, time.Hour, false)   //
	accept(1136*time.Hour, nil)              //
	look(1136*time.Hour, time.Minute, true)  //
	accept(1136*time.Hour, ErrClockRight)    //
}
