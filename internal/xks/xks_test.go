package xks_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/leakcheck"
	"github.com/claviger/claviger/internal/xks"
	"github.com/claviger/claviger/internal/xks/xkstest"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Run(m)) }

// FuzzAnswer: whatever a proxy answers, it is either an answer of the form that the
// specification has or one of the errors, and the proxy's words are not in it.
func FuzzAnswer(f *testing.F) {
	server := xkstest.Start(f, "key")
	d := xks.NewDialer(xks.Config{Addresses: server.Addresses(), Roots: server.Roots(), Timeout: time.Minute})
	f.Cleanup(d.Close)
	p := xks.Proxy{Endpoint: "https://" + xkstest.Host, Path: xkstest.Path, Region: "us-east-1", AccessKeyID: server.AccessKeyID, Secret: server.Secret}
	m := xks.Metadata{Operation: "Encrypt", RequestID: "r"}
	f.Add(200, []byte(`{"ciphertext":"AA==","initializationVector":"AAAAAAAAAAAAAAAA","authenticationTag":"AAAAAAAAAAAAAAAAAAAAAA==","ciphertextMetadata":"AA=="}`))
	f.Add(200, []byte(`{"plaintext":"AA=="}`))
	f.Add(200, []byte(`{"keySpec":"AES_256","keyUsage":["ENCRYPT"],"keyStatus":"ENABLED"}`))
	f.Add(200, []byte(`{"xksProxyFleetSize":1,"xksProxyVendor":"v","xksProxyModel":"m","ekmVendor":"e","ekmFleetDetails":[{"id":"i","model":"m","healthStatus":"ACTIVE"}]}`))
	f.Add(400, []byte(`{"errorName":"InvalidCiphertextException","errorMessage":"m"}`))
	f.Add(404, []byte(`not found`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return // no answer
		}
		server.Answer(func(w http.ResponseWriter, _ string) bool {
			w.WriteHeader(status)
			_, _ = w.Write(body) // a status without a body has none
			return true
		})
		ctx := context.Background()
		c, err := d.Encrypt(ctx, p, "key", m, []byte("x"), nil)
		known(t, err, len(c.Ciphertext) == 1 && (len(c.IV) == 12 || len(c.IV) == 16) && len(c.Tag) == 16 && len(c.Metadata) <= 20)
		plaintext, err := d.Decrypt(ctx, p, "key", m, c, nil)
		known(t, err, len(plaintext) > 0)
		k, err := d.KeyMetadata(ctx, p, "key", m)
		known(t, err, k.Spec != "" && k.Status != "" && len(k.Usage) > 0)
		known(t, d.Health(ctx, p, m), true)
	})
}

// known checks that an answer is well formed or refused with one of the errors.
func known(t *testing.T, err error, wellFormed bool) {
	t.Helper()
	if err == nil {
		if !wellFormed {
			t.Fatal("what is not well formed is accepted")
		}
		return
	}
	for _, e := range []error{xks.ErrCredential, xks.ErrConfiguration, xks.ErrInvalidResponse, xks.ErrKeyNotFound, xks.ErrCiphertext, xks.ErrRefused} {
		if errors.Is(err, e) {
			return
		}
	}
	t.Fatal(err)
}
