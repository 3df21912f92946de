package kms_test

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mldsa"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"hash"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	decred "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/claviger/claviger/kmstest"
)

// keyOf makes a key of a spec and usage.
func (w world) keyOf(spec types.KeySpec, usage types.KeyUsageType) *types.KeyMetadata {
	w.t.Helper()
	out, err := w.root.CreateKey(w.t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.KeyMetadata
}

func (w world) publicKey(key *types.KeyMetadata) (any, *kms.GetPublicKeyOutput) {
	w.t.Helper()
	out, err := w.root.GetPublicKey(w.t.Context(), &kms.GetPublicKeyInput{KeyId: key.KeyId})
	if err != nil {
		w.t.Fatal(err)
	}
	if *out.KeyId != *key.Arn || out.KeySpec != key.KeySpec || out.KeyUsage != key.KeyUsage {
		w.t.Errorf("GetPublicKey = %+v of %+v", out, key)
	}
	parsed, err := x509.ParsePKIXPublicKey(out.PublicKey)
	if err != nil {
		parsed = out.PublicKey // of a kind that the standard library does not know
	}
	return parsed, out
}

// verified checks a signature with another library than made it.
func verified(public any, algorithm types.SigningAlgorithmSpec, message, signature []byte) bool {
	digest := func(n hash.Hash) []byte { n.Write(message); return n.Sum(nil) }
	sums := map[string]func() ([]byte, crypto.Hash){
		"256": func() ([]byte, crypto.Hash) { return digest(sha256.New()), crypto.SHA256 },
		"384": func() ([]byte, crypto.Hash) { return digest(sha512.New384()), crypto.SHA384 },
		"512": func() ([]byte, crypto.Hash) { return digest(sha512.New()), crypto.SHA512 },
	}
	d, kind := sums[string(algorithm)[len(algorithm)-3:]]()
	switch k := public.(type) {
	case *rsa.PublicKey:
		if slices.Contains([]types.SigningAlgorithmSpec{"RSASSA_PSS_SHA_256", "RSASSA_PSS_SHA_384", "RSASSA_PSS_SHA_512"}, algorithm) {
			return rsa.VerifyPSS(k, kind, d, signature, &rsa.PSSOptions{SaltLength: kind.Size()}) == nil
		}
		return rsa.VerifyPKCS1v15(k, kind, d, signature) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, d, signature)
	case ed25519.PublicKey:
		return ed25519.Verify(k, message, signature)
	case *mldsa.PublicKey:
		return mldsa.Verify(k, message, signature, nil) == nil
	case []byte: // secp256k1
		key, err1 := secp256k1.ParsePubKey(k[len(k)-65:])
		sig, err2 := decred.ParseDERSignature(signature)
		return err1 == nil && err2 == nil && sig.Verify(d, key)
	}
	return false
}

// Every signing algorithm of every key spec: what is signed verifies by the public
// key elsewhere and here, and nothing else does.
func TestSignAndVerify(t *testing.T) {
	w := newWorld(t)
	ctx, message := t.Context(), []byte("a message")
	specs := []types.KeySpec{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519",
		"ML_DSA_44", "ML_DSA_65", "ML_DSA_87"}
	for _, spec := range specs {
		t.Run(string(spec), func(t *testing.T) {
			key := w.keyOf(spec, types.KeyUsageTypeSignVerify)
			public, described := w.publicKey(key)
			if !slices.Equal(described.SigningAlgorithms, key.SigningAlgorithms) || described.EncryptionAlgorithms != nil {
				t.Errorf("algorithms %v, %v", described.SigningAlgorithms, key.SigningAlgorithms)
			}
			for _, algorithm := range key.SigningAlgorithms {
				form, input := types.MessageTypeRaw, message
				if algorithm == types.SigningAlgorithmSpecEd25519PhSha512 {
					d := sha512.Sum512(message)
					form, input = types.MessageTypeDigest, d[:]
				}
				signed, err := w.root.Sign(ctx, &kms.SignInput{KeyId: key.KeyId, Message: input, MessageType: form, SigningAlgorithm: algorithm})
				if err != nil {
					t.Fatal(algorithm, err)
				}
				if *signed.KeyId != *key.Arn || signed.SigningAlgorithm != algorithm {
					t.Errorf("Sign = %+v", signed)
				}
				if algorithm != types.SigningAlgorithmSpecEd25519PhSha512 && !verified(public, algorithm, message, signed.Signature) {
					t.Errorf("%s: the signature does not verify elsewhere", algorithm)
				}
				verify := func(m, s []byte) error {
					_, err := w.root.Verify(ctx, &kms.VerifyInput{KeyId: key.KeyId, Message: m, MessageType: form, Signature: s, SigningAlgorithm: algorithm})
					return err
				}
				w.want(string(algorithm)+": Verify", verify(input, signed.Signature), "")
				other := bytes.Clone(input)
				other[0] ^= 1
				w.want(string(algorithm)+": Verify of another message", verify(other, signed.Signature), "KMSInvalidSignatureException")
				broken := bytes.Clone(signed.Signature)
				broken[len(broken)-1] ^= 1
				w.want(string(algorithm)+": Verify of a changed signature", verify(input, broken), "KMSInvalidSignatureException")
				w.want(string(algorithm)+": Verify of a short signature", verify(input, broken[:1]), "KMSInvalidSignatureException")
			}
		})
	}
}

