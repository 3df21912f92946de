package clients

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

// awsCLI is `aws kms` in a directory of its own, and openssl there.
func awsCLI(t *testing.T) (awskms, openssl program) {
	t.Helper()
	installDebian(t, onPath("aws", "openssl"), "awscli", "openssl")
	dir := t.TempDir()
	// Versions before 2.13 do not know AWS_ENDPOINT_URL.
	return program{path: "aws", args: []string{"--endpoint-url", plainURL, "--output", "json", "kms"}, dir: dir},
		program{path: "openssl", dir: dir}
}

// known tells whether this version of the CLI has the command: Debian 12's lacks
// the newest. The test then has the SDK do that step.
func known(awskms program, command string) bool {
	_, err := awskms.try(command)
	return !strings.Contains(err.Error(), "nvalid choice")
}

// An answer has the members of several answers; those not answered are empty.
type answer struct {
	KeyMetadata, ReplicaKeyMetadata struct {
		Arn, KeyState string
	}
	KeyId, KeyArn                                 string
	Plaintext, CiphertextBlob                     []byte
	Signature, PublicKey, ImportToken             []byte
	PrivateKeyPlaintext, PrivateKeyCiphertextBlob []byte
	Mac, SharedSecret                             []byte
	SignatureValid, MacValid                      bool
	Rotations                                     []struct{ RotationType string }
}

// ask runs a command and decodes the answer.
func (p program) ask(t *testing.T, args ...string) answer {
	t.Helper()
	out := p.run(t, args...)
	if out == "" {
		return answer{}
	}
	return decodeJSON[answer](t, out)
}

func (p program) createKey(t *testing.T, args ...string) (arn string) {
	t.Helper()
	return p.ask(t, append([]string{"create-key"}, args...)...).KeyMetadata.Arn
}

func TestAWSCLIEncryptsAndDecrypts(t *testing.T) {
	t.Parallel()
	aws, _ := awsCLI(t)
	key := aws.createKey(t)
	aws.run(t, "create-alias", "--alias-name", "alias/awscli", "--target-key-id", key)
	writeFile(t, aws.dir, "plain", []byte("attack at dawn"))

	sealed := aws.ask(t, "encrypt", "--key-id", "alias/awscli", "--plaintext", "fileb://plain", "--encryption-context", "to=field")
	if sealed.KeyId != key {
		t.Errorf("encrypted with %s, want %s", sealed.KeyId, key)
	}
	writeFile(t, aws.dir, "sealed", sealed.CiphertextBlob)
	decrypt := []string{"decrypt", "--ciphertext-blob", "fileb://sealed", "--encryption-context"}
	if got := aws.ask(t, append(decrypt, "to=field")...).Plaintext; string(got) != "attack at dawn" {
		t.Errorf("decrypted %q", got)
	}
	aws.refused(t, "InvalidCiphertextException", append(decrypt, "to=sea")...)

	aws.run(t, "disable-key", "--key-id", key)
	aws.refused(t, "DisabledException", append(decrypt, "to=field")...)
	aws.run(t, "schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7")
	aws.refused(t, "KMSInvalidStateException", append(decrypt, "to=field")...)
	if state := aws.ask(t, "describe-key", "--key-id", key).KeyMetadata.KeyState; state != "PendingDeletion" {
		t.Errorf("state %s after scheduled deletion", state)
	}
}

