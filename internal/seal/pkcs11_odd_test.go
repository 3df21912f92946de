//go:build pkcs11

package seal

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"
)

// oddHSM builds testdata/odd_hsm.c.
func oddHSM(t *testing.T) string {
	t.Helper()
	headers, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		t.Fatal(err)
	}
	module := filepath.Join(t.TempDir(), "odd.so")
	out, err := exec.Command("cc", "-shared", "-fPIC", "-I", strings.TrimSpace(string(headers)), fmt.Sprintf("-DSOFTHSM=%q", softHSM),
		"-o", module, "testdata/odd_hsm.c", "-ldl").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return module
}

// HSMs that draw the nonce themselves.
func TestPKCS11Nonce(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	p, plain := hsmSeal(t, oddHSM(t), "blue", "root"), hsmSeal(t, softHSM, "blue", "root")
	for _, own := range []string{"", "own"} {
		if own != "" {
			t.Setenv("ODD_HSM_NONCE", own)
		}
		a, b := wrapSecret(t, p), wrapSecret(t, p)
		if bytes.Equal(a[1:13], b[1:13]) || bytes.Equal(a[1:13], make([]byte, 12)) {
			t.Errorf("nonces %x, %x", a[1:13], b[1:13])
		}
		if got, err := plain.Unwrap(a); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("Unwrap = %q, %v", got, err)
		}
	}
	t.Setenv("ODD_HSM_NONCE", "none")
	got, err := p.Wrap(secret)
	refused(t, got, err, false, "neither takes a nonce nor draws one")
}

// Whatever step fails, the error says what to do, and afterwards all is well.
func TestPKCS11Fails(t *testing.T) {
	newHSM(t)
	newToken(t, "blue")
	module := oddHSM(t)
	p := hsmSeal(t, module, "blue", "root")
	wrapped := wrapSecret(t, p)
	wrap := func() ([]byte, error) { return p.Wrap(secret) }
	first := func() ([]byte, error) { return hsmSeal(t, module, "blue", "new").Wrap(secret) }
	unwrap := func() ([]byte, error) { return p.Unwrap(wrapped) }
	const gone = "plug it in or start it"
	tests := []struct {
		function string
		value    uint
		do       func() ([]byte, error)
		want     string
	}{
		{"C_Initialize", pkcs11.CKR_DEVICE_ERROR, unwrap, gone},
		{"C_Initialize", pkcs11.CKR_HOST_MEMORY, unwrap, "start the PKCS#11 library"},
		{"C_GetSlotList", pkcs11.CKR_GENERAL_ERROR, unwrap, "ask the HSM for its tokens"},
		{"C_GetTokenInfo", pkcs11.CKR_TOKEN_NOT_PRESENT, unwrap, gone},
		{"C_OpenSession", pkcs11.CKR_DEVICE_REMOVED, unwrap, gone},
		{"C_OpenSession", pkcs11.CKR_SESSION_COUNT, unwrap, "CKR_SESSION_COUNT"},
		{"C_Login", pkcs11.CKR_PIN_INCORRECT, unwrap, "further tries may lock"},
		{"C_Login", pkcs11.CKR_PIN_LOCKED, unwrap, "security officer can set a new one"},
		{"C_Login", pkcs11.CKR_PIN_EXPIRED, unwrap, "has expired"},
		{"C_Login", pkcs11.CKR_USER_PIN_NOT_INITIALIZED, unwrap, "has no user PIN yet"},
		{"C_Login", pkcs11.CKR_TOKEN_NOT_PRESENT, unwrap, gone},
		{"C_Login", pkcs11.CKR_FUNCTION_FAILED, unwrap, "log in to the HSM"},
		{"C_FindObjectsInit", pkcs11.CKR_DEVICE_REMOVED, unwrap, gone},
		{"C_FindObjects", pkcs11.CKR_DEVICE_REMOVED, unwrap, gone},
		{"C_GetAttributeValue", pkcs11.CKR_DEVICE_ERROR, unwrap, gone},
		{"C_GetAttributeValue", pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, unwrap, "not an AES-256 key"},
		{"C_DecryptInit", pkcs11.CKR_MECHANISM_INVALID, unwrap, "another seal is needed"},
		{"C_DecryptInit", pkcs11.CKR_DEVICE_REMOVED, unwrap, gone},
		{"C_Decrypt", pkcs11.CKR_DEVICE_REMOVED, unwrap, gone},
		{"C_EncryptInit", pkcs11.CKR_MECHANISM_INVALID, wrap, "another seal is needed"},
		{"C_EncryptInit", pkcs11.CKR_MECHANISM_PARAM_INVALID, wrap, "encrypt in the HSM"},
		{"C_Encrypt", pkcs11.CKR_DEVICE_REMOVED, wrap, gone},
		{"write C_OpenSession", pkcs11.CKR_TOKEN_WRITE_PROTECTED, first, "CKR_TOKEN_WRITE_PROTECTED"},
		{"C_GenerateKey", pkcs11.CKR_DEVICE_MEMORY, first, "make the root key in the HSM"},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("%s %#x", test.function, test.value), func(t *testing.T) {
			t.Setenv("ODD_HSM_FAIL", fmt.Sprintf("%s:%d", test.function, test.value))
			got, err := test.do()
			refused(t, got, err, false, test.want)
		})
		if got, err := p.Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
			t.Errorf("after %s: Unwrap = %q, %v", test.function, got, err)
		}
	}
	for _, value := range []uint{pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_GENERAL_ERROR, aeadDecryptFailed} {
		t.Setenv("ODD_HSM_FAIL", fmt.Sprintf("C_Decrypt:%d", value))
		got, err := p.Unwrap(wrapped)
		refused(t, got, err, true, "did not wrap this, or it was damaged")
	}
}
