package inquire

import (
	"context"
	"errors"
	"maps"
	"slices"
)

// Merged puts access together that is by the same principal, on the same conditions.
func Merged(all []External) (out []External) {
	for _, x := range all {
		i := slices.IndexFunc(out, x.same)
		if i < 0 {
			out = append(out, x)
			continue
		}
		out[i].Actions = slices.Sorted(maps.Keys(set(slices.Concat(out[i].Actions, x.Actions))))
		out[i].Public = out[i].Public || x.Public
	}
	return out
}

func set(list []string) map[string]bool {
	out := map[string]bool{}
	for _, s := range list {
		out[s] = true
	}
	return out
}

// same reports whether two are by the same principal, on the same conditions.
func (x External) same(o External) bool {
	return x.Kind == o.Kind && x.Principal == o.Principal && x.Grant == o.Grant && maps.Equal(x.Conditions, o.Conditions)
}

// An AccessChange is how access from outside changes.
type AccessChange string

// The changes.
const (
	NewAccess       AccessChange = "new"
	ChangedAccess   AccessChange = "changed" // other actions, or public now and not before
	UnchangedAccess AccessChange = "unchanged"
	EndedAccess     AccessChange = "ended"
)

// A Previewed is access from outside beside what there is now.
type Previewed struct {
	External
	Change AccessChange
}

// Preview tells what a proposed key policy, with proposed grants, would let in from outside,
// and what it would end. ErrQuestion: there is no such key, and no policy for it.
func (w *World) Preview(ctx context.Context, key string, organization bool, p Proposal) (out []Previewed, err error) {
	after, err := w.External(ctx, key, organization, &p)
	if err != nil {
		return nil, err
	}
	before, err := w.External(ctx, key, organization, nil)
	if err != nil && !errors.Is(err, ErrQuestion) { // which a key that is to be made is
		return nil, err
	}
	old, new := Merged(before), Merged(after)
	for _, x := range new {
		change := NewAccess
		if i := slices.IndexFunc(old, x.same); i >= 0 {
			change = UnchangedAccess
			if !maps.Equal(set(old[i].Actions), set(x.Actions)) || old[i].Public != x.Public {
				change = ChangedAccess
			}
		}
		out = append(out, Previewed{x, change})
	}
	for _, x := range old {
		if !slices.ContainsFunc(new, x.same) {
			out = append(out, Previewed{x, EndedAccess})
		}
	}
	return out, nil
}
