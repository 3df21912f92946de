//go:build linux

package powertest

import (
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

const (
	rootNumber = fuse.FUSE_ROOT_ID
	forever    = time.Hour // how long the kernel may remember what only it changes
)

func newFileSystem() *fileSystem {
	root := newNode(rootNumber, syscall.S_IFDIR|0o700)
	root.links = 1
	return &fileSystem{RawFileSystem: fuse.NewDefaultRawFileSystem(), nodes: []*node{rootNumber: root}}
}

// entry tells of a node that was looked up. mu is held.
func (n *node) entry(out *fuse.EntryOut) {
	out.NodeId, out.Generation, out.Attr = n.number, 1, n.attributes()
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
}

// add makes a new node in a directory. mu is held.
func (fs *fileSystem) add(dir uint64, name string, mode uint32, out *fuse.EntryOut) fuse.Status {
	if fs.readOnly {
		return fuse.EROFS
	}
	if fs.nodes[dir].names[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	n := newNode(uint64(len(fs.nodes)), mode)
	n.links = 1
	fs.nodes = append(fs.nodes, n)
	fs.nodes[dir].change(change{name: n})
	n.entry(out)
	return fuse.OK
}

func (fs *fileSystem) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[in.NodeId].names[name]
	if n == nil {
		return fuse.ENOENT
	}
	n.entry(out)
	return fuse.OK
}

func (fs *fileSystem) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out.Attr = fs.nodes[in.NodeId].attributes()
	out.SetTimeout(forever)
	return fuse.OK
}

// SetAttr keeps sizes and modes. A mode is on the disk at once.
func (fs *fileSystem) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.readOnly {
		return fuse.EROFS
	}
	n := fs.nodes[in.NodeId]
	if size, ok := in.GetSize(); ok {
		n.truncate(int64(size))
	}
	if mode, ok := in.GetMode(); ok {
		n.mode = n.mode&syscall.S_IFMT | mode
	}
	out.Attr = n.attributes()
	out.SetTimeout(forever)
	return fuse.OK
}

func (fs *fileSystem) Mkdir(_ <-chan struct{}, in *fuse.MkdirIn, name string, out *fuse.EntryOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.add(in.NodeId, name, syscall.S_IFDIR|in.Mode&0o7777, out)
}

func (fs *fileSystem) Create(_ <-chan struct{}, in *fuse.CreateIn, name string, out *fuse.CreateOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fs.add(in.NodeId, name, syscall.S_IFREG|in.Mode&0o7777, &out.EntryOut)
}

func (fs *fileSystem) Unlink(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.remove(fs.nodes[in.NodeId], name)
}

func (fs *fileSystem) Rmdir(_ <-chan struct{}, in *fuse.InHeader, name string) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if n := fs.nodes[in.NodeId].names[name]; n != nil && len(n.names) > 0 {
		return fuse.Status(syscall.ENOTEMPTY)
	}
	return fs.remove(fs.nodes[in.NodeId], name)
}

// remove takes a name from a directory. mu is held.
func (fs *fileSystem) remove(dir *node, name string) fuse.Status {
	n := dir.names[name]
	if fs.readOnly {
		return fuse.EROFS
	}
	if n == nil {
		return fuse.ENOENT
	}
	n.links--
	dir.change(change{name: nil})
	return fuse.OK
}

func (fs *fileSystem) Link(_ <-chan struct{}, in *fuse.LinkIn, name string, out *fuse.EntryOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	dir, n := fs.nodes[in.NodeId], fs.nodes[in.Oldnodeid]
	if fs.readOnly {
		return fuse.EROFS
	}
	if dir.names[name] != nil {
		return fuse.Status(syscall.EEXIST)
	}
	n.links++
	dir.change(change{name: n})
	n.entry(out)
	return fuse.OK
}

// Rename is one change within a directory, and one in each of two.
func (fs *fileSystem) Rename(_ <-chan struct{}, in *fuse.RenameIn, oldName, newName string) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	from, to := fs.nodes[in.NodeId], fs.nodes[in.Newdir]
	n, replaced := from.names[oldName], to.names[newName]
	switch {
	case fs.readOnly:
		return fuse.EROFS
	case n == nil:
		return fuse.ENOENT
	case in.Flags != 0:
		return fuse.EINVAL
	case n == replaced:
		return fuse.OK
	case replaced != nil && len(replaced.names) > 0:
		return fuse.Status(syscall.ENOTEMPTY)
	}
	if replaced != nil {
		replaced.links--
	}
	if from == to {
		to.change(change{oldName: nil, newName: n})
	} else {
		to.change(change{newName: n})
		from.change(change{oldName: nil})
	}
	return fuse.OK
}

func (fs *fileSystem) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.readOnly && in.Flags&syscall.O_ACCMODE != syscall.O_RDONLY {
		return fuse.EROFS
	}
	if in.Flags&syscall.O_TRUNC != 0 {
		fs.nodes[in.NodeId].truncate(0)
	}
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE
	return fuse.OK
}

func (fs *fileSystem) Read(_ <-chan struct{}, in *fuse.ReadIn, b []byte) (fuse.ReadResult, fuse.Status) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fuse.ReadResultData(b[:fs.nodes[in.NodeId].read(b, int64(in.Offset))]), fuse.OK
}

func (fs *fileSystem) Write(_ <-chan struct{}, in *fuse.WriteIn, b []byte) (uint32, fuse.Status) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.readOnly {
		return 0, fuse.EROFS
	}
	fs.nodes[in.NodeId].write(b, int64(in.Offset))
	return uint32(len(b)), fuse.OK
}

// Fallocate makes a file longer. Without that there is nothing to do: there is always room.
func (fs *fileSystem) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.nodes[in.NodeId]
	switch {
	case fs.readOnly:
		return fuse.EROFS
	case in.Mode == 0:
		n.size = max(n.size, int64(in.Offset+in.Length))
	case in.Mode != unix.FALLOC_FL_KEEP_SIZE:
		return fuse.Status(syscall.EOPNOTSUPP)
	}
	return fuse.OK
}

func (fs *fileSystem) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.loseSyncs {
		fs.nodes[in.NodeId].sync(fs.failSync != 0)
	}
	return fuse.Status(fs.failSync)
}

func (fs *fileSystem) FsyncDir(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if !fs.loseSyncs {
		fs.nodes[in.NodeId].syncNames()
	}
	return fuse.OK
}

func (fs *fileSystem) OpenDir(<-chan struct{}, *fuse.OpenIn, *fuse.OpenOut) fuse.Status {
	return fuse.OK
}

func (fs *fileSystem) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	names := fs.nodes[in.NodeId].names
	for i, name := range sorted(names) {
		if uint64(i) < in.Offset {
			continue
		}
		if !out.AddDirEntry(fuse.DirEntry{Name: name, Ino: names[name].number, Mode: names[name].mode, Off: uint64(i + 1)}) {
			break
		}
	}
	return fuse.OK
}

func (fs *fileSystem) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize, out.NameLen = pageSize, pageSize, 255
	out.Blocks, out.Bfree, out.Bavail = 1<<20, 1<<20, 1<<20
	return fuse.OK
}
