package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const sopsVersion = "v3.13.3"

// sopsCLI installs SOPS in the cache directory and runs it in a directory of the
// test.
func sopsCLI(t *testing.T) program {
	t.Helper()
	bin := cacheDir(t, "sops-"+sopsVersion)
	sops := program{path: filepath.Join(bin, "sops"), dir: t.TempDir()}
	if _, err := os.Stat(sops.path); err != nil {
		program{path: "go", dir: t.TempDir(), env: []string{"GOBIN=" + bin}}.run(t, "install", "github.com/getsops/sops/v3/cmd/sops@"+sopsVersion)
	}
	return sops
}

const secrets = "database:\n    password: hunter2\n    port: 5432\nnote: nothing to see\n"

// A file for two keys opens with either, gets new data keys, and loses and gains
// keys, as an operator would do it.
func TestSOPS(t *testing.T) {
	t.Parallel()
	sops := sopsCLI(t)
	first, second, third := createKey(t), createKey(t), createKey(t)
	writeFile(t, sops.dir, "plain.yaml", []byte(secrets))
	encrypted := sops.run(t, "encrypt", "--kms", first+","+second, "--encryption-context", "app:web", "plain.yaml")
	writeFile(t, sops.dir, "secrets.yaml", []byte(encrypted))
	if strings.Contains(encrypted, "hunter2") || !strings.Contains(encrypted, first) || !strings.Contains(encrypted, second) {
		t.Fatalf("encrypted file: %s", encrypted)
	}
	opens := func() {
		t.Helper()
		if got := sops.run(t, "decrypt", "secrets.yaml"); got != secrets {
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

// SOPS assumes a role for a key when the file says so. The key lets in the role
// alone, and its trust policy the root user.
func TestSOPSAssumesRole(t *testing.T) {
	t.Parallel()
	sops := sopsCLI(t)
	role := createRole(t, "sops")
	key := createKey(t, withPolicy(`{"Version": "2012-10-17", "Statement": [
		{"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:root"}, "Action": "kms:*", "Resource": "*",
		 "Condition": {"ArnNotEquals": {"aws:PrincipalArn": "nobody"}, "StringNotEquals": {"kms:EncryptionContext:app": "web"}}},
		{"Effect": "Allow", "Principal": {"AWS": "`+role+`"}, "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": "*"}]}`))
	writeFile(t, sops.dir, "plain.yaml", []byte(secrets))
	encrypt := func(arn string) []string {
		return []string{"encrypt", "--kms", arn, "--encryption-context", "app:web", "plain.yaml"}
	}
	sops.refused(t, "AccessDeniedException", encrypt(key)...)
	// The trust of a new role may take a moment.
	var err error
	for range 5 {
		var encrypted string
		if encrypted, err = sops.try(encrypt(key + "+" + role)...); err == nil {
			writeFile(t, sops.dir, "secrets.yaml", []byte(encrypted))
			break
		}
		time.Sleep(time.Second)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got := sops.run(t, "decrypt", "secrets.yaml"); got != secrets {
		t.Errorf("decrypted %s", got)
	}
}

// disabled calls f while the key is disabled.
func disabled(t *testing.T, arn string, f func()) {
	t.Helper()
	disableKey(t, arn)
	f()
	enableKey(t, arn)
}