func TestAsymmetricEncryption(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for spec, limits := range map[types.KeySpec][2]int{"RSA_2048": {214, 190}, "RSA_3072": {342, 318}, "RSA_4096": {470, 446}} {
		key := w.keyOf(spec, types.KeyUsageTypeEncryptDecrypt)
		public, _ := w.publicKey(key)
		for i, algorithm := range []types.EncryptionAlgorithmSpec{"RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"} {
			longest := bytes.Repeat([]byte("x"), limits[i])
			sealed, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: longest, EncryptionAlgorithm: algorithm})
			if err != nil {
				t.Fatal(err)
			}
			opened, err := w.root.Decrypt(ctx, &kms.DecryptInput{KeyId: key.KeyId, CiphertextBlob: sealed.CiphertextBlob, EncryptionAlgorithm: algorithm})
			if err != nil || !bytes.Equal(opened.Plaintext, longest) || opened.KeyMaterialId != nil {
				t.Errorf("%s %s: Decrypt = %v, %v", spec, algorithm, opened, err)
			}
			_, err = w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: append(longest, 'x'), EncryptionAlgorithm: algorithm})
			w.want("Encrypt a byte too much", err, "ValidationException")
			h := []hash.Hash{sha1.New(), sha256.New()}[i]
			theirs, err := rsa.EncryptOAEP(h, rand.Reader, public.(*rsa.PublicKey), []byte("from elsewhere"), nil)
			if err != nil {
				t.Fatal(err)
			}
			opened, err = w.root.Decrypt(ctx, &kms.DecryptInput{KeyId: key.KeyId, CiphertextBlob: theirs, EncryptionAlgorithm: algorithm})
			if err != nil || string(opened.Plaintext) != "from elsewhere" {
				t.Errorf("%s %s: Decrypt of another library's ciphertext = %v, %v", spec, algorithm, opened, err)
			}
			theirs[0] ^= 1
			_, err = w.root.Decrypt(ctx, &kms.DecryptInput{KeyId: key.KeyId, CiphertextBlob: theirs, EncryptionAlgorithm: algorithm})
			w.want("Decrypt a changed ciphertext", err, "InvalidCiphertextException")
		}
		_, err := w.root.Decrypt(ctx, &kms.DecryptInput{KeyId: key.KeyId, CiphertextBlob: []byte("x")})
		w.want("Decrypt without the algorithm", err, "InvalidKeyUsageException")
		_, err = w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x"), EncryptionAlgorithm: "RSAES_OAEP_SHA_1", EncryptionContext: map[string]string{"a": "b"}})
		w.want("Encrypt with an encryption context", err, "ValidationException")
		_, err = w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: []byte("x"), EncryptionAlgorithm: "RSAES_OAEP_SHA_1"})
		w.want("Decrypt without a key", err, "ValidationException")
	}
	// From a symmetric key to an RSA key and back.
	key, blue := w.keyOf("RSA_2048", types.KeyUsageTypeEncryptDecrypt), w.key()
	sealed, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: blue.KeyId, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	moved, err := w.root.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, DestinationKeyId: key.KeyId, DestinationEncryptionAlgorithm: "RSAES_OAEP_SHA_256"})
	if err != nil || moved.DestinationKeyMaterialId != nil || moved.SourceKeyMaterialId == nil {
		t.Fatal(moved, err)
	}
	back, err := w.root.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: moved.CiphertextBlob, SourceKeyId: key.KeyId, SourceEncryptionAlgorithm: "RSAES_OAEP_SHA_256", DestinationKeyId: blue.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	if opened, err := w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: back.CiphertextBlob}); err != nil || string(opened.Plaintext) != "x" {
		t.Errorf("Decrypt = %v, %v", opened, err)
	}
}

