//go:build linux

// Package powertest mounts a file system in memory that knows what a power cut would
// leave of it, for tests. It promises what POSIX promises and no more: a file has on
// the disk what it held when it was last synced, a directory the names that it had
// when it was last synced. Of everything later any part may be there, in any order.
//
// The file system runs in a process of its own, since one that reads a mapped file
// which it serves itself can stop for good. TestMain must call Serve first.
package powertest

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

const mountPoint = "CLAVIGER_POWERTEST" // the environment variable that makes a process the file system

// A Disk is a mounted file system. It is safe for concurrent use.
type Disk struct {
	Dir string // where it is mounted

	t       testing.TB
	mu      sync.Mutex // guards the conversation with the process
	encoder *jsontext.Encoder
	decoder *jsontext.Decoder
}

// A request is what a Disk says to its process, which answers with a reply.
type request struct {
	Cut       string // the directory for what a power cut leaves
	Seed      [2]uint64
	LoseSyncs *bool
	ReadOnly  *bool
	FailSync  *syscall.Errno
}

type reply struct{ Errno syscall.Errno }

// Mount mounts an empty file system until the test ends. That needs root: others
// skip the test.
func Mount(t testing.TB) *Disk {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := &Disk{Dir: t.TempDir(), t: t}
	process := exec.Command(self, "-test.run=^$")
	process.Env = append(os.Environ(), mountPoint+"="+d.Dir)
	process.Stderr = os.Stderr
	in, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close() // ends it
		if err := process.Wait(); err != nil {
			t.Errorf("the file system: %v", err)
		}
	})
	d.encoder, d.decoder = jsontext.NewEncoder(in), jsontext.NewDecoder(out)
	switch err := d.hear(); {
	case errors.Is(err, syscall.EPERM), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.ENODEV):
		t.Skip("mounting a disk needs root, and a kernel with FUSE")
	case err != nil:
		t.Fatalf("the file system does not start (does TestMain call powertest.Serve?): %v", err)
	}
	return d
}

// Cut is a power cut at this instant: it returns a directory with what would be left.
// The file system goes on.
func (d *Disk) Cut(rng *rand.Rand) string {
	d.t.Helper()
	dir := d.t.TempDir()
	d.ask(request{Cut: dir, Seed: [2]uint64{rng.Uint64(), rng.Uint64()}})
	return dir
}

// LoseSyncs makes every sync succeed without doing anything.
func (d *Disk) LoseSyncs(on bool) { d.t.Helper(); d.ask(request{LoseSyncs: &on}) }

// ReadOnly makes everything that would change something fail with EROFS.
func (d *Disk) ReadOnly(on bool) { d.t.Helper(); d.ask(request{ReadOnly: &on}) }

// FailSync makes each sync of a file fail with err, until it is called with 0. As with
// Linux, what could not be synced can be read, is not on the disk, and is not tried
// again by a later sync.
func (d *Disk) FailSync(err syscall.Errno) { d.t.Helper(); d.ask(request{FailSync: &err}) }

func (d *Disk) ask(r request) {
	d.t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := json.MarshalEncode(d.encoder, r); err != nil {
		d.t.Fatal(err)
	}
	if err := d.hear(); err != nil {
		d.t.Fatal(err)
	}
}

func (d *Disk) hear() error {
	var r reply
	if err := json.UnmarshalDecode(d.decoder, &r); err != nil {
		return err
	}
	if r.Errno != 0 {
		return r.Errno
	}
	return nil
}
