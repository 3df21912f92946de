// Regenerated fails if generated files are not what their generators write.
package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "regenerated:", err)
		os.Exit(1)
	}
}

func run() error {
	before, err := generated()
	if err != nil {
		return err
	}
	generate := exec.Command("go", "generate", "./...")
	generate.Stderr = os.Stderr
	if err := generate.Run(); err != nil {
		return fmt.Errorf("go generate: %w", err)
	}
	after, err := generated()
	if err != nil {
		return err
	}
	var stale []string
	for path, text := range after {
		if !bytes.Equal(before[path], text) {
			stale = append(stale, path)
		}
	}
	if len(stale) > 0 || len(before) != len(after) {
		return fmt.Errorf("stale: %s", strings.Join(stale, " "))
	}
	return nil
}

// pages are the documents that go generate writes.
var pages = []string{"docs/compatibility.md", "docs/rules.md"}

// generated reads every file that go generate writes.
func generated() (map[string][]byte, error) {
	out := map[string][]byte{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		page := slices.Contains(pages, path)
		if err != nil || d.IsDir() || filepath.Ext(path) != ".go" && !page {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil && (bytes.HasPrefix(text, []byte("// Code generated")) || page) {
			out[path] = text
		}
		return err
	})
	return out, err
}
