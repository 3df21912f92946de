package clients

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Debian's boto3, some years old, and that of the first Python in the path if it
// has one. The script checks the results itself.
func TestBoto3(t *testing.T) {
	t.Parallel()
	has := func(python string) bool { return exec.Command(python, "-c", "import boto3").Run() == nil }
	const debian = "/usr/bin/python3"
	installDebian(t, func() bool { return has(debian) }, "python3", "python3-boto3")
	for _, python := range []string{debian, "python3"} {
		if has(python) {
			program{path: python}.run(t, filepath.Join("testdata", "boto3_client.py"), plainURL)
		}
	}
}
