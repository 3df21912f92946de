package attest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/claviger/claviger/internal/attest"
	"github.com/claviger/claviger/internal/attest/attesttest"
)

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestVerify(t *testing.T) {
	now := time.Now()
	root, stranger, key := attesttest.NewRoot(t, now), attesttest.NewRoot(t, now), rsaKey(t, 2048)
	good := root.Document(now, &key.PublicKey, nil)
	d, err := attest.Verify(good, root.Pool(), now)
	if err != nil {
		t.Fatal(err)
	}
	if want := "ab" + strings.Repeat("00", 47); d.Measurements["PCR0"] != want || d.Measurements["ImageSha384"] != want || d.ModuleID == "" || len(d.Measurements) != 3 {
		t.Errorf("%+v", d)
	}
	if _, err := attest.Verify(append([]byte{0xd2}, good...), root.Pool(), now); err != nil {
		t.Errorf("a document with the tag of COSE_Sign1: %v", err)
	}
	tpm := root.Document(now, &key.PublicKey, func(p attesttest.Payload) {
		delete(p, "pcrs")
		p["nitrotpm_pcrs"] = map[int][]byte{4: make([]byte, 48)}
	})
	if d, err = attest.Verify(tpm, root.Pool(), now); err != nil || d.Measurements["NitroTPMPCR4"] == "" || d.Measurements["ImageSha384"] != "" {
		t.Errorf("a NitroTPM document: %+v, %v", d, err)
	}
	short := rsaKey(t, 1024)
	for _, tt := range []struct {
		name     string
		document []byte
		at       time.Time
		want     error
	}{
		{"of another root", stranger.Document(now, &key.PublicKey, nil), now, attest.ErrDocument},
		{"expired", good, now.Add(3*time.Hour + time.Second), attest.ErrDocument},
		{"from the future", good, now.Add(-time.Hour), attest.ErrDocument},
		{"cut short", good[:len(good)-1], now, attest.ErrDocument},
		{"with something after it", append(bytes.Clone(good), 0), now, attest.ErrDocument},
		{"empty", nil, now, attest.ErrDocument},
		{"without a key", root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["public_key"] = nil }), now, attest.ErrNoKey},
		{"with a short key", root.Document(now, &short.PublicKey, nil), now, attest.ErrNoKey},
		{"with a certificate that is none", root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["cabundle"] = [][]byte{{1}} }), now, attest.ErrDocument},
		{"with an odd register", root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["pcrs"] = map[int][]byte{0: {1}} }), now, attest.ErrDocument},
		{"with a register too many", root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["pcrs"] = map[int][]byte{32: make([]byte, 48)} }), now, attest.ErrDocument},
		{"with another digest", root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["digest"] = "SHA256" }), now, attest.ErrDocument},
		{"made an hour from now", root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["timestamp"] = uint64(now.Add(time.Hour).UnixMilli()) }), now, attest.ErrDocument},
	} {
		d, err := attest.Verify(tt.document, root.Pool(), tt.at)
		if !errors.Is(err, tt.want) || !errors.Is(err, attest.ErrDocument) || d != nil {
			t.Errorf("%s: %v, %v", tt.name, d, err)
		}
	}
	if _, err := attest.Verify(good, nil, now); !errors.Is(err, attest.ErrDocument) {
		t.Errorf("without roots: %v", err)
	}
	for i := 0; i < len(good); i += 5 { // nothing that changes what it says is accepted
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		if d, err := attest.Verify(bad, root.Pool(), now); err == nil {
			t.Errorf("byte %d of %d changed: %+v", i, len(good), d)
		}
	}
}

// A stranger's certificates are not worked with unless they are of AWS's kind:
// verifying with a long RSA key takes minutes.
func TestOtherCertificates(t *testing.T) {
	now := time.Now()
	root, key := attesttest.NewRoot(t, now), rsaKey(t, 2048)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	small, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, signer := range map[string]crypto.Signer{"RSA": key, "P-256": small} {
		der, err := x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		for _, place := range []string{"certificate", "cabundle"} {
			root := attesttest.NewRoot(t, now)
			document := root.Document(now, &key.PublicKey, func(p attesttest.Payload) {
				if p[place] = der; place == "cabundle" {
					p[place] = [][]byte{der}
				}
			})
			if _, err := attest.Verify(document, root.Pool(), now); err == nil || !strings.Contains(err.Error(), "of another kind") {
				t.Errorf("a %s %s: %v", name, place, err)
			}
		}
	}
	twice := root.Document(now, &key.PublicKey, func(p attesttest.Payload) {
		b := p["cabundle"].([][]byte)
		p["cabundle"] = append(b, b...)
	})
	if _, err := attest.Verify(twice, root.Pool(), now); err == nil || !strings.Contains(err.Error(), "one subject") {
		t.Errorf("a bundle with everything twice: %v", err)
	}
	late := root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["timestamp"] = uint64(1) << 63 })
	if _, err := attest.Verify(late, root.Pool(), now); !errors.Is(err, attest.ErrDocument) {
		t.Errorf("a timestamp that no clock shows: %v", err)
	}
	for _, e := range []int{1, 2, 65536} {
		root := attesttest.NewRoot(t, now)
		document := root.Document(now, &rsa.PublicKey{N: key.N, E: e}, nil)
		if _, err := attest.Verify(document, root.Pool(), now); !errors.Is(err, attest.ErrNoKey) {
			t.Errorf("an exponent of %d: %v", e, err)
		}
	}
	long := root.Document(now, &key.PublicKey, func(p attesttest.Payload) { p["cabundle"] = [][]byte{make([]byte, 5000)} })
	if _, err := attest.Verify(long, root.Pool(), now); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a long certificate: %v", err)
	}
}

