package seal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func parsed(t rapid.TB, texts []string) (shares []Share) {
	for _, text := range texts {
		s, err := ParseShare(text)
		if err != nil {
			t.Fatal(err)
		}
		shares = append(shares, s)
	}
	return shares
}

// Any threshold of the shares, in any order, opens what the seal wrapped; fewer do not
// even combine, and fewer that pass for enough open nothing.
func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(MinThreshold, 12).Draw(t, "shares")
		k := rapid.IntRange(MinThreshold, n).Draw(t, "threshold")
		s, texts, err := NewShamir(n, k)
		if err != nil || len(texts) != n {
			t.Fatal(err)
		}
		wrapped, err := s.Wrap([]byte("store key"))
		if err != nil || Needs(wrapped) != k {
			t.Fatalf("Wrap: %v, needs %d", err, Needs(wrapped))
		}
		shares := parsed(t, texts)
		rand.Shuffle(n, func(i, j int) { shares[i], shares[j] = shares[j], shares[i] })
		whole, err := Combine(shares[:k])
		if err != nil {
			t.Fatal(err)
		}
		if secret, err := whole.Unwrap(wrapped); err != nil || string(secret) != "store key" {
			t.Fatalf("Unwrap = %q, %v", secret, err)
		}
		if _, err := Combine(shares[:k-1]); err == nil {
			t.Error("too few shares combine")
		}
		few := shares[:k-1]
		for i := range few {
			few[i].threshold--
		}
		if less, err := Combine(few); err == nil {
			if _, err := less.Unwrap(wrapped); !errors.Is(err, ErrWrongKey) {
				t.Errorf("%d of %d shares open it: %v", k-1, k, err)
			}
		}
	})
}

func TestBadShares(t *testing.T) {
	s, texts, err := NewShamir(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	_, others, err := NewShamir(3, 2)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := s.Wrap([]byte("store key"))
	if err != nil {
		t.Fatal(err)
	}
	for i := len(sharePrefix); i < len(texts[0]); i++ {
		wrong := []byte(texts[0])
		wrong[i] = 'a' + (wrong[i]-'a'+1)%26
		if _, err := ParseShare(string(wrong)); err == nil {
			t.Errorf("a mistake in character %d passes", i)
		}
	}
	if _, err := ParseShare(strings.ToUpper(texts[0])); err == nil {
		t.Error("a share in capitals has another prefix")
	}
	own, other := parsed(t, texts), parsed(t, others)
	if !own[0].Opens(wrapped) || other[0].Opens(wrapped) || own[0].Opens(nil) || own[0].Opens([]byte("x")) {
		t.Error("a share does not know its set")
	}
	for name, shares := range map[string][]Share{"twice": {own[0], own[0]}, "two sets": {own[0], other[1]}, "none": nil} {
		if _, err := Combine(shares); err == nil {
			t.Errorf("%s: combines", name)
		}
	}
	foreign, err := Combine(other[:2])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := foreign.Unwrap(wrapped); !errors.Is(err, ErrWrongKey) {
		t.Errorf("shares of another set: %v", err)
	}
	for _, c := range [][2]int{{3, 1}, {2, 3}, {256, 2}, {0, 0}} {
		if _, _, err := NewShamir(c[0], c[1]); err == nil {
			t.Errorf("%d of %d shares", c[1], c[0])
		}
	}
	if got := fmt.Sprintf("%v %+v %s", own[0], own[:1], &own[0]); strings.Contains(got, fmt.Sprint(own[0].value[0], own[0].value[1])) {
		t.Errorf("a share prints as %s", got)
	}
}

func FuzzParseShare(f *testing.F) {
	_, texts, err := NewShamir(3, 2)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(texts[0])
	f.Add(sharePrefix)
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseShare(text); err == nil && !strings.EqualFold(s.text(), strings.TrimSpace(text)) {
			t.Errorf("%q reads as %q", text, s.text())
		}
	})
}
