package kms_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/claviger/claviger/kmstest"
)

// external makes a key without key material.
func (w world) external(spec types.KeySpec, usage types.KeyUsageType) *types.KeyMetadata {
	w.t.Helper()
	out, err := w.root.CreateKey(w.t.Context(), &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Origin: types.OriginTypeExternal})
	if err != nil {
		w.t.Fatal(err)
	}
	m := out.KeyMetadata
	if m.KeyState != types.KeyStatePendingImport || m.Enabled || m.CurrentKeyMaterialId != nil || m.ExpirationModel != "" {
		w.t.Errorf("a key without material: %+v", m)
	}
	return m
}

func (w world) describe(key *string) *types.KeyMetadata {
	w.t.Helper()
	out, err := w.root.DescribeKey(w.t.Context(), &kms.DescribeKeyInput{KeyId: key})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.KeyMetadata
}

// parameters ask for a wrapping key.
func (w world) parameters(key *string, algorithm types.AlgorithmSpec, spec types.WrappingKeySpec) *kms.GetParametersForImportOutput {
	w.t.Helper()
	out, err := w.root.GetParametersForImport(w.t.Context(), &kms.GetParametersForImportInput{KeyId: key, WrappingAlgorithm: algorithm, WrappingKeySpec: spec})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

// wrapped is key material wrapped for an import.
func (w world) wrapped(p *kms.GetParametersForImportOutput, algorithm types.AlgorithmSpec, secret []byte) []byte {
	w.t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		w.t.Fatal(err)
	}
	h := sha256.New()
	if strings.HasSuffix(string(algorithm), "SHA_1") {
		h = sha1.New()
	}
	oaep := func(text []byte) []byte {
		out, err := rsa.EncryptOAEP(h, rand.Reader, parsed.(*rsa.PublicKey), text, nil)
		if err != nil {
			w.t.Fatal(err)
		}
		return out
	}
	if !strings.HasPrefix(string(algorithm), "RSA_AES_KEY_WRAP") {
		return oaep(secret)
	}
	ephemeral := bytes.Repeat([]byte{7}, 32)
	kwp, err := subtle.NewKWP(ephemeral)
	if err != nil {
		w.t.Fatal(err)
	}
	inner, err := kwp.Wrap(secret)
	if err != nil {
		w.t.Fatal(err)
	}
	return append(oaep(ephemeral), inner...)
}

// bring imports material that does not expire, but for what change alters.
func (w world) bring(key *string, secret []byte, change func(*kms.ImportKeyMaterialInput)) (*kms.ImportKeyMaterialOutput, error) {
	w.t.Helper()
	const algorithm = types.AlgorithmSpecRsaesOaepSha256
	p := w.parameters(key, algorithm, types.WrappingKeySpecRsa2048)
	in := &kms.ImportKeyMaterialInput{KeyId: key, ImportToken: p.ImportToken, EncryptedKeyMaterial: w.wrapped(p, algorithm, secret),
		ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire}
	if change != nil {
		change(in)
	}
	return w.root.ImportKeyMaterial(w.t.Context(), in)
}

