package historytest

import (
	"fmt"

	"github.com/anishathalye/porcupine"
)

// What follows is the specification that histories are held to: what there is to
// know about one key and two users, what each operation changes of it, and what
// each may answer. A server is linearizable if all that it answered is what this
// would have answered, one operation at a time, each at some instant between its
// being sent and its being answered.

// users are alice and bob.
const users = 2

// A writtenPolicy is one of the key policies that are put. In all of them the root user
// administers the key.
type writtenPolicy struct {
	name      string
	delegates bool // to the account's identity policies
	allows    [users]bool
	denies    [users]bool
}

var keyPolicies = []writtenPolicy{
	{name: "delegates", delegates: true},
	{name: "nobody"},
	{name: "alice", allows: [users]bool{true, false}},
	{name: "bob", allows: [users]bool{false, true}},
	{name: "both", allows: [users]bool{true, true}},
	{name: "not alice", allows: [users]bool{true, true}, denies: [users]bool{true, false}},
}

// An inlinePolicy is what a user's identity policy says about the key.
type inlinePolicy int8

const (
	noInline inlinePolicy = iota
	inlineAllows
	inlineDenies
)

// facts are all that decisions depend on. The zero value, with enabled and active
// set, is where each history begins.
type facts struct {
	policy  int // in keyPolicies
	enabled bool
	grants  [users]int // how many there are for each
	inline  [users]inlinePolicy
	active  [users]bool // the access key
}

func newFacts() facts { return facts{enabled: true, active: [users]bool{true, true}} }

// A verb is a kind of operation.
type verb int8

const (
	encrypt verb = iota // by a user, as the next two
	decrypt
	describeKey
	getKeyPolicy // by the root user, as all that follow
	putKeyPolicy
	enableKey
	disableKey
	createGrant
	revokeGrant
	putUserPolicy
	deleteUserPolicy
	activate
	deactivate
)

var verbNames = [...]string{"Encrypt", "Decrypt", "DescribeKey", "GetKeyPolicy", "PutKeyPolicy", "EnableKey", "DisableKey",
	"CreateGrant", "RevokeGrant", "PutUserPolicy", "DeleteUserPolicy", "UpdateAccessKey Active", "UpdateAccessKey Inactive"}

// reads reports whether it changes nothing.
func (v verb) reads() bool { return v <= getKeyPolicy }

// decides reports whether it is asked by a user, who may not be allowed it.
func (v verb) decides() bool { return v <= describeKey }

// A Step is one operation as it was asked.
type Step struct {
	verb   verb
	key    int
	user   int
	policy int          // to put, in keyPolicies
	inline inlinePolicy // to put
	grant  string       // to revoke
}

func (s Step) String() string {
	text := fmt.Sprintf("%s key %d", verbNames[s.verb], s.key)
	switch s.verb {
	case putKeyPolicy:
		return text + " " + keyPolicies[s.policy].name
	case getKeyPolicy, enableKey, disableKey:
		return text
	case putUserPolicy:
		text += [...]string{"", " allow", " deny"}[s.inline]
	}
	return text + " " + [users]string{"alice", "bob"}[s.user]
}

// An Answer is what came of an operation.
type Answer string

const (
	done     Answer = "done"
	denied   Answer = "AccessDeniedException"
	disabled Answer = "DisabledException"
	nobody   Answer = "UnrecognizedClientException"
	nothing  Answer = "NoSuchEntity"
	// unsettled is no answer: whether a change was made, and when, is not known.
	unsettled Answer = "?"
)

// described is what DescribeKey shows.
func described(enabled bool) Answer {
	if enabled {
		return "Enabled"
	}
	return "Disabled"
}

// permits is the decision.
func (f facts) permits(user int) bool {
	p := keyPolicies[f.policy]
	if p.denies[user] || f.inline[user] == inlineDenies {
		return false
	}
	return p.allows[user] || p.delegates && f.inline[user] == inlineAllows || f.grants[user] > 0
}

// answer is what an operation answers, given the facts.
func (f facts) answer(s Step) Answer {
	switch {
	case s.verb.decides() && !f.active[s.user]:
		return nobody
	case s.verb.decides() && !f.permits(s.user):
		return denied
	case s.verb == describeKey:
		return described(f.enabled)
	case (s.verb.decides() || s.verb == createGrant) && !f.enabled:
		return disabled
	case s.verb == getKeyPolicy:
		return Answer(keyPolicies[f.policy].name)
	case s.verb == deleteUserPolicy && f.inline[s.user] == noInline:
		return nothing
	default:
		return done
	}
}

// after are the facts once an operation was carried out, or refused.
func (f facts) after(s Step) facts {
	if f.answer(s) != done {
		return f
	}
	switch s.verb {
	case putKeyPolicy:
		f.policy = s.policy
	case enableKey, disableKey:
		f.enabled = s.verb == enableKey
	case createGrant:
		f.grants[s.user]++
	case revokeGrant: // each is revoked once, by who created it
		f.grants[s.user]--
	case putUserPolicy:
		f.inline[s.user] = s.inline
	case deleteUserPolicy:
		f.inline[s.user] = noInline
	case activate, deactivate:
		f.active[s.user] = s.verb == activate
	}
	return f
}

// model is the specification for one key and the users together. What says how a
// history falls into parts that know nothing of each other; nil: not at all.
func model(part func(Step) int) porcupine.Model {
	m := porcupine.Model{
		Init: func() any { return newFacts() },
		Step: func(state, in, out any) (bool, any) {
			f, s := state.(facts), in.(Step)
			return out == unsettled || out == f.answer(s), f.after(s)
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%v: %v", in, out) },
		DescribeState:     func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	if part != nil {
		m.Partition = func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
			index := map[int]int{}
			for _, o := range history {
				p := part(o.Input.(Step))
				if _, ok := index[p]; !ok {
					index[p] = len(parts)
					parts = append(parts, nil)
				}
				parts[index[p]] = append(parts[index[p]], o)
			}
			return parts
		}
	}
	return m
}
