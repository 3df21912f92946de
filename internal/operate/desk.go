package operate

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
)

// A Desk answers the commands for one data directory: sealed at first, then with an
// Operator. It is safe for concurrent use.
type Desk struct {
	http   *http.Server
	done   func() error
	served sync.WaitGroup

	mu       sync.Mutex // guards what follows
	operator Operator
	slots    []store.Slot            // what the shares are to open; nil: none are wanted
	shares   map[string][]seal.Share // by the name of the slot that they are of
	opened   chan *seal.Shamir
}

// Open makes the socket of a data directory and answers on it until Close.
func Open(dir string) (*Desk, error) {
	if err := durable.MakeDir(dir); err != nil {
		return nil, fmt.Errorf("operate: %w", err)
	}
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, fmt.Errorf("operate: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(errors.New("operate: "+dir+" is in use by another process"), c.Close(), done())
	}
	_ = os.Remove(filepath.Join(dir, socketName)) // of a server that was killed
	l, err := net.Listen("unix", path)
	if err == nil {
		err = os.Chmod(filepath.Join(dir, socketName), 0o600)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("operate: %w", err), done())
	}
	d := &Desk{done: done, shares: map[string][]seal.Share{}, opened: make(chan *seal.Shamir, 1)}
	d.http = &http.Server{Handler: d, ReadHeaderTimeout: 10 * time.Second}
	d.served.Go(func() { _ = d.http.Serve(l) }) // until Close
	return d, nil
}

// Serve lets o answer from now on.
func (d *Desk) Serve(o Operator) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.operator = o
}

// Close ends commands in flight and removes the socket.
func (d *Desk) Close() error {
	err := errors.Join(d.http.Close(), d.done())
	d.served.Wait()
	return err
}

// ServeHTTP answers one command.
func (d *Desk) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	d.mu.Lock()
	o, closed := d.operator, errOpening
	if d.slots != nil {
		closed = ErrSealed
	}
	d.mu.Unlock()
	var in order
	err := json.UnmarshalRead(http.MaxBytesReader(w, r.Body, maxRequest), &in)
	var out result
	switch {
	case err != nil:
	case name == "unseal":
		out.Progress, err = d.unseal(in.Name)
	case o == nil && streams[name] != nil:
		stream(w, func(io.Writer) error { return closed })
		return
	case o == nil:
		err = closed
	case streams[name] != nil:
		stream(w, func(w io.Writer) error { return streams[name](r.Context(), o, in, w) })
		return
	default:
		out, err = perform(r.Context(), o, name, in)
	}
	if err != nil {
		out = result{Error: err.Error()}
	}
	_ = json.MarshalWrite(w, out) // the other side is gone if this fails
}

// failure is the trailer of a stream that says what went wrong.
const failure = "Claviger-Failure"

// stream answers with what write writes, and what went wrong behind it.
func stream(w http.ResponseWriter, write func(io.Writer) error) {
	w.Header().Set("Trailer", failure)
	w.WriteHeader(http.StatusOK)
	if err := write(w); err != nil {
		w.Header().Set(failure, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// Progress is how far a sealed server is from being open.
type Progress struct{ Given, Needed int }

// Unseal waits until there are enough shares to open one of the slots.
func (d *Desk) Unseal(ctx context.Context, slots []store.Slot) (seal.Seal, error) {
	d.mu.Lock()
	for _, s := range slots {
		if s.Kind == "shamir" {
			d.slots = append(d.slots, s)
		}
	}
	wanted := d.slots != nil
	d.mu.Unlock()
	if !wanted {
		return nil, errors.New("operate: no shares open this store; serve it with one of its seals")
	}
	select {
	case s := <-d.opened:
		return s, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// unseal takes a share. Once there are enough they are put together and forgotten.
func (d *Desk) unseal(text string) (Progress, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.slots == nil {
		return Progress{}, errors.New("operate: the server does not wait for shares")
	}
	share, err := seal.ParseShare(text)
	if err != nil {
		return Progress{}, err
	}
	i := slices.IndexFunc(d.slots, func(s store.Slot) bool { return share.Opens(s.Wrapped) })
	if i < 0 {
		return Progress{}, errors.New("operate: the share is of another set: it does not open this store")
	}
	slot := d.slots[i]
	p := Progress{len(d.shares[slot.Name]), seal.Needs(slot.Wrapped)}
	if slices.ContainsFunc(d.shares[slot.Name], func(s seal.Share) bool { return s.Number() == share.Number() }) {
		return p, fmt.Errorf("operate: share %d was given already", share.Number())
	}
	d.shares[slot.Name] = append(d.shares[slot.Name], share)
	if p.Given++; p.Given < p.Needed {
		return p, nil
	}
	whole, err := seal.Combine(d.shares[slot.Name])
	d.forget(slot.Name)
	if err == nil {
		var key []byte
		key, err = whole.Unwrap(slot.Wrapped)
		clear(key)
		if err != nil {
			seal.Forget(whole)
		}
	}
	if err != nil {
		return Progress{0, p.Needed}, fmt.Errorf("operate: the shares do not open the store; give all of them again: %w", err)
	}
	for name := range d.shares {
		d.forget(name)
	}
	d.slots = nil
	d.opened <- whole
	return p, nil
}

// forget clears the shares of a slot. mu is held.
func (d *Desk) forget(slot string) {
	clear(d.shares[slot])
	delete(d.shares, slot)
}