// What KMS signs, openssl verifies with the public key that KMS gives out.
func TestAWSCLISignsForOpenSSL(t *testing.T) {
	for _, c := range []struct {
		spec, algorithm string
		openssl         string // with PUB, SIG and MSG for the files
	}{
		{"RSA_2048", "RSASSA_PKCS1_V1_5_SHA_256", "dgst -sha256 -verify PUB -signature SIG MSG"},
		{"RSA_3072", "RSASSA_PSS_SHA_384", "dgst -sha384 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:48 -verify PUB -signature SIG MSG"},
		{"RSA_4096", "RSASSA_PSS_SHA_512", "dgst -sha512 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:64 -verify PUB -signature SIG MSG"},
		{"ECC_NIST_P256", "ECDSA_SHA_256", "dgst -sha256 -verify PUB -signature SIG MSG"},
		{"ECC_NIST_P384", "ECDSA_SHA_384", "dgst -sha384 -verify PUB -signature SIG MSG"},
		{"ECC_NIST_P521", "ECDSA_SHA_512", "dgst -sha512 -verify PUB -signature SIG MSG"},
		{"ECC_SECG_P256K1", "ECDSA_SHA_256", "dgst -sha256 -verify PUB -signature SIG MSG"},
		{"ECC_NIST_EDWARDS25519", "ED25519_SHA_512", "pkeyutl -verify -rawin -pubin -inkey PUB -sigfile SIG -in MSG"},
	} {
		t.Run(c.spec, func(t *testing.T) {
			t.Parallel()
			aws, openssl := awsCLI(t)
			key := aws.createKey(t, "--key-spec", c.spec, "--key-usage", "SIGN_VERIFY")
			writeFile(t, aws.dir, "MSG", []byte("pay 100 to Bob"))
			writeFile(t, aws.dir, "MSG2", []byte("pay 900 to Bob"))
			common := []string{"--key-id", key, "--signing-algorithm", c.algorithm, "--message", "fileb://MSG"}
			signature := aws.ask(t, append([]string{"sign"}, common...)...).Signature
			writeFile(t, aws.dir, "SIG", signature)
			public := aws.ask(t, "get-public-key", "--key-id", key).PublicKey
			writeFile(t, aws.dir, "PUB", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))

			openssl.run(t, strings.Fields(c.openssl)...)
			if _, err := openssl.try(strings.Fields(c.openssl + "2")...); err == nil {
				t.Error("openssl verifies another message")
			}
			verify := append([]string{"verify", "--signature", "fileb://SIG"}, common...)
			if !aws.ask(t, verify...).SignatureValid {
				t.Error("KMS does not verify its signature")
			}
			aws.refused(t, "KMSInvalidSignatureException", append(verify[:len(verify)-1], "fileb://MSG2")...)
		})
	}
}

// What openssl encrypts with the public key, KMS decrypts.
func TestAWSCLIDecryptsForOpenSSL(t *testing.T) {
	t.Parallel()
	aws, openssl := awsCLI(t)
	key := aws.createKey(t, "--key-spec", "RSA_2048", "--key-usage", "ENCRYPT_DECRYPT")
	writeFile(t, aws.dir, "public", aws.ask(t, "get-public-key", "--key-id", key).PublicKey)
	writeFile(t, aws.dir, "plain", []byte("from outside"))
	oaepEncrypt(t, openssl, "public", "plain", "sealed")
	got := aws.ask(t, "decrypt", "--key-id", key, "--encryption-algorithm", "RSAES_OAEP_SHA_256", "--ciphertext-blob", "fileb://sealed")
	if string(got.Plaintext) != "from outside" {
		t.Errorf("decrypted %q", got.Plaintext)
	}
}

func oaepEncrypt(t *testing.T, openssl program, public, in, out string) {
	t.Helper()
	openssl.run(t, "pkeyutl", "-encrypt", "-pubin", "-keyform", "DER", "-inkey", public, "-in", in, "-out", out,
		"-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:sha256", "-pkeyopt", "rsa_mgf1_md:sha256")
}

// importParameters fetches a wrapping key and a token into the files public and token.
func importParameters(t *testing.T, aws program, key, algorithm string) {
	t.Helper()
	got := aws.ask(t, "get-parameters-for-import", "--key-id", key, "--wrapping-algorithm", algorithm, "--wrapping-key-spec", "RSA_4096")
	writeFile(t, aws.dir, "public", got.PublicKey)
	writeFile(t, aws.dir, "token", got.ImportToken)
}

func importWrapped(key string) []string {
	return []string{"import-key-material", "--key-id", key, "--encrypted-key-material", "fileb://wrapped",
		"--import-token", "fileb://token", "--expiration-model", "KEY_MATERIAL_DOES_NOT_EXPIRE"}
}

