//go:build linux

package powertest

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"log"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Serve is the file system, and does not return, in a process that Mount started. In
// any other it does nothing.
func Serve() {
	dir := os.Getenv(mountPoint)
	if dir == "" {
		return
	}
	log.SetPrefix("powertest: ")
	in, out := jsontext.NewDecoder(os.Stdin), jsontext.NewEncoder(os.Stdout)
	fs := newFileSystem()
	server, err := fuse.NewServer(fs, dir, &fuse.MountOptions{
		DirectMountStrict: true, FsName: "claviger-test", Name: "powertest", DisableXAttrs: true, DisableReadDirPlus: true,
		DisabledCapabilities: fuse.CAP_AUTO_INVAL_DATA}) // all changes pass through the kernel
	if err == nil {
		go server.Serve()
		err = server.WaitMount()
	}
	for ; answer(out, err); err = fs.obey(in) {
	}
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
		log.Fatal(err)
	}
	os.Exit(0)
}

// answer tells how a request went. It returns false once there are no more.
func answer(out *jsontext.Encoder, err error) bool {
	var r reply
	if err != nil && !errors.As(err, &r.Errno) {
		return false
	}
	return json.MarshalEncode(out, r) == nil
}

// obey does what the next request says. An error other than an errno is the end.
func (fs *fileSystem) obey(in *jsontext.Decoder) error {
	var r request
	if err := json.UnmarshalDecode(in, &r); err != nil {
		return err
	}
	if r.Cut != "" {
		return fs.cut(rand.New(rand.NewPCG(r.Seed[0], r.Seed[1])), r.Cut)
	}
	fs.mu.Lock()
	defer fs.mu.Unlock()
	fs.loseSyncs = set(fs.loseSyncs, r.LoseSyncs)
	fs.readOnly = set(fs.readOnly, r.ReadOnly)
	fs.failSync = set(fs.failSync, r.FailSync)
	return nil
}

func set[T any](old T, value *T) T {
	if value == nil {
		return old
	}
	return *value
}

// A fileSystem is a fuse.RawFileSystem. Nodes are never forgotten.
type fileSystem struct {
	fuse.RawFileSystem // what is not supported

	mu        sync.Mutex // guards everything, the nodes included
	nodes     []*node    // by number
	loseSyncs bool
	readOnly  bool
	failSync  syscall.Errno
}
