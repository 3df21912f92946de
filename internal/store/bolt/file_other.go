//go:build !linux

package bolt

import "os"

// namelessFile makes a temporary file and removes its name at once.
func namelessFile(name string) (*os.File, error) {
	f, err := os.CreateTemp("", name)
	if err != nil {
		return nil, err
	}
	return f, os.Remove(f.Name())
}

// release closes a file that bbolt has locked.
func release(f *os.File) error { return f.Close() }