func pkcs8(t *testing.T, key any, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// Imported asymmetric and HMAC material is the caller's: what it makes verifies
// with the caller's own copy.
func TestImportOfEveryKind(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	rsaText := pkcs8(t, rsaKey, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	ecText := pkcs8(t, ecKey, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	edText := pkcs8(t, edKey, err)
	for _, tt := range []struct {
		spec      types.KeySpec
		secret    []byte
		public    any
		algorithm types.SigningAlgorithmSpec
		wrapping  []types.AlgorithmSpec
	}{
		{"RSA_2048", rsaText, &rsaKey.PublicKey, "RSASSA_PSS_SHA_256", []types.AlgorithmSpec{"RSA_AES_KEY_WRAP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"}},
		{"ECC_NIST_P384", ecText, &ecKey.PublicKey, "ECDSA_SHA_384", []types.AlgorithmSpec{"RSAES_OAEP_SHA_1", "RSA_AES_KEY_WRAP_SHA_256"}},
		{"ECC_NIST_EDWARDS25519", edText, edKey.Public(), "ED25519_SHA_512", []types.AlgorithmSpec{"RSAES_OAEP_SHA_256"}},
	} {
		for i, wrapping := range tt.wrapping {
			key := w.external(tt.spec, types.KeyUsageTypeSignVerify)
			p := w.parameters(key.KeyId, wrapping, []types.WrappingKeySpec{"RSA_3072", "RSA_4096"}[i])
			in := &kms.ImportKeyMaterialInput{KeyId: key.KeyId, ImportToken: p.ImportToken, EncryptedKeyMaterial: w.wrapped(p, wrapping, tt.secret),
				ExpirationModel: types.ExpirationModelTypeKeyMaterialDoesNotExpire}
			out, err := w.root.ImportKeyMaterial(ctx, in)
			if err != nil || out.KeyMaterialId != nil {
				t.Fatal(tt.spec, wrapping, out, err)
			}
			signed, err := w.root.Sign(ctx, &kms.SignInput{KeyId: key.KeyId, Message: []byte("x"), SigningAlgorithm: tt.algorithm})
			if err != nil || !verified(tt.public, tt.algorithm, []byte("x"), signed.Signature) {
				t.Errorf("%s: Sign with imported material: %v", tt.spec, err)
			}
			if m := w.describe(key.KeyId); m.KeyState != types.KeyStateEnabled || m.ExpirationModel != types.ExpirationModelTypeKeyMaterialDoesNotExpire || m.CurrentKeyMaterialId != nil {
				t.Errorf("%+v", m)
			}
			_, err = w.root.ImportKeyMaterial(ctx, in) // again, the same
			w.want("the same import again", err, "")
		}
	}
	hmacKey := w.external("HMAC_256", types.KeyUsageTypeGenerateVerifyMac)
	_, err = w.bring(hmacKey.KeyId, bytes.Repeat([]byte("k"), 31), nil)
	w.want("HMAC material that is too short", err, "IncorrectKeyMaterialException")
	_, err = w.bring(hmacKey.KeyId, bytes.Repeat([]byte("k"), 40), nil)
	w.want("HMAC material", err, "")
	for _, spec := range []types.KeySpec{"ML_DSA_44", "ML_KEM_512"} {
		usage := types.KeyUsageTypeSignVerify
		if spec == "ML_KEM_512" {
			usage = types.KeyUsageTypeEncapsulateDecapsulate
		}
		_, err = w.root.CreateKey(ctx, &kms.CreateKeyInput{KeySpec: spec, KeyUsage: usage, Origin: types.OriginTypeExternal})
		w.want("an external key of "+string(spec), err, "ValidationException")
	}
	for spec, wrapping := range map[types.KeySpec]types.AlgorithmSpec{"SYMMETRIC_DEFAULT": "RSA_AES_KEY_WRAP_SHA_256", "RSA_2048": "RSAES_OAEP_SHA_256", "ECC_NIST_P521": "RSAES_OAEP_SHA_1"} {
		usage := types.KeyUsageTypeSignVerify
		if spec == "SYMMETRIC_DEFAULT" {
			usage = types.KeyUsageTypeEncryptDecrypt
		}
		key := w.external(spec, usage)
		for _, algorithm := range []types.AlgorithmSpec{wrapping, "RSAES_PKCS1_V1_5"} {
			_, err = w.root.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: key.KeyId, WrappingAlgorithm: algorithm, WrappingKeySpec: "RSA_2048"})
			w.want(string(spec)+" wrapped by "+string(algorithm), err, "ValidationException")
		}
	}
}

func TestImportRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		blue, red := w.external("SYMMETRIC_DEFAULT", types.KeyUsageTypeEncryptDecrypt), w.external("SYMMETRIC_DEFAULT", types.KeyUsageTypeEncryptDecrypt)
		secret := bytes.Repeat([]byte("s"), 32)
		other := w.parameters(red.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048")
		old := w.parameters(blue.KeyId, "RSAES_OAEP_SHA_256", "RSA_2048")
		time.Sleep(24 * time.Hour)
		for _, tt := range []struct {
			name   string
			secret []byte
			change func(*kms.ImportKeyMaterialInput)
			want   string
		}{
			{"31 bytes", secret[:31], nil, "IncorrectKeyMaterialException"},
			{"33 bytes", append(bytes.Clone(secret), 1), nil, "IncorrectKeyMaterialException"},
			{"tampered material", secret, func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial[0] ^= 1 }, "InvalidCiphertextException"},
			{"material cut short", secret, func(in *kms.ImportKeyMaterialInput) { in.EncryptedKeyMaterial = in.EncryptedKeyMaterial[1:] }, "InvalidCiphertextException"},
			{"a tampered token", secret, func(in *kms.ImportKeyMaterialInput) { in.ImportToken[40] ^= 1 }, "InvalidImportTokenException"},
			{"another key's token", secret, func(in *kms.ImportKeyMaterialInput) { in.ImportToken = other.ImportToken }, "InvalidImportTokenException"},
			{"a token of yesterday", secret, func(in *kms.ImportKeyMaterialInput) { in.ImportToken = old.ImportToken }, "ExpiredImportTokenException"},
			{"no expiry date", secret, func(in *kms.ImportKeyMaterialInput) { in.ExpirationModel = "" }, "ValidationException"},
			{"an expiry date for what does not expire", secret, func(in *kms.ImportKeyMaterialInput) { in.ValidTo = aws.Time(time.Now().Add(time.Hour)) }, "ValidationException"},
			{"an expiry in the past", secret, func(in *kms.ImportKeyMaterialInput) {
				in.ExpirationModel, in.ValidTo = "", aws.Time(time.Now().Add(-time.Hour))
			}, "ValidationException"},
			{"an expiry far away", secret, func(in *kms.ImportKeyMaterialInput) {
				in.ExpirationModel, in.ValidTo = "", aws.Time(time.Now().Add(366*aDay))
			}, "ValidationException"},
			{"existing material that there is not", secret, func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeExistingKeyMaterial }, "IncorrectKeyMaterialException"},
			{"a material id for new material", secret, func(in *kms.ImportKeyMaterialInput) {
				in.ImportType, in.KeyMaterialId = types.ImportTypeNewKeyMaterial, aws.String(strings.Repeat("a", 64))
			}, "ValidationException"},
		} {
			_, err := w.bring(blue.KeyId, tt.secret, tt.change)
			w.want(tt.name, err, tt.want)
		}
		if m := w.describe(blue.KeyId); m.KeyState != types.KeyStatePendingImport {
			t.Errorf("refused imports left the key %s", m.KeyState)
		}
		_, err := w.bring(blue.KeyId, secret, nil)
		w.want("the first import", err, "")
		_, err = w.bring(blue.KeyId, bytes.Repeat([]byte("t"), 32), nil)
		w.want("other material, without saying that it is new", err, "IncorrectKeyMaterialException")
		ordinary := w.key()
		_, err = w.root.GetParametersForImport(t.Context(), &kms.GetParametersForImportInput{KeyId: ordinary.KeyId, WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048"})
		w.want("parameters for a key of AWS_KMS origin", err, "UnsupportedOperationException")
	})
}

func TestImportedMaterialExpiresAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx := t.Context()
		key, secret := w.external("SYMMETRIC_DEFAULT", types.KeyUsageTypeEncryptDecrypt), bytes.Repeat([]byte("s"), 32)
		until := time.Now().Add(10 * aDay)
		expiring := func(in *kms.ImportKeyMaterialInput) {
			in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, &until
		}
		out, err := w.bring(key.KeyId, secret, expiring)
		if err != nil || out.KeyMaterialId == nil {
			t.Fatal(out, err)
		}
		m := w.describe(key.KeyId)
		if m.KeyState != types.KeyStateEnabled || *m.CurrentKeyMaterialId != *out.KeyMaterialId || !m.ValidTo.Equal(until) || m.ExpirationModel != types.ExpirationModelTypeKeyMaterialExpires {
			t.Errorf("%+v", m)
		}
		blob := w.sealed(key.KeyId, "x")
		time.Sleep(10*aDay - time.Second)
		w.opens(blob, "x")
		time.Sleep(2 * time.Second)
		m = w.describe(key.KeyId)
		if m.KeyState != types.KeyStatePendingImport || m.ValidTo != nil || *m.CurrentKeyMaterialId != *out.KeyMaterialId {
			t.Errorf("after expiry: %+v", m)
		}
		_, err = w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob})
		w.want("Decrypt after expiry", err, "KMSInvalidStateException")
		time.Sleep(2 * time.Hour) // the sweep has come by
		again, err := w.bring(key.KeyId, secret, nil)
		if err != nil || *again.KeyMaterialId != *out.KeyMaterialId {
			t.Errorf("the same material again: %v, %v", again, err)
		}
		w.opens(blob, "x")
		deleted, err := w.root.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId})
		if err != nil || *deleted.KeyMaterialId != *out.KeyMaterialId || *deleted.KeyId != *key.Arn {
			t.Errorf("%v, %v", deleted, err)
		}
		_, err = w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
		w.want("Encrypt after deletion", err, "KMSInvalidStateException")
		_, err = w.root.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId})
		w.want("DeleteImportedKeyMaterial again", err, "")
		// The same material in another key does not open the ciphertext.
		other := w.external("SYMMETRIC_DEFAULT", types.KeyUsageTypeEncryptDecrypt)
		_, err = w.bring(other.KeyId, secret, nil)
		w.want("the same material in another key", err, "")
		_, err = w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, KeyId: other.KeyId})
		w.want("Decrypt with another key", err, "IncorrectKeyException")
	})
}

