package clients

import (
	"testing"

	"gocloud.dev/gcerrors"
	"gocloud.dev/secrets"
	_ "gocloud.dev/secrets/awskms"
)

// The Go CDK's keeper of secrets, opened by URL, with an encryption context. Its
// error codes come from those of KMS.
func TestGoCloud(t *testing.T) {
	t.Parallel()
	key := createKey(t)
	open := func(url string) *secrets.Keeper {
		keeper, err := secrets.OpenKeeper(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { keeper.Close() })
		return keeper
	}
	keeper := open("awskms:///" + key + "?region=us-east-1&context_app=web")
	sealed, err := keeper.Encrypt(t.Context(), []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keeper.Decrypt(t.Context(), sealed); err != nil || string(got) != "secret" {
		t.Errorf("decrypted %q, %v", got, err)
	}
	mail := open("awskms:///" + key + "?region=us-east-1&context_app=mail")
	if _, err := mail.Decrypt(t.Context(), sealed); gcerrors.Code(err) != gcerrors.InvalidArgument {
		t.Errorf("with another context: %v (%v)", err, gcerrors.Code(err))
	}
	missing := open("awskms://alias/gocloud-missing?region=us-east-1")
	if _, err := missing.Encrypt(t.Context(), []byte("secret")); gcerrors.Code(err) != gcerrors.NotFound {
		t.Errorf("with an alias that does not exist: %v (%v)", err, gcerrors.Code(err))
	}
}
