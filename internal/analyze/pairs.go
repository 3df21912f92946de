package analyze

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/policy"
)

// pairs makes a dimension of each key that is named, and one of each kind of other keys.
// remove, if it is not nil, takes a key away that has no value then.
func pairs(values, keys []*test, put func(s *situation, key, value string), remove func(s *situation, key string)) (out []*dimension, err error) {
	bySuffix := map[string][]*test{}
	for _, t := range values {
		name := strings.ToLower(t.Key().Suffix)
		bySuffix[name] = append(bySuffix[name], t)
	}
	var named []string
	for _, name := range sortedKeys(bySuffix) {
		tests := bySuffix[name]
		var asked, others []string // spellings of the key
		for _, t := range tests {
			asked = append(asked, t.Key().Suffix)
		}
		for _, x := range shapesOf(keys) {
			if x.Kind == policy.TextShape && strings.EqualFold(x.Text, name) {
				others = append(others, x.Text)
			}
		}
		asked = distinct(asked)
		others = slices.DeleteFunc(distinct(others), func(s string) bool { return slices.Contains(asked, s) })
		if len(keys) > 0 { // which tell spellings apart
			more, err := samples([]pattern{anyCase(name)}, patternsOf(shapesOf(keys)), slices.Concat(asked, others))
			if err != nil {
				return nil, err
			}
			others = append(others, more...)
		} else if len(asked) > 1 { // a spelling that is not there is read as another one
			more, err := samples([]pattern{anyCase(name)}, nil, asked)
			if err != nil {
				return nil, err
			}
			others = more
		}
		texts, err := valuesOf(tests[0].Key(), tests)
		if err != nil {
			return nil, err
		}
		named = slices.Concat(named, asked, others)
		p := &dimension{name: tests[0].Key().String()}
		if p.samples, err = spelled(asked, others, texts, put); err != nil {
			return nil, err
		}
		for _, key := range slices.Concat(asked, others) {
			if remove != nil {
				p.samples = append(p.samples, sample{name: "without " + key + " any more", apart: taken, elements: []string{key}, set: func(s *situation) { remove(s, key) }})
			}
		}
		out = append(out, p)
	}
	if len(keys) == 0 {
		return out, nil
	}
	shapes := shapesOf(keys)
	for _, name := range named {
		shapes = append(shapes, policy.Shape{Kind: policy.TextShape, Text: name})
	}
	others, err := texts(text, shapes)
	others = slices.DeleteFunc(others, func(v string) bool {
		return slices.ContainsFunc(named, func(name string) bool { return strings.EqualFold(name, v) })
	})
	more := elements(keys[0].Key(), others, func(s *situation, key string) { put(s, key, "x") })
	for _, p := range more {
		if key := p.samples[1].elements[0]; remove != nil {
			p.samples = append(p.samples, sample{name: "without " + key + " any more", apart: taken, elements: []string{key}, set: func(s *situation) { remove(s, key) }})
		}
	}
	return append(out, more...), err
}

// spelled are the ways in which a key can be there, in one of its spellings or in several:
// those that conditions ask for, each with any value, and others, whose value is asked for
// only as long as none of those is there.
func spelled(asked, others, values []string, put func(s *situation, key, value string)) (out []sample, err error) {
	type pair struct{ key, value string }
	var walk func(i int, so []pair)
	all := slices.Concat(asked, others)
	walk = func(i int, so []pair) {
		if len(out) > maxProduct {
			return
		}
		if i < len(all) {
			walk(i+1, so)
			choices := values
			if i >= len(asked) && len(so) > 0 && (len(asked) == 1 || !slices.Contains(asked, so[0].key)) {
				choices = values[:1] // nobody reads it
			}
			for _, v := range choices {
				walk(i+1, append(slices.Clip(so), pair{all[i], v}))
			}
			return
		}
		x := sample{set: func(s *situation) {
			for _, p := range so {
				put(s, p.key, p.value)
			}
		}}
		for n, p := range so {
			x.elements = append(x.elements, p.key)
			x.name += []string{"", " and "}[min(n, 1)] + p.key + " = " + p.value
		}
		if len(so) == 0 {
			x.set = nil
		}
		out = append(out, x)
	}
	slices.Sort(others)
	all = slices.Concat(asked, others)
	walk(0, nil)
	if len(out) > maxProduct {
		return nil, errBudget
	}
	return out, nil
}

// elements makes a dimension of each kind of value that a key with several can have.
func elements(key policy.ConditionKey, values []string, put func(s *situation, text string)) (out []*dimension) {
	for _, v := range values {
		if v != "" {
			out = append(out, &dimension{name: key.String() + " " + v, samples: []sample{{}, {name: "with " + v, elements: []string{v}, set: func(s *situation) { put(s, v) }}}})
		}
	}
	return out
}
