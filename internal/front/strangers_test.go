package front

import (
	"context"
	"errors"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// Strangers wait for their turn, and those who would make the queue too long are told at
// once. What brings its own proof has places apart.
func TestStrangersQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewStrangers()
		ctx, leave := context.WithCancel(context.WithValue(t.Context(), connKey{}, &conn{}))
		r := httptest.NewRequestWithContext(ctx, "POST", "/", nil)
		busy := make(chan error, 3000)
		for range 3000 {
			go func() {
				_, err := s.Check(r) // nobody gives their place back
				busy <- err
			}()
		}
		synctest.Wait()
		if told := len(busy); told < 1500 || told > 2000 { // 1,024 wait, and a few have places
			t.Errorf("%d of 3,000 are answered at once", told)
		}
		done, err := s.Prove(r)
		if err != nil {
			t.Errorf("a proof of its own: %v", err)
		}
		done()
		leave()
		synctest.Wait()
		taken := 0
		for range 3000 {
			if err := <-busy; err == nil {
				taken++
			} else if !errors.Is(err, ErrBusy) {
				t.Error(err)
			}
		}
		if taken == 0 {
			t.Error("nobody was let in")
		}
	})
}
