package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"strings"
)

// Bounds of the numbers of shares.
const (
	MinThreshold = 2
	MaxShares    = 255
)

const (
	sharePrefix   = "claviger-share-"
	shareVersion  = 1
	setSize       = 8
	checksumSize  = 4
	shareSize     = 1 + setSize + 2 + rootKeySize
	shamirHeader  = 1 + setSize + 1 // version, set, threshold
	shamirVersion = 1
)

var shareEncoding = base32.StdEncoding.WithPadding(base32.NoPadding)

// A Shamir is a seal whose root key is nowhere whole: it is split into shares, some
// number of which give it back (Shamir, "How to share a secret", 1979, over GF(2^8)).
type Shamir struct {
	set       [setSize]byte // which shares belong together
	threshold byte
	key       []byte
}

// A Share is one share of a root key. It prints as nothing but its number.
type Share struct {
	set       [setSize]byte
	threshold byte
	number    byte // the point, from 1
	value     [rootKeySize]byte
}

// String hides the value.
func (s Share) String() string { return fmt.Sprintf("share %d", s.number) }

// NewShamir draws a root key and splits it. It returns the shares as texts to be
// given to as many people.
func NewShamir(shares, threshold int) (*Shamir, []string, error) {
	if threshold < MinThreshold || threshold > shares || shares > MaxShares {
		return nil, nil, fmt.Errorf("seal: %d of %d shares: the threshold is from %d to the number of shares, of which there are at most %d",
			threshold, shares, MinThreshold, MaxShares)
	}
	s := &Shamir{threshold: byte(threshold), key: make([]byte, rootKeySize)}
	coefficients := make([]byte, rootKeySize*threshold) // of rootKeySize polynomials; the first ones are the key
	defer clear(coefficients)
	_, _ = rand.Read(s.set[:]) // never fails
	_, _ = rand.Read(coefficients)
	copy(s.key, coefficients)
	var texts []string
	for n := 1; n <= shares; n++ {
		share := Share{set: s.set, threshold: s.threshold, number: byte(n)}
		for i := range rootKeySize {
			for k := threshold - 1; k >= 0; k-- {
				share.value[i] = product(share.value[i], byte(n)) ^ coefficients[k*rootKeySize+i]
			}
		}
		texts = append(texts, share.text())
	}
	return s, texts, nil
}

func (s *Share) text() string {
	b := append([]byte{shareVersion}, s.set[:]...)
	b = append(append(b, s.threshold, s.number), s.value[:]...)
	sum := sha256.Sum256(b)
	return sharePrefix + strings.ToLower(shareEncoding.EncodeToString(append(b, sum[:checksumSize]...)))
}

// ParseShare reads a share's text.
func ParseShare(text string) (s Share, err error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), sharePrefix)
	if !ok || len(encoded) > 2*shareSize {
		return s, errors.New("seal: that is not a share, which begins with " + sharePrefix)
	}
	b, err := shareEncoding.DecodeString(strings.ToUpper(encoded))
	if err != nil || len(b) != shareSize+checksumSize {
		return s, errors.New("seal: the share is not whole, or has a mistake in it")
	}
	sum := sha256.Sum256(b[:shareSize])
	if !bytes.Equal(sum[:checksumSize], b[shareSize:]) || b[0] != shareVersion || b[2+setSize] == 0 {
		return s, errors.New("seal: the share has a mistake in it")
	}
	copy(s.set[:], b[1:])
	s.threshold, s.number = b[1+setSize], b[2+setSize]
	copy(s.value[:], b[3+setSize:])
	clear(b)
	if s.text() != sharePrefix+strings.ToLower(encoded) { // the last character has bits to spare
		return Share{}, errors.New("seal: the share has a mistake in it")
	}
	return s, nil
}

// Combine makes the seal from shares of different numbers, as many as its threshold.
func Combine(shares []Share) (*Shamir, error) {
	if len(shares) == 0 || len(shares) < int(shares[0].threshold) {
		return nil, errors.New("seal: too few shares")
	}
	s := &Shamir{set: shares[0].set, threshold: shares[0].threshold, key: make([]byte, rootKeySize)}
	for i, a := range shares {
		if a.set != s.set {
			return nil, errors.New("seal: the shares are not of one set")
		}
		weight := byte(1) // of a's value at the point 0 (Lagrange)
		for j, b := range shares {
			if i != j && a.number == b.number {
				return nil, fmt.Errorf("seal: share %d is there twice", a.number)
			}
			if i != j {
				weight = product(weight, product(b.number, inverse(a.number^b.number)))
			}
		}
		for k := range s.key {
			s.key[k] ^= product(weight, a.value[k])
		}
	}
	return s, nil
}

// Kind names the seal in the store's header.
func (s *Shamir) Kind() string { return "shamir" }

// Wrap seals secret under the root key.
func (s *Shamir) Wrap(secret []byte) ([]byte, error) {
	sealed, err := wrap(s.key, secret)
	return append(append(append([]byte{shamirVersion}, s.set[:]...), s.threshold), sealed...), err
}

// Unwrap opens what Wrap made. ErrWrongKey: the shares are of another set.
func (s *Shamir) Unwrap(wrapped []byte) ([]byte, error) {
	if len(wrapped) < shamirHeader || wrapped[0] != shamirVersion || !bytes.Equal(wrapped[1:1+setSize], s.set[:]) {
		return nil, fmt.Errorf("%w: the shares are of another set", ErrWrongKey)
	}
	return unwrap(s.key, wrapped[shamirHeader:])
}

// Needs reports how many shares open what a Shamir wrapped; 0 for what none did.
func Needs(wrapped []byte) int {
	if len(wrapped) < shamirHeader || wrapped[0] != shamirVersion {
		return 0
	}
	return int(wrapped[shamirHeader-1])
}

// Opens reports whether a share is of the set that opens what a Shamir wrapped.
func (s Share) Opens(wrapped []byte) bool {
	return Needs(wrapped) == int(s.threshold) && bytes.Equal(wrapped[1:1+setSize], s.set[:])
}

// Number tells the shares of a set apart.
func (s Share) Number() int { return int(s.number) }

// product multiplies in GF(2^8) modulo x^8+x^4+x^3+x+1, in constant time.
func product(a, b byte) (p byte) {
	for range 8 {
		p ^= a & -(b & 1)
		a = a<<1 ^ 0x1b&-(a>>7)
		b >>= 1
	}
	return p
}

// inverse is a^254; of 0 it is 0.
func inverse(a byte) byte {
	x := a
	for range 6 { // a^127
		x = product(product(x, x), a)
	}
	return product(x, x)
}
