package iam

import (
	"slices"
	"testing"
)

// FuzzMarker: a marker is read or refused; pages from where it says have no more than
// was asked for, follow each other, and end.
func FuzzMarker(f *testing.F) {
	f.Add("YQ", int32(1))
	f.Add("", int32(2))
	f.Add("eg", int32(1000))
	names := []string{"a", "b", "c", "d\n", "e"}
	f.Fuzz(func(t *testing.T, marker string, items int32) {
		items = max(1, items) // what the model allows
		first, err := newPage(&marker, &items)
		if err != nil {
			return
		}
		for _, cutting := range []func(page, []string) ([]string, *bool, *string){cutNames,
			func(p page, names []string) ([]string, *bool, *string) {
				return cutAfter(p, names, func(s string) string { return s })
			}} {
			var seen []string
			p := first
			for range len(names) + 1 {
				shown, truncated, next := cutting(p, names)
				seen = append(seen, shown...)
				if len(shown) > int(items) || *truncated != (next != nil) {
					t.Fatalf("a page of %d shows %q, %t, %v", items, shown, *truncated, next)
				}
				if next == nil {
					break
				}
				if p, err = newPage(next, &items); err != nil || p.after != shown[len(shown)-1] {
					t.Fatalf("the marker after %q leads behind %q: %v", shown, p.after, err)
				}
			}
			if !slices.Equal(seen, names[len(names)-len(seen):]) {
				t.Fatalf("the pages from %q are %q", marker, seen)
			}
		}
	})
}
