package main

import (
	"slices"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	d := deployment{cells: 100, accounts: 20_000, keys: 10_000_000, grants: 2, perKey: 4700, perGrant: 1100, quota: 8 << 30, perSecond: 0.05, perNode: 9000, skew: 1.2, seed: 1}
	sizes := d.sizes()
	at, load := d.place(sizes, d.cells)
	again := make([]int, d.cells)
	for account, cell := range at {
		again[cell] += sizes[account]
	}
	if !slices.Equal(load, again) {
		t.Error("what cells hold is not what was placed there")
	}
	if slices.Max(load) > slices.Max(d.byHash(sizes, d.cells)) {
		t.Error("a directory is worse than none")
	}
	var text strings.Builder
	if err := d.report(&text); err != nil || !strings.Contains(text.String(), "by directory") {
		t.Errorf("%v\n%s", err, text.String())
	}
}
