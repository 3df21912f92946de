package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/claviger/claviger/internal/findings"
	"github.com/claviger/claviger/internal/policy"
)

// policyValidate checks a policy as Access Analyzer does.
func policyValidate(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("policy validate", stderr)
	kind := f.String("type", "key", "key, identity, scp or rcp")
	output := f.String("output", "text", "text or json")
	return inquired(stderr, func() error {
		words, err := interspersed(f, args)
		k, known := map[string]policy.Kind{"key": policy.Key, "identity": policy.Identity, "scp": policy.SCP, "rcp": policy.RCP}[*kind]
		switch {
		case err != nil:
			return err
		case len(words) == 0:
			return errors.New("policy validate takes files with policies")
		case !known:
			return errors.New("--type is key, identity, scp or rcp")
		}
		type file struct {
			File     string
			Findings []findings.Finding
		}
		var all []file
		bad := false
		for _, name := range words {
			text, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			found := findings.Validate(string(text), k)
			all = append(all, file{name, found})
			bad = bad || slices.ContainsFunc(found, func(x findings.Finding) bool {
				return x.Severity == findings.Error || x.Severity == findings.SecurityWarning
			})
		}
		if *output == "json" {
			err = writeJSON(stdout, all)
		} else {
			for _, f := range all {
				for _, x := range f.Findings {
					fmt.Fprintf(stdout, "%s:%d:%d: %v\n", f.File, x.Start.Line, x.Start.Column+1, &x)
				}
			}
		}
		if err == nil && bad {
			err = exitStatus(1)
		}
		return err
	}())
}
