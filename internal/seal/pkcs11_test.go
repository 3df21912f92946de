//go:build pkcs11

package seal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/pkcs11"
)

const (
	softHSM = "/usr/lib/softhsm/libsofthsm2.so"
	pin     = "do not print 1234"
)

// Not parallel: SoftHSM finds its tokens by the environment.

// newHSM is an HSM without tokens, the one that SoftHSM is from now on. It
// returns the directory of its tokens.
func newHSM(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	tokens := filepath.Join(dir, "tokens")
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "conf")
	if err := os.WriteFile(conf, []byte("directories.tokendir = "+tokens+"\nlog.level = ERROR\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", conf)
	return tokens
}

func newToken(t *testing.T, label string) {
	t.Helper()
	out, err := exec.Command("softhsm2-util", "--init-token", "--free", "--label", label, "--so-pin", "12345678", "--pin", pin).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s; make tools installs softhsm2", err, out)
	}
}

func hsmSeal(t *testing.T, module, token, key string) *PKCS11 {
	t.Helper()
	p, err := NewPKCS11(PKCS11Config{Module: module, Token: token, Key: key, PIN: []byte(pin)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// refused wants an error and no value: an error that contains want, is ErrWrongKey
// or not, and does not show the PIN.
func refused(t *testing.T, got []byte, err error, wrongKey bool, want string) {
	t.Helper()
	if err == nil || got != nil || errors.Is(err, ErrWrongKey) != wrongKey || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), pin) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestPKCS11(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	newToken(t, "red")
	blue, red := hsmSeal(t, softHSM, "blue", "root"), hsmSeal(t, softHSM, "red", "root")
	wrapSecret(t, red) // makes its key
	testSeal(t, blue, red)
	if got := blue.Kind(); got != "pkcs11" {
		t.Errorf("Kind = %q", got)
	}
	if err := blue.use(func(s *hsmSession) error { _, err := s.findKey("root"); return err }); err != nil {
		t.Errorf("two Wraps made more than one key: %v", err)
	}
}

func TestPKCS11Damaged(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	p := hsmSeal(t, softHSM, "blue", "root")
	wrapped := wrapSecret(t, p)
	for i := range wrapped {
		damaged := bytes.Clone(wrapped)
		damaged[i] ^= 0x40
		if got, err := p.Unwrap(damaged); !errors.Is(err, ErrWrongKey) || got != nil {
			t.Errorf("byte %d: Unwrap = %q, %v", i, got, err)
		}
	}
	for n := range wrapped {
		if got, err := p.Unwrap(wrapped[:n]); !errors.Is(err, ErrWrongKey) || got != nil {
			t.Errorf("cut to %d: Unwrap = %q, %v", n, got, err)
		}
	}
	got, err := p.Unwrap(append(wrapped, make([]byte, maxPKCS11)...))
	refused(t, got, err, true, "not wrapped by an HSM")
	for _, size := range []int{0, maxPKCS11} {
		got, err := p.Wrap(make([]byte, size))
		refused(t, got, err, false, "1 to 512 bytes")
	}
}

// The key that Wrap makes stays in the HSM and is good for this alone.
func TestPKCS11KeyStays(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	p := hsmSeal(t, softHSM, "blue", "root")
	wrapSecret(t, p)
	err := p.use(func(s *hsmSession) error {
		key, err := s.findKey("root")
		if err != nil {
			return err
		}
		value := []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)}
		if got, err := s.lib.GetAttributeValue(s.handle, key, value); !is(err, pkcs11.CKR_ATTRIBUTE_SENSITIVE) {
			t.Errorf("CKA_VALUE = %v, %v", got, err)
		}
		for attribute, want := range map[uint]bool{
			pkcs11.CKA_TOKEN: true, pkcs11.CKA_PRIVATE: true, pkcs11.CKA_SENSITIVE: true, pkcs11.CKA_ENCRYPT: true, pkcs11.CKA_DECRYPT: true,
			pkcs11.CKA_EXTRACTABLE: false, pkcs11.CKA_SIGN: false, pkcs11.CKA_VERIFY: false, pkcs11.CKA_WRAP: false, pkcs11.CKA_UNWRAP: false,
			pkcs11.CKA_ALWAYS_SENSITIVE: true, pkcs11.CKA_NEVER_EXTRACTABLE: true, pkcs11.CKA_LOCAL: true,
		} {
			if has, err := s.has(key, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, want)}); err != nil || !has {
				t.Errorf("attribute %#x is not %v: %v", attribute, want, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// Keys that others made, of which the seal takes only what is as good as its own.
func TestPKCS11Keys(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	p := hsmSeal(t, softHSM, "blue", "root")
	wrapped := wrapSecret(t, p)
	generate := func(label string, size int, sensitive, extractable bool) {
		t.Helper()
		err := p.use(func(s *hsmSession) error {
			session, err := s.lib.OpenSession(s.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
			if err != nil {
				return err
			}
			_, err = s.lib.GenerateKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
				pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, size),
				pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, sensitive), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, extractable)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	generate("short", 16, true, false)
	generate("extractable", 32, true, true)
	generate("readable", 32, false, false)
	generate("twice", 32, true, false)
	generate("twice", 32, true, false)
	generate("fine", 32, true, false)
	for key, want := range map[string]string{
		"short": "not an AES-256 key", "extractable": "can be taken out of the HSM", "readable": "can be taken out of the HSM", "twice": "more than one key",
	} {
		other := hsmSeal(t, softHSM, "blue", key)
		got, err := other.Wrap(secret)
		refused(t, got, err, false, want)
		got, err = other.Unwrap(wrapped)
		refused(t, got, err, false, want)
	}
	testSeal(t, hsmSeal(t, softHSM, "blue", "fine"), p)

	// Unwrap makes none.
	none := hsmSeal(t, softHSM, "blue", "none")
	for range 2 {
		got, err := none.Unwrap(wrapped)
		refused(t, got, err, false, `the token "blue" has no key labelled "none"`)
	}
}

func TestPKCS11Missing(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	newToken(t, "twin")
	newToken(t, "twin")
	text := filepath.Join(t.TempDir(), "text.so")
	if err := os.WriteFile(text, []byte("no library"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := hsmSeal(t, filepath.Join(t.TempDir(), "none.so"), "blue", "root").Wrap(secret)
	refused(t, got, err, false, "PKCS#11 library cannot be read")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no library: %v, want ErrNotExist", err)
	}
	got, err = hsmSeal(t, text, "blue", "root").Wrap(secret)
	refused(t, got, err, false, "cannot be loaded as a PKCS#11 library")
	got, err = hsmSeal(t, softHSM, "green", "root").Wrap(secret)
	refused(t, got, err, false, `no token labelled "green"`)
	got, err = hsmSeal(t, softHSM, "twin", "root").Wrap(secret)
	refused(t, got, err, false, `2 tokens labelled "twin"`)
}

func TestPKCS11PIN(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	p := hsmSeal(t, softHSM, "blue", "root")
	wrapped := wrapSecret(t, p)
	for _, wrong := range []string{pin + "!", "1"} {
		bad, err := NewPKCS11(PKCS11Config{Module: softHSM, Token: "blue", Key: "root", PIN: []byte(wrong)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := bad.Unwrap(wrapped)
		refused(t, got, err, false, "further tries may lock the token")
	}
	given := p.pin
	p.Forget()
	if !bytes.Equal(given, make([]byte, len(pin))) {
		t.Errorf("Forget leaves %q", given)
	}
	got, err := p.Unwrap(wrapped)
	refused(t, got, err, false, "PIN of the HSM was forgotten")
}

// An HSM that goes away is noticed, and one that comes back works.
func TestPKCS11ComesBack(t *testing.T) {
	tokens := newHSM(t)
	newToken(t, "blue")
	p := hsmSeal(t, softHSM, "blue", "root")
	wrapped := wrapSecret(t, p)
	if err := os.Rename(tokens, tokens+".away"); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Unwrap(wrapped); err == nil || errors.Is(err, ErrWrongKey) {
		t.Errorf("without its tokens: Unwrap = %q, %v", got, err)
	}
	if err := os.Mkdir(tokens, 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := p.Unwrap(wrapped)
	refused(t, got, err, false, `no token labelled "blue"`)
	if err := os.Remove(tokens); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tokens+".away", tokens); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("back: Unwrap = %q, %v", got, err)
	}
}

// A library that is in use elsewhere in the process stays so.
func TestPKCS11InUse(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	other := pkcs11.New(softHSM)
	if err := other.Initialize(); err != nil {
		t.Fatal(err)
	}
	defer other.Finalize()
	p := hsmSeal(t, softHSM, "blue", "root")
	wrapped := wrapSecret(t, p)
	slots, err := other.GetSlotList(true)
	if err != nil {
		t.Fatalf("the library was finalised: %v", err)
	}
	for _, slot := range slots {
		session, err := other.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION)
		if err != nil {
			t.Fatal(err)
		}
		if err := other.Login(session, pkcs11.CKU_USER, pin); err == nil {
			break
		}
	}
	for range 2 { // the second time, the login of others is still there
		if got, err := p.Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("logged in: Unwrap = %q, %v", got, err)
		}
	}
}

func TestPKCS11Concurrent(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	wrapped := wrapSecret(t, hsmSeal(t, softHSM, "blue", "root"))
	var wg sync.WaitGroup
	for range 8 {
		p := hsmSeal(t, softHSM, "blue", "root")
		wg.Go(func() {
			if got, err := p.Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("Unwrap = %q, %v", got, err)
			}
		})
	}
	wg.Wait()
}

func TestPKCS11Config(t *testing.T) {
	for _, c := range []PKCS11Config{
		{Token: "t", Key: "k", PIN: []byte("1")}, {Module: "m", Key: "k", PIN: []byte("1")}, {Module: "m", Token: "t", PIN: []byte("1")}, {Module: "m", Token: "t", Key: "k"},
	} {
		if _, err := NewPKCS11(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
