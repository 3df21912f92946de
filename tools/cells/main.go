// Cells simulates a deployment past one etcd cluster: accounts spread over cells, each with
// an etcd cluster and nodes of its own. It places accounts of very different sizes, counts
// what each cell has to hold and to answer, and adds cells, from figures of one cell that
// were measured (docs/scale.md).
package main

import (
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"text/tabwriter"
)

// A deployment is what is simulated.
type deployment struct {
	cells     int
	accounts  int
	keys      int     // in all accounts
	grants    float64 // of a key
	perKey    int     // bytes of a key with its material, in the cluster
	perGrant  int     // bytes
	quota     int     // bytes of one cluster
	perSecond float64 // requests of a key on an average second
	perNode   float64 // requests that a node answers in a second
	skew      float64 // of the sizes of accounts: the exponent of a power law
	seed      uint64
}

func main() {
	d := deployment{}
	flag.IntVar(&d.cells, "cells", 1000, "cells")
	flag.IntVar(&d.accounts, "accounts", 200_000, "accounts")
	flag.IntVar(&d.keys, "keys", 100_000_000, "keys of all accounts")
	flag.Float64Var(&d.grants, "grants", 2, "grants of a key")
	flag.IntVar(&d.perKey, "bytes-per-key", 2400, "what a key takes in etcd, with its material and its part of everything else")
	flag.IntVar(&d.perGrant, "bytes-per-grant", 1600, "what a grant takes")
	flag.IntVar(&d.quota, "quota", 8<<30, "bytes that an etcd cluster may have")
	flag.Float64Var(&d.perSecond, "requests-per-key", 0.05, "requests of an average key in a second")
	flag.Float64Var(&d.perNode, "requests-per-node", 9000, "requests that a node of one core answers in a second")
	flag.Float64Var(&d.skew, "skew", 1.2, "how unequal accounts are: the exponent of their power law")
	flag.Uint64Var(&d.seed, "seed", 1, "of what is drawn")
	flag.Parse()
	if err := d.report(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cells:", err)
		os.Exit(1)
	}
}

// sizes draws how many keys each account has: a power law, cut where an account would need
// more than a quarter of a cell, for which it gets a cell of its own kind.
func (d deployment) sizes() []int {
	rng := rand.New(rand.NewPCG(d.seed, 1))
	weights, sum := make([]float64, d.accounts), 0.0
	for i := range weights {
		weights[i] = math.Pow(rng.Float64(), -1/d.skew)
		sum += weights[i]
	}
	most := float64(d.capacity()) / 4
	sizes := make([]int, d.accounts)
	for scale, total := 1.0, 0; total < d.keys*999/1000 && scale < 100; scale *= 1.01 { // until all keys are somewhere
		total = 0
		for i, w := range weights {
			sizes[i] = int(min(w/sum*float64(d.keys)*scale, most))
			total += sizes[i]
		}
	}
	return sizes
}

// bytes is what keys take in a cluster.
func (d deployment) bytes(keys int) float64 {
	return float64(keys) * (float64(d.perKey) + d.grants*float64(d.perGrant))
}

// capacity is how many keys one cluster holds at the fill at which status raises the alarm.
func (d deployment) capacity() int {
	return int(0.7 * float64(d.quota) / (float64(d.perKey) + d.grants*float64(d.perGrant)))
}

// A placement says in which cell each account is.
type placement []int

// place puts each account where it fits best of two cells that its name draws: the directory
// remembers which, so that a later cell moves nothing.
func (d deployment) place(sizes []int, cells int) (placement, []int) {
	load, at := make([]int, cells), make(placement, len(sizes))
	for account, keys := range sizes {
		one, other := draw(account, 0, cells), draw(account, 1, cells)
		if load[other] < load[one] {
			one = other
		}
		at[account], load[one] = one, load[one]+keys
	}
	return at, load
}

// byHash puts each account where its name alone says, as a router without a directory would.
func (d deployment) byHash(sizes []int, cells int) []int {
	load := make([]int, cells)
	for account, keys := range sizes {
		load[draw(account, 0, cells)] += keys
	}
	return load
}

func draw(account, n, cells int) int {
	h := fnv.New64a()
	fmt.Fprintf(h, "%012d/%d", account, n)
	return int(h.Sum64() % uint64(cells))
}

func (d deployment) report(w io.Writer) error {
	sizes := d.sizes()
	total := 0
	for _, n := range sizes {
		total += n
	}
	_, load := d.place(sizes, d.cells)
	hashed := d.byHash(sizes, d.cells)
	slices.Sort(sizes)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "keys\t%d in %d accounts; the largest has %d, the median %d\n", total, len(sizes), sizes[len(sizes)-1], sizes[len(sizes)/2])
	fmt.Fprintf(t, "a cell holds\t%d keys with %.0f grants each at 70%% of %d MB\n", d.capacity(), d.grants, d.quota>>20)
	for _, row := range []struct {
		name string
		load []int
	}{{"by directory, the emptier of two", load}, {"by hash alone", hashed}} {
		most, full := slices.Max(row.load), 0
		for _, n := range row.load {
			if n > d.capacity() {
				full++
			}
		}
		mean := float64(total) / float64(len(row.load))
		fmt.Fprintf(t, "%s\tmean %.0f keys, fullest %d (%.2f of the mean), %.0f%% of the quota; %d cells over 70%%\n", row.name, mean, most, float64(most)/mean, 100*d.bytes(most)/float64(d.quota), full)
	}
	busiest := float64(slices.Max(load)) * d.perSecond
	nodes := math.Ceil(busiest / (0.7 * d.perNode))
	fmt.Fprintf(t, "requests\t%.1f million a second in all; the busiest cell %.0f, which %.0f nodes of one core answer at 70%%\n", float64(total)*d.perSecond/1e6, busiest, nodes)
	fmt.Fprintf(t, "a cell lost\t%.2f%% of the keys, %.2f%% at most\n", 100/float64(d.cells), 100*float64(slices.Max(load))/float64(total))
	more := d.cells / 10
	fmt.Fprintf(t, "%d cells more\tno account moves by itself; to make all equal, %.0f%% of the keys\n", more, 100*float64(more)/float64(d.cells+more))
	return t.Flush()
}
