package server_test

import (
	"encoding/json/v2"
	"errors"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/xks"
	"github.com/claviger/claviger/internal/xks/xkstest"
)

// goldenDir has data directories as released versions left them. They are kept,
// and must stay readable for ever; -golden NAME makes a new one.
const goldenDir = "testdata/golden"

var golden = flag.String("golden", "", "make the golden data directory of this name")

// A keepsake is something that a key made, and what it must still be good for.
type keepsake struct {
	KeyID, Region string
	Made          string // Encrypt, Sign, GenerateMac, Encapsulate
	Algorithm     string
	Context       map[string]string
	Message       []byte // plaintext, message or shared secret
	Result        []byte // ciphertext, signature or code
}

// client is the root user's, of a golden server.
func goldenClient(t *testing.T, srv *httptest.Server, region string) *kms.Client {
	t.Helper()
	return kms.New(kms.Options{BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), Region: region, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
}

func goldenServer(t *testing.T, dir string, proxy *xkstest.Proxy) *httptest.Server {
	t.Helper()
	c := server.Config{Dir: dir, RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}}
	c.KMS.SM2 = true
	c.KMS.Proxies = xks.NewDialer(xks.Config{Addresses: proxy.Addresses(), Roots: proxy.Roots(), Timeout: time.Minute})
	s := mustOpen(t, c)
	srv := httptest.NewTestServer(t, s.Handler())
	srv.Client() // starts it
	t.Cleanup(func() { closeServer(t, s) })
	return srv
}

func TestGoldenStores(t *testing.T) {
	proxy := xkstest.Start(t, "one")
	if *golden != "" {
		makeGolden(t, filepath.Join(goldenDir, *golden), proxy)
	}
	names, err := os.ReadDir(goldenDir)
	if err != nil || len(names) == 0 {
		t.Fatal("there is no golden store:", err)
	}
	for _, name := range names {
		t.Run(name.Name(), func(t *testing.T) {
			from, dir := filepath.Join(goldenDir, name.Name()), t.TempDir()
			if err := errors.Join(os.CopyFS(dir, os.DirFS(filepath.Join(from, "data"))), os.Chmod(filepath.Join(dir, "root.key"), 0o600)); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(filepath.Join(from, "keepsakes.json"))
			if err != nil {
				t.Fatal(err)
			}
			var all []keepsake
			if err := json.Unmarshal(text, &all); err != nil {
				t.Fatal(err)
			}
			srv := goldenServer(t, dir, proxy)
			for _, k := range all {
				if err := k.check(t, goldenClient(t, srv, k.Region)); err != nil {
					t.Errorf("%s by %s (%s): %v", k.Made, k.KeyID, k.Algorithm, err)
				}
			}
		})
	}
}

func (k keepsake) check(t *testing.T, c *kms.Client) error {
	ctx := t.Context()
	var got []byte
	switch k.Made {
	case "Encrypt":
		in := &kms.DecryptInput{CiphertextBlob: k.Result, EncryptionContext: k.Context, EncryptionAlgorithm: types.EncryptionAlgorithmSpec(k.Algorithm)}
		if k.Algorithm != "SYMMETRIC_DEFAULT" {
			in.KeyId = &k.KeyID
		}
		out, err := c.Decrypt(ctx, in)
		if err != nil {
			return err
		}
		got = out.Plaintext
	case "Sign":
		_, err := c.Verify(ctx, &kms.VerifyInput{KeyId: &k.KeyID, Message: k.Message, Signature: k.Result, SigningAlgorithm: types.SigningAlgorithmSpec(k.Algorithm)})
		return err
	case "GenerateMac":
		_, err := c.VerifyMac(ctx, &kms.VerifyMacInput{KeyId: &k.KeyID, Message: k.Message, Mac: k.Result, MacAlgorithm: types.MacAlgorithmSpec(k.Algorithm)})
		return err
	case "Encapsulate":
		out, err := c.Decapsulate(ctx, &kms.DecapsulateInput{KeyId: &k.KeyID, EncapsulationAlgorithm: "ML_KEM", SharedSecretCiphertextBlob: k.Result})
		if err != nil {
			return err
		}
		got = out.SharedSecret
	}
	if string(got) != string(k.Message) {
		t.Errorf("%s by %s: got %x, want %x", k.Made, k.KeyID, got, k.Message)
	}
	return nil
}

