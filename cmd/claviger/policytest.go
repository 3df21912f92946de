package main

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/claviger/claviger/internal/scenario"
)

// A judged is what became of one file of claims.
type judged struct {
	File       string
	Claims     int
	Failures   []failedClaim       `json:",omitzero"`
	Statements []scenario.Coverage `json:",omitzero"`
}

type failedClaim struct {
	Line    int
	Claim   string
	Failure string
}

// policyTest decides the claims of a directory.
func policyTest(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("policy test", stderr)
	output := f.String("output", "text", "text or json")
	junit := f.String("junit", "", "also write the results to this file, as JUnit does")
	mutate := f.Bool("mutate", true, "tell which statements could be changed without a claim failing")
	strict := f.Bool("strict", false, "fail, too, if a statement never applies, or could be changed unnoticed")
	return inquired(stderr, func() error {
		words, err := interspersed(f, args)
		switch {
		case err != nil:
			return err
		case len(words) != 1:
			return errors.New("policy test takes a directory with claims, *.txtar")
		case *output != "text" && *output != "json":
			return errors.New("--output is text or json")
		}
		files, err := scenario.Load(words[0])
		if err != nil {
			return err
		}
		var all []judged
		failed, loose := false, false
		for _, file := range files {
			j, err := judge(file, *mutate)
			if err != nil {
				return err
			}
			all = append(all, j)
			failed = failed || j.Failures != nil
			loose = loose || len(j.gaps()) > 0
		}
		if *junit != "" {
			if err := writeJUnit(*junit, files, all); err != nil {
				return err
			}
		}
		if *output == "json" {
			if err := writeJSON(stdout, all); err != nil {
				return err
			}
		} else {
			for _, j := range all {
				j.print(stdout)
			}
		}
		if failed || *strict && loose {
			return exitStatus(1)
		}
		return nil
	}())
}

func judge(file *scenario.File, mutate bool) (judged, error) {
	verdicts, covered, err := file.Judge()
	if err != nil {
		return judged{}, err
	}
	j := judged{File: file.Name, Claims: len(verdicts), Statements: covered}
	for _, v := range verdicts {
		if v.Failure != "" {
			j.Failures = append(j.Failures, failedClaim{v.Line, sentence(v.Claim), v.Failure})
		}
	}
	if mutate && j.Failures == nil {
		err = file.Mutate(covered)
	}
	return j, err
}

// sentence is a claim as it was written.
func sentence(c scenario.Claim) string {
	may := " may "
	if !c.Allowed {
		may = " may not "
	}
	text := c.Who + may + c.Action
	if c.Key != "" {
		text += " with " + c.Key
	}
	for i, u := range c.Using {
		text += []string{" using ", " "}[min(i, 1)] + u.Name + "=" + u.Value
	}
	return text
}

// gaps are the statements that claims do not pin down, in words.
func (j *judged) gaps() (out []string) {
	for _, s := range j.Statements {
		name := strings.TrimSuffix(fmt.Sprintf("%s:%d:%d, statement %d %s", s.File, s.Line, s.Column, s.Statement, s.Sid), " ")
		if s.Applied == 0 {
			out = append(out, name+": applies to no claim")
			continue
		}
		for _, m := range s.Mutants {
			if !m.Noticed {
				out = append(out, name+": no claim fails "+m.What)
			}
		}
	}
	return out
}

func (j *judged) print(w io.Writer) {
	result := "ok"
	if j.Failures != nil {
		result = "FAIL"
	}
	applied, mutants, noticed := 0, 0, 0
	for _, s := range j.Statements {
		if s.Applied > 0 {
			applied++
		}
		for _, m := range s.Mutants {
			mutants++
			if m.Noticed {
				noticed++
			}
		}
	}
	fmt.Fprintf(w, "%-4s %s: %d claims, %d of %d statements applied", result, j.File, j.Claims, applied, len(j.Statements))
	if mutants > 0 {
		fmt.Fprintf(w, ", %d of %d changes noticed", noticed, mutants)
	}
	fmt.Fprintln(w)
	for _, f := range j.Failures {
		fmt.Fprintf(w, "     %s:%d: %s\n       %s\n", j.File, f.Line, f.Claim, f.Failure)
	}
	if j.Failures == nil {
		for _, gap := range j.gaps() {
			fmt.Fprintf(w, "     %s\n", gap)
		}
	}
}

// The elements of JUnit's XML that readers of it expect.
type junitSuites struct {
	XMLName xml.Name     `xml:"testsuites"`
	Suites  []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	Failure *junitFailure `xml:"failure,omitempty"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
}

func writeJUnit(path string, files []*scenario.File, all []judged) error {
	var out junitSuites
	for i, j := range all {
		s := junitSuite{Name: j.File, Tests: j.Claims, Failures: len(j.Failures)}
		failures := map[int]string{}
		for _, f := range j.Failures {
			failures[f.Line] = f.Failure
		}
		for _, c := range files[i].Claims {
			one := junitCase{Class: strings.TrimSuffix(j.File, filepath.Ext(j.File)), Name: fmt.Sprintf("%s (line %d)", sentence(c), c.Line)}
			if text := failures[c.Line]; text != "" {
				one.Failure = &junitFailure{text}
			}
			s.Cases = append(s.Cases, one)
		}
		out.Suites = append(out.Suites, s)
	}
	text, err := xml.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append([]byte(xml.Header), append(text, '\n')...), 0o644)
}