func TestMACs(t *testing.T) {
	w := newWorld(t)
	ctx, message := t.Context(), bytes.Repeat([]byte("m"), 4096)
	for spec, size := range map[types.KeySpec]int{"HMAC_224": 28, "HMAC_256": 32, "HMAC_384": 48, "HMAC_512": 64} {
		key := w.keyOf(spec, types.KeyUsageTypeGenerateVerifyMac)
		if len(key.MacAlgorithms) != 1 || key.CurrentKeyMaterialId != nil {
			t.Errorf("metadata %+v", key)
		}
		out, err := w.root.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: key.KeyId, Message: message, MacAlgorithm: key.MacAlgorithms[0]})
		if err != nil || len(out.Mac) != size {
			t.Fatal(out, err)
		}
		verify := func(mac []byte) error {
			_, err := w.root.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: key.KeyId, Message: message, Mac: mac, MacAlgorithm: key.MacAlgorithms[0]})
			return err
		}
		w.want("VerifyMac", verify(out.Mac), "")
		w.want("VerifyMac of a part", verify(out.Mac[:size-1]), "KMSInvalidMacException")
		out.Mac[0] ^= 1
		w.want("VerifyMac of a change", verify(out.Mac), "KMSInvalidMacException")
	}
	key := w.keyOf("HMAC_256", types.KeyUsageTypeGenerateVerifyMac)
	_, err := w.root.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: key.KeyId, Message: message, MacAlgorithm: "HMAC_SHA_512"})
	w.want("GenerateMac with another algorithm", err, "InvalidKeyUsageException")
	_, err = w.root.GetPublicKey(ctx, &kms.GetPublicKeyInput{KeyId: key.KeyId})
	w.want("GetPublicKey", err, "UnsupportedOperationException")
}

func TestSharedSecrets(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for spec, curve := range map[types.KeySpec]ecdh.Curve{"ECC_NIST_P256": ecdh.P256(), "ECC_NIST_P384": ecdh.P384(), "ECC_NIST_P521": ecdh.P521()} {
		key := w.keyOf(spec, types.KeyUsageTypeKeyAgreement)
		public, _ := w.publicKey(key)
		ours, err := public.(*ecdsa.PublicKey).ECDH()
		if err != nil {
			t.Fatal(err)
		}
		peer, err := curve.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		want, err := peer.ECDH(ours)
		if err != nil {
			t.Fatal(err)
		}
		spki, err := x509.MarshalPKIXPublicKey(peer.PublicKey())
		if err != nil {
			t.Fatal(err)
		}
		derive := func(spki []byte) (*kms.DeriveSharedSecretOutput, error) {
			return w.root.DeriveSharedSecret(ctx, &kms.DeriveSharedSecretInput{KeyId: key.KeyId, KeyAgreementAlgorithm: "ECDH", PublicKey: spki})
		}
		out, err := derive(spki)
		if err != nil || !bytes.Equal(out.SharedSecret, want) || out.KeyOrigin != types.OriginTypeAwsKms {
			t.Errorf("%s: %v, %v; want %x", spec, out, err, want)
		}
		_, err = derive(spki[1:])
		w.want("DeriveSharedSecret with no DER", err, "ValidationException")
		off := bytes.Clone(spki)
		off[len(off)-1] ^= 1
		_, err = derive(off)
		w.want("DeriveSharedSecret with a point off the curve", err, "ValidationException")
		foreign, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if spki, err = x509.MarshalPKIXPublicKey(&foreign.PublicKey); err != nil {
			t.Fatal(err)
		}
		_, err = derive(spki)
		w.want("DeriveSharedSecret with another curve", err, "ValidationException")
	}
}

