package model

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
)

// Violations collects what is wrong with a request, in the words AWS uses
// (errors.md §4.2): the first maxViolations of it, and of a long value its
// beginning. The zero value is ready. It is for one goroutine.
type Violations struct {
	texts []string
}

// Bounds of a message, so that a bad request cannot make a long answer.
const (
	maxViolations = 10
	maxShown      = 4096 // bytes of one value
)

// Message is the text of the one fault that reports every violation, or "" if
// there is none.
func (v *Violations) Message() string {
	n := len(v.texts)
	if n == 0 {
		return ""
	}
	noun := "errors"
	if n == 1 {
		noun = "error"
	}
	return fmt.Sprintf("%d validation %s detected: %s", n, noun, strings.Join(v.texts, "; "))
}

// A Rule is what a model demands of a string, blob, list or map. Bounds below
// zero are absent. A compiled pattern must match the whole value.
type Rule struct {
	Min, Max  int
	Pattern   string // as the model spells it
	Enum      []string
	Sensitive bool // the value is never repeated in a message

	match func() *regexp.Regexp // compiled at first use: starting is quicker
}

// NewRule prepares r.
func NewRule(r Rule) *Rule {
	if r.Pattern != "" {
		r.match = sync.OnceValue(func() *regexp.Regexp {
			return regexp.MustCompile(`\A(?:` + unicodeEscape.ReplaceAllString(r.Pattern, `\x{$1}`) + `)\z`)
		})
	}
	return &r
}

var unicodeEscape = regexp.MustCompile(`\\u([0-9A-Fa-f]{4})`)

func (v *Violations) add(value, path, constraint string) {
	if len(v.texts) == maxViolations {
		return
	}
	if len(value) > maxShown {
		value = strings.ToValidUTF8(value[:maxShown], "") + "…'"
	}
	if value != "" {
		value = " " + value
	}
	v.texts = append(v.texts, "Value"+value+" at '"+path+"' failed to satisfy constraint: "+constraint)
}

// Missing reports a required member that is absent.
func (v *Violations) Missing(path string) { v.add("null", path, "Member must not be null") }

// String checks an optional string.
func (v *Violations) String(path string, s *string, r *Rule) {
	if s == nil {
		return
	}
	for _, broken := range r.broken(*s) {
		v.add(r.show(*s), path, broken)
	}
}

// Strings checks each element of a list of strings.
func (v *Violations) Strings(path string, list []string, r *Rule) {
	for _, s := range list {
		if broken := r.broken(s); len(broken) > 0 {
			v.add(r.show("["+strings.Join(list, ", ")+"]"), path,
				"Member must satisfy constraint: ["+strings.Join(broken, ", ")+"]")
			return
		}
	}
}

// Pairs checks the keys and values of a map of strings.
func (v *Violations) Pairs(path string, m map[string]string, key, value *Rule) {
	for k, s := range m {
		if key != nil {
			for _, broken := range key.broken(k) {
				v.add(key.show(k), path, broken)
			}
		}
		if value != nil {
			for _, broken := range value.broken(s) {
				v.add(value.show(s), path+"."+k+".member", broken)
			}
		}
	}
}

// Blob checks the length of an optional blob.
func (v *Violations) Blob(path string, b []byte, r *Rule) {
	if b == nil {
		return
	}
	for _, broken := range r.length(len(b)) {
		v.add(r.show(fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%[1]d]", len(b))), path, broken)
	}
}

// Length checks the number of elements of a list or map that is present.
func (v *Violations) Length(path string, present bool, n int, value any, r *Rule) {
	if !present {
		return
	}
	for _, broken := range r.length(n) {
		v.add(r.show(fmt.Sprint(value)), path, broken)
	}
}

// Integer checks an optional number against inclusive bounds.
func Integer[N int32 | int64](v *Violations, path string, n *N, bounds Bounds) {
	if n == nil {
		return
	}
	value := "'" + strconv.FormatInt(int64(*n), 10) + "'"
	if bounds.HasMin && int64(*n) < bounds.Min {
		v.add(value, path, "Member must have value greater than or equal to "+strconv.FormatInt(bounds.Min, 10))
	}
	if bounds.HasMax && int64(*n) > bounds.Max {
		v.add(value, path, "Member must have value less than or equal to "+strconv.FormatInt(bounds.Max, 10))
	}
}

// Bounds are the inclusive limits of a number.
type Bounds struct {
	Min, Max       int64
	HasMin, HasMax bool
}

// Element is the path of the i-th element (from zero) of a list, as "tags.1.member".
func Element(path string, i int) string { return path + "." + strconv.Itoa(i+1) + ".member" }

// Join is the path of a member of a structure.
func Join(path, member string) string {
	if path == "" {
		return member
	}
	return path + "." + member
}

func (r *Rule) show(value string) string {
	if r.Sensitive {
		return ""
	}
	return "'" + value + "'"
}

// broken lists the constraints that s fails. Lengths are in UTF-16 units, as
// the service counts them.
func (r *Rule) broken(s string) []string {
	out := r.length(utf16Len(s))
	if r.match != nil && !r.match().MatchString(s) {
		out = append(out, "Member must satisfy regular expression pattern: "+r.Pattern)
	}
	if len(r.Enum) > 0 && !slices.Contains(r.Enum, s) {
		out = append(out, "Member must satisfy enum value set: ["+strings.Join(r.Enum, ", ")+"]")
	}
	return out
}

func (r *Rule) length(n int) []string {
	var out []string
	if r.Min >= 0 && n < r.Min {
		out = append(out, "Member must have length greater than or equal to "+strconv.Itoa(r.Min))
	}
	if r.Max >= 0 && n > r.Max {
		out = append(out, "Member must have length less than or equal to "+strconv.Itoa(r.Max))
	}
	return out
}

func utf16Len(s string) int {
	n := 0
	for _, c := range s {
		n += utf16.RuneLen(c)
	}
	return n
}

// Empty is the input of operations that take none.
type Empty struct{}

// Check finds nothing wrong.
func (*Empty) Check(*Violations, string) {}
