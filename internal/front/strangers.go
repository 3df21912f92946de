package front

import (
	"errors"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrBusy reports that too many strangers are being served at once.
var ErrBusy = errors.New("front: too many requests by nobody in particular")

const (
	strangerWait   = 10 * time.Second
	strangerBodies = 64   // long bodies at once
	strangerQueue  = 1024 // requests that wait at once
)

// Strangers bounds what is done at once for requests on connections on which nobody has
// proved yet who they are: so that a flood of them leaves the processors, and the
// memory, to everybody else. It is safe for concurrent use.
type Strangers struct {
	checks  chan struct{}
	proofs  chan struct{}
	waiting atomic.Int64

	mu     sync.Mutex // guards bodies
	bodies []*Upload  // the oldest first
}

// An Upload is a long body by a stranger. A nil one is anybody else's body.
type Upload struct {
	all     *Strangers
	stop    func()
	arrived bool // guarded by all.mu
}

// Arrived notes that the body was read: nobody stops it any more.
func (u *Upload) Arrived() {
	if u == nil {
		return
	}
	u.all.mu.Lock()
	defer u.all.mu.Unlock()
	u.arrived = true
}

// Done gives the place back.
func (u *Upload) Done() {
	if u == nil {
		return
	}
	u.all.mu.Lock()
	defer u.all.mu.Unlock()
	u.all.bodies = slices.DeleteFunc(u.all.bodies, func(o *Upload) bool { return o == u })
}

// NewStrangers makes the bounds.
func NewStrangers() *Strangers {
	return &Strangers{checks: make(chan struct{}, 4*runtime.GOMAXPROCS(0)), proofs: make(chan struct{}, 4*runtime.GOMAXPROCS(0))}
}

// Check waits until it may be looked at who sent a request, and returns what to call
// when that is known.
func (s *Strangers) Check(r *http.Request) (done func(), err error) { return s.enter(r, s.checks) }

// Prove waits until a request may be run that brings a proof of its own, which may have to
// be asked for elsewhere, and returns what to call when it was.
func (s *Strangers) Prove(r *http.Request) (done func(), err error) { return s.enter(r, s.proofs) }

// Body lets a long body be read. When there are too many, the one that has been arriving
// longest is read no further: who sends slowly on purpose keeps nobody else out. ErrBusy: all
// of them have arrived, and wait to be looked at.
func (s *Strangers) Body(w http.ResponseWriter, r *http.Request) (*Upload, error) {
	if Proven(r) {
		return nil, nil
	}
	u := &Upload{all: s, stop: func() { _ = http.NewResponseController(w).SetReadDeadline(time.Unix(1, 0)) }}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.bodies) >= strangerBodies {
		i := slices.IndexFunc(s.bodies, func(o *Upload) bool { return !o.arrived })
		if i < 0 {
			return nil, ErrBusy
		}
		s.bodies[i].stop()
		s.bodies = slices.Delete(s.bodies, i, i+1)
	}
	s.bodies = append(s.bodies, u)
	return u, nil
}

func nothing() {}

func (s *Strangers) enter(r *http.Request, places chan struct{}) (func(), error) {
	if Proven(r) {
		return nothing, nil
	}
	select {
	case places <- struct{}{}:
		return func() { <-places }, nil
	default:
	}
	defer s.waiting.Add(-1)
	if s.waiting.Add(1) > strangerQueue {
		return nil, ErrBusy
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
