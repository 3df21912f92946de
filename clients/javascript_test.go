package clients

import (
	"path/filepath"
	"testing"
)

// nodePackages are installed together, outside of the repository.
var nodePackages = []string{"@aws-sdk/client-kms@3.1164.0", "@aws-crypto/client-node@5.0.2"}

// node runs a script of testdata, which finds the packages.
func node(t *testing.T, script string) {
	t.Helper()
	installDebian(t, onPath("node", "npm"), "nodejs", "npm")
	dir := cacheDir(t, "node")
	func() {
		installing.Lock()
		defer installing.Unlock()
		npm := program{path: "npm", dir: dir}
		npm.run(t, append([]string{"install", "--silent", "--no-fund", "--no-audit", "--prefer-offline"}, nodePackages...)...)
	}()
	path, err := filepath.Abs(filepath.Join("testdata", script))
	if err != nil {
		t.Fatal(err)
	}
	program{path: "node", env: []string{"NODE_PATH=" + filepath.Join(dir, "node_modules")}}.run(t, path)
}

// The scripts check the results themselves.
func TestJavaScriptSDK(t *testing.T)           { t.Parallel(); node(t, "sdk.cjs") }
func TestJavaScriptEncryptionSDK(t *testing.T) { t.Parallel(); node(t, "encryption_sdk.cjs") }
