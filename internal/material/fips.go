package material

import (
	"crypto/fips140"
	"crypto/mldsa"
	"strings"
)

// Approved reports whether a key spec, or an algorithm of keys, may be used. In the FIPS
// 140-3 mode of the Go Cryptographic Module those may not that are not approved
// (secp256k1, SM2, PKCS #1 v1.5 encryption, SHA-1), or that the module in use does not
// have (ML-KEM-512, ML-DSA in its first version). Otherwise all may.
func Approved(name string) bool { return !fips140.Enabled() || approved(name, mldsaAvailable) }

func approved(name string, mldsa func() bool) bool {
	switch {
	case name == "ECC_SECG_P256K1" || name == "ML_KEM_512" || strings.HasPrefix(name, "SM2"):
		return false
	case name == "RSAES_PKCS1_V1_5" || strings.HasSuffix(name, "_SHA_1"):
		return false
	case strings.HasPrefix(name, "ML_DSA_"):
		return mldsa()
	default:
		return true
	}
}

// mldsaAvailable reports whether the module has ML-DSA.
func mldsaAvailable() bool {
	_, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), make([]byte, 32))
	return err == nil
}