// Bring your own key: the material is openssl's, and only the same material
// brings the key back after it was deleted.
func TestAWSCLIImportsSymmetricKey(t *testing.T) {
	t.Parallel()
	aws, openssl := awsCLI(t)
	key := aws.createKey(t, "--origin", "EXTERNAL")
	writeFile(t, aws.dir, "plain", []byte("mine"))
	encrypt := []string{"encrypt", "--key-id", key, "--plaintext", "fileb://plain"}
	decrypt := []string{"decrypt", "--key-id", key, "--ciphertext-blob", "fileb://sealed"}
	aws.refused(t, "KMSInvalidStateException", encrypt...)

	openssl.run(t, "rand", "-out", "material", "32")
	importMaterial := func() []string {
		importParameters(t, aws, key, "RSAES_OAEP_SHA_256")
		oaepEncrypt(t, openssl, "public", "material", "wrapped")
		return importWrapped(key)
	}
	aws.run(t, importMaterial()...)
	writeFile(t, aws.dir, "sealed", aws.ask(t, encrypt...).CiphertextBlob)

	aws.run(t, "delete-imported-key-material", "--key-id", key)
	aws.refused(t, "KMSInvalidStateException", decrypt...)
	aws.run(t, importMaterial()...)
	if got := aws.ask(t, decrypt...).Plaintext; string(got) != "mine" {
		t.Errorf("decrypted %q", got)
	}
	openssl.run(t, "rand", "-out", "material", "32")
	aws.run(t, "delete-imported-key-material", "--key-id", key)
	aws.refused(t, "IncorrectKeyMaterialException", importMaterial()...)
}

