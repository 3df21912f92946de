package material

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
	"pgregory.net/rapid"
)

func testPair(t testing.TB, spec string) *Pair {
	t.Helper()
	der, err := GeneratePair(spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := NewPair(spec, NewSecret(der))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// The signature of secp256k1 is the library's, but for the sign of s.
func TestSecp256k1SignsAsTheLibrary(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var private [32]byte
		copy(private[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "private"))
		private[31] |= 1
		digest := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(rt, "digest")
		key := secp256k1.PrivKeyFromBytes(private[:])
		p := secpPair{key.Key, secpPublic(&key.Key)}
		if !p.public.IsEqual(key.PubKey()) {
			rt.Fatal("the public key differs")
		}
		r, s := p.signDigest(digest, nil)
		if s.IsOverHalfOrder() {
			s.Negate()
		}
		if want := ecdsa.Sign(key, digest); !want.IsEqual(ecdsa.NewSignature(&r, &s)) {
			rt.Fatal("the signature differs")
		}
	})
}

func TestSecp256k1Extremes(t *testing.T) {
	for _, k := range []int{1, 2, 15, 16, 17, 255, 256} {
		for _, negative := range []bool{false, true} {
			var s secp256k1.ModNScalar
			if s.SetInt(uint32(k)); negative {
				s.Negate()
			}
			if want := secp256k1.NewPrivateKey(&s).PubKey(); !secpPublic(&s).IsEqual(want) {
				t.Errorf("%d times the generator, negative %t, is wrong", k, negative)
			}
			inverse := invertScalar(&s)
			if one := inverse.Mul(&s).Bytes(); one != [32]byte{31: 1} {
				t.Errorf("the inverse of %d is wrong", k)
			}
		}
	}
}