func TestEncapsulation(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	for spec, size := range map[types.KeySpec]int{"ML_KEM_512": 768, "ML_KEM_768": 1088, "ML_KEM_1024": 1568} {
		key := w.keyOf(spec, types.KeyUsageTypeEncapsulateDecapsulate)
		out, err := w.root.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: key.KeyId, EncapsulationAlgorithm: "ML_KEM"})
		if err != nil || len(out.SharedSecret) != 32 || len(out.SharedSecretCiphertextBlob) != size {
			t.Fatal(spec, out, err)
		}
		opened := func(blob []byte) ([]byte, error) {
			out, err := w.root.Decapsulate(ctx, &kms.DecapsulateInput{KeyId: key.KeyId, EncapsulationAlgorithm: "ML_KEM", SharedSecretCiphertextBlob: blob})
			if err != nil {
				return nil, err
			}
			return out.SharedSecret, nil
		}
		if got, err := opened(out.SharedSecretCiphertextBlob); err != nil || !bytes.Equal(got, out.SharedSecret) {
			t.Errorf("%s: %x, %v", spec, got, err)
		}
		_, err = opened(out.SharedSecretCiphertextBlob[1:])
		w.want("Decapsulate a short blob", err, "InvalidCiphertextException")
		out.SharedSecretCiphertextBlob[0] ^= 1
		if got, err := opened(out.SharedSecretCiphertextBlob); err != nil || bytes.Equal(got, out.SharedSecret) || len(got) != 32 {
			t.Errorf("%s: a changed blob gives %x, %v", spec, got, err)
		}
	}
	// The public key is one: another library encapsulates for it.
	key := w.keyOf("ML_KEM_768", types.KeyUsageTypeEncapsulateDecapsulate)
	_, described := w.publicKey(key)
	var spki struct {
		Algorithm struct{ ID asn1.ObjectIdentifier }
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(described.PublicKey, &spki); err != nil {
		t.Fatal(err)
	}
	public, err := mlkem.NewEncapsulationKey768(spki.Key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	secret, blob := public.Encapsulate()
	got, err := w.root.Decapsulate(ctx, &kms.DecapsulateInput{KeyId: key.KeyId, EncapsulationAlgorithm: "ML_KEM", SharedSecretCiphertextBlob: blob})
	if err != nil || !bytes.Equal(got.SharedSecret, secret) {
		t.Errorf("%v, %v", got, err)
	}
}

// A data key pair's private key opens again, and is the one of its public key.
func TestDataKeyPairs(t *testing.T) {
	w := newWorld(t)
	w2 := newWorld(t, kmstest.SM2())
	ctx, key := t.Context(), w.key()
	specs := []types.DataKeyPairSpec{"RSA_2048", "RSA_3072", "RSA_4096", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519",
		"ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"}
	for _, spec := range specs {
		encryptionContext := map[string]string{"for": string(spec)}
		out, err := w.root.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: key.KeyId, KeyPairSpec: spec, EncryptionContext: encryptionContext})
		if err != nil || out.KeyPairSpec != spec || out.KeyMaterialId == nil {
			t.Fatal(spec, out, err)
		}
		opened, err := w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: out.PrivateKeyCiphertextBlob, EncryptionContext: encryptionContext})
		if err != nil || !bytes.Equal(opened.Plaintext, out.PrivateKeyPlaintext) {
			t.Errorf("%s: Decrypt: %v", spec, err)
		}
		if private, err := x509.ParsePKCS8PrivateKey(out.PrivateKeyPlaintext); err == nil {
			spki, err := x509.MarshalPKIXPublicKey(private.(crypto.Signer).Public())
			if err != nil || !bytes.Equal(spki, out.PublicKey) {
				t.Errorf("%s: the public key is another one: %v", spec, err)
			}
		} else if spec != "ECC_SECG_P256K1" && spec[:6] != "ML_KEM" {
			t.Errorf("%s: %v", spec, err)
		}
		without, err := w.root.GenerateDataKeyPairWithoutPlaintext(ctx, &kms.GenerateDataKeyPairWithoutPlaintextInput{KeyId: key.KeyId, KeyPairSpec: spec})
		if err != nil || len(without.PrivateKeyCiphertextBlob) == 0 || bytes.Equal(without.PublicKey, out.PublicKey) {
			t.Errorf("%s: %v, %v", spec, without, err)
		}
	}
	_, err := w.root.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: key.KeyId, KeyPairSpec: "SM2"})
	w.want("GenerateDataKeyPair of SM2 where it is off", err, "UnsupportedOperationException")
	_, err = w.root.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: "SM2", KeyUsage: "SIGN_VERIFY"})
	w.want("CreateKey of SM2 where it is off", err, "UnsupportedOperationException")
	sm2 := w2.keyOf("SM2", types.KeyUsageTypeSignVerify)
	signed, err := w2.root.Sign(ctx, &kms.SignInput{KeyId: sm2.KeyId, Message: []byte("x"), SigningAlgorithm: "SM2DSA"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w2.root.Verify(ctx, &kms.VerifyInput{KeyId: sm2.KeyId, Message: []byte("x"), SigningAlgorithm: "SM2DSA", Signature: signed.Signature})
	w.want("Verify SM2DSA", err, "")
	_, err = w2.root.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: w2.key().KeyId, KeyPairSpec: "SM2"})
	w.want("GenerateDataKeyPair of SM2", err, "")
}

