package wire_test

import (
	"strings"
	"testing"

	"github.com/claviger/claviger/kmstest"
)

// TestKeyRefusals gives each request that a key of its kind cannot serve its exact
// fault, and changes nothing (errors.md §§2 to 5).
func TestKeyRefusals(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	create := func(body string) string { return c.must(root, "CreateKey", body, "Arn") }
	symmetric, mac, other := create(`{}`), create(`{"KeySpec":"HMAC_224","KeyUsage":"GENERATE_VERIFY_MAC"}`), create(`{}`)
	signing, sealing := create(`{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY"}`), create(`{"KeySpec":"RSA_2048","KeyUsage":"ENCRYPT_DECRYPT"}`)
	edwards, lattice := create(`{"KeySpec":"ECC_NIST_EDWARDS25519","KeyUsage":"SIGN_VERIFY"}`), create(`{"KeySpec":"ML_DSA_44","KeyUsage":"SIGN_VERIFY"}`)
	agreeing, external, primary := create(`{"KeySpec":"ECC_NIST_P384","KeyUsage":"KEY_AGREEMENT"}`), create(`{"Origin":"EXTERNAL"}`), create(`{"MultiRegion":true}`)
	blob := c.must(root, "Encrypt", `{"KeyId":"`+symmetric+`","Plaintext":"eA=="}`, "CiphertextBlob")
	fault := func(code, text string) string {
		if text == "" {
			return `{"__type":"` + code + `"}`
		}
		return `{"__type":"` + code + `","message":"` + text + `"}`
	}
	unsupported := func(text string) string { return fault("UnsupportedOperationException", text) }
	usage := func(key, is, operation string) string {
		return fault("InvalidKeyUsageException", key+" key usage is "+is+" which is not valid for "+operation+".")
	}
	invalid := func(text string) string { return fault("ValidationException", text) }
	base64 := func(n int) string { return strings.Repeat("AAAA", n/3) + []string{"", "AA==", "AAA="}[n%3] }
	sign := func(key, algorithm, form, message string) string {
		return `{"KeyId":"` + key + `","SigningAlgorithm":"` + algorithm + `","MessageType":"` + form + `","Message":"` + message + `"}`
	}
	tests := []struct{ name, operation, body, want string }{
		{"a spec without its usage", "CreateKey", `{"KeySpec":"RSA_2048"}`, invalid("You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.")},
		{"a spec with another usage", "CreateKey", `{"KeySpec":"RSA_2048","KeyUsage":"KEY_AGREEMENT"}`, invalid("KeyUsage KEY_AGREEMENT is not compatible with KeySpec RSA_2048")},
		{"no spec", "CreateKey", `{"KeySpec":"RSA_1024","KeyUsage":"SIGN_VERIFY"}`, ""},
		{"signing with a symmetric key", "Sign", sign(symmetric, "ECDSA_SHA_256", "RAW", "eA=="), usage(symmetric, "ENCRYPT_DECRYPT", "Sign")},
		{"verifying with an HMAC key", "Verify", strings.Replace(sign(mac, "ECDSA_SHA_256", "RAW", "eA=="), `{`, `{"Signature":"eA==",`, 1), usage(mac, "GENERATE_VERIFY_MAC", "Verify")},
		{"encrypting with a signing key", "Encrypt", `{"KeyId":"` + signing + `","Plaintext":"eA=="}`, usage(signing, "SIGN_VERIFY", "Encrypt")},
		{"a data key of a signing key", "GenerateDataKey", `{"KeyId":"` + signing + `","KeySpec":"AES_256"}`, usage(signing, "SIGN_VERIFY", "GenerateDataKey")},
		{"a data key of an RSA key", "GenerateDataKey", `{"KeyId":"` + sealing + `","KeySpec":"AES_256"}`, fault("InvalidKeyUsageException", "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")},
		{"decrypting with a signing key", "Decrypt", `{"KeyId":"` + signing + `","CiphertextBlob":"` + blob + `"}`, fault("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")},
		{"decrypting with an HMAC key", "Decrypt", `{"KeyId":"` + mac + `","CiphertextBlob":"eA=="}`, fault("IncorrectKeyException", "The key ID in the request does not identify a CMK that can perform this operation.")},
		{"a MAC by a symmetric key", "GenerateMac", `{"KeyId":"` + symmetric + `","Message":"eA==","MacAlgorithm":"HMAC_SHA_256"}`, usage(symmetric, "ENCRYPT_DECRYPT", "GenerateMac")},
		{"a MAC of another algorithm", "GenerateMac", `{"KeyId":"` + mac + `","Message":"eA==","MacAlgorithm":"HMAC_SHA_256"}`, fault("InvalidKeyUsageException", "Algorithm HMAC_SHA_256 is incompatible with key spec HMAC_224.")},
		{"a MAC that is wrong", "VerifyMac", `{"KeyId":"` + mac + `","Message":"eA==","Mac":"eA==","MacAlgorithm":"HMAC_SHA_224"}`, fault("KMSInvalidMacException", "")},
		{"a secret with a signing key", "DeriveSharedSecret", `{"KeyId":"` + signing + `","KeyAgreementAlgorithm":"ECDH","PublicKey":"eA=="}`, usage(signing, "SIGN_VERIFY", "DeriveSharedSecret")},
		{"a secret with no public key", "DeriveSharedSecret", `{"KeyId":"` + agreeing + `","KeyAgreementAlgorithm":"ECDH","PublicKey":"eA=="}`, fault("ValidationException", "")},
		{"encapsulating for a signing key", "Encapsulate", `{"KeyId":"` + signing + `","EncapsulationAlgorithm":"ML_KEM"}`, usage(signing, "SIGN_VERIFY", "Encapsulate")},
		{"another curve's algorithm", "Sign", sign(signing, "ECDSA_SHA_384", "RAW", "eA=="), fault("InvalidKeyUsageException", "Algorithm ECDSA_SHA_384 is incompatible with key spec ECC_NIST_P256.")},
		{"a long plaintext in a dry run", "Encrypt", `{"KeyId":"` + sealing + `","Plaintext":"` + base64(191) + `","EncryptionAlgorithm":"RSAES_OAEP_SHA_256","DryRun":true}`, invalid("Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.")},
		{"an empty pair of context for an asymmetric key", "Encrypt", `{"KeyId":"` + sealing + `","Plaintext":"eA==","EncryptionAlgorithm":"RSAES_OAEP_SHA_256","EncryptionContext":{"":""}}`, ""},
		{"a blob with an initialization vector of 255 bytes", "Decrypt", `{"CiphertextBlob":"Ag` + strings.Repeat("A", 72) + `D/` + base64(342) + `"}`, fault("InvalidCiphertextException", "")},
		{"a digest of 31 bytes", "Sign", sign(signing, "ECDSA_SHA_256", "DIGEST", base64(31)), invalid("Digest is invalid length for algorithm ECDSA_SHA_256.")},
		{"a digest of 33 bytes", "Sign", sign(signing, "ECDSA_SHA_256", "DIGEST", base64(33)), invalid("Digest is invalid length for algorithm ECDSA_SHA_256.")},
		{"an external µ for ECDSA", "Sign", sign(signing, "ECDSA_SHA_256", "EXTERNAL_MU", base64(64)), invalid("Algorithm ECDSA_SHA_256 does not support message type EXTERNAL_MU.")},
		{"a digest for Ed25519", "Sign", sign(edwards, "ED25519_SHA_512", "DIGEST", base64(64)), invalid("Algorithm ED25519_SHA_512 does not support message type DIGEST.")},
		{"a message for Ed25519ph", "Sign", sign(edwards, "ED25519_PH_SHA_512", "RAW", "eA=="), invalid("Algorithm ED25519_PH_SHA_512 does not support message type RAW.")},
		{"a digest of 32 bytes for Ed25519ph", "Sign", sign(edwards, "ED25519_PH_SHA_512", "DIGEST", base64(32)), invalid("Digest is invalid length for algorithm ED25519_PH_SHA_512.")},
		{"a digest for ML-DSA", "Sign", sign(lattice, "ML_DSA_SHAKE_256", "DIGEST", base64(64)), invalid("Algorithm ML_DSA_SHAKE_256 does not support message type DIGEST.")},
		{"a µ of 63 bytes", "Sign", sign(lattice, "ML_DSA_SHAKE_256", "EXTERNAL_MU", base64(63)), invalid("Digest is invalid length for algorithm ML_DSA_SHAKE_256.")},
		{"a message of 4,097 bytes", "Sign", sign(signing, "ECDSA_SHA_256", "RAW", base64(4097)), invalid("1 validation error detected: Value at 'message' failed to satisfy constraint: Member must have length less than or equal to 4096")},
		{"a signature that is none", "Verify", strings.Replace(sign(signing, "ECDSA_SHA_256", "RAW", "eA=="), `{`, `{"Signature":"eA==",`, 1), fault("KMSInvalidSignatureException", "")},
		{"a bad digest in a dry run", "Sign", strings.Replace(sign(signing, "ECDSA_SHA_256", "DIGEST", "eA=="), `{`, `{"DryRun":true,`, 1), invalid("Digest is invalid length for algorithm ECDSA_SHA_256.")},
		{"a dry run", "Sign", strings.Replace(sign(signing, "ECDSA_SHA_256", "RAW", "eA=="), `{`, `{"DryRun":true,`, 1), fault("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")},
		{"191 bytes for OAEP with SHA-256", "Encrypt", `{"KeyId":"` + sealing + `","EncryptionAlgorithm":"RSAES_OAEP_SHA_256","Plaintext":"` + base64(191) + `"}`, invalid("Algorithm RSAES_OAEP_SHA_256 and key spec RSA_2048 cannot encrypt data larger than 190 bytes.")},
		{"215 bytes for OAEP with SHA-1", "Encrypt", `{"KeyId":"` + sealing + `","EncryptionAlgorithm":"RSAES_OAEP_SHA_1","Plaintext":"` + base64(215) + `"}`, invalid("Algorithm RSAES_OAEP_SHA_1 and key spec RSA_2048 cannot encrypt data larger than 214 bytes.")},
		{"no algorithm for an RSA key", "Encrypt", `{"KeyId":"` + sealing + `","Plaintext":"eA=="}`, fault("InvalidKeyUsageException", "Algorithm SYMMETRIC_DEFAULT is incompatible with key spec RSA_2048.")},

		{"the public key of a symmetric key", "GetPublicKey", `{"KeyId":"` + symmetric + `"}`, unsupported("")},
		{"rotation of an HMAC key", "EnableKeyRotation", `{"KeyId":"` + mac + `"}`, unsupported("")},
		{"rotation of imported material", "EnableKeyRotation", `{"KeyId":"` + external + `"}`, unsupported(external + " origin is EXTERNAL which is not valid for this operation.")},
		{"rotation too often", "EnableKeyRotation", `{"KeyId":"` + symmetric + `","RotationPeriodInDays":89}`, invalid("1 validation error detected: Value '89' at 'rotationPeriodInDays' failed to satisfy constraint: Member must have value greater than or equal to 90")},
		{"on demand of an asymmetric key", "RotateKeyOnDemand", `{"KeyId":"` + signing + `"}`, unsupported("")},
		{"on demand without material", "RotateKeyOnDemand", `{"KeyId":"` + external + `"}`, fault("KMSInvalidStateException", external+" is pending import.")},
		{"an import into a key of ours", "GetParametersForImport", `{"KeyId":"` + symmetric + `","WrappingAlgorithm":"RSAES_OAEP_SHA_256","WrappingKeySpec":"RSA_2048"}`, unsupported(symmetric + " origin is AWS_KMS which is not valid for this operation.")},
		{"deleting material of ours", "DeleteImportedKeyMaterial", `{"KeyId":"` + symmetric + `"}`, unsupported(symmetric + " origin is AWS_KMS which is not valid for this operation.")},
		{"an import without expiry", "ImportKeyMaterial", `{"KeyId":"` + external + `","ImportToken":"eA==","EncryptedKeyMaterial":"eA=="}`, invalid("A validTo date must be set if the ExpirationModel is KEY_MATERIAL_EXPIRES")},
		{"an import with no token", "ImportKeyMaterial", `{"KeyId":"` + external + `","ImportToken":"eA==","EncryptedKeyMaterial":"eA==","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"}`, fault("InvalidImportTokenException", "")},
		{"using a key without material", "Encrypt", `{"KeyId":"` + external + `","Plaintext":"eA=="}`, fault("KMSInvalidStateException", external+" is pending import.")},
		{"a replica of a single-Region key", "ReplicateKey", `{"KeyId":"` + symmetric + `","ReplicaRegion":"eu-west-1"}`, unsupported(symmetric + " is not a multi-region primary key.")},
		{"a replica in its own Region", "ReplicateKey", `{"KeyId":"` + primary + `","ReplicaRegion":"us-east-1"}`, invalid("ReplicaRegion us-east-1 is not valid for " + primary + ".")},
		{"a new primary of a single-Region key", "UpdatePrimaryRegion", `{"KeyId":"` + symmetric + `","PrimaryRegion":"eu-west-1"}`, unsupported(symmetric + " is not a multi-region primary key.")},
		{"an alias to a key of another class", "UpdateAlias", `{"AliasName":"alias/none","TargetKeyId":"` + signing + `"}`, fault("NotFoundException", "Alias arn:aws:kms:us-east-1:111122223333:alias/none is not found.")},
		{"SM2", "CreateKey", `{"KeySpec":"SM2","KeyUsage":"SIGN_VERIFY"}`, unsupported("KeySpec SM2 is not supported in this Region.")},
		{"a key store that does not exist", "ConnectCustomKeyStore", `{"CustomKeyStoreId":"cks-1"}`, fault("CustomKeyStoreNotFoundException", "")},
		{"a marker of another list", "ListKeyRotations", `{"KeyId":"` + symmetric + `","Marker":"x"}`, fault("InvalidMarkerException", "")},
		{"IGNORE_CIPHERTEXT without DryRun", "Decrypt", `{"DryRunModifiers":["IGNORE_CIPHERTEXT"],"KeyId":"` + other + `"}`, invalid("DryRunModifiers can be specified only with DryRun.")},
	}
	alice := c.user("alice")
	if _, text := c.call(alice, "ScheduleKeyDeletion", `{"KeyId":"`+symmetric+`","PendingWindowInDays":3}`); find(text, "__type") != "AccessDeniedException" {
		t.Errorf("a bad window without permission: %s", text)
	}
	if _, text := c.call(alice, "CreateKey", `{"KeySpec":"RSA_2048"}`); find(text, "__type") != "AccessDeniedException" {
		t.Errorf("a key that cannot be, without permission: %s", text)
	}
	before := c.srv.Revision()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.call(root, tt.operation, tt.body)
			if status != 400 || tt.want != "" && text != tt.want || tt.want == "" && find(text, "__type") != "ValidationException" {
				t.Errorf("got  %d %s\nwant 400 %s", status, text, tt.want)
			}
		})
	}
	if after := c.srv.Revision(); after != before {
		t.Errorf("refused requests changed something: revision %d, was %d", after, before)
	}
}
