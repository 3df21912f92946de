package kms

import (
	"slices"
	"testing"
)

// FuzzMarker: a marker is read or refused; pages from where it says have no more than
// was asked for, follow each other, and end.
func FuzzMarker(f *testing.F) {
	_, _, marker := cut(page{list: "ListKeys", n: 1}, []string{"a", "b"}, func(s string) string { return s })
	f.Add(*marker, int32(1))
	f.Add("TGlzdEFsaWFzZXMKYQ", int32(1000))
	f.Add("", int32(2))
	names := []string{"a", "b", "c", "d\n", "e"}
	f.Fuzz(func(t *testing.T, marker string, limit int32) {
		limit = max(1, limit) // what the model allows
		p, err := newPage("ListKeys", &marker, &limit, 100, 1000)
		if err != nil {
			return
		}
		if _, err := newPage("ListAliases", &marker, &limit, 100, 1000); err == nil {
			t.Fatalf("the marker %q is of two lists", marker)
		}
		var seen []string
		for range len(names) + 1 {
			rest := slices.DeleteFunc(slices.Clone(names), func(n string) bool { return n <= p.after })
			shown, truncated, next := cut(p, rest, func(s string) string { return s })
			seen = append(seen, shown...)
			if len(shown) > int(limit) || *truncated != (next != nil) {
				t.Fatalf("a page of %d shows %q, %t, %v", limit, shown, *truncated, next)
			}
			if next == nil {
				break
			}
			if p, err = newPage("ListKeys", next, &limit, 100, 1000); err != nil || p.after != shown[len(shown)-1] {
				t.Fatalf("the marker after %q leads behind %q: %v", shown, p.after, err)
			}
		}
		if !slices.Equal(seen, names[len(names)-len(seen):]) {
			t.Fatalf("the pages from %q are %q", marker, seen)
		}
	})
}