// A private key of openssl's is imported, wrapped as AWS's guide says: an AES
// key wraps it, and the wrapping key encrypts the AES key.
func TestAWSCLIImportsRSAKey(t *testing.T) {
	t.Parallel()
	aws, openssl := awsCLI(t)
	key := aws.createKey(t, "--origin", "EXTERNAL", "--key-spec", "RSA_2048", "--key-usage", "SIGN_VERIFY")
	openssl.run(t, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-outform", "DER", "-out", "private")
	openssl.run(t, "pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-outform", "DER", "-in", "private", "-out", "private.p8")

	importParameters(t, aws, key, "RSA_AES_KEY_WRAP_SHA_256")
	aesKey := make([]byte, 32)
	rand.Read(aesKey)
	writeFile(t, aws.dir, "aes", aesKey)
	openssl.run(t, "enc", "-id-aes256-wrap-pad", "-K", hex.EncodeToString(aesKey), "-iv", "A65959A6", "-in", "private.p8", "-out", "wrapped.key")
	oaepEncrypt(t, openssl, "public", "aes", "wrapped.aes")
	writeFile(t, aws.dir, "wrapped", append(readFile(t, filepath.Join(aws.dir, "wrapped.aes")), readFile(t, filepath.Join(aws.dir, "wrapped.key"))...))
	aws.run(t, importWrapped(key)...)

	openssl.run(t, "pkey", "-inform", "DER", "-in", "private", "-pubout", "-outform", "DER", "-out", "public.own")
	if got := aws.ask(t, "get-public-key", "--key-id", key).PublicKey; !bytes.Equal(got, readFile(t, filepath.Join(aws.dir, "public.own"))) {
		t.Error("the public key is not that of the imported private key")
	}
	// RSASSA-PKCS1-v1_5 is deterministic: KMS signs as openssl does.
	writeFile(t, aws.dir, "message", []byte("signed twice"))
	got := aws.ask(t, "sign", "--key-id", key, "--signing-algorithm", "RSASSA_PKCS1_V1_5_SHA_256", "--message", "fileb://message")
	openssl.run(t, "dgst", "-sha256", "-keyform", "DER", "-sign", "private", "-out", "signature", "message")
	if !bytes.Equal(got.Signature, readFile(t, filepath.Join(aws.dir, "signature"))) {
		t.Error("KMS signs otherwise than openssl with the same key")
	}
}

// A MAC with an imported key is the MAC that openssl computes with it.
func TestAWSCLIGeneratesMAC(t *testing.T) {
	t.Parallel()
	aws, openssl := awsCLI(t)
	key := aws.createKey(t, "--origin", "EXTERNAL", "--key-spec", "HMAC_256", "--key-usage", "GENERATE_VERIFY_MAC")
	material := make([]byte, 32)
	rand.Read(material)
	writeFile(t, aws.dir, "material", material)
	importParameters(t, aws, key, "RSAES_OAEP_SHA_256")
	oaepEncrypt(t, openssl, "public", "material", "wrapped")
	aws.run(t, importWrapped(key)...)

	writeFile(t, aws.dir, "message", []byte("order 66"))
	common := []string{"--key-id", key, "--mac-algorithm", "HMAC_SHA_256", "--message", "fileb://message"}
	mac := aws.ask(t, append([]string{"generate-mac"}, common...)...).Mac
	want := strings.Fields(openssl.run(t, "dgst", "-sha256", "-mac", "HMAC", "-macopt", "hexkey:"+hex.EncodeToString(material), "-r", "message"))[0]
	if hex.EncodeToString(mac) != want {
		t.Errorf("MAC %x, openssl says %s", mac, want)
	}
	writeFile(t, aws.dir, "mac", mac)
	if !aws.ask(t, append([]string{"verify-mac", "--mac", "fileb://mac"}, common...)...).MacValid {
		t.Error("KMS does not verify its MAC")
	}
	mac[0] ^= 1
	writeFile(t, aws.dir, "mac", mac)
	aws.refused(t, "KMSInvalidMacException", append([]string{"verify-mac", "--mac", "fileb://mac"}, common...)...)
}

// The private key in the clear is the one in the blob, and openssl reads it.
func TestAWSCLIGeneratesDataKeyPair(t *testing.T) {
	for _, spec := range []string{"RSA_2048", "ECC_NIST_P384", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519"} {
		t.Run(spec, func(t *testing.T) {
			t.Parallel()
			aws, openssl := awsCLI(t)
			key := aws.createKey(t)
			pair := aws.ask(t, "generate-data-key-pair", "--key-id", key, "--key-pair-spec", spec)
			writeFile(t, aws.dir, "sealed", pair.PrivateKeyCiphertextBlob)
			if got := aws.ask(t, "decrypt", "--ciphertext-blob", "fileb://sealed").Plaintext; !bytes.Equal(got, pair.PrivateKeyPlaintext) {
				t.Error("the blob holds another private key")
			}
			writeFile(t, aws.dir, "private", pair.PrivateKeyPlaintext)
			openssl.run(t, "pkey", "-inform", "DER", "-in", "private", "-pubout", "-outform", "DER", "-out", "public")
			if !bytes.Equal(readFile(t, filepath.Join(aws.dir, "public")), pair.PublicKey) {
				t.Error("the public key is not that of the private key")
			}
		})
	}
}

// After a rotation the key encrypts with new material and still decrypts what
// the old one encrypted.
func TestAWSCLIRotates(t *testing.T) {
	t.Parallel()
	aws, _ := awsCLI(t)
	key := aws.createKey(t)
	writeFile(t, aws.dir, "plain", []byte("older than the rotation"))
	writeFile(t, aws.dir, "sealed", aws.ask(t, "encrypt", "--key-id", key, "--plaintext", "fileb://plain").CiphertextBlob)

	aws.run(t, "enable-key-rotation", "--key-id", key)
	if out := aws.run(t, "get-key-rotation-status", "--key-id", key); !strings.Contains(out, `"KeyRotationEnabled": true`) {
		t.Errorf("status after enabling rotation: %s", out)
	}
	if known(aws, "rotate-key-on-demand") {
		if got := aws.ask(t, "rotate-key-on-demand", "--key-id", key).KeyId; got != key {
			t.Errorf("rotated %s, want %s", got, key)
		}
		rotations := aws.ask(t, "list-key-rotations", "--key-id", key).Rotations
		if len(rotations) != 1 || rotations[0].RotationType != "ON_DEMAND" {
			t.Errorf("rotations %+v", rotations)
		}
	} else if _, err := kmsClient(region).RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &key}); err != nil {
		t.Fatal(err)
	}
	if got := aws.ask(t, "decrypt", "--ciphertext-blob", "fileb://sealed").Plaintext; string(got) != "older than the rotation" {
		t.Errorf("decrypted %q", got)
	}
	writeFile(t, aws.dir, "sealed", aws.ask(t, "encrypt", "--key-id", key, "--plaintext", "fileb://plain").CiphertextBlob)
	if got := aws.ask(t, "decrypt", "--ciphertext-blob", "fileb://sealed").Plaintext; string(got) != "older than the rotation" {
		t.Errorf("decrypted %q with the new material", got)
	}
}

