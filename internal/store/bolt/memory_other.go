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
