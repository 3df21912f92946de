package material

import (
	"bytes"
	"crypto/mldsa"
	"crypto/sha3"
	"math/bits"
)

// The standard library signs a µ and does not verify one. What follows is
// ML-DSA.Verify_internal of FIPS 204 (Algorithm 8), from the µ on. Everything in
// it is public, so that nothing needs constant time.

const (
	dsaQ = 8380417
	dsaN = 256
	dsaD = 13 // bits dropped from t
)

// A dsaShape is a parameter set (FIPS 204, table 1).
type dsaShape struct {
	k, l, tau, beta, omega, challenge int
	gamma1Bits                        int // γ1 is 2 to the power of it
	gamma2                            int32
}

var dsaShapes = map[mldsa.Parameters]dsaShape{
	mldsa.MLDSA44(): {k: 4, l: 4, tau: 39, beta: 78, omega: 80, challenge: 32, gamma1Bits: 17, gamma2: (dsaQ - 1) / 88},
	mldsa.MLDSA65(): {k: 6, l: 5, tau: 49, beta: 196, omega: 55, challenge: 48, gamma1Bits: 19, gamma2: (dsaQ - 1) / 32},
	mldsa.MLDSA87(): {k: 8, l: 7, tau: 60, beta: 120, omega: 75, challenge: 64, gamma1Bits: 19, gamma2: (dsaQ - 1) / 32},
}

// A dsaPoly is a polynomial; coefficients are between 0 and q-1.
type dsaPoly [dsaN]int32

func dsaMul(a, b int32) int32 { return int32(int64(a) * int64(b) % dsaQ) }

// dsaZetas are the powers of the root of unity 1753 in bit-reversed order.
var dsaZetas = func() (z [dsaN]int32) {
	power := [dsaN]int32{1}
	for i := 1; i < dsaN; i++ {
		power[i] = dsaMul(power[i-1], 1753)
	}
	for i := range z {
		z[i] = power[bits.Reverse8(uint8(i))]
	}
	return z
}()

// ntt is Algorithm 41.
func (p *dsaPoly) ntt() {
	m := 0
	for length := dsaN / 2; length >= 1; length /= 2 {
		for start := 0; start < dsaN; start += 2 * length {
			m++
			for j := start; j < start+length; j++ {
				t := dsaMul(dsaZetas[m], p[j+length])
				p[j], p[j+length] = (p[j]+t)%dsaQ, (p[j]-t+dsaQ)%dsaQ
			}
		}
	}
}

// inverse is Algorithm 42.
func (p *dsaPoly) inverse() {
	m := dsaN
	for length := 1; length < dsaN; length *= 2 {
		for start := 0; start < dsaN; start += 2 * length {
			m--
			for j := start; j < start+length; j++ {
				t := p[j]
				p[j], p[j+length] = (t+p[j+length])%dsaQ, dsaMul(dsaQ-dsaZetas[m], (t-p[j+length]+dsaQ)%dsaQ)
			}
		}
	}
	for j := range p {
		p[j] = dsaMul(p[j], 8347681) // 256 to the power of -1
	}
}

// fromBits reads n coefficients of width bits each, the lowest first.
func fromBits(b []byte, width int) (p dsaPoly) {
	for i := range p {
		for w := range width {
			at := i*width + w
			p[i] |= int32(b[at/8]>>(at%8)&1) << w
		}
	}
	return p
}

// expandA samples one entry of the matrix (Algorithm 30).
func expandA(rho []byte, row, column int) (p dsaPoly) {
	x := sha3.NewSHAKE128()
	_, _ = x.Write(rho)
	_, _ = x.Write([]byte{byte(column), byte(row)})
	var b [3]byte
	for i := 0; i < dsaN; {
		_, _ = x.Read(b[:])
		if c := int32(b[0]) | int32(b[1])<<8 | int32(b[2]&0x7f)<<16; c < dsaQ {
			p[i] = c
			i++
		}
	}
	return p
}

// challengePoly is SampleInBall (Algorithm 29).
func challengePoly(seed []byte, tau int) (p dsaPoly) {
	x := sha3.NewSHAKE256()
	_, _ = x.Write(seed)
	var signs [8]byte
	_, _ = x.Read(signs[:])
	var b [1]byte
	for i := dsaN - tau; i < dsaN; i++ {
		for {
			_, _ = x.Read(b[:])
			if int(b[0]) <= i {
				break
			}
		}
		p[i] = p[b[0]]
		at := i + tau - dsaN
		p[b[0]] = 1
		if signs[at/8]>>(at%8)&1 == 1 {
			p[b[0]] = dsaQ - 1
		}
	}
	return p
}

