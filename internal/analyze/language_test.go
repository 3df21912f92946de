package analyze

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// Every way in which a short text matches some patterns is that of a sample, and no sample
// is a text to avoid.
func TestSamples(t *testing.T) {
	texts := []string{""}
	for i := 0; len(texts[i]) < 6; i++ {
		for _, c := range "abc" {
			texts = append(texts, texts[i]+string(c))
		}
	}
	classes := []item{{class: one, char: 'a'}, {class: one, char: 'b'}, {class: folded, char: 'A'}, {class: anyone}, {class: anyone, run: true}, {class: word, run: true}}
	for seed := range uint64(400) {
		rng := rand.New(rand.NewPCG(seed, 0))
		patterns := make([]pattern, 1+rng.IntN(4))
		for i := range patterns {
			for range rng.IntN(5) {
				patterns[i] = append(patterns[i], classes[rng.IntN(len(classes))])
			}
		}
		avoid := []string{"a", "b", "ab"}[:rng.IntN(4)]
		found, err := samples([]pattern{everything}, patterns, avoid)
		if err != nil {
			t.Fatal(err)
		}
		way := func(text string) string {
			var b strings.Builder
			for _, p := range patterns {
				fmt.Fprint(&b, p.matches(text))
			}
			return b.String()
		}
		ways := map[string]bool{}
		for _, text := range found {
			if slices.Contains(avoid, text) {
				t.Errorf("seed %d: %q was to be avoided", seed, text)
			}
			ways[way(text)] = true
		}
		for _, text := range texts {
			if !ways[way(text)] && !slices.Contains(avoid, text) {
				t.Errorf("seed %d: no sample matches %v as %q does", seed, patterns, text)
				break
			}
		}
	}
}

// Patterns with many stars are too many to look at, which is said, and soon.
func TestBudget(t *testing.T) {
	var patterns []pattern
	for c := 'a'; c < 'a'+20; c++ {
		patterns = append(patterns, joined(everything, literal(strings.Repeat(string(c), 3)), everything))
	}
	if _, err := samples([]pattern{everything}, patterns, nil); !errors.Is(err, errBudget) {
		t.Errorf("samples = %v", err)
	}
}

// The operations of diagrams are those of sets, and equal functions are the same node.
func TestDiagram(t *testing.T) {
	sizes := []int{2, 3, 70, 2}
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		d := newDiagram()
		for _, n := range sizes {
			d.dimension(n)
		}
		type function struct {
			node node
			at   func(point []int) bool
		}
		random := func() function {
			dim := rng.IntN(len(sizes))
			in := newSet(sizes[dim])
			for i := range sizes[dim] {
				if rng.IntN(2) == 0 {
					in.add(i)
				}
			}
			return function{d.is(dim, in), func(point []int) bool { return in.has(point[dim]) }}
		}
		f := []function{random(), random(), random()}
		for range 12 {
			a, b := f[rng.IntN(len(f))], f[rng.IntN(len(f))]
			f = append(f, []function{
				{d.and(a.node, b.node), func(p []int) bool { return a.at(p) && b.at(p) }},
				{d.or(a.node, b.node), func(p []int) bool { return a.at(p) || b.at(p) }},
				{d.minus(a.node, b.node), func(p []int) bool { return a.at(p) && !b.at(p) }},
				{d.not(a.node), func(p []int) bool { return !a.at(p) }},
			}[rng.IntN(4)])
		}
		care := f[rng.IntN(len(f))]
		short := make([]node, len(f))
		for i := range f {
			short[i] = d.restrict(f[i].node, care.node)
		}
		truths := make([]string, len(f))
		for range 300 {
			point := []int{rng.IntN(2), rng.IntN(3), rng.IntN(70), rng.IntN(2)}
			for i := range f {
				got := d.at(f[i].node, point)
				if got != f[i].at(point) {
					t.Fatalf("seed %d: function %d is %v at %v", seed, i, got, point)
				}
				if care.at(point) && d.at(short[i], point) != got {
					t.Fatalf("seed %d: function %d changes at %v when restricted", seed, i, point)
				}
				truths[i] += fmt.Sprint(got)
			}
		}
		for i := range f {
			for j := range f {
				if f[i].node == f[j].node && truths[i] != truths[j] {
					t.Fatalf("seed %d: different functions are one node", seed)
				}
				if a, b := f[i].node, f[j].node; d.implies(a, b) != (d.minus(a, b) == no) {
					t.Fatalf("seed %d: function %d implies %d: %v", seed, i, j, d.implies(a, b))
				}
			}
		}
	}
}

func (d *diagram) at(n node, point []int) bool {
	for n > yes {
		b := d.branches[n]
		n = b.edges[slices.IndexFunc(b.edges, func(e edge) bool { return e.classes.has(point[b.dim]) })].to
	}
	return n == yes
}
