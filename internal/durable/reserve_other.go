//go:build !linux

package durable

import (
	"errors"
	"os"
)

// Reserve gives a file room on the disk without making it longer, where the
// operating system can do that.
func Reserve(*os.File, int64, int64) error { return errors.ErrUnsupported }