// hints unpacks the hint (Algorithm 21): which coefficients of each polynomial
// have one. ok is false for anything but the one way to write it.
func (s dsaShape) hints(y []byte) (h [][]byte, ok bool) {
	index := 0
	for i := range s.k {
		end := int(y[s.omega+i])
		if end < index || end > s.omega {
			return nil, false
		}
		for j := index + 1; j < end; j++ {
			if y[j-1] >= y[j] {
				return nil, false
			}
		}
		h = append(h, y[index:end])
		index = end
	}
	for _, b := range y[index:s.omega] {
		if b != 0 {
			return nil, false
		}
	}
	return h, true
}

// highBits is r1 of Decompose (Algorithm 36) and whether r0 is positive.
func (s dsaShape) highBits(r int32) (r1 int32, positive bool) {
	r0 := r % (2 * s.gamma2)
	if r0 > s.gamma2 {
		r0 -= 2 * s.gamma2
	}
	if r-r0 == dsaQ-1 {
		return 0, r0-1 > 0
	}
	return (r - r0) / (2 * s.gamma2), r0 > 0
}

// useHint is Algorithm 40 with the hint set.
func (s dsaShape) useHint(r int32) int32 {
	m := int32((dsaQ - 1) / (2 * s.gamma2))
	r1, positive := s.highBits(r)
	if positive {
		return (r1 + 1) % m
	}
	return (r1 - 1 + m) % m
}

// encodeHigh appends w1 packed (Algorithm 28).
func (s dsaShape) encodeHigh(dst []byte, p *dsaPoly) []byte {
	width := bits.Len32(uint32((dsaQ-1)/(2*s.gamma2) - 1))
	out := make([]byte, dsaN*width/8)
	for i, c := range p {
		for w := range width {
			at := i*width + w
			out[at/8] |= byte(c>>w&1) << (at % 8)
		}
	}
	return append(dst, out...)
}

// verifyMu reports whether signature is one of µ.
func verifyMu(pk *mldsa.PublicKey, mu, signature []byte) bool {
	s := dsaShapes[pk.Parameters()]
	if len(signature) != pk.Parameters().SignatureSize() {
		return false
	}
	encoded := pk.Bytes()
	rho, t1 := encoded[:32], encoded[32:]
	seed, rest := signature[:s.challenge], signature[s.challenge:]
	width := s.gamma1Bits + 1
	z := make([]dsaPoly, s.l)
	bound := int32(1)<<s.gamma1Bits - int32(s.beta)
	for i := range z {
		z[i] = fromBits(rest[i*32*width:], width)
		for j, c := range z[i] {
			c = 1<<s.gamma1Bits - c
			if c >= bound || -c >= bound {
				return false
			}
			z[i][j] = (c + dsaQ) % dsaQ
		}
		z[i].ntt()
	}
	h, ok := s.hints(rest[s.l*32*width:])
	if !ok {
		return false
	}
	c := challengePoly(seed, s.tau)
	c.ntt()
	packed := append(make([]byte, 0, 64+s.k*192), mu...)
	for row := range s.k {
		t := fromBits(t1[row*320:], 10)
		for j := range t {
			t[j] <<= dsaD
		}
		t.ntt()
		var w dsaPoly
		for j := range w {
			w[j] = dsaQ - dsaMul(c[j], t[j])
		}
		for column := range s.l {
			a := expandA(rho, row, column)
			for j := range w {
				w[j] = (w[j] + dsaMul(a[j], z[column][j])) % dsaQ
			}
		}
		w.inverse()
		var high dsaPoly
		for j := range w {
			high[j], _ = s.highBits(w[j])
		}
		for _, j := range h[row] {
			high[j] = s.useHint(w[j])
		}
		packed = s.encodeHigh(packed, &high)
	}
	x := sha3.NewSHAKE256()
	_, _ = x.Write(packed)
	again := make([]byte, s.challenge)
	_, _ = x.Read(again)
	return bytes.Equal(again, seed)
}
