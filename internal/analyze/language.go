package analyze

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strings"
	"unicode"

	"github.com/claviger/claviger/internal/policy"
)

// A pattern is a language of texts: a sequence of items.
type pattern []item

// An item is one character of a class, or any number of them.
type item struct {
	class class
	char  rune // of class one and folded
	run   bool
}

// A class is a set of characters.
type class uint8

const (
	one    class = iota // char
	folded              // char, whatever its case
	anyone
	noColon
	noSlash // within one element of a path
	digit
	word     // of names: what IAM allows in them
	pathMark // of paths
)

const wordMarks = "+=,.@_-"

func (i item) takes(r rune) bool {
	switch i.class {
	case one:
		return r == i.char
	case folded:
		return sameFold(r, i.char)
	case noColon:
		return r != ':'
	case noSlash:
		return r != '/' && r != ':'
	case digit:
		return '0' <= r && r <= '9'
	case pathMark:
		return '!' <= r && r <= '~'
	case word:
		return r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune(wordMarks, r))
	default:
		return true
	}
}

// sameFold compares as strings.EqualFold does.
func sameFold(a, b rune) bool {
	for r := unicode.SimpleFold(a); ; r = unicode.SimpleFold(r) {
		if r == b {
			return true
		}
		if r == a {
			return false
		}
	}
}

// literal is the pattern of one text.
func literal(text string) (p pattern) {
	for _, r := range text {
		p = append(p, item{class: one, char: r})
	}
	return p
}

// anyCase is the pattern of a text whatever its case.
func anyCase(text string) (p pattern) {
	for _, r := range text {
		p = append(p, item{class: folded, char: r})
	}
	return p
}

// joined puts patterns one behind another.
func joined(parts ...pattern) pattern { return slices.Concat(parts...) }

func repeat(c class, n int) (p pattern) {
	for range n {
		p = append(p, item{class: c})
	}
	return p
}

// some is one or more of a class.
func some(c class) pattern { return pattern{{class: c}, {class: c, run: true}} }

// everything is the language of all texts.
var everything = pattern{{class: anyone, run: true}}

// patternOf is what a shape matches.
func patternOf(pieces []policy.Piece) (p pattern) {
	for _, x := range pieces {
		i := item{class: one, char: x.Rune, run: x.Run}
		switch {
		case x.Wild && x.Within:
			i.class = noColon
		case x.Wild:
			i.class = anyone
		case x.Fold:
			i.class = folded
		}
		p = append(p, i)
	}
	return p
}

// patternsOf are the patterns among some shapes.
func patternsOf(shapes []policy.Shape) (out []pattern) {
	for _, s := range shapes {
		if s.Kind == policy.PatternShape {
			out = append(out, patternOf(s.Pieces))
		}
	}
	return out
}

// within narrows a pattern to one element of a path.
func (p pattern) within(c class) pattern {
	p = slices.Clone(p)
	for i := range p {
		if p[i].class == anyone || p[i].class == noColon {
			p[i].class = c
		}
	}
	return p
}

// matches reports whether a text is in the language.
func (p pattern) matches(text string) bool {
	a, at := newAutomaton([]pattern{p})
	for _, r := range text {
		at = a.step(at, r)
	}
	return at.has(a.ends[0])
}

// A positions set is where in its patterns a text that is being read may be: a bit for
// each item of each pattern, and one for each end.
type positions []uint64

func (s positions) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s positions) add(i int)      { s[i/64] |= 1 << (i % 64) }