func TestRotationOfImportedMaterial(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	key := w.external("SYMMETRIC_DEFAULT", types.KeyUsageTypeEncryptDecrypt)
	rotate := func() error {
		_, err := w.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
		return err
	}
	first, err := w.bring(key.KeyId, bytes.Repeat([]byte("1"), 32), func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialDescription = aws.String("the first") })
	w.want("the first material", err, "")
	blob := w.sealed(key.KeyId, "x")
	w.want("RotateKeyOnDemand without new material", rotate(), "KMSInvalidStateException")
	fresh := func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }
	second, err := w.bring(key.KeyId, bytes.Repeat([]byte("2"), 32), fresh)
	w.want("the second material", err, "")
	_, err = w.bring(key.KeyId, bytes.Repeat([]byte("3"), 32), fresh)
	w.want("a third material before the second is current", err, "KMSInvalidStateException")
	if id := w.opens(w.sealed(key.KeyId, "y"), "y"); id != *first.KeyMaterialId {
		t.Error("material that waits for rotation encrypts")
	}
	w.want("RotateKeyOnDemand", rotate(), "")
	if id := w.opens(w.sealed(key.KeyId, "y"), "y"); id != *second.KeyMaterialId {
		t.Error("the new material does not encrypt")
	}
	w.opens(blob, "x")
	all := w.rotations(key.KeyId, types.IncludeKeyMaterialAllKeyMaterial)
	if len(all) != 2 || *all[0].KeyMaterialDescription != "the first" || all[0].KeyMaterialState != types.KeyMaterialStateNonCurrent ||
		all[1].ImportState != types.ImportStateImported || all[1].RotationType != types.RotationTypeOnDemand {
		t.Errorf("%+v", all)
	}
	// A key is whole only with all of its materials.
	_, err = w.root.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId, KeyMaterialId: first.KeyMaterialId})
	w.want("DeleteImportedKeyMaterial of the first", err, "")
	if m := w.describe(key.KeyId); m.KeyState != types.KeyStatePendingImport || *m.CurrentKeyMaterialId != *second.KeyMaterialId {
		t.Errorf("%+v", m)
	}
	_, err = w.bring(key.KeyId, bytes.Repeat([]byte("1"), 32), nil)
	w.want("the first material again", err, "")
	w.opens(blob, "x")
	// Material that only waits can go without harm.
	third, err := w.bring(key.KeyId, bytes.Repeat([]byte("3"), 32), fresh)
	w.want("the third material", err, "")
	_, err = w.root.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId, KeyMaterialId: third.KeyMaterialId})
	w.want("DeleteImportedKeyMaterial of the third", err, "")
	if m := w.describe(key.KeyId); m.KeyState != types.KeyStateEnabled {
		t.Errorf("%+v", m)
	}
	_, err = w.root.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: key.KeyId})
	w.want("EnableKeyRotation", err, "UnsupportedOperationException")
}

