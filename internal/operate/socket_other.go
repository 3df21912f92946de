//go:build !linux

package operate

import "path/filepath"

// socketPath is the name of the socket, good until done is called.
func socketPath(dir string) (path string, done func() error, err error) {
	return filepath.Join(dir, socketName), func() error { return nil }, nil
}