// The certificate of AWS's root is the one with the published fingerprint.
func TestNitroRoot(t *testing.T) {
	text, err := os.ReadFile("nitro-root.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	sum := sha256.Sum256(block.Bytes)
	if got := hex.EncodeToString(sum[:]); got != "641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b" {
		t.Errorf("fingerprint %s", got)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || cert.Subject.CommonName != "aws.nitro-enclaves" {
		t.Error(cert, err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	if !attest.NitroRoot().Equal(pool) {
		t.Error("the pool has something else")
	}
}

// openssl opens what Encrypt makes.
func TestEncryptIsCMS(t *testing.T) {
	now := time.Now()
	root, key, dir := attesttest.NewRoot(t, now), rsaKey(t, 2048), t.TempDir()
	d, err := attest.Verify(root.Document(now, &key.PublicKey, nil), root.Pool(), now)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "key"), der, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 15, 16, 17, 1024} {
		plaintext := bytes.Repeat([]byte("x"), n)
		sealed, err := d.Encrypt(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "sealed"), sealed, 0o600); err != nil {
			t.Fatal(err)
		}
		opened, err := exec.Command("openssl", "cms", "-decrypt", "-inform", "DER", "-in", filepath.Join(dir, "sealed"), "-keyform", "DER",
			"-inkey", filepath.Join(dir, "key"), "-binary").Output()
		if err != nil || !bytes.Equal(opened, plaintext) {
			t.Errorf("%d bytes: openssl opened %q, %v", n, opened, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	now := time.Now()
	root := attesttest.NewRoot(f, now)
	key := rsaKey(f, 2048)
	f.Add(root.Document(now, &key.PublicKey, nil))
	pool := root.Pool()
	f.Fuzz(func(t *testing.T, document []byte) {
		d, err := attest.Verify(document, pool, now)
		if (d == nil) == (err == nil) {
			t.Fatalf("Verify = %v, %v", d, err)
		}
	})
}

// FuzzPayload: whatever a module signs, a document is refused or has an RSA key to
// encrypt to and registers of known sizes.
func FuzzPayload(f *testing.F) {
	now := time.Now()
	root := attesttest.NewRoot(f, now)
	pool, module, key := root.Pool(), root.Module(now), rsaKey(f, 2048)
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		f.Fatal(err)
	}
	for _, change := range []func(attesttest.Payload){
		func(attesttest.Payload) {},
		func(p attesttest.Payload) { p["pcrs"] = map[int][]byte{-1: {1}, 32: make([]byte, 64)} },
		func(p attesttest.Payload) { p["nitrotpm_pcrs"] = map[int][]byte{4: make([]byte, 48)} },
		func(p attesttest.Payload) { p["timestamp"] = uint64(1) << 63 },
		func(p attesttest.Payload) { delete(p, "public_key") },
	} {
		p := module.Payload(now, spki)
		change(p)
		text, err := cbor.Marshal(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		if cbor.Wellformed(payload) != nil {
			return // is refused before the signature is looked at, which FuzzVerify does
		}
		document, err := module.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		d, err := attest.Verify(document, pool, now)
		if (d == nil) == (err == nil) {
			t.Fatalf("Verify = %v, %v", d, err)
		}
		if err != nil {
			return
		}
		for name, value := range d.Measurements {
			if n := len(value); n != 64 && n != 96 && n != 128 {
				t.Fatalf("%s is %q", name, value)
			}
		}
		if _, err := d.Encrypt([]byte("x")); err != nil || d.ModuleID == "" {
			t.Fatalf("nothing can be encrypted for %q: %v", d.ModuleID, err)
		}
	})
}
