package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// Load reads all scenario files of a directory, *.txtar. Policies may be files beside them.
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
		f, err := Read(p, text, func(name string) ([]byte, error) {
			if !filepath.IsLocal(name) {
				return nil, fmt.Errorf("%s is not beside the file", name)
			}
			return os.ReadFile(filepath.Join(dir, name))
		})
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	return files, err
}

// rule finds rules and decision examples in claims' names.
var rule = regexp.MustCompile(`AUTH-\d+(\.\d+)?|Example \d+`)

// Rules are the rules of authorization.md, and the examples, that a claim is about.
func (c Claim) Rules() []string { return rule.FindAllString(c.Name, -1) }
