package clients

import (
	"testing"

	wrapping "github.com/hashicorp/go-kms-wrapping/v2"
	"github.com/hashicorp/go-kms-wrapping/wrappers/awskms/v2"
)

// The wrapper with which Vault, OpenBao and Boundary seal themselves.
func TestHashiCorpWrapper(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	key := createKey(t)
	createAlias(t, "alias/unseal", key)
	wrapper := awskms.NewWrapper()
	if _, err := wrapper.SetConfig(ctx, wrapping.WithKeyId("alias/unseal"), wrapping.WithConfigMap(map[string]string{
		"region": region, "endpoint": plainURL, "access_key": "test", "secret_key": "test",
	})); err != nil {
		t.Fatal(err)
	}
	blob, err := wrapper.Encrypt(ctx, []byte("root key"))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := wrapper.KeyId(ctx); err != nil || id != key || blob.KeyInfo.KeyId != key {
		t.Errorf("the alias leads to %s and %s (%v), want %s", id, blob.KeyInfo.KeyId, err, key)
	}
	if got, err := wrapper.Decrypt(ctx, blob); err != nil || string(got) != "root key" {
		t.Errorf("decrypted %q, %v", got, err)
	}
	blob.KeyInfo.WrappedKey[len(blob.KeyInfo.WrappedKey)-1] ^= 1
	if _, err := wrapper.Decrypt(ctx, blob); err == nil {
		t.Error("a changed blob opens")
	}
}
