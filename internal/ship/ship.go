// Package ship sends copies of lines elsewhere: to a syslog server, to a URL. It never
// makes its caller wait: what cannot be sent soon is dropped, and counted.
package ship

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// queued is how many bytes wait for a destination before lines are dropped, and batch
// how many are sent at once.
const (
	queued = 16 << 20
	batch  = 1 << 20
)

// A Destination takes lines, each with its newline. It may take its time.
type Destination interface {
	Send(ctx context.Context, lines []byte) error
}

// A Copier sends lines to one destination. It is safe for concurrent use.
type Copier struct {
	name    string
	to      Destination
	logger  *slog.Logger
	dropped atomic.Uint64
	sent    atomic.Uint64
	wake    chan struct{}

	mu      sync.Mutex // guards waiting
	waiting []byte
}

// New makes a Copier; name tells it apart in logs and metrics.
func New(name string, to Destination, logger *slog.Logger) *Copier {
	return &Copier{name: name, to: to, logger: logger, wake: make(chan struct{}, 1)}
}

// Name tells the Copier apart.
func (c *Copier) Name() string { return c.name }

// Dropped is how many lines were dropped, and Sent how many were sent.
func (c *Copier) Dropped() uint64 { return c.dropped.Load() }

// Sent is how many lines have arrived.
func (c *Copier) Sent() uint64 { return c.sent.Load() }

// Write takes a copy of lines, or drops them if too much waits already. It does not
// wait.
func (c *Copier) Write(lines []byte) {
	c.mu.Lock()
	full := len(c.waiting)+len(lines) > queued
	if !full {
		c.waiting = append(c.waiting, lines...)
	}
	c.mu.Unlock()
	if full {
		c.dropped.Add(count(lines))
		return
	}
	select {
	case c.wake <- struct{}{}:
	default: // it is awake
	}
}

func count(lines []byte) uint64 { return uint64(bytes.Count(lines, []byte{'\n'})) }

// take takes whole lines, up to batch bytes or one line.
func (c *Copier) take() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.waiting)
	if n > batch {
		n = bytes.LastIndexByte(c.waiting[:batch], '\n') + 1
		if n == 0 {
			n = bytes.IndexByte(c.waiting, '\n') + 1
		}
	}
	lines := bytes.Clone(c.waiting[:n])
	c.waiting = append(c.waiting[:0], c.waiting[n:]...)
	return lines
}

// Run sends what was written until ctx ends; Close sends what is left. A destination that
// fails is tried again, at longer and longer intervals.
func (c *Copier) Run(ctx context.Context) {
	for {
		select {
		case <-c.wake:
		case <-ctx.Done():
			return
		}
		for lines := c.take(); len(lines) > 0; lines = c.take() {
			if !c.send(ctx, lines) {
				return
			}
		}
	}
}

// send tries until the lines have arrived. If ctx ends before they have, they are put back.
func (c *Copier) send(ctx context.Context, lines []byte) bool {
	for wait := time.Second; !c.try(ctx, lines); wait = min(2*wait, time.Minute) {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			c.mu.Lock()
			defer c.mu.Unlock()
			c.waiting = append(lines, c.waiting...)
			return false
		}
	}
	return true
}

// Close sends what is left, for two seconds at most, and closes the destination if it can
// be closed. It is called when Run has returned and nobody writes any more.
func (c *Copier) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	lines := c.take()
	for len(lines) > 0 && c.try(ctx, lines) {
		lines = c.take()
	}
	if left := count(lines) + count(c.waiting); left > 0 {
		c.dropped.Add(left)
		c.logger.Warn("copies of audit records were not delivered before the end", "to", c.name, "records", left)
	}
	if to, ok := c.to.(io.Closer); ok {
		return to.Close()
	}
	return nil
}

func (c *Copier) try(ctx context.Context, lines []byte) bool {
	err := c.to.Send(ctx, lines)
	if err != nil {
		c.logger.Warn("copies of audit records are not delivered", "to", c.name, "err", err)
		return false
	}
	c.sent.Add(count(lines))
	return true
}
