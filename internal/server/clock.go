package server

import (
	"context"
	"time"
)

// AcceptClock says that the time is right although the clock jumped by more than a day,
// or the server was away for that long; deletions wait for that. It returns when the
// clock was last seen to be right before. kms.ErrClockRight: it has not jumped.
func (s *Server) AcceptClock(ctx context.Context) (before time.Time, err error) {
	now := time.Now()
	err = s.operated("AcceptClock", map[string]string{"now": now.UTC().Format(time.RFC3339)}, func() (err error) {
		before, err = s.KMS.AcceptClock(ctx, now)
		return err
	})
	return before, err
}
