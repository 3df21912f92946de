package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// Load reads all scenario files of a directory.
func Load(dir string) (files []*File, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "*.txtar"))
	if err == nil && len(paths) == 0 {
		err = fmt.Errorf("no scenarios in %s", dir)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return nil, err
		}
		f, err := Read(p, text)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, err
}

// Depths reports whether a claim runs through the service and over HTTP too. All
// run by the decision alone.
func (f *File) Depths(c Claim) (service, http bool) {
	w := &World{file: f, things: f.Things[:c.Things]}
	_, ok := w.Input(c)
	service = ok && Expressible(f, c.Things)
	return service, service && !OfCall(c)
}

// rule finds rules and decision examples in claims' names.
var rule = regexp.MustCompile(`AUTH-\d+(\.\d+)?|Example \d+`)

// Rules are the rules of authorization.md, and the examples, that a claim is about.
func (c Claim) Rules() []string { return rule.FindAllString(c.Name, -1) }