// makeGolden writes a data directory with a key of every kind, and what they made.
func makeGolden(t *testing.T, dir string, proxy *xkstest.Proxy) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	var all []keepsake
	t.Run("make", func(t *testing.T) { // whose end closes the store
		srv := goldenServer(t, filepath.Join(dir, "data"), proxy)
		c := goldenClient(t, srv, "us-east-1")
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		create := func(in *kms.CreateKeyInput) *types.KeyMetadata {
			t.Helper()
			out, err := c.CreateKey(ctx, in)
			must(err)
			return out.KeyMetadata
		}
		encrypt := func(key *types.KeyMetadata, algorithm string, context map[string]string) {
			out, err := c.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("a plaintext"), EncryptionContext: context, EncryptionAlgorithm: types.EncryptionAlgorithmSpec(algorithm)})
			must(err)
			all = append(all, keepsake{*key.KeyId, "us-east-1", "Encrypt", algorithm, context, []byte("a plaintext"), out.CiphertextBlob})
		}
		key := create(&kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
		encrypt(key, "SYMMETRIC_DEFAULT", map[string]string{"a": "b", "ü": "é"})
		_, err := c.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
		must(err)
		encrypt(key, "SYMMETRIC_DEFAULT", nil)
		_, err = c.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-1")})
		must(err)
		there := all[len(all)-1]
		there.Region = "eu-west-1"
		all = append(all, there)
		encrypt(create(&kms.CreateKeyInput{}), "SYMMETRIC_DEFAULT", map[string]string{"": "empty"})
		store, err := c.CreateCustomKeyStore(ctx, &kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("s"), CustomKeyStoreType: "EXTERNAL_KEY_STORE", XksProxyConnectivity: "PUBLIC_ENDPOINT",
			XksProxyUriEndpoint: aws.String("https://" + xkstest.Host), XksProxyUriPath: aws.String(xkstest.Path),
			XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{AccessKeyId: &proxy.AccessKeyID, RawSecretAccessKey: &proxy.Secret}})
		must(err)
		_, err = c.ConnectCustomKeyStore(ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store.CustomKeyStoreId})
		must(err)
		encrypt(create(&kms.CreateKeyInput{Origin: "EXTERNAL_KEY_STORE", CustomKeyStoreId: store.CustomKeyStoreId, XksKeyId: aws.String("one")}), "SYMMETRIC_DEFAULT", map[string]string{"a": "b"})
		for _, spec := range []types.KeySpec{"RSA_2048", "SM2"} {
			key := create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: "ENCRYPT_DECRYPT"})
			for _, a := range key.EncryptionAlgorithms {
				encrypt(key, string(a), nil)
			}
		}
		for _, spec := range []types.KeySpec{"RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1", "ECC_NIST_EDWARDS25519", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "SM2"} {
			key := create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: "SIGN_VERIFY"})
			for _, a := range key.SigningAlgorithms {
				if a == types.SigningAlgorithmSpecEd25519PhSha512 {
					continue
				}
				out, err := c.Sign(ctx, &kms.SignInput{KeyId: key.KeyId, Message: []byte("a message"), SigningAlgorithm: a})
				must(err)
				all = append(all, keepsake{*key.KeyId, "us-east-1", "Sign", string(a), nil, []byte("a message"), out.Signature})
			}
		}
		for _, spec := range []types.KeySpec{"HMAC_224", "HMAC_256", "HMAC_384", "HMAC_512"} {
			key := create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: "GENERATE_VERIFY_MAC"})
			out, err := c.GenerateMac(ctx, &kms.GenerateMacInput{KeyId: key.KeyId, Message: []byte("a message"), MacAlgorithm: key.MacAlgorithms[0]})
			must(err)
			all = append(all, keepsake{*key.KeyId, "us-east-1", "GenerateMac", string(key.MacAlgorithms[0]), nil, []byte("a message"), out.Mac})
		}
		for _, spec := range []types.KeySpec{"ML_KEM_512", "ML_KEM_768", "ML_KEM_1024"} {
			key := create(&kms.CreateKeyInput{KeySpec: spec, KeyUsage: "ENCAPSULATE_DECAPSULATE"})
			out, err := c.Encapsulate(ctx, &kms.EncapsulateInput{KeyId: key.KeyId, EncapsulationAlgorithm: "ML_KEM"})
			must(err)
			all = append(all, keepsake{*key.KeyId, "us-east-1", "Encapsulate", "ML_KEM", nil, out.SharedSecret, out.SharedSecretCiphertextBlob})
		}
	})
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keepsakes.json"), text, 0o644); err != nil {
		t.Fatal(err)
	}
}
