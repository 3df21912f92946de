// Package leakcheck fails a package's tests when they leave goroutines behind
// that nothing can ever wake.
package leakcheck

import (
	"fmt"
	"os"
	"runtime/pprof"
	"strings"
	"testing"
)

// Run runs the tests and returns the code to exit with.
func Run(m *testing.M) int {
	code := m.Run()
	profile := pprof.Lookup("goroutineleak")
	if profile == nil {
		fmt.Fprintln(os.Stderr, "leakcheck: this Go has no goroutineleak profile")
		return 1
	}
	var text strings.Builder
	if err := profile.WriteTo(&text, 1); err != nil {
		fmt.Fprintln(os.Stderr, "leakcheck:", err)
		return 1
	}
	if strings.HasPrefix(text.String(), "goroutineleak profile: total 0") {
		return code
	}
	fmt.Fprintln(os.Stderr, text.String())
	return 1
}
