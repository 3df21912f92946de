package policy

import (
	"sort"
	"strings"
)

// An Action is one of the actions that can be asked for, interned. The zero
// Action is none: no statement matches it.
type Action uint16

// NumActions is one more than the highest Action.
const NumActions = len(names) + 1

// ActionNamed finds an action by name, as "kms:Encrypt". Case does not matter (AUTH-7.1).
func ActionNamed(name string) (Action, bool) {
	a, ok := actionIndex[strings.ToLower(name)]
	return a, ok
}

// MustAction is ActionNamed for names fixed in the program; it panics on others.
func MustAction(name string) Action {
	a, ok := ActionNamed(name)
	if !ok {
		panic("policy: no action " + name)
	}
	return a
}

// String is the action's name, as "kms:Encrypt".
func (a Action) String() string {
	if a == 0 || int(a) >= NumActions {
		return "none"
	}
	return names[a-1]
}

var actionIndex = func() map[string]Action {
	m := make(map[string]Action, len(names))
	for i, n := range names {
		m[strings.ToLower(n)] = Action(i + 1)
	}
	return m
}()

// An ActionSet is a set of actions.
type ActionSet [(NumActions + 63) / 64]uint64

// Has reports whether a is in the set.
func (s *ActionSet) Has(a Action) bool { return s[a/64]&(1<<(a%64)) != 0 }

// All lists the actions of the set, in order.
func (s ActionSet) All() (out []Action) {
	for a := Action(1); int(a) < NumActions; a++ {
		if s.Has(a) {
			out = append(out, a)
		}
	}
	return out
}

// Add puts a into the set.
func (s *ActionSet) Add(a Action) { s[a/64] |= 1 << (a % 64) }

// addPattern adds every action that one entry of an Action element matches.
// The service prefix is literal or "*"; wildcards stand anywhere after it.
func (s *ActionSet) addPattern(pattern string) {
	pattern = strings.ToLower(pattern)
	if !strings.ContainsAny(pattern, "*?") {
		if a, ok := actionIndex[pattern]; ok {
			s.Add(a)
		}
		return
	}
	glob := Glob(pattern)
	from, to := 0, len(names)
	if service, _, ok := strings.Cut(pattern, ":"); ok && !strings.ContainsAny(service, "*?") {
		from = sort.SearchStrings(names[:], service+":")
		to = sort.SearchStrings(names[:], service+";")
	}
	for i := from; i < to; i++ {
		if glob.Match(strings.ToLower(names[i])) {
			s.Add(Action(i + 1))
		}
	}
}

// Or is what is in one of two sets.
func (s ActionSet) Or(o ActionSet) ActionSet {
	for i := range s {
		s[i] |= o[i]
	}
	return s
}

// ActionsNamed are the actions that an entry of an Action element matches, as kms:Get*.
func ActionsNamed(pattern string) (s ActionSet) {
	s.addPattern(pattern)
	return s
}

// complement turns the set into every action it does not hold.
func (s *ActionSet) complement() {
	for a := Action(1); int(a) < NumActions; a++ {
		s[a/64] ^= 1 << (a % 64)
	}
}
