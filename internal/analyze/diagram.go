package analyze

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"slices"
)

// A set of classes of one dimension.
type set []uint64

func newSet(n int) set       { return make(set, (n+63)/64) }
func (s set) has(i int) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s set) add(i int)      { s[i/64] |= 1 << (i % 64) }
func (s set) first() int {
	return slices.IndexFunc(s, func(w uint64) bool { return w != 0 })*64 + s.low()
}
func (s set) and(o set) (x set)  { return s.with(o, func(a, b uint64) uint64 { return a & b }) }
func (s set) or(o set) (x set)   { return s.with(o, func(a, b uint64) uint64 { return a | b }) }
func (s set) less(o set) (x set) { return s.with(o, func(a, b uint64) uint64 { return a &^ b }) }
func (s set) empty() bool        { return !slices.ContainsFunc(s, func(w uint64) bool { return w != 0 }) }

func (s set) meets(o set) bool {
	for i := range s {
		if s[i]&o[i] != 0 {
			return true
		}
	}
	return false
}

func (s set) low() int {
	for _, w := range s {
		if w != 0 {
			return bits.TrailingZeros64(w)
		}
	}
	return 0
}

func (s set) with(o set, op func(a, b uint64) uint64) set {
	x := make(set, len(s))
	for i := range s {
		x[i] = op(s[i], o[i])
	}
	return x
}

// A node is a function of the classes that a request is in: 0 is no, 1 is yes, the others
// are places in a diagram.
type node int32

const (
	no  node = 0
	yes node = 1
)

// A branch is a node that asks one dimension. Its edges are disjoint, cover the dimension
// and lead to different nodes.
type branch struct {
	dim   int
	edges []edge
}

type edge struct {
	classes set
	to      node
}

// A diagram holds functions as decision diagrams whose edges carry sets of classes. Equal
// functions are the same node: dimensions are asked in one order, and equal branches are
// one.
type diagram struct {
	sizes    []int // how many classes each dimension has
	branches []branch
	unique   map[string]node
	memo     map[operation]node
}

type operation struct {
	kind byte
	a, b node
}

// maxNodes bounds a diagram.
const maxNodes = 50_000

// errNodes reports a question whose diagram is too large.
var errNodes = fmt.Errorf("%w: the conditions meet in too many ways", ErrUndecided)

func newDiagram() *diagram {
	return &diagram{branches: make([]branch, 2), unique: map[string]node{}, memo: map[operation]node{}}
}

// dimension adds a dimension of n classes.
func (d *diagram) dimension(n int) int {
	d.sizes = append(d.sizes, n)
	return len(d.sizes) - 1
}

// is is the function that asks whether a dimension is in a set of classes.
func (d *diagram) is(dim int, classes set) node {
	all := newSet(d.sizes[dim])
	for i := range d.sizes[dim] {
		all.add(i)
	}
	return d.make(dim, []edge{{classes, yes}, {all.less(classes), no}})
}

// make finds or makes a branch. Edges to the same node become one.
func (d *diagram) make(dim int, edges []edge) node {
	var merged []edge
	for _, e := range edges {
		if e.classes.empty() {
			continue
		}
		if i := slices.IndexFunc(merged, func(o edge) bool { return o.to == e.to }); i >= 0 {
			merged[i].classes = merged[i].classes.or(e.classes)
		} else {
			merged = append(merged, e)
		}
	}
	if len(merged) == 1 {
		return merged[0].to
	}
	slices.SortFunc(merged, func(a, b edge) int { return int(a.to - b.to) })
	key := binary.AppendUvarint(nil, uint64(dim))
	for _, e := range merged {
		key = binary.AppendUvarint(key, uint64(e.to))
		for _, w := range e.classes {
			key = binary.LittleEndian.AppendUint64(key, w)
		}
	}
	if n, ok := d.unique[string(key)]; ok {
		return n
	}
	if len(d.branches) >= maxNodes {
		panic(errNodes) // recovered where the question was asked
	}
	n := node(len(d.branches))
	d.branches = append(d.branches, branch{dim, merged})
	d.unique[string(key)] = n
	return n
}

func (d *diagram) and(a, b node) node {
	switch {
	case a == no || b == no:
		return no
	case a == yes || a == b:
		return b
	case b == yes:
		return a
	}
	return d.combine('&', a, b, d.and)
}

func (d *diagram) or(a, b node) node {
	switch {
	case a == yes || b == yes:
		return yes
	case a == no || a == b:
		return b
	case b == no:
		return a
	}
	return d.combine('|', a, b, d.or)
}

