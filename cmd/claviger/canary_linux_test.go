package main

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// Canaries are secrets that are recognised wherever they turn up.
type canaries map[string][]byte

func (c canaries) add(name string, secret []byte) { c[name] = bytes.Clone(secret) }

// forms are how a secret may be written.
func forms(secret []byte) [][]byte {
	out := [][]byte{secret, []byte(hex.EncodeToString(secret)), []byte(strings.ToUpper(hex.EncodeToString(secret))), fmt.Appendf(nil, "%v", secret)[1:]}
	for shift := range 3 { // base64 of something that the secret is in the middle of
		text := base64.StdEncoding.EncodeToString(append(make([]byte, shift), secret...))
		out = append(out, []byte(text[(shift*8+5)/6:len(text)-4]))
	}
	return out
}

// search tells where any of the canaries is.
func (c canaries) search(t *testing.T, where string, text []byte) {
	t.Helper()
	for name, secret := range c {
		for i, form := range forms(secret) {
			if bytes.Contains(text, form) {
				t.Errorf("%s shows the %s (form %d)", where, name, i)
			}
		}
	}
}

// TestCanaries has a server do everything with secrets that are recognised, provokes
// errors with them, and then looks for them in every byte that it wrote: its output, its
// metrics, its data directory, backups, exports and temporary files. It is made to die in a way
// that leaves a core where that is allowed, and leaves none.
func TestCanaries(t *testing.T) {
	work := t.TempDir()
	data, tmp := filepath.Join(work, "data"), filepath.Join(work, "tmp")
	if err := os.Mkdir(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	c := canaries{}
	c.add("passphrase", []byte("canary passphrase of the seal"))
	c.add("next passphrase", []byte("canary passphrase of the next seal"))
	pass, next := filepath.Join(work, "pass"), filepath.Join(work, "next")
	for path, phrase := range map[string]string{pass: "passphrase", next: "next passphrase"} {
		if err := os.WriteFile(path, append(c[phrase], '\n'), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	address, err := freeAddress()
	if err != nil {
		t.Fatal(err)
	}
	var output bytes.Buffer
	binary := build(t)
	server := inDirectory(binary, work, tmp, &output, "serve", "--data", data, "--seal", "passphrase", "--seal-passphrase-file", pass, "--listen", address)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Process.Kill() }()
	for tries := 0; ; tries++ {
		if answer, err := http.Get("http://" + address + "/readyz"); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				break
			}
		}
		if tries == 400 {
			t.Fatalf("not ready: %s", output.Bytes())
		}
		time.Sleep(25 * time.Millisecond)
	}
	id, secret := rootCredentials(t, data)
	c.add("root user's secret access key", []byte(secret))
	use(t, c, address, id, secret)

	answer, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics := new(bytes.Buffer)
	_, err = metrics.ReadFrom(answer.Body)
	answer.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	c.search(t, "/metrics", metrics.Bytes())
	for _, args := range [][]string{{"backup", "--output", filepath.Join(work, "backup")}, {"export", "--output", filepath.Join(work, "export")}, {"seal", "status"},
		{"seal", "rotate", "--new-seal", "passphrase", "--new-seal-passphrase-file", next}} {
		var said bytes.Buffer
		if err := inDirectory(binary, work, tmp, &said, append(args, "--data", data)...).Run(); err != nil {
			t.Fatalf("%v: %v: %s", args, err, said.Bytes())
		}
		c.search(t, args[0], said.Bytes())
	}
	if err := server.Process.Signal(syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait() // it was killed
	c.search(t, "the output", output.Bytes())
	if !bytes.Contains(output.Bytes(), []byte("SIGABRT")) {
		t.Errorf("the server did not die of SIGABRT: %s", output.Bytes())
	}
	err = filepath.WalkDir(work, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == pass || path == next || path == filepath.Join(data, "root-credentials") {
			return err
		}
		if strings.HasPrefix(entry.Name(), "core") {
			t.Errorf("there is a core dump: %s", path)
		}
		text, err := os.ReadFile(path)
		c.search(t, path, text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// inDirectory is the program, in a directory where it could leave a core.
func inDirectory(binary, work, tmp string, output *bytes.Buffer, args ...string) *exec.Cmd {
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -c unlimited; exec "$0" "$@"`, binary}, args...)...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = work, output, output
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "GOTRACEBACK=crash")
	return cmd
}

// use does what can be done with secrets, and what cannot.
func use(t *testing.T, c canaries, address, id, secret string) {
	t.Helper()
	ctx, url := context.Background(), "http://"+address
	options := func(id, secret, token string) kms.Options {
		return kms.Options{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)}
	}
	k := kms.New(options(id, secret, ""))
	key, err := k.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	keyID := key.KeyMetadata.KeyId
	c.add("plaintext", []byte("canary plaintext that nobody may see"))
	encrypted, err := k.Encrypt(ctx, &kms.EncryptInput{KeyId: keyID, Plaintext: c["plaintext"], EncryptionContext: map[string]string{"shown": "in the log"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob, EncryptionContext: map[string]string{"shown": "in the log"}}); err != nil {
		t.Fatal(err)
	}
	_, _ = k.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: encrypted.CiphertextBlob}) // without the context
	_, _ = k.Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("none"), Plaintext: c["plaintext"]})
	_, _ = k.Encrypt(ctx, &kms.EncryptInput{KeyId: keyID, Plaintext: bytes.Repeat(c["plaintext"], 200)})
	_, _ = k.Sign(ctx, &kms.SignInput{KeyId: keyID, Message: c["plaintext"], SigningAlgorithm: "RSASSA_PSS_SHA_256"})
	dataKey, err := k.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: keyID, KeySpec: "AES_256"})
	if err != nil {
		t.Fatal(err)
	}
	c.add("data key", dataKey.Plaintext)
	pair, err := k.GenerateDataKeyPair(ctx, &kms.GenerateDataKeyPairInput{KeyId: keyID, KeyPairSpec: "ECC_NIST_P256"})
	if err != nil {
		t.Fatal(err)
	}
	c.add("private data key", pair.PrivateKeyPlaintext)
	random, err := k.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(32)})
	if err != nil {
		t.Fatal(err)
	}
	c.add("random bytes", random.Plaintext)
	imported(t, c, k)
	identities(t, c, url, credentials.NewStaticCredentialsProvider(id, secret, ""), options)
}

// imported imports key material.
func imported(t *testing.T, c canaries, k *kms.Client) {
	t.Helper()
	ctx := context.Background()
	key, err := k.CreateKey(ctx, &kms.CreateKeyInput{Origin: types.OriginTypeExternal})
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.GetParametersForImport(ctx, &kms.GetParametersForImportInput{KeyId: key.KeyMetadata.KeyId, WrappingAlgorithm: "RSAES_OAEP_SHA_256", WrappingKeySpec: "RSA_2048"})
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.ParsePKIXPublicKey(p.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	c.add("imported key material", []byte("canary key material, 32 bytes...")[:32])
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public.(*rsa.PublicKey), c["imported key material"], nil)
	if err != nil {
		t.Fatal(err)
	}
	in := &kms.ImportKeyMaterialInput{KeyId: key.KeyMetadata.KeyId, EncryptedKeyMaterial: wrapped, ImportToken: p.ImportToken, ExpirationModel: "KEY_MATERIAL_DOES_NOT_EXPIRE"}
	if _, err := k.ImportKeyMaterial(ctx, in); err != nil {
		t.Fatal(err)
	}
	in.EncryptedKeyMaterial = append(bytes.Clone(wrapped[:len(wrapped)-1]), wrapped[len(wrapped)-1]^1)
	_, _ = k.ImportKeyMaterial(ctx, in)
	if _, err := k.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: c["plaintext"]}); err != nil {
		t.Fatal(err)
	}
	if _, err := aes.NewCipher(c["imported key material"]); err != nil {
		t.Fatal(err)
	}
}

// identities makes and uses credentials.
func identities(t *testing.T, c canaries, url string, root aws.CredentialsProvider, options func(id, secret, token string) kms.Options) {
	t.Helper()
	ctx := context.Background()
	i := iam.New(iam.Options{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: root})
	if _, err := i.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("alice")}); err != nil {
		t.Fatal(err)
	}
	made, err := i.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("alice")})
	if err != nil {
		t.Fatal(err)
	}
	c.add("user's secret access key", []byte(*made.AccessKey.SecretAccessKey))
	alice := kms.New(options(*made.AccessKey.AccessKeyId, *made.AccessKey.SecretAccessKey, ""))
	_, _ = alice.ListKeys(ctx, &kms.ListKeysInput{}) // refused
	wrong := kms.New(options(*made.AccessKey.AccessKeyId, "canary of a wrong secret key", ""))
	_, _ = wrong.ListKeys(ctx, &kms.ListKeysInput{})
	s := sts.New(sts.Options{BaseEndpoint: &url, Region: "us-east-1", RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider(*made.AccessKey.AccessKeyId, *made.AccessKey.SecretAccessKey, "")})
	session, err := s.GetSessionToken(ctx, &sts.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	c.add("session's secret access key", []byte(*session.Credentials.SecretAccessKey))
	c.add("session token", []byte(*session.Credentials.SessionToken))
	_, _ = kms.New(options(*session.Credentials.AccessKeyId, *session.Credentials.SecretAccessKey, *session.Credentials.SessionToken)).ListKeys(ctx, &kms.ListKeysInput{})
}
