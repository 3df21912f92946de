package kms_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/internal/attest/attesttest"
	"github.com/claviger/claviger/kmstest"
)

// An enclave has a private key that its attestation document speaks for.
type enclave struct {
	w    world
	path string // of its private key
	info *types.RecipientInfo
}

func newEnclave(w world, root *attesttest.Root, change func(attesttest.Payload)) enclave {
	w.t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		w.t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	path := filepath.Join(w.t.TempDir(), "key")
	if err := os.WriteFile(path, der, 0o600); err != nil {
		w.t.Fatal(err)
	}
	return enclave{w, path, &types.RecipientInfo{KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256,
		AttestationDocument: root.Document(time.Now(), &key.PublicKey, change)}}
}

// open decrypts an answer for the enclave.
func (e enclave) open(sealed []byte) []byte {
	e.w.t.Helper()
	cmd := exec.Command("openssl", "cms", "-decrypt", "-inform", "DER", "-keyform", "DER", "-inkey", e.path, "-binary")
	cmd.Stdin = bytes.NewReader(sealed)
	out, err := cmd.Output()
	if err != nil {
		e.w.t.Fatal(err)
	}
	return out
}

// Every operation with a Recipient answers for it alone, and a policy can ask for
// what runs there.
func TestRecipient(t *testing.T) {
	root := attesttest.NewRoot(t, time.Now())
	w := newWorld(t, kmstest.AttestationRoots(root.Pool()))
	ctx, key := t.Context(), w.key()
	e := newEnclave(w, root, nil)
	blob := w.sealed(key.KeyId, "hello")
	opened, err := w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, Recipient: e.info})
	if err != nil || opened.Plaintext != nil || string(e.open(opened.CiphertextForRecipient)) != "hello" {
		t.Errorf("Decrypt = %+v, %v", opened, err)
	}
	data, err := w.root.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key.KeyId, KeySpec: types.DataKeySpecAes256, Recipient: e.info})
	if err != nil || data.Plaintext != nil {
		t.Fatal(data, err)
	}
	w.opens(data.CiphertextBlob, string(e.open(data.CiphertextForRecipient)))
	pair, err := w.root.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: key.KeyId, KeyPairSpec: types.DataKeyPairSpecEccNistP256, Recipient: e.info})
	if err != nil || pair.PrivateKeyPlaintext != nil {
		t.Fatal(pair, err)
	}
	w.opens(pair.PrivateKeyCiphertextBlob, string(e.open(pair.CiphertextForRecipient)))
	random, err := w.root.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(33), Recipient: e.info})
	if err != nil || random.Plaintext != nil || len(e.open(random.CiphertextForRecipient)) != 33 {
		t.Errorf("GenerateRandom = %+v, %v", random, err)
	}
	agreement := w.keyOf(types.KeySpecEccNistP256, types.KeyUsageTypeKeyAgreement)
	peer, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(peer.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	shared, err := w.root.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{KeyId: agreement.KeyId, KeyAgreementAlgorithm: "ECDH", PublicKey: spki, Recipient: e.info})
	if err != nil || shared.SharedSecret != nil || len(e.open(shared.CiphertextForRecipient)) != 32 {
		t.Errorf("DeriveSharedSecret = %+v, %v", shared, err)
	}

	// Alice may decrypt in the enclave alone.
	measured := "AB" + strings.Repeat("00", 47)
	alice := w.user("alice", allow("kms:Decrypt", "*")+`,"Condition":{"StringEqualsIgnoreCase":{"kms:RecipientAttestation:ImageSha384":"`+measured+
		`","kms:RecipientAttestation:PCR1":"`+strings.Repeat("0", 96)+`"}}`)
	decrypt := func(r *types.RecipientInfo) error {
		_, err := alice.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, Recipient: r})
		return err
	}
	w.want("Decrypt in the enclave", decrypt(e.info), "")
	w.want("Decrypt elsewhere", decrypt(nil), "AccessDeniedException")
	other := newEnclave(w, root, func(p attesttest.Payload) { p["pcrs"] = map[int][]byte{0: make([]byte, 48), 1: make([]byte, 48)} })
	w.want("Decrypt in another enclave", decrypt(other.info), "AccessDeniedException")
	forged := newEnclave(w, attesttest.NewRoot(t, time.Now()), nil)
	w.want("Decrypt with a document of another root", decrypt(forged.info), "ValidationException")
	w.want("Decrypt with a document cut short", decrypt(&types.RecipientInfo{KeyEncryptionAlgorithm: e.info.KeyEncryptionAlgorithm,
		AttestationDocument: e.info.AttestationDocument[:100]}), "ValidationException")
	w.want("Decrypt without a document", decrypt(&types.RecipientInfo{KeyEncryptionAlgorithm: e.info.KeyEncryptionAlgorithm}), "ValidationException")
}