// minus is a without b.
func (d *diagram) minus(a, b node) node {
	switch {
	case a == no || b == yes || a == b:
		return no
	case b == no:
		return a
	}
	return d.combine('-', a, b, d.minus)
}

// implies reports whether b is yes wherever a is.
func (d *diagram) implies(a, b node) bool {
	switch {
	case a == no || b == yes || a == b:
		return true
	case a == yes || b == no:
		return false
	}
	op := operation{'>', a, b}
	if known, ok := d.memo[op]; ok {
		return known == yes
	}
	holds := true
	dim := min(d.dimOf(a), d.dimOf(b))
	for _, x := range d.edges(a, dim) {
		for _, y := range d.edges(b, dim) {
			meet := x.classes == nil || y.classes == nil || x.classes.meets(y.classes)
			if holds = holds && (!meet || d.implies(x.to, y.to)); !holds {
				break
			}
		}
	}
	d.memo[op] = constant(holds)
	return holds
}

func (d *diagram) not(a node) node { return d.minus(yes, a) }

func (d *diagram) combine(kind byte, a, b node, with func(a, b node) node) node {
	op := operation{kind, a, b}
	if kind != '-' && b < a {
		op.a, op.b = b, a
	}
	if n, ok := d.memo[op]; ok {
		return n
	}
	dim := min(d.dimOf(a), d.dimOf(b))
	var edges []edge
	for _, x := range d.edges(a, dim) {
		for _, y := range d.edges(b, dim) {
			classes := y.classes
			if x.classes != nil && y.classes != nil {
				classes = x.classes.and(y.classes)
			} else if x.classes != nil {
				classes = x.classes
			}
			if !classes.empty() {
				edges = append(edges, edge{classes, with(x.to, y.to)})
			}
		}
	}
	n := d.make(dim, edges)
	d.memo[op] = n
	return n
}

// dimOf is the dimension that a node asks; the constants ask one behind all.
func (d *diagram) dimOf(n node) int {
	if n <= yes {
		return len(d.sizes)
	}
	return d.branches[n].dim
}

// edges are those of n if it asks dim, or else one to itself, without classes.
func (d *diagram) edges(n node, dim int) []edge {
	if d.dimOf(n) != dim {
		return []edge{{nil, n}}
	}
	return d.branches[n].edges
}

// restrict is a function that is n where care is yes, and as short as can easily be had: what
// it is elsewhere does not matter.
func (d *diagram) restrict(n, care node) node {
	if n <= yes || care <= yes {
		return n
	}
	op := operation{'?', n, care}
	if known, ok := d.memo[op]; ok {
		return known
	}
	dim := min(d.dimOf(n), d.dimOf(care))
	var out node
	if d.dimOf(n) > dim { // n does not ask the dimension: neither does what comes of it
		var any node
		for _, y := range d.edges(care, dim) {
			any = d.or(any, y.to)
		}
		out = d.restrict(n, any)
	} else {
		var edges []edge
		whatever := newSet(d.sizes[dim])
		for _, x := range d.edges(n, dim) {
			for _, y := range d.edges(care, dim) {
				classes := x.classes
				if y.classes != nil {
					classes = classes.and(y.classes)
				}
				if y.to == no {
					whatever = whatever.or(classes)
				} else if !classes.empty() {
					edges = append(edges, edge{classes, d.restrict(x.to, y.to)})
				}
			}
		}
		edges[0].classes = edges[0].classes.or(whatever)
		out = d.make(dim, edges)
	}
	d.memo[op] = out
	return out
}

// asks is the dimensions that a function depends on.
func (d *diagram) asks(n node) set {
	out := newSet(len(d.sizes))
	seen := map[node]bool{}
	var walk func(node)
	walk = func(n node) {
		if n <= yes || seen[n] {
			return
		}
		seen[n] = true
		out.add(d.branches[n].dim)
		for _, e := range d.branches[n].edges {
			walk(e.to)
		}
	}
	walk(n)
	return out
}

// path is one way to yes: for each dimension that it goes through, the classes that lead on;
// ok is false if there is none.
func (d *diagram) path(n node) (through map[int]set, ok bool) {
	through = map[int]set{}
	for n > yes {
		b := d.branches[n]
		i := slices.IndexFunc(b.edges, func(e edge) bool { return e.to != no })
		through[b.dim] = b.edges[i].classes
		n = b.edges[i].to
	}
	return through, n == yes
}
