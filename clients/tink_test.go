package clients

import (
	"bytes"
	"testing"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/keyset"
)

// A keyset of Tink's is encrypted with a KMS key, and opens with that key and
// with the same associated data alone.
func TestTink(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	key, other := createKey(t), createKey(t)
	client, err := awskms.NewClientWithOptions(ctx, "aws-kms://arn:aws:kms:"+region+":")
	if err != nil {
		t.Fatal(err)
	}
	master, err := client.GetAEAD("aws-kms://" + key)
	if err != nil {
		t.Fatal(err)
	}
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		t.Fatal(err)
	}
	var stored bytes.Buffer
	if err := handle.WriteWithAssociatedData(keyset.NewJSONWriter(&stored), master, []byte("tenant 7")); err != nil {
		t.Fatal(err)
	}
	read := func(keyID, associated string) (*keyset.Handle, error) {
		master, err := client.GetAEAD("aws-kms://" + keyID)
		if err != nil {
			t.Fatal(err)
		}
		return keyset.ReadWithAssociatedData(keyset.NewJSONReader(bytes.NewReader(stored.Bytes())), master, []byte(associated))
	}
	again, err := read(key, "tenant 7")
	if err != nil {
		t.Fatal(err)
	}
	first, err := aead.New(handle)
	if err != nil {
		t.Fatal(err)
	}
	second, err := aead.New(again)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := first.Encrypt([]byte("secret"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := second.Decrypt(sealed, nil); err != nil || string(got) != "secret" {
		t.Errorf("decrypted %q, %v", got, err)
	}
	if _, err := read(key, "tenant 8"); err == nil {
		t.Error("the keyset opens with other associated data")
	}
	if _, err := read(other, "tenant 7"); err == nil {
		t.Error("the keyset opens with another key")
	}
	disabled(t, key, func() {
		if _, err := read(key, "tenant 7"); err == nil {
			t.Error("the keyset opens with a disabled key")
		}
	})
}

// Envelope encryption: Tink makes a data key for each message and has KMS encrypt
// it, through an alias.
func TestTinkEnvelope(t *testing.T) {
	t.Parallel()
	key := createKey(t)
	createAlias(t, "alias/tink", key)
	master, err := awskms.NewAEADWithContext(t.Context(), "arn:aws:kms:"+region+":"+account+":alias/tink")
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := aead.NewKMSEnvelopeAEADWithContext(aead.AES128GCMKeyTemplate(), master)
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := envelope.EncryptWithContext(t.Context(), []byte("a message"), []byte("header"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := envelope.DecryptWithContext(t.Context(), sealed, []byte("header")); err != nil || string(got) != "a message" {
		t.Errorf("decrypted %q, %v", got, err)
	}
}