// count is how many places there are.
func (s positions) count() (n int) {
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// all are the places of the set.
func (s positions) all() iter.Seq[int] {
	return func(yield func(int) bool) {
		for i, w := range s {
			for ; w != 0; w &= w - 1 {
				if !yield(64*i + bits.TrailingZeros64(w)) {
					return
				}
			}
		}
	}
}

// An automaton reads texts by several patterns at once.
type automaton struct {
	items []item
	ends  []int // the places behind the patterns' items; an item there takes nothing
	size  int   // of positions
}

func newAutomaton(patterns []pattern) (*automaton, positions) {
	a := &automaton{}
	var begins []int
	for _, p := range patterns {
		begins = append(begins, len(a.items))
		a.items = append(a.items, p...)
		a.ends = append(a.ends, len(a.items))
		a.items = append(a.items, item{class: one, char: -1})
	}
	a.size = len(a.items)/64 + 1
	start := make(positions, a.size)
	for _, at := range begins {
		a.enter(start, at)
	}
	return a, start
}

// enter adds a place, and those behind it that nothing need be read for.
func (a *automaton) enter(s positions, at int) {
	for {
		s.add(at)
		if !a.items[at].run {
			return
		}
		at++
	}
}

func (a *automaton) step(s positions, r rune) positions {
	next := make(positions, a.size)
	a.stepInto(next, s, r)
	return next
}

// stepInto is step, into positions that are no more needed.
func (a *automaton) stepInto(next, s positions, r rune) {
	clear(next)
	for n, w := range s {
		for ; w != 0; w &= w - 1 {
			i := 64*n + bits.TrailingZeros64(w)
			switch {
			case !a.items[i].takes(r):
			case a.items[i].run:
				a.enter(next, i)
			default:
				a.enter(next, i+1)
			}
		}
	}
}

// alphabet is a few characters that stand for all: each that an item at a place of s
// names, and of the others one that each class tells from the rest.
func (a *automaton) alphabet(s positions) []rune {
	var named []rune
	var classes [pathMark + 1]bool
	note := func(r rune) {
		if !slices.Contains(named, r) {
			named = append(named, r)
		}
	}
	for i := range s.all() {
		x := a.items[i]
		classes[x.class] = true
		if x.char < 0 {
			continue
		}
		switch x.class {
		case one:
			note(x.char)
		case folded:
			for r, first := x.char, true; first || r != x.char; r, first = unicode.SimpleFold(r), false {
				note(r)
			}
		}
	}
	out := slices.Clone(named)
	other := func(from string) {
		for _, r := range from {
			if !slices.Contains(named, r) {
				out = append(out, r)
				return
			}
		}
	}
	if classes[digit] {
		other("0123456789")
	}
	if classes[pathMark] {
		other("/xyzabcdefghijklmnopqrstuvw0123456789!")
	}
	if classes[word] {
		other("xyzabcdefghijklmnopqrstuvwABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789" + wordMarks)
	}
	if classes[noColon] || classes[noSlash] || classes[anyone] {
		other("xyzabcdefghijklmnopqrstuvw0123456789")
		other("!\u00e9\u4e2d") // no word
	}
	if classes[anyone] || classes[noColon] {
		other("/")
	}
	if classes[anyone] {
		other(":")
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ErrUndecided reports a question that is too large to be answered.
var ErrUndecided = errors.New("analyze: undecided")

// errBudget reports patterns whose classes are too many to look at.
var errBudget = fmt.Errorf("%w: the patterns match in too many ways", ErrUndecided)

// maxStates bounds how many states an exploration visits, and maxWork how many places in
// patterns it looks at on the way.
const (
	maxStates = 50_000
	maxWork   = 20_000_000
)

// samples returns a text for each way to match patterns or not that a text of one of the
// universes has, none of them one of those to avoid, as long as there are others. Shorter
// texts come first.
func samples(universes, patterns []pattern, avoid []string) ([]string, error) {
	found, err := withAvoided(universes, patterns, avoid)
	return slices.DeleteFunc(found, func(text string) bool { return slices.Contains(avoid, text) }), err
}

// withAvoided is samples with those texts to avoid that the search came upon as well.
func withAvoided(universes, patterns []pattern, avoid []string) ([]string, error) {
	var tracked []string // of avoid, those that were met
	for {
		all := slices.Concat(universes, patterns)
		for _, text := range tracked {
			all = append(all, literal(text))
		}
		found, err := explore(all, len(universes))
		if err != nil {
			return nil, err
		}
		met := len(tracked)
		for _, text := range found {
			if slices.Contains(avoid, text) && !slices.Contains(tracked, text) {
				tracked = append(tracked, text)
			}
		}
		if len(tracked) == met {
			return found, nil
		}
	}
}

// explore finds a text for each set of patterns that are all that a text matches, if it
// matches one of the first.
func explore(patterns []pattern, first int) (found []string, err error) {
	type state struct {
		at   positions
		text string
	}
	a, start := newAutomaton(patterns)
	seen := map[string]bool{string(appendBytes(nil, start)): true}
	known := map[string]bool{}
	work := 0
	next, key := make(positions, a.size), make([]byte, 0, 8*a.size)
	for queue := []state{{start, ""}}; len(queue) > 0; queue = queue[1:] {
		s := queue[0]
		if way, ok := a.way(s.at, first); ok && !known[way] {
			known[way] = true
			found = append(found, s.text)
		}
		alphabet := a.alphabet(s.at)
		if work += len(alphabet) * s.at.count(); len(seen) > maxStates || work > maxWork {
			return nil, errBudget
		}
		for _, r := range alphabet {
			if a.stepInto(next, s.at, r); !a.alive(next, first) {
				continue
			}
			if key = appendBytes(key[:0], next); !seen[string(key)] {
				seen[string(key)] = true
				queue = append(queue, state{slices.Clone(next), s.text + string(r)})
			}
		}
	}
	return found, nil
}

// way is which patterns a text that ends here matches; ok is false if none of the first.
func (a *automaton) way(s positions, first int) (way string, ok bool) {
	if !slices.ContainsFunc(a.ends[:first], s.has) {
		return "", false
	}
	b := make([]byte, len(a.ends))
	for i, end := range a.ends {
		b[i] = digitOf(s.has(end))
	}
	return string(b), true
}

// alive reports whether a text of one of the first patterns can still come of it.
func (a *automaton) alive(s positions, first int) bool {
	for i := range s.all() {
		return i <= a.ends[first-1]
	}
	return false
}

func digitOf(b bool) byte {
	if b {
		return '1'
	}
	return '0'
}

func appendBytes(b []byte, s positions) []byte {
	for _, w := range s {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}
