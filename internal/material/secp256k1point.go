package material

import (
	"encoding/binary"
	"sync"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// Multiples of secp256k1's generator by secret scalars, in a time that does not
// depend on them: a fixed number of complete additions, and every look into a
// table reads all of it. The library's field and scalars take constant time.

// A secpPoint is a point in homogeneous coordinates: (X/Z, Y/Z), or the neutral
// element if Z is 0. The magnitudes of its coordinates are 3 at most.
type secpPoint struct{ x, y, z secp256k1.FieldVal }

// add sets p to p+q. The formula holds for all points (Renes, Costello, Batina:
// Complete addition formulas for prime order elliptic curves, algorithm 7).
func (p *secpPoint) add(q *secpPoint) {
	const b3 = 21 // three times the curve's b
	xx, yy, zz := product(&p.x, &q.x), product(&p.y, &q.y), product(&p.z, &q.z)
	xy := crossed(&p.x, &p.y, &q.x, &q.y, &xx, &yy)
	yz := crossed(&p.y, &p.z, &q.y, &q.z, &yy, &zz)
	xz := crossed(&p.x, &p.z, &q.x, &q.z, &xx, &zz)
	xx.MulInt(3)
	zz.MulInt(b3).Normalize()
	xz.Normalize().MulInt(b3).Normalize()
	var sum, difference secp256k1.FieldVal
	sum.Add2(&yy, &zz)
	difference.NegateVal(&zz, 1).Add(&yy)

	a, b := product(&xy, &difference), product(&yz, &xz)
	p.x.NegateVal(&b, 1).Add(&a)
	a, b = product(&xz, &xx), product(&difference, &sum)
	p.y.Add2(&a, &b)
	a, b = product(&xx, &xy), product(&sum, &yz)
	p.z.Add2(&a, &b)
}

func product(a, b *secp256k1.FieldVal) (c secp256k1.FieldVal) {
	c.Mul2(a, b)
	return c
}

// crossed is (a+b)(c+d) - ac - bd, that is ad + bc. Its magnitude is 4.
func crossed(a, b, c, d, ac, bd *secp256k1.FieldVal) (r secp256k1.FieldVal) {
	var left, right secp256k1.FieldVal
	left.Add2(a, b)
	right.Add2(c, d)
	r.Mul2(&left, &right)
	left.Add2(ac, bd)
	return *r.Add(left.Negate(2))
}

// affineX is the x coordinate of a point that is not the neutral element.
func (p *secpPoint) affineX() *secp256k1.FieldVal {
	var inverse secp256k1.FieldVal
	inverse.Set(&p.z).Normalize().Inverse()
	return inverse.Mul(&p.x)
}

// secpWindow is how many bits of a scalar are looked up at once.
const (
	secpWindow  = 4
	secpWindows = 256 / secpWindow
)

// A secpEntry is a point of the table: x and y in 64-bit words, the most
// significant first, and z, which is 0 or 1.
type secpEntry [9]uint64

// secpTable has the multiples d·16^w of the generator, by w and d.
var secpTable = sync.OnceValue(func() *[secpWindows][1 << secpWindow]secpEntry {
	var t [secpWindows][1 << secpWindow]secpEntry
	var one secp256k1.ModNScalar
	var base, q secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(one.SetInt(1), &base)
	for w := range t {
		t[w][0] = secpEntry{7: 1} // (0, 1, 0)
		q = base
		for d := 1; d < len(t[w]); d++ {
			q.ToAffine()
			x, y := q.X.Bytes(), q.Y.Bytes()
			for i := range 4 {
				t[w][d][i], t[w][d][4+i] = binary.BigEndian.Uint64(x[8*i:]), binary.BigEndian.Uint64(y[8*i:])
			}
			t[w][d][8] = 1
			var next secp256k1.JacobianPoint
			secp256k1.AddNonConst(&q, &base, &next)
			q = next
		}
		base = q
		base.ToAffine()
	}
	return &t
})

// lookup reads all entries and keeps the one at d.
func lookup(row *[1 << secpWindow]secpEntry, d byte) (p secpPoint) {
	var e secpEntry
	for i := range row {
		x := uint64(byte(i) ^ d)
		mask := (x - 1) >> 63 * ^uint64(0) // all ones if x is 0
		for j := range e {
			e[j] |= row[i][j] & mask
		}
	}
	var b [32]byte
	for i, v := range []*secp256k1.FieldVal{&p.x, &p.y} {
		for j := range 4 {
			binary.BigEndian.PutUint64(b[8*j:], e[4*i+j])
		}
		v.SetBytes(&b)
	}
	p.z.SetInt(uint16(e[8]))
	return p
}

// secpMultiplyBase is k times the generator.
func secpMultiplyBase(k *secp256k1.ModNScalar) *secpPoint {
	digits := k.Bytes()
	defer clear(digits[:])
	p := &secpPoint{}
	p.y.SetInt(1)
	table := secpTable()
	for w := range table {
		d := digits[len(digits)-1-w/2] >> (secpWindow * (w % 2)) & 0xf
		q := lookup(&table[w], d)
		p.add(&q)
	}
	return p
}

// secpPublic is the public key of a private one.
func secpPublic(d *secp256k1.ModNScalar) *secp256k1.PublicKey {
	p := secpMultiplyBase(d)
	var inverse, y secp256k1.FieldVal
	inverse.Set(&p.z).Normalize().Inverse()
	y.Mul2(&p.y, &inverse).Normalize()
	inverse.Mul(&p.x).Normalize()
	return secp256k1.NewPublicKey(&inverse, &y)
}

// invertScalar is k to the power of n-2, which is its inverse (Fermat). The
// exponent is public.
func invertScalar(k *secp256k1.ModNScalar) (r secp256k1.ModNScalar) {
	var exponent secp256k1.ModNScalar
	exponent.SetInt(2).Negate() // n-2
	r.SetInt(1)
	for _, b := range exponent.Bytes() {
		for i := 7; i >= 0; i-- {
			r.Square()
			if b>>i&1 == 1 {
				r.Mul(k)
			}
		}
	}
	return r
}
