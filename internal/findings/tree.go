package findings

import (
	"encoding/json/jsontext"
	"errors"
	"io"
	"strings"
	"unicode/utf8"
)

// A node is a value of a document, with where it is: offsets in bytes.
type node struct {
	kind       jsontext.Kind // '{', '[', '"', '0', 't', 'f' or 'n'
	text       string        // of a scalar
	members    []member
	elements   []*node
	start, end int
}

type member struct {
	name       string
	start, end int // of the name
	value      *node
}

// maxDepth bounds how deep a document is nested.
const maxDepth = 20

var errDeep = errors.New("the document is nested too deep")

// parse reads a document. at is where it stops to be JSON.
func parse(text string) (root *node, at int, err error) {
	d := jsontext.NewDecoder(strings.NewReader(text), jsontext.AllowDuplicateNames(true))
	if root, err = value(d, text, 0); err == nil {
		if _, err = d.ReadToken(); errors.Is(err, io.EOF) {
			return root, 0, nil
		}
	}
	return nil, min(int(d.InputOffset()), len(text)), errors.New("it is not JSON")
}

// value reads the next value.
func value(d *jsontext.Decoder, text string, depth int) (*node, error) {
	if depth > maxDepth {
		return nil, errDeep
	}
	start := next(text, int(d.InputOffset()))
	t, err := d.ReadToken()
	if err != nil {
		return nil, err
	}
	n := &node{kind: t.Kind(), start: start}
	switch n.kind {
	case '{':
		for d.PeekKind() != '}' {
			begin := next(text, int(d.InputOffset()))
			name, err := d.ReadToken()
			if err != nil {
				return nil, err
			}
			m := member{name: name.String(), start: begin, end: int(d.InputOffset())}
			if m.value, err = value(d, text, depth+1); err != nil {
				return nil, err
			}
			n.members = append(n.members, m)
		}
		_, err = d.ReadToken()
	case '[':
		for d.PeekKind() != ']' {
			e, err := value(d, text, depth+1)
			if err != nil {
				return nil, err
			}
			n.elements = append(n.elements, e)
		}
		_, err = d.ReadToken()
	default:
		n.text = t.String()
	}
	n.end = int(d.InputOffset())
	return n, err
}

// next is where the token behind an offset begins.
func next(text string, at int) int {
	for at < len(text) && strings.IndexByte(" \t\r\n,:", text[at]) >= 0 {
		at++
	}
	return at
}

// list are the elements of an array, or the value itself; each with its place in the array,
// which is -1 for the value itself.
func (n *node) list() (out []*node, array bool) {
	if n.kind == '[' {
		return n.elements, true
	}
	return []*node{n}, false
}

// isScalar reports whether the value is a text, a number or a truth.
func (n *node) isScalar() bool {
	return n.kind == '"' || n.kind == '0' || n.kind == 't' || n.kind == 'f'
}

// A Position is a place in a document: lines count from 1, columns and offsets, in
// characters, from 0, as the API counts them.
type Position struct{ Line, Column, Offset int }

func position(text string, at int) Position {
	before := text[:min(at, len(text))]
	begin := strings.LastIndexByte(before, '\n') + 1
	return Position{strings.Count(before, "\n") + 1, utf8.RuneCountInString(before[begin:]), utf8.RuneCountInString(before)}
}