// A replica in another Region decrypts what the primary key encrypted, and a
// key of one Region does not.
func TestAWSCLIReplicates(t *testing.T) {
	t.Parallel()
	aws, _ := awsCLI(t)
	primary := aws.createKey(t, "--multi-region")
	replica := aws.ask(t, "replicate-key", "--key-id", primary, "--replica-region", "eu-central-1").ReplicaKeyMetadata.Arn
	if want := strings.Replace(primary, region, "eu-central-1", 1); replica != want {
		t.Errorf("replica %s, want %s", replica, want)
	}
	writeFile(t, aws.dir, "plain", []byte("everywhere"))
	europe := []string{"decrypt", "--region", "eu-central-1", "--ciphertext-blob", "fileb://sealed"}
	writeFile(t, aws.dir, "sealed", aws.ask(t, "encrypt", "--key-id", primary, "--plaintext", "fileb://plain").CiphertextBlob)
	if got := aws.ask(t, europe...); string(got.Plaintext) != "everywhere" || got.KeyId != replica {
		t.Errorf("decrypted %q with %s", got.Plaintext, got.KeyId)
	}
	single := aws.createKey(t)
	writeFile(t, aws.dir, "sealed", aws.ask(t, "encrypt", "--key-id", single, "--plaintext", "fileb://plain").CiphertextBlob)
	aws.refused(t, "AccessDeniedException", europe...) // AWS does not say whether the key exists
}

// Both ends of a key agreement come to the same secret.
func TestAWSCLIDerivesSharedSecret(t *testing.T) {
	t.Parallel()
	aws, openssl := awsCLI(t)
	key := aws.createKey(t, "--key-spec", "ECC_NIST_P256", "--key-usage", "KEY_AGREEMENT")
	openssl.run(t, "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-outform", "DER", "-out", "private")
	openssl.run(t, "pkey", "-inform", "DER", "-in", "private", "-pubout", "-outform", "DER", "-out", "public")
	var secret []byte
	if known(aws, "derive-shared-secret") {
		secret = aws.ask(t, "derive-shared-secret", "--key-id", key, "--key-agreement-algorithm", "ECDH", "--public-key", "fileb://public").SharedSecret
	} else {
		out, err := kmsClient(region).DeriveSharedSecret(t.Context(), &kms.DeriveSharedSecretInput{KeyId: &key,
			KeyAgreementAlgorithm: "ECDH", PublicKey: readFile(t, filepath.Join(aws.dir, "public"))})
		if err != nil {
			t.Fatal(err)
		}
		secret = out.SharedSecret
	}
	writeFile(t, aws.dir, "peer", aws.ask(t, "get-public-key", "--key-id", key).PublicKey)
	openssl.run(t, "pkeyutl", "-derive", "-keyform", "DER", "-inkey", "private", "-peerform", "DER", "-peerkey", "peer", "-out", "secret")
	if want := readFile(t, filepath.Join(aws.dir, "secret")); !bytes.Equal(secret, want) {
		t.Errorf("secret %x, openssl says %x", secret, want)
	}
}