// Two materials that expire in the same second are both erased, and that is
// recorded, although one was deleted before.
func TestMaterialsExpireTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		key, until := w.external("SYMMETRIC_DEFAULT", types.KeyUsageTypeEncryptDecrypt), time.Now().Add(aDay)
		expiring := func(in *kms.ImportKeyMaterialInput) {
			in.ExpirationModel, in.ValidTo, in.ImportType = types.ExpirationModelTypeKeyMaterialExpires, &until, types.ImportTypeNewKeyMaterial
		}
		first, err := w.bring(key.KeyId, bytes.Repeat([]byte("1"), 32), expiring)
		w.want("the first material", err, "")
		_, err = w.bring(key.KeyId, bytes.Repeat([]byte("2"), 32), expiring)
		w.want("the second material", err, "")
		_, err = w.root.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
		w.want("RotateKeyOnDemand", err, "")
		_, err = w.root.DeleteImportedKeyMaterial(t.Context(), &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId, KeyMaterialId: first.KeyMaterialId})
		w.want("DeleteImportedKeyMaterial", err, "")
		time.Sleep(aDay + time.Minute)
		if n := countRecords(w, "DeleteExpiredKeyMaterial", "us-east-1"); n == 0 {
			t.Error("nothing was erased")
		}
	})
}

// HMAC makes some different keys one; imported, they stay different.
func TestImportOfEquivalentMACKeys(t *testing.T) {
	w := newWorld(t)
	key := w.external(types.KeySpecHmac512, types.KeyUsageTypeGenerateVerifyMac)
	first := bytes.Repeat([]byte("k"), 100)
	hashed := sha256.Sum256(first)
	_, err := w.bring(key.KeyId, first, nil)
	w.want("ImportKeyMaterial", err, "")
	for _, other := range [][]byte{append(hashed[:], make([]byte, 32)...), append(bytes.Clone(first), 0)} {
		_, err = w.bring(key.KeyId, other, nil)
		w.want("ImportKeyMaterial of an equivalent key", err, "IncorrectKeyMaterialException")
	}
	_, err = w.bring(key.KeyId, first, nil)
	w.want("ImportKeyMaterial again", err, "")
}

// Material that has expired is gone, also while the key's primary Region changes.
func TestExpiryWhileUpdating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kmstest.Settling(time.Hour))
		key := w.multiRegion(types.OriginTypeExternal)
		_, err := w.bring(key.KeyId, bytes.Repeat([]byte("1"), 32), func(in *kms.ImportKeyMaterialInput) {
			in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, aws.Time(time.Now().Add(130*time.Minute))
		})
		w.want("ImportKeyMaterial", err, "")
		_, err = w.root.ReplicateKey(t.Context(), &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-1")})
		w.want("ReplicateKey", err, "")
		time.Sleep(2 * time.Hour)
		_, err = w.in("eu-west-1").bring(key.KeyId, bytes.Repeat([]byte("1"), 32), nil)
		w.want("ImportKeyMaterial into the replica", err, "")
		_, err = w.root.UpdatePrimaryRegion(t.Context(), &kms.UpdatePrimaryRegionInput{KeyId: key.KeyId, PrimaryRegion: aws.String("eu-west-1")})
		w.want("UpdatePrimaryRegion", err, "")
		w.sealed(key.KeyId, "while it is updating")
		for _, later := range []time.Duration{10 * time.Minute, 10 * time.Minute} {
			time.Sleep(later)
			_, err = w.root.Encrypt(t.Context(), &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
			w.want("Encrypt after expiry", err, "KMSInvalidStateException")
		}
	})
}
