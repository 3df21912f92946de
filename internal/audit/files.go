package audit

import (
	"bufio"
	"compress/gzip"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// maxTrailFile bounds a file of CloudTrail, in bytes when it is not compressed.
const maxTrailFile = 1 << 30

// Records calls fn with the records of a path: a directory with an audit log, a file of lines
// as those in it, a file that CloudTrail wrote, or a directory with such files at any depth,
// *.json and *.json.gz. Records before since may be left out, if that is not zero. strange is
// told where something is that is no record; the rest is read all the same.
func Records(path string, since time.Time, fn func(*Record) error, strange func(place string)) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return recordsIn(path, fn, strange)
	}
	segments, err := segmentFiles(path)
	if err != nil {
		return err
	}
	if len(segments) > 0 {
		n := 0
		return Oldest(path, since, func(line []byte) error {
			n++
			var r Record
			if json.Unmarshal(line, &r) != nil {
				strange(fmt.Sprintf("%s: line %d", path, n))
				return nil
			}
			return fn(&r)
		})
	}
	var files []string
	err = filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(name, ".json") || strings.HasSuffix(name, ".json.gz")) {
			files = append(files, name)
		}
		return err
	})
	if err == nil && files == nil {
		err = fmt.Errorf("audit: %s has neither an audit log nor files of CloudTrail", path)
	}
	slices.Sort(files)
	for _, name := range files {
		if err == nil {
			err = recordsIn(name, fn, strange)
		}
	}
	return err
}

// recordsIn reads one file.
func recordsIn(path string, fn func(*Record) error, strange func(string)) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return recordsFrom(path, f, fn, strange)
}

// recordsFrom reads what is in a file.
func recordsFrom(path string, f io.Reader, fn func(*Record) error, strange func(string)) error {
	in := bufio.NewReader(f)
	if magic, _ := in.Peek(2); string(magic) == "\x1f\x8b" {
		z, err := gzip.NewReader(in)
		if err != nil {
			strange(path + ": " + err.Error())
			return nil
		}
		in = bufio.NewReader(z)
	}
	d := jsontext.NewDecoder(io.LimitReader(in, maxTrailFile))
	for n := 1; ; n++ {
		v, err := d.ReadValue()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil { // what follows cannot be told apart
			strange(fmt.Sprintf("%s: from byte %d on", path, d.InputOffset()))
			return nil
		}
		var file struct {
			Records []jsontext.Value
		}
		if json.Unmarshal(v, &file) != nil || file.Records == nil {
			file.Records = []jsontext.Value{v}
		}
		for i, v := range file.Records {
			var r Record
			if json.Unmarshal(v, &r) != nil || r.EventName == "" || r.EventSource == "" {
				strange(fmt.Sprintf("%s: record %d", path, max(n, i+1)))
				continue
			}
			if err := fn(&r); err != nil {
				return err
			}
		}
	}
}