// A grant on an asymmetric key gives what it lists.
func TestGrantsOnAsymmetricKeys(t *testing.T) {
	w := newWorld(t)
	ctx, key := t.Context(), w.keyOf("ECC_NIST_P256", types.KeyUsageTypeSignVerify)
	alice := w.user("alice")
	sign := func() error {
		_, err := alice.Sign(ctx, &kms.SignInput{KeyId: key.KeyId, Message: []byte("x"), SigningAlgorithm: "ECDSA_SHA_256"})
		return err
	}
	w.want("Sign without permission", sign(), "AccessDeniedException")
	grant := func(operations ...types.GrantOperation) error {
		_, err := w.root.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: key.KeyId, GranteePrincipal: aws.String("arn:aws:iam::111122223333:user/alice"), Operations: operations})
		return err
	}
	w.want("CreateGrant of Encrypt", grant("Encrypt"), "ValidationException")
	w.want("CreateGrant of Sign", grant("Sign", "GetPublicKey"), "")
	w.want("Sign by the grant", sign(), "")
	_, err := alice.Verify(ctx, &kms.VerifyInput{KeyId: key.KeyId, Message: []byte("x"), Signature: []byte("x"), SigningAlgorithm: "ECDSA_SHA_256"})
	w.want("Verify, which the grant does not list", err, "AccessDeniedException")
}

// A message of no bytes, which anybody can encrypt with a public key, is not taken
// on by another key.
func TestReEncryptOfNothing(t *testing.T) {
	w := newWorld(t)
	out, err := w.root.CreateKey(t.Context(), &kms.CreateKeyInput{KeySpec: types.KeySpecRsa2048, KeyUsage: types.KeyUsageTypeEncryptDecrypt})
	if err != nil {
		t.Fatal(err)
	}
	public, err := w.root.GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: out.KeyMetadata.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKIXPublicKey(public.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, parsed.(*rsa.PublicKey), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.root.ReEncrypt(t.Context(), &kms.ReEncryptInput{CiphertextBlob: nothing, SourceKeyId: out.KeyMetadata.KeyId,
		SourceEncryptionAlgorithm: types.EncryptionAlgorithmSpecRsaesOaepSha256, DestinationKeyId: w.key().KeyId})
	w.want("ReEncrypt of nothing", err, "InvalidCiphertextException")
}
