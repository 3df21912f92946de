package main

import (
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
)

func TestClusterSmoke(t *testing.T) {
	c := startCluster(t, build(t))
	k1, _ := c.nodes[0].clients()
	k2, _ := c.nodes[1].clients()
	t0 := time.Now()
	out, err := k1.CreateKey(t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	t.Log("create", time.Since(t0))
	id := *out.KeyMetadata.KeyId
	for range 3 {
		t0 = time.Now()
		if _, err := k2.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")}); err != nil {
			t.Fatal(err)
		}
		t.Log("encrypt", time.Since(t0))
	}
	t0 = time.Now()
	if _, err := k1.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id}); err != nil {
		t.Fatal(err)
	}
	t.Log("disable", time.Since(t0))
	t0 = time.Now()
	_, err = k2.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: []byte("x")})
	t.Log("encrypt", time.Since(t0), err)
	l, err := k2.ListKeys(t.Context(), &kms.ListKeysInput{})
	t.Log(len(l.Keys), err)
}