// openssl checks what we sign and encrypt, and makes what we verify and open.
func TestOpenSSLAgrees(t *testing.T) {
	dir := t.TempDir()
	message := []byte("a message")
	write := func(name string, b []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	openssl := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("openssl", args...).CombinedOutput(); err != nil {
			t.Errorf("openssl %v: %v %s", args, err, out)
		}
	}
	in := write("message", message)
	tests := []struct {
		spec, algorithm string
		options         []string
	}{
		{"RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256", []string{"-sha256"}},
		{"RSA_2048", "RSASSA_PSS_SHA_384", []string{"-sha384", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"}},
		{"ECC_NIST_P256", "ECDSA_SHA_256", []string{"-sha256"}},
		{"ECC_NIST_P384", "ECDSA_SHA_384", []string{"-sha384"}},
		{"ECC_NIST_P521", "ECDSA_SHA_512", []string{"-sha512"}},
		{"ECC_SECG_P256K1", "ECDSA_SHA_256", []string{"-sha256"}},
	}
	for _, tt := range tests {
		der, err := GeneratePair(tt.spec)
		if err != nil {
			t.Fatal(err)
		}
		private := write(tt.spec+".der", der)
		p, err := NewPair(tt.spec, NewSecret(der))
		if err != nil {
			t.Fatal(err)
		}
		public := write(tt.spec+".pub", p.Public)
		signature, err := p.Sign(tt.algorithm, Raw, message)
		if err != nil {
			t.Fatal(err)
		}
		sig := write("sig", signature)
		openssl(append(append([]string{"dgst"}, tt.options...), "-keyform", "DER", "-verify", public, "-signature", sig, in)...)
		theirs := filepath.Join(dir, "theirs")
		openssl(append(append([]string{"dgst"}, tt.options...), "-keyform", "DER", "-sign", private, "-out", theirs, in)...)
		made, err := os.ReadFile(theirs)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Verify(tt.algorithm, Raw, message, made); err != nil {
			t.Errorf("%s %s: openssl's signature: %v", tt.spec, tt.algorithm, err)
		}
	}
}

// Signing a message and its digest are the same; any change is refused.
func TestFormsAreInterchangeable(t *testing.T) {
	message := []byte("a message")
	d256, d512 := sha256.Sum256(message), sha512.Sum512(message)
	for _, tt := range []struct {
		spec, algorithm, form string
		message               []byte
	}{
		{"RSA_2048", "RSASSA_PSS_SHA_256", Digest, d256[:]},
		{"RSA_2048", "RSASSA_PKCS1_V1_5_SHA_512", Digest, d512[:]},
		{"ECC_NIST_P256", "ECDSA_SHA_256", Digest, d256[:]},
		{"ECC_NIST_P521", "ECDSA_SHA_512", Digest, d512[:]},
		{"ECC_SECG_P256K1", "ECDSA_SHA_256", Digest, d256[:]},
		{"ML_DSA_44", "ML_DSA_SHAKE_256", ExternalMu, nil},
		{"ML_DSA_65", "ML_DSA_SHAKE_256", ExternalMu, nil},
		{"ML_DSA_87", "ML_DSA_SHAKE_256", ExternalMu, nil},
	} {
		p := testPair(t, tt.spec)
		if tt.message == nil {
			tt.message = mu(p.impl.(dsaPair).public.Bytes(), message)
		}
		for _, from := range []string{Raw, tt.form} {
			signed := message
			if from != Raw {
				signed = tt.message
			}
			sig, err := p.Sign(tt.algorithm, from, signed)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(p.Verify(tt.algorithm, Raw, message, sig), p.Verify(tt.algorithm, tt.form, tt.message, sig)); err != nil {
				t.Errorf("%s %s signed as %s: %v", tt.spec, tt.algorithm, from, err)
			}
			sig[len(sig)/2] ^= 1
			if err := p.Verify(tt.algorithm, tt.form, tt.message, sig); !errors.Is(err, ErrSignature) {
				t.Errorf("%s %s: a changed signature: %v", tt.spec, tt.algorithm, err)
			}
		}
		if _, err := p.Sign(tt.algorithm, tt.form, tt.message[1:]); !errors.Is(err, ErrDigest) {
			t.Errorf("%s %s: a short digest: %v", tt.spec, tt.algorithm, err)
		}
	}
}

// Ed25519ph hashes the digest once more: a verifier sees the digest as message.
func TestEd25519(t *testing.T) {
	p := testPair(t, "ECC_NIST_EDWARDS25519")
	digest := sha512.Sum512([]byte("a message"))
	sig, err := p.Sign(edPrehashed, Digest, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(p.Public)
	if err != nil {
		t.Fatal(err)
	}
	again := sha512.Sum512(digest[:])
	if err := ed25519.VerifyWithOptions(parsed.(ed25519.PublicKey), again[:], sig, &ed25519.Options{Hash: 7}); err != nil {
		t.Error(err)
	}
	for _, tt := range []struct {
		algorithm, form string
		size            int
		want            error
	}{
		{edPure, Digest, 64, ErrForm}, {edPrehashed, Raw, 64, ErrForm}, {edPrehashed, Digest, 32, ErrDigest}, {"ECDSA_SHA_256", Raw, 1, ErrAlgorithm},
		{edPure, ExternalMu, 64, ErrForm},
	} {
		if _, err := p.Sign(tt.algorithm, tt.form, make([]byte, tt.size)); !errors.Is(err, tt.want) {
			t.Errorf("Sign %s %s: %v, want %v", tt.algorithm, tt.form, err, tt.want)
		}
	}
}

func TestPairsAgreeAndEncapsulate(t *testing.T) {
	for _, spec := range []string{"ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "SM2"} {
		a, b := testPair(t, spec), testPair(t, spec)
		x, err1 := a.Agree(b.Public)
		y, err2 := b.Agree(a.Public)
		if err1 != nil || err2 != nil || !bytes.Equal(x, y) {
			t.Errorf("%s: %x %v, %x %v", spec, x, err1, y, err2)
		}
		if _, err := a.Agree(testPair(t, "ECC_NIST_EDWARDS25519").Public); !errors.Is(err, ErrPeer) {
			t.Errorf("%s with another curve: %v", spec, err)
		}
	}
	for _, spec := range []string{"ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"} {
		p := testPair(t, spec)
		secret, c, err := p.Encapsulate()
		if err != nil {
			t.Fatal(err)
		}
		again, err := p.Decapsulate(c)
		if err != nil || !bytes.Equal(again, secret) || len(secret) != 32 {
			t.Errorf("%s: %x %v, want %x", spec, again, err, secret)
		}
		c[0] ^= 1
		if other, err := p.Decapsulate(c); err != nil || bytes.Equal(other, secret) {
			t.Errorf("%s of a changed ciphertext: %x %v", spec, other, err)
		}
		if _, err := p.Decapsulate(c[1:]); !errors.Is(err, ErrOpen) {
			t.Errorf("%s of a short ciphertext: %v", spec, err)
		}
	}
}

func TestSM2(t *testing.T) {
	p := testPair(t, "SM2")
	c, err := p.Encrypt("SM2PKE", []byte("hello"))
	if err != nil {
		t.Fatal(err)
	}
	if m, err := p.Decrypt("SM2PKE", c); err != nil || string(m) != "hello" {
		t.Errorf("Decrypt = %q, %v", m, err)
	}
	c[len(c)-1] ^= 1
	if _, err := p.Decrypt("SM2PKE", c); !errors.Is(err, ErrOpen) {
		t.Errorf("Decrypt of a changed ciphertext: %v", err)
	}
	sig, err := p.Sign("SM2DSA", Raw, []byte("hello"))
	if err == nil {
		err = p.Verify("SM2DSA", Raw, []byte("hello"), sig)
	}
	if err != nil {
		t.Error(err)
	}
	if sig, err = p.Sign("SM2DSA", Digest, make([]byte, 32)); err == nil {
		err = p.Verify("SM2DSA", Digest, make([]byte, 32), sig)
	}
	if err != nil {
		t.Error(err)
	}
}

// A private key of one spec is none of another, and neither is damage.
func TestPairsOfOtherSpecs(t *testing.T) {
	specs := []string{"RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_EDWARDS25519", "ECC_SECG_P256K1", "SM2", "ML_DSA_44", "ML_DSA_65", "ML_KEM_512", "ML_KEM_768"}
	for _, spec := range specs {
		der, err := GeneratePair(spec)
		if err != nil {
			t.Fatal(err)
		}
		for _, other := range append(specs, "RSA_3072", "") {
			if _, err := NewPair(other, NewSecret(der)); (err == nil) != (spec == other) || err != nil && !errors.Is(err, ErrSpec) {
				t.Errorf("a %s key as %s: %v", spec, other, err)
			}
		}
		if _, err := NewPair(spec, NewSecret(der[:len(der)-1])); !errors.Is(err, ErrSpec) {
			t.Errorf("a short %s key: %v", spec, err)
		}
	}
}

func FuzzNewPair(f *testing.F) {
	for _, spec := range []string{"ECC_SECG_P256K1", "ML_KEM_512", "ECC_NIST_P256"} {
		der, err := GeneratePair(spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(spec, der)
	}
	f.Fuzz(func(t *testing.T, spec string, der []byte) {
		if len(der) > 1024 {
			return // a long RSA key takes long
		}
		p, err := NewPair(spec, NewSecret(der))
		if (p == nil) == (err == nil) {
			t.Fatalf("NewPair = %v, %v", p, err)
		}
		if p != nil {
			if rest, err := asn1.Unmarshal(p.Public, &asn1.RawValue{}); err != nil || len(rest) > 0 {
				t.Fatalf("the public key is no DER: %v", err)
			}
		}
	})
}

func BenchmarkSign(b *testing.B) {
	for spec, algorithm := range map[string]string{
		"RSA_2048": "RSASSA_PSS_SHA_256", "ECC_NIST_P256": "ECDSA_SHA_256", "ECC_SECG_P256K1": "ECDSA_SHA_256",
		"ECC_NIST_EDWARDS25519": "ED25519_SHA_512", "ML_DSA_65": "ML_DSA_SHAKE_256",
	} {
		b.Run(spec, func(b *testing.B) {
			p := testPair(b, spec)
			for b.Loop() {
				if _, err := p.Sign(algorithm, Raw, []byte("a message")); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// FuzzUnwrap: what was wrapped for a wrapping key opens, and nothing else does.
func FuzzUnwrap(f *testing.F) {
	private, err := GeneratePair("RSA_2048")
	if err != nil {
		f.Fatal(err)
	}
	pair, err := NewPair("RSA_2048", NewSecret(private))
	if err != nil {
		f.Fatal(err)
	}
	imported, ephemeral := bytes.Repeat([]byte{7}, 32), bytes.Repeat([]byte{1}, 32)
	good := map[string][]byte{}
	for _, algorithm := range []string{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"} {
		if good[algorithm], err = pair.Encrypt(algorithm, imported); err != nil {
			f.Fatal(err)
		}
		twice := strings.Replace(algorithm, "RSAES_OAEP", "RSA_AES_KEY_WRAP", 1)
		kwp, err := subtle.NewKWP(ephemeral)
		if err != nil {
			f.Fatal(err)
		}
		wrapped, err := kwp.Wrap(imported)
		if err != nil {
			f.Fatal(err)
		}
		if good[twice], err = pair.Encrypt(algorithm, ephemeral); err != nil {
			f.Fatal(err)
		}
		good[twice] = append(good[twice], wrapped...)
	}
	for algorithm, wrapped := range good {
		f.Add(algorithm, wrapped)
	}
	f.Add("RSAES_PKCS1_V1_5", []byte{})
	f.Fuzz(func(t *testing.T, algorithm string, wrapped []byte) {
		got, err := Unwrap(private, algorithm, wrapped)
		right := good[algorithm] != nil && bytes.Equal(wrapped, good[algorithm])
		if right != (err == nil) || right && !bytes.Equal(got, imported) || err != nil && !errors.Is(err, ErrOpen) && !errors.Is(err, ErrAlgorithm) {
			t.Fatalf("Unwrap by %q of %x = %x, %v", algorithm, wrapped, got, err)
		}
	})
}

// FuzzPKCS8: a private key that is taken apart is written the same again, up to
// what may follow it.
func FuzzPKCS8(f *testing.F) {
	for _, spec := range []string{"ECC_SECG_P256K1", "ML_KEM_512", "ECC_NIST_P256", "ECC_NIST_EDWARDS25519", "ML_DSA_44"} {
		der, err := GeneratePair(spec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(der)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		id, private, err := parsePKCS8(der)
		if err != nil {
			return
		}
		again, err := marshalPKCS8(id, private)
		if err != nil {
			t.Fatalf("%x cannot be written again: %v", der, err)
		}
		id2, private2, err := parsePKCS8(again)
		if err != nil || !id2.Algorithm.Equal(id.Algorithm) || !bytes.Equal(id2.Parameters.FullBytes, id.Parameters.FullBytes) || !bytes.Equal(private2, private) {
			t.Fatalf("%x is written as %x, which reads otherwise: %v", der, again, err)
		}
		if len(again) > len(der)+8 {
			t.Fatalf("%x grows to %x", der, again)
		}
	})
}
