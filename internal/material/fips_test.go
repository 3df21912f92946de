package material

import "testing"

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
