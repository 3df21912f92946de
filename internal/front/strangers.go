package front

import (
	"errors"
	"net/http"
	"runtime"
	"time"
)

// ErrBusy reports that too many strangers are being served at once.
var ErrBusy = errors.New("front: too many requests by nobody in particular")

const (
	strangerWait   = 10 * time.Second
	strangerBodies = 64 // long bodies at once
)

// Strangers bounds what is done at once for requests on connections on which nobody has
// proved yet who they are: so that a flood of them leaves the processors, and the
// memory, to everybody else. It is safe for concurrent use.
type Strangers struct {
	checks chan struct{}
	bodies chan struct{}
}

// NewStrangers makes the bounds.
func NewStrangers() *Strangers {
	return &Strangers{checks: make(chan struct{}, 4*runtime.GOMAXPROCS(0)), bodies: make(chan struct{}, strangerBodies)}
}

// Check waits until it may be looked at who sent a request, and returns what to call
// when that is known.
func (s *Strangers) Check(r *http.Request) (done func(), err error) { return enter(r, s.checks) }

// Body waits until a long body may be read, and returns what to call when it is not
// needed any more.
func (s *Strangers) Body(r *http.Request) (done func(), err error) { return enter(r, s.bodies) }

func nothing() {}

func enter(r *http.Request, places chan struct{}) (func(), error) {
	if Proven(r) {
		return nothing, nil
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
	}
	timer := time.NewTimer(strangerWait)
	defer timer.Stop()
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	case <-timer.C:
		return nil, ErrBusy
	case <-r.Context().Done():
		return nil, ErrBusy // and gone
	}
}
