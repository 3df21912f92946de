package front

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
)

// Connections bounds how many connections there are at once, on all listeners
// together. When there are too many, the one that has been there longest without a
// request by somebody who could prove who they are is closed for the newest: strangers who
// hold connections take no place from callers. It is safe for concurrent use.
type Connections struct {
	most int

	mu        sync.Mutex // guards what follows
	open      map[*conn]struct{}
	strangers queue // of those that have proved nothing, the oldest first
	refused   uint64
}

// NewConnections allows most connections at once.
func NewConnections(most int) *Connections {
	return &Connections{most: most, open: map[*conn]struct{}{}}
}

// Listen makes l give out connections that are counted.
func (c *Connections) Listen(l net.Listener) net.Listener { return &listener{l, c} }

// Open is how many connections there are.
func (c *Connections) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Refused is how many connections were closed to make room, or found none.
func (c *Connections) Refused() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.refused
}

type listener struct {
	net.Listener
	all *Connections
}

// Accept waits for the next connection that there is room for.
func (l *listener) Accept() (net.Conn, error) {
	for {
		inner, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := l.all.admit(inner); c != nil {
			return c, nil
		}
		inner.Close()
	}
}

// admit counts a connection, in place of a stranger's if need be. Nil: there is no
// room.
func (c *Connections) admit(inner net.Conn) *conn {
	c.mu.Lock()
	var victim *conn
	if len(c.open) >= c.most {
		c.refused++
		if victim = c.strangers.first(); victim == nil {
			c.mu.Unlock()
			return nil
		}
		c.forget(victim)
	}
	admitted := &conn{Conn: inner, all: c}
	c.open[admitted] = struct{}{}
	c.strangers.add(admitted)
	c.mu.Unlock()
	if victim != nil {
		victim.Conn.Close()
	}
	return admitted
}

// forget is called with mu held.
func (c *Connections) forget(x *conn) {
	delete(c.open, x)
	c.strangers.remove(x)
}

// A conn is a connection that is counted.
type conn struct {
	net.Conn
	all    *Connections
	proven atomic.Bool

	before, after *conn // in the queue of strangers; guarded by all.mu
	queued        bool
}

// Close gives the place back.
func (c *conn) Close() error {
	c.all.mu.Lock()
	c.all.forget(c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

func (c *conn) prove() {
	if c.proven.Swap(true) {
		return
	}
	c.all.mu.Lock()
	defer c.all.mu.Unlock()
	c.all.strangers.remove(c)
}

// A queue is a list of connections, the oldest first. Its owner's lock guards it.
type queue struct{ head, tail *conn }

func (q *queue) first() *conn { return q.head }

func (q *queue) add(c *conn) {
	c.queued, c.before = true, q.tail
	if q.tail == nil {
		q.head = c
	} else {
		q.tail.after = c
	}
	q.tail = c
}

func (q *queue) remove(c *conn) {
	if !c.queued {
		return
	}
	if c.before == nil {
		q.head = c.after
	} else {
		c.before.after = c.after
	}
	if c.after == nil {
		q.tail = c.before
	} else {
		c.after.before = c.before
	}
	c.queued, c.before, c.after = false, nil, nil
}

type connKey struct{}

// withConn lets requests know which connection they came in by.
func withConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if c, ok := c.(*conn); ok {
		return context.WithValue(ctx, connKey{}, c)
	}
	return ctx
}

// Prove notes that somebody has proved on a request's connection who they are: it is
// kept when there are too many.
func Prove(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		c.prove()
	}
}

// Proven reports whether that has happened. A request that did not come through
// Connections has nobody to compete with, and counts as proven.
func Proven(r *http.Request) bool {
	c, ok := r.Context().Value(connKey{}).(*conn)
	return !ok || c.proven.Load()
}
