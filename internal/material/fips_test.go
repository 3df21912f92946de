package material

import (
	"crypto/fips140"
	"crypto/rsa"
	"os"
	"os/exec"
	"testing"
)

// In FIPS mode an RSA key is sound only if its exponent is one that the mode takes. The
// test runs itself in that mode.
func TestRSAExponentInFIPSMode(t *testing.T) {
	if !fips140.Enabled() {
		c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRSAExponentInFIPSMode$")
		c.Env = append(os.Environ(), "GODEBUG=fips140=on")
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	short := rsaPair{&rsa.PrivateKey{PublicKey: rsa.PublicKey{E: 3}}}
	if short.exponentAllowed() == fips140.Enabled() {
		t.Errorf("exponent 3 with FIPS mode %v", fips140.Enabled())
	}
	short.key.E = 65537
	if !short.exponentAllowed() {
		t.Error("exponent 65537 is refused")
	}
}

func TestApproved(t *testing.T) {
	for name, want := range map[string]bool{
		"SYMMETRIC_DEFAULT": true, "RSA_2048": true, "RSAES_OAEP_SHA_256": true, "RSAES_OAEP_SHA_1": false, "RSAES_PKCS1_V1_5": false, "RSA_AES_KEY_WRAP_SHA_1": false,
		"ECC_NIST_P256": true, "ECC_NIST_EDWARDS25519": true, "ECC_SECG_P256K1": false, "SM2": false, "SM2DSA": false, "HMAC_224": true,
		"ML_KEM_512": false, "ML_KEM_768": true, "ML_DSA_44": false,
	} {
		if got := approved(name, func() bool { return false }); got != want {
			t.Errorf("approved(%s) = %v", name, got)
		}
	}
	if !approved("ML_DSA_44", func() bool { return true }) {
		t.Error("ML-DSA is not approved where the module has it")
	}
}
