package material

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The vectors are those of the C2SP specification.
func TestXAESVectors(t *testing.T) {
	tests := []struct{ key, nonce, plaintext, ad, want string }{
		{strings.Repeat("\x01", 32), "ABCDEFGHIJKLMNOPQRSTUVWX", "XAES-256-GCM", "",
			"ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"},
		{strings.Repeat("\x03", 32), "ABCDEFGHIJKLMNOPQRSTUVWX", "XAES-256-GCM", "c2sp.org/XAES-256-GCM",
			"986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"},
	}
	for _, tt := range tests {
		a, err := NewAEAD([]byte(tt.key))
		if err != nil {
			t.Fatal(err)
		}
		want, err := hex.DecodeString(tt.want)
		if err != nil {
			t.Fatal(err)
		}
		opened, err := a.Open(append([]byte(tt.nonce), want...), []byte(tt.ad)) // so that what Open opens, Seal makes
		if err != nil || string(opened) != tt.plaintext {
			t.Errorf("Open = %q, %v", opened, err)
		}
	}
}

func testMaterial(t testing.TB, keyID string) *Symmetric {
	t.Helper()
	key, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	m, err := NewSymmetric(MaterialID(keyID, key), NewSecret(key))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestBlobRoundTrip(t *testing.T) {
	for _, owner := range []Owner{
		{"000000000001", "1234abcd-12ab-34cd-56ef-1234567890ab"},
		{"999999999999", "mrk-1234abcd12ab34cd56ef1234567890ab"},
	} {
		m := testMaterial(t, owner.KeyID)
		context := map[string]string{"b": "2", "a": "1"}
		blob, err := m.Encrypt(owner, []byte("hello"), context)
		if err != nil {
			t.Fatal(err)
		}
		b, err := ParseBlob(blob)
		if err != nil || b.Owner != owner || b.MaterialID != m.ID {
			t.Fatalf("ParseBlob = %+v, %v; want owner %v", b, err, owner)
		}
		got, err := m.Decrypt(b, map[string]string{"a": "1", "b": "2"})
		if err != nil || string(got) != "hello" {
			t.Errorf("Decrypt = %q, %v", got, err)
		}
	}
}

func TestEveryFlippedBitIsRefused(t *testing.T) {
	owner := Owner{"111122223333", "1234abcd-12ab-34cd-56ef-1234567890ab"}
	m := testMaterial(t, owner.KeyID)
	blob, err := m.Encrypt(owner, []byte("x"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range len(blob) * 8 {
		bad := bytes.Clone(blob)
		bad[i/8] ^= 1 << (i % 8)
		b, err := ParseBlob(bad)
		if err != nil {
			continue
		}
		if _, err := m.Decrypt(b, nil); !errors.Is(err, ErrOpen) {
			t.Errorf("bit %d flipped: Decrypt = %v, want ErrOpen", i, err)
		}
	}
}

func TestAssociatedDataIsInjective(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		gen := rapid.MapOfN(rapid.StringMatching(`[ab]{0,2}`), rapid.StringMatching(`[ab]{0,2}`), 0, 3)
		a, b := gen.Draw(rt, "a"), gen.Draw(rt, "b")
		same := fmt.Sprint(a) == fmt.Sprint(b) && len(a) == len(b)
		for k, v := range a {
			same = same && b[k] == v
		}
		if got := bytes.Equal(associated(nil, a), associated(nil, b)); got != same {
			rt.Fatalf("associated(%q) equals associated(%q): %t, want %t", a, b, got, same)
		}
	})
}

func TestSecretNeverPrints(t *testing.T) {
	s := NewSecret([]byte("canary-canary"))
	holder := struct{ s Secret }{s}
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s %x %d", s, s, s, s, s, s), fmt.Sprintf("%v %+v %#v", holder, holder, &holder), s.LogValue().String(),
	} {
		if strings.Contains(text, "canary") || strings.Contains(text, "63616e617279") {
			t.Errorf("printed %q", text)
		}
	}
	if _, err := s.MarshalText(); err == nil {
		t.Error("MarshalText succeeded")
	}
	if err := (Secret{}).Use(func([]byte) error { return nil }); err == nil {
		t.Error("the zero Secret lent something")
	}
}

func FuzzParseBlob(f *testing.F) {
	f.Add(make([]byte, 96))
	for _, lengths := range [][2]byte{{12, 20}, {16, 0}, {255, 0}, {12, 255}, {0, 0}} {
		b := make([]byte, 400)
		b[0], b[headerSize] = outsideVersion, lengths[0]
		if at := headerSize + 1 + int(lengths[0]) + outsideTag; at < len(b) {
			b[at] = lengths[1]
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := ParseBlob(data)
		if (b == nil) == (err == nil) {
			t.Fatalf("ParseBlob = %v, %v", b, err)
		}
		if err != nil {
			return
		}
		var again []byte
		if b.Outside() != nil {
			again, err = b.Wrap(b.MaterialID, b.Outside())
		} else {
			header, e := b.Owner.header(blobVersion, b.MaterialID)
			again, err = append(header[:], b.sealed...), e
		}
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%x is written as %x, %v", data, again, err)
		}
	})
}

// FuzzDecrypt: of all ciphertext blobs and encryption contexts, those that belong
// together open, and no other.
func FuzzDecrypt(f *testing.F) {
	owner := Owner{"111122223333", "1234abcd-12ab-34cd-56ef-1234567890ab"}
	m := testMaterial(f, owner.KeyID)
	blob, err := m.Encrypt(owner, []byte("hello"), map[string]string{"a": "b"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(blob, "a", "b")
	f.Add(blob[:len(blob)-1], "a", "b")
	f.Add(append(bytes.Clone(blob), 0), "", "")
	f.Fuzz(func(t *testing.T, data []byte, name, value string) {
		b, err := ParseBlob(data)
		if err != nil {
			return
		}
		got, err := m.Decrypt(b, map[string]string{name: value})
		right := bytes.Equal(data, blob) && name == "a" && value == "b"
		if right != (err == nil) || right && string(got) != "hello" || err != nil && !errors.Is(err, ErrOpen) {
			t.Fatalf("Decrypt of %x with %q: %q = %q, %v", data, name, value, got, err)
		}
	})
}

func BenchmarkEncrypt(b *testing.B) {
	owner := Owner{"111122223333", "1234abcd-12ab-34cd-56ef-1234567890ab"}
	m := testMaterial(b, owner.KeyID)
	plaintext := make([]byte, 64)
	for b.Loop() {
		if _, err := m.Encrypt(owner, plaintext, nil); err != nil {
			b.Fatal(err)
		}
	}
}
