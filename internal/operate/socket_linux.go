package operate

import (
	"fmt"
	"os"
	"path/filepath"
)

// socketPath is a name of the socket that is short enough for a socket's address,
// however long that of the directory is. It is good until done is called.
func socketPath(dir string) (path string, done func() error, err error) {
	path = filepath.Join(dir, socketName)
	if len(path) < 100 {
		return path, func() error { return nil }, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), socketName), d.Close, nil
}
