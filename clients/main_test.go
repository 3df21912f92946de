package clients

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"
)

const (
	account = "111122223333"
	region  = "us-east-1"
)

var rootCredentials = credentials.NewStaticCredentialsProvider("test", "test", "")

var (
	plainURL string // of a server without TLS
	tlsURL   string // of another server, with TLS
	caFile   string // the certificate of the latter, which signed itself
)

func TestMain(m *testing.M) {
	code, err := withServers(m.Run)
	if err != nil {
		log.Fatal(err)
	}
	os.Exit(code)
}

// withServers builds Claviger, starts both servers, calls f and stops them.
func withServers(f func() int) (int, error) {
	dir, err := os.MkdirTemp("", "claviger-clients-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "claviger")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, "./cmd/claviger")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("building Claviger: %w\n%s", err, out)
	}

	caFile = filepath.Join(dir, "cert.pem")
	keyFile := filepath.Join(dir, "key.pem")
	if err := writeCertificate(caFile, keyFile); err != nil {
		return 0, err
	}
	var stop func()
	if plainURL, stop, err = startServer(binary); err != nil {
		return 0, err
	}
	defer stop()
	if tlsURL, stop, err = startServer(binary, "--tls-cert", caFile, "--tls-key", keyFile); err != nil {
		return 0, err
	}
	defer stop()
	setEnvironment()
	return f(), nil
}

// startServer starts Claviger on a free port and returns its URL as soon as it
// is ready.
func startServer(binary string, args ...string) (url string, stop func(), err error) {
	cmd := exec.Command(binary, append([]string{"serve", "--dev", "--listen", "127.0.0.1:0"}, args...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() {
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
	}
	var said strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if _, url, ok := strings.Cut(lines.Text(), "ready on "); ok {
			go io.Copy(io.Discard, stderr)
			return strings.Fields(url)[0], stop, nil
		}
	}
	stop()
	return "", nil, fmt.Errorf("claviger did not start: %s", said.String())
}

// writeCertificate makes a certificate for the loopback address.
func writeCertificate(certFile, keyFile string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "claviger"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
		DNSNames:     []string{"localhost"},
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), 0o600),
		os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// setEnvironment points every AWS client in this process, and in those that it
// starts, to the server without TLS, and away from what the user configured.
func setEnvironment() {
	for _, v := range os.Environ() {
		if name, _, _ := strings.Cut(v, "="); strings.HasPrefix(name, "AWS_") {
			os.Unsetenv(name)
		}
	}
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":           "test",
		"AWS_SECRET_ACCESS_KEY":       "test",
		"AWS_REGION":                  region,
		"AWS_DEFAULT_REGION":          region,
		"AWS_ENDPOINT_URL":            plainURL,
		"AWS_ENDPOINT_URL_KMS":        plainURL,
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_PAGER":                   "",
	} {
		os.Setenv(name, value)
	}
}

// kmsClient is the SDK's client, for what a test prepares or looks at without
// the program that it tests.
func kmsClient(region string) *kms.Client {
	return kms.New(kms.Options{
		BaseEndpoint: aws.String(plainURL),
		Region:       region,
		Credentials:  rootCredentials,
	})
}

// createKey makes a symmetric encryption key, or what the options say, and
// returns its ARN.
func createKey(t *testing.T, options ...func(*kms.CreateKeyInput)) string {
	t.Helper()
	in := &kms.CreateKeyInput{Description: aws.String(t.Name())}
	for _, option := range options {
		option(in)
	}
	out, err := kmsClient(region).CreateKey(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.Arn
}

// disabled calls f while the key is disabled.
func disabled(t *testing.T, arn string, f func()) {
	t.Helper()
	client := kmsClient(region)
	if _, err := client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
	f()
	if _, err := client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &arn}); err != nil {
		t.Fatal(err)
	}
}

// wantCode checks that err is AWS's exception of that name.
func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != code {
		t.Errorf("got error %v, want %s", err, code)
	}
}

// A program is a command with settings that several runs share.
type program struct {
	path string
	args []string // before those of each run
	dir  string
	env  []string // besides those of this process
}

// try runs the program and returns what it wrote to its standard output.
func (p program) try(args ...string) (string, error) {
	cmd := exec.Command(p.path, slices.Concat(p.args, args)...)
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), p.env...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s: %w\n%s%s", strings.Join(cmd.Args, " "), err, stdout.String(), stderr.String())
	}
	return stdout.String(), nil
}

// run is try for what must succeed.
func (p program) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := p.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// refused is try for what must fail with a message that contains what is said.
func (p program) refused(t *testing.T, say string, args ...string) {
	t.Helper()
	out, err := p.try(args...)
	if err == nil {
		t.Errorf("%s %s succeeded, want %s: %s", p.path, strings.Join(args, " "), say, out)
	} else if !strings.Contains(err.Error(), say) {
		t.Errorf("want %s, got %v", say, err)
	}
}

// decodeJSON is the JSON value that a program wrote.
func decodeJSON[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// cacheDir is a directory that outlives the tests, for what takes long to install.
func cacheDir(t *testing.T, name string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "claviger-clients", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

var installing sync.Mutex

// installDebian installs Debian packages unless present says that it is not
// needed.
func installDebian(t *testing.T, present func() bool, packages ...string) {
	t.Helper()
	installing.Lock()
	defer installing.Unlock()
	if present() {
		return
	}
	apt := program{path: "apt-get", env: []string{"DEBIAN_FRONTEND=noninteractive"}}
	apt.run(t, "update", "-q")
	apt.run(t, append([]string{"install", "-qy", "--no-install-recommends"}, packages...)...)
	if !present() {
		t.Fatalf("installing %v did not bring what the test needs", packages)
	}
}

// onPath tells whether all these commands exist.
func onPath(names ...string) func() bool {
	return func() bool {
		return !slices.ContainsFunc(names, func(name string) bool {
			_, err := exec.LookPath(name)
			return err != nil
		})
	}
}

// writeFile writes a file into a directory and returns its path.
func writeFile(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func createAlias(t *testing.T, name, key string) {
	t.Helper()
	if _, err := kmsClient(region).CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: &key}); err != nil {
		t.Fatal(err)
	}
}
