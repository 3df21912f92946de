//go:build cse

package clients

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"go.mongodb.org/mongo-driver/bson"
	"go.mongodb.org/mongo-driver/bson/bsontype"
	"go.mongodb.org/mongo-driver/bson/primitive"
	"go.mongodb.org/mongo-driver/mongo"
	"go.mongodb.org/mongo-driver/mongo/options"
)

const ferretVersion = "v1.24.2"

var listening = regexp.MustCompile(`Listening on TCP (127\.0\.0\.1:\d+)`)

// ferretDB starts a server that speaks MongoDB's protocol, over SQLite, and
// returns its URI. Its module leaves out the file that says which version it is,
// so it is built from a copy.
func ferretDB(t *testing.T) string {
	t.Helper()
	cache := cacheDir(t, "ferretdb-"+ferretVersion)
	binary := filepath.Join(cache, "ferretdb")
	if _, err := os.Stat(binary); err != nil {
		module := decodeJSON[struct{ Dir string }](t, program{path: "go", dir: t.TempDir(), env: []string{"GOFLAGS=-mod=mod"}}.
			run(t, "mod", "download", "-json", "github.com/FerretDB/FerretDB@"+ferretVersion))
		source := t.TempDir()
		if err := os.CopyFS(source, os.DirFS(module.Dir)); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(source, "build", "version"), "version.txt", []byte(ferretVersion))
		program{path: "go", dir: source}.run(t, "build", "-tags", "ferretdb_no_postgresql", "-o", binary, "./cmd/ferretdb")
	}

	dir := t.TempDir()
	ctx, stop := context.WithCancel(context.Background())
	server := exec.CommandContext(ctx, binary, "--handler=sqlite", "--sqlite-url=file:"+dir+"/", "--state-dir="+dir,
		"--listen-addr=127.0.0.1:0", "--debug-addr=-", "--telemetry=disable", "--log-format=json")
	log, err := server.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); server.Wait() })
	var said strings.Builder
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fmt.Fprintln(&said, lines.Text())
		if address := listening.FindStringSubmatch(lines.Text()); address != nil {
			go io.Copy(io.Discard, log)
			return "mongodb://" + address[1]
		}
	}
	t.Fatalf("FerretDB did not start: %s", said.String())
	return ""
}

// Field-level encryption of MongoDB: the driver has KMS encrypt its data keys,
// over TLS, and decrypts fields when it reads them.
func TestMongoDB(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	connect := func(opts *options.ClientOptions) *mongo.Client {
		t.Helper()
		client, err := mongo.Connect(ctx, opts)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { client.Disconnect(context.Background()) })
		return client
	}
	uri := ferretDB(t)
	plain := connect(options.Client().ApplyURI(uri))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(readFile(t, caFile))
	trust := map[string]*tls.Config{"aws": {RootCAs: roots}}
	providers := map[string]map[string]any{"aws": {"accessKeyId": "test", "secretAccessKey": "test"}}
	const vault = "encryption.keys"
	encryption, err := mongo.NewClientEncryption(plain, options.ClientEncryption().
		SetKeyVaultNamespace(vault).SetKmsProviders(providers).SetTLSConfig(trust))
	if err != nil {
		t.Fatal(err)
	}

	// The server with TLS has keys of its own.
	client := kms.New(kms.Options{
		BaseEndpoint: &tlsURL, Region: region, Credentials: rootCredentials,
		HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: trust["aws"]}},
	})
	createKey := func() string {
		out, err := client.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String(t.Name())})
		if err != nil {
			t.Fatal(err)
		}
		return *out.KeyMetadata.Arn
	}
	first, second := createKey(), createKey()
	master := func(arn string) bson.M {
		return bson.M{"region": region, "key": arn, "endpoint": strings.TrimPrefix(tlsURL, "https://")}
	}
	dataKey, err := encryption.CreateDataKey(ctx, "aws", options.DataKey().SetMasterKey(master(first)))
	if err != nil {
		t.Fatal(err)
	}

	// A field is encrypted by hand and decrypted by itself, by a client that has
	// the data key from KMS.
	kind, value, err := bson.MarshalValue("123-45-6789")
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := encryption.Encrypt(ctx, bson.RawValue{Type: kind, Value: value}, options.Encrypt().
		SetKeyID(dataKey).SetAlgorithm("AEAD_AES_256_CBC_HMAC_SHA_512-Deterministic"))
	if err != nil {
		t.Fatal(err)
	}
	people := plain.Database("app").Collection("people")
	if _, err := people.InsertOne(ctx, bson.M{"_id": 1, "ssn": sealed}); err != nil {
		t.Fatal(err)
	}
	var stored struct{ SSN primitive.Binary }
	if err := people.FindOne(ctx, bson.M{"ssn": sealed}).Decode(&stored); err != nil || stored.SSN.Subtype != bsontype.BinaryEncrypted {
		t.Fatalf("stored as %+v, %v", stored, err)
	}
	// Each client asks KMS anew.
	read := func() (string, error) {
		reader := connect(options.Client().ApplyURI(uri).SetAutoEncryptionOptions(options.AutoEncryption().
			SetKeyVaultNamespace(vault).SetKmsProviders(providers).SetTLSConfig(trust).SetBypassAutoEncryption(true)))
		var person struct{ SSN string }
		err := reader.Database("app").Collection("people").FindOne(ctx, bson.M{"_id": 1}).Decode(&person)
		return person.SSN, err
	}
	reads := func() {
		t.Helper()
		if got, err := read(); err != nil || got != "123-45-6789" {
			t.Errorf("read %q, %v", got, err)
		}
	}
	reads()

	// The data key moves to the second key.
	if _, err := encryption.RewrapManyDataKey(ctx, bson.D{},
		options.RewrapManyDataKey().SetProvider("aws").SetMasterKey(master(second))); err != nil {
		t.Fatal(err)
	}
	if _, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &first}); err != nil {
		t.Fatal(err)
	}
	reads()
	if _, err := client.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &second}); err != nil {
		t.Fatal(err)
	}
	if got, err := read(); err == nil || !strings.Contains(err.Error(), "DisabledException") {
		t.Errorf("read %q, %v with both keys disabled", got, err)
	}
}
