package clients

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
)

const sopsVersion = "v3.13.3"

var installingSOPS sync.Mutex

// sopsCLI installs SOPS in the cache directory and runs it in a directory of the
// test.
func sopsCLI(t *testing.T) program {
	t.Helper()
	installingSOPS.Lock()
	defer installingSOPS.Unlock()
	bin := cacheDir(t, "sops-"+sopsVersion)
	sops := program{path: filepath.Join(bin, "sops"), dir: t.TempDir()}
	if _, err := os.Stat(sops.path); err != nil {
		program{path: "go", dir: t.TempDir(), env: []string{"GOBIN=" + bin}}.run(t, "install", "github.com/getsops/sops/v3/cmd/sops@"+sopsVersion)
	}
	return sops
}

const sopsFile = "database:\n    password: hunter2\n    port: 5432\nnote: nothing to see\n"

// A file for two keys opens with either, gets new data keys, and loses and gains
// keys, as an operator would do it.
func TestSOPS(t *testing.T) {
	t.Parallel()
	sops := sopsCLI(t)
	first, second, third := createKey(t), createKey(t), createKey(t)
	writeFile(t, sops.dir, "plain.yaml", []byte(sopsFile))
	encrypted := sops.run(t, "encrypt", "--kms", first+","+second, "--encryption-context", "app:web", "plain.yaml")
	writeFile(t, sops.dir, "secrets.yaml", []byte(encrypted))
	if strings.Contains(encrypted, "hunter2") || !strings.Contains(encrypted, first) || !strings.Contains(encrypted, second) {
		t.Fatalf("encrypted file: %s", encrypted)
	}
	opens := func() {
		t.Helper()
		if got := sops.run(t, "decrypt", "secrets.yaml"); got != sopsFile {
			t.Errorf("decrypted %s", got)
		}
	}
	opens()

	// The other key serves when one is disabled, and nothing does when both are.
	disabled(t, first, opens)
	disabled(t, second, opens)
	disabled(t, first, func() {
		disabled(t, second, func() { sops.refused(t, "DisabledException", "decrypt", "secrets.yaml") })
	})

	// The context is part of what KMS checks.
	writeFile(t, sops.dir, "moved.yaml", []byte(strings.ReplaceAll(encrypted, "app: web", "app: mail")))
	sops.refused(t, "InvalidCiphertextException", "decrypt", "moved.yaml")

	// A new data key, with one key taken away and another put in.
	sops.run(t, "rotate", "-i", "--rm-kms", first, "--add-kms", third, "--encryption-context", "app:web", "secrets.yaml")
	rotated := string(readFile(t, filepath.Join(sops.dir, "secrets.yaml")))
	if rotated == encrypted || strings.Contains(rotated, first) || !strings.Contains(rotated, third) {
		t.Errorf("rotated file: %s", rotated)
	}
	disabled(t, second, opens)
	disabled(t, third, opens)

	// A value changes in the encrypted file.
	sops.run(t, "set", "secrets.yaml", `["database"]["port"]`, "6543")
	if got := sops.run(t, "decrypt", "--extract", `["database"]["port"]`, "secrets.yaml"); strings.TrimSpace(got) != "6543" {
		t.Errorf("port %s", got)
	}
}

// SOPS assumes a role when the file says so: the key lets in nobody but the role,
// and the user may do nothing but assume it.
func TestSOPSAssumesRole(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	client := iam.New(iam.Options{BaseEndpoint: &plainURL, Region: region, Credentials: rootCredentials})
	user, err := client.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("sops")})
	if err != nil {
		t.Fatal(err)
	}
	accessKey, err := client.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("sops")})
	if err != nil {
		t.Fatal(err)
	}
	role, err := client.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("sops"), AssumeRolePolicyDocument: aws.String(
		`{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Principal": {"AWS": "` + *user.User.Arn + `"}, "Action": "sts:AssumeRole"}}`)})
	if err != nil {
		t.Fatal(err)
	}
	key := createKey(t, func(in *kms.CreateKeyInput) {
		in.Policy = aws.String(`{"Version": "2012-10-17", "Statement": [
			{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:PutKeyPolicy", "Resource": "*"},
			{"Effect": "Allow", "Principal": {"AWS": "` + *role.Role.Arn + `"}, "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"}]}`)
	})

	sops := sopsCLI(t)
	sops.env = []string{"AWS_ACCESS_KEY_ID=" + *accessKey.AccessKey.AccessKeyId, "AWS_SECRET_ACCESS_KEY=" + *accessKey.AccessKey.SecretAccessKey}
	writeFile(t, sops.dir, "plain.yaml", []byte(sopsFile))
	sops.refused(t, "AccessDeniedException", "encrypt", "--kms", key, "plain.yaml")
	writeFile(t, sops.dir, "secrets.yaml", []byte(sops.run(t, "encrypt", "--kms", key+"+"+*role.Role.Arn, "plain.yaml")))
	if got := sops.run(t, "decrypt", "secrets.yaml"); got != sopsFile {
		t.Errorf("decrypted %s", got)
	}
}
