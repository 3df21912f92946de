package material

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"

	"github.com/emmansun/gmsm/sm2"
)

// A plaintext of one byte is now and then the mask itself, so that the
// ciphertext's C2 is zero: it is a ciphertext like any other. What is not ASN.1 is
// none, though the same library makes it.
func TestSM2OfShortPlaintexts(t *testing.T) {
	p := testPair(t, "SM2")
	if _, err := p.Encrypt("SM2PKE", nil); err == nil {
		t.Error("an empty message is encrypted")
	}
	zeros := 0
	for i := range 1500 {
		c, err := p.Encrypt("SM2PKE", []byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		if c[len(c)-1] == 0 {
			zeros++
		}
		if m, err := p.Decrypt("SM2PKE", c); err != nil || len(m) != 1 || m[0] != byte(i) {
			t.Fatalf("%x = %x, %v", c, m, err)
		}
	}
	if zeros == 0 {
		t.Error("none of the ciphertexts had a zero C2")
	}
	plain, err := sm2.Encrypt(rand.Reader, &p.impl.(sm2Pair).key.PublicKey, []byte("hello"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := p.Decrypt("SM2PKE", plain); !errors.Is(err, ErrOpen) {
		t.Errorf("a ciphertext that is no ASN.1 = %q, %v", m, err)
	}
}

// The largest number that the standard admits as an SM2 private key is n-2; n-1
// signs nothing.
func TestSM2Range(t *testing.T) {
	for back, want := range map[int64]bool{1: false, 2: true} {
		d := new(big.Int).Sub(sm2.P256().Params().N, big.NewInt(back)).FillBytes(make([]byte, sm2Size))
		der := ecPKCS8(t, oidSM2, ecPrivateKey{Version: 1, PrivateKey: d})
		if _, err := NewPair("SM2", NewSecret(der)); (err == nil) != want {
			t.Errorf("d = n-%d: %v", back, err)
		}
	}
}

// Nothing may follow a private key, and what it says about itself must be true.
func TestPKCS8IsReadStrictly(t *testing.T) {
	for _, spec := range []string{"RSA_2048", "ECC_NIST_P256", "ECC_NIST_EDWARDS25519", "ECC_SECG_P256K1", "SM2", "ML_DSA_44", "ML_KEM_512"} {
		der, err := GeneratePair(spec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewPair(spec, NewSecret(append(bytes.Clone(der), 1, 2, 3))); !errors.Is(err, ErrSpec) {
			t.Errorf("a %s key with something after it: %v", spec, err)
		}
		der[1+int(der[1]&0x7f)*int(der[1]>>7)] += 3 // the length of the outer SEQUENCE
		if _, err := NewPair(spec, NewSecret(append(der, 0xde, 0xad, 0xbe))); !errors.Is(err, ErrSpec) {
			t.Errorf("a %s key with something in its end: %v", spec, err)
		}
	}
	for spec, curve := range map[string]asn1.ObjectIdentifier{"ECC_SECG_P256K1": oidSecp256k1, "ECC_NIST_P256": nistCurves["ECC_NIST_P256"].id, "SM2": oidSM2} {
		other := asn1.ObjectIdentifier{1, 3, 132, 0, 34}
		d := append(make([]byte, 31), 7)
		p, err := NewPair(spec, NewSecret(ecPKCS8(t, curve, ecPrivateKey{Version: 1, PrivateKey: d})))
		if err != nil {
			t.Fatal(spec, err)
		}
		point := p.Public[len(p.Public)-65:]
		bits := func(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }
		for name, inner := range map[string]ecPrivateKey{
			"another curve":        {Version: 1, PrivateKey: d, Curve: other},
			"another public key":   {Version: 1, PrivateKey: d, PublicKey: bits([]byte{4})},
			"a number too long":    {Version: 1, PrivateKey: append(make([]byte, 10), d...)},
			"the same curve":       {Version: 1, PrivateKey: d, Curve: curve, PublicKey: bits(point)},
			"a compressed public.": {Version: 1, PrivateKey: d, PublicKey: bits(append([]byte{2 | point[64]&1}, point[1:33]...))},
		} {
			good := name == "the same curve" || name == "a compressed public."
			if _, err := NewPair(spec, NewSecret(ecPKCS8(t, curve, inner))); (err == nil) != good {
				t.Errorf("a %s key of %q: %v", spec, name, err)
			}
		}
	}
}

// ecPKCS8 wraps a private key of RFC 5915.
func ecPKCS8(t *testing.T, curve asn1.ObjectIdentifier, inner ecPrivateKey) []byte {
	t.Helper()
	parameters, err := asn1.Marshal(curve)
	if err != nil {
		t.Fatal(err)
	}
	text, err := asn1.Marshal(inner)
	if err != nil {
		t.Fatal(err)
	}
	der, err := marshalPKCS8(algorithmIdentifier{oidECPublicKey, asn1.RawValue{FullBytes: parameters}}, text)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// An RSA ciphertext is as long as the modulus, also where it begins with zeros.
func TestRSACiphertextsHaveOneLength(t *testing.T) {
	p := testPair(t, "RSA_2048")
	for {
		c, err := p.Encrypt("RSAES_OAEP_SHA_256", []byte("hello"))
		if err != nil {
			t.Fatal(err)
		}
		if c[0] == 0 {
			if m, err := p.Decrypt("RSAES_OAEP_SHA_256", c[1:]); !errors.Is(err, ErrOpen) {
				t.Errorf("a short ciphertext = %q, %v", m, err)
			}
			return
		}
	}
}

// A modulus with three factors of which two pass for one passes the parser, and so
// does one that is easily factored.
func TestSoundRSA(t *testing.T) {
	if !testPair(t, "RSA_2048").Sound() || !testPair(t, "ECC_NIST_P256").Sound() {
		t.Error("a generated key is not sound")
	}
	prime := func(bits int) *big.Int {
		n, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	one, e := big.NewInt(1), big.NewInt(65537)
	for _, factors := range [][]*big.Int{{prime(1984), prime(64)}, {prime(2032), prime(16)}} {
		if (rsaPair{&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: new(big.Int).Mul(factors[0], factors[1])}, Primes: factors}}).sound() {
			t.Error("a short factor passes")
		}
	}
	for {
		a, b, q := prime(512), prime(512), prime(1024)
		p := new(big.Int).Mul(a, b)
		n := new(big.Int).Mul(p, q)
		pq := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(e, pq)
		if n.BitLen() != 2048 || d == nil {
			continue
		}
		if (rsaPair{&rsa.PrivateKey{PublicKey: rsa.PublicKey{N: n, E: 65537}, D: d, Primes: []*big.Int{p, q}}}).sound() {
			t.Error("a composite factor passes")
		}
		return
	}
}

// HMAC reads some different keys as the same; their ids differ, and no id is a
// code that the key makes.
func TestMACMaterialID(t *testing.T) {
	long := bytes.Repeat([]byte("k"), 100)
	hashed := sha256.Sum256(long)
	ids := map[string]bool{}
	for _, key := range [][]byte{long, append(hashed[:], make([]byte, 32)...), append(hashed[:], make([]byte, 96)...), hashed[:]} {
		ids[MACMaterialID("1234", key)] = true
	}
	if len(ids) != 4 {
		t.Errorf("%d ids of four keys", len(ids))
	}
}
