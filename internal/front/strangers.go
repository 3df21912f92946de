package front

import (
	"errors"
	"net/http"
	"runtime"
	"slices"
	"sync"
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

	mu     sync.Mutex // guards bodies
	bodies []*upload  // the oldest first
}

// An upload is a long body that is being read.
type upload struct{ stop func() }

// NewStrangers makes the bounds.
func NewStrangers() *Strangers {
	return &Strangers{checks: make(chan struct{}, 4*runtime.GOMAXPROCS(0))}
}

// Check waits until it may be looked at who sent a request, and returns what to call
// when that is known.
func (s *Strangers) Check(r *http.Request) (done func(), err error) { return enter(r, s.checks) }

// Body lets a long body be read, and returns what to call when it is not needed any
// more. When there are too many, the one that has taken longest is read no further: who
// sends slowly on purpose keeps nobody else out.
func (s *Strangers) Body(w http.ResponseWriter, r *http.Request) (done func()) {
	if Proven(r) {
		return nothing
	}
	u := &upload{func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) }}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bodies) == strangerBodies {
		s.bodies[0].stop()
		s.bodies = s.bodies[1:]
	}
	s.bodies = append(s.bodies, u)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.bodies = slices.DeleteFunc(s.bodies, func(o *upload) bool { return o == u })
	}
}

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
