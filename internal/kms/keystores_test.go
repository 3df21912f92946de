package kms_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/internal/xks/xkstest"
	"github.com/claviger/claviger/kmstest"
)

// withProxy is a world whose key stores can be at a test's proxy.
func withProxy(t *testing.T, options ...kmstest.Option) (world, *xkstest.Proxy) {
	t.Helper()
	proxy := xkstest.Start(t, "one", "two")
	return newWorld(t, append(options, kmstest.Proxies(proxy.Addresses(), proxy.Roots(), time.Minute))...), proxy
}

func newStore(p *xkstest.Proxy) *kms.CreateCustomKeyStoreInput {
	return &kms.CreateCustomKeyStoreInput{
		CustomKeyStoreName: aws.String("outside"), CustomKeyStoreType: types.CustomKeyStoreTypeExternalKeyStore,
		XksProxyConnectivity: types.XksProxyConnectivityTypePublicEndpoint, XksProxyUriEndpoint: aws.String("https://" + xkstest.Host), XksProxyUriPath: aws.String(xkstest.Path),
		XksProxyAuthenticationCredential: &types.XksProxyAuthenticationCredentialType{AccessKeyId: &p.AccessKeyID, RawSecretAccessKey: &p.Secret}}
}

// connected makes a connected key store.
func (w world) connected(p *xkstest.Proxy) *string {
	w.t.Helper()
	out, err := w.root.CreateCustomKeyStore(w.t.Context(), newStore(p))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := w.root.ConnectCustomKeyStore(w.t.Context(), &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: out.CustomKeyStoreId}); err != nil {
		w.t.Fatal(err)
	}
	return out.CustomKeyStoreId
}

func (w world) outside(store *string, name string) (*types.KeyMetadata, error) {
	w.t.Helper()
	out, err := w.root.CreateKey(w.t.Context(), &kms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: store, XksKeyId: &name})
	if err != nil {
		return nil, err
	}
	return out.KeyMetadata, nil
}

func (w world) store(id *string) types.CustomKeyStoresListEntry {
	w.t.Helper()
	out, err := w.root.DescribeCustomKeyStores(w.t.Context(), &kms.DescribeCustomKeyStoresInput{CustomKeyStoreId: id})
	if err != nil || len(out.CustomKeyStores) != 1 {
		w.t.Fatal(out, err)
	}
	return out.CustomKeyStores[0]
}

func TestExternalKeyStore(t *testing.T) {
	w, proxy := withProxy(t)
	ctx := t.Context()
	store := w.connected(proxy)
	if s := w.store(store); s.ConnectionState != types.ConnectionStateTypeConnected || *s.XksProxyConfiguration.UriPath != xkstest.Path ||
		*s.XksProxyConfiguration.AccessKeyId != proxy.AccessKeyID || s.CustomKeyStoreType != types.CustomKeyStoreTypeExternalKeyStore {
		t.Errorf("%+v", s)
	}
	key, err := w.outside(store, "one")
	if err != nil || key.Origin != types.OriginTypeExternalKeyStore || *key.CustomKeyStoreId != *store || *key.XksKeyConfiguration.Id != "one" || key.CurrentKeyMaterialId != nil {
		t.Fatal(key, err)
	}
	encryptionContext := map[string]string{"project": "nile", "department": "marketing"}
	long := []byte(strings.Repeat("x", 4096))
	sealed, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: long, EncryptionContext: encryptionContext})
	if err != nil {
		t.Fatal(err)
	}
	requests := proxy.Requests()
	last := requests[len(requests)-1]
	if last.Path != "/keys/one/encrypt" || last.Metadata["kmsKeyArn"] != *key.Arn || last.Metadata["kmsOperation"] != "Encrypt" ||
		last.Metadata["awsPrincipalArn"] != "arn:aws:iam::111122223333:root" || string(last.AAD) != "department=marketing,project=nile" {
		t.Errorf("the proxy was asked %+v", last)
	}
	open := func(blob []byte, c map[string]string) (*kms.DecryptOutput, error) {
		return w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob, EncryptionContext: c})
	}
	opened, err := open(sealed.CiphertextBlob, encryptionContext)
	if err != nil || string(opened.Plaintext) != string(long) || opened.KeyMaterialId != nil {
		t.Errorf("Decrypt = %v, %v", opened, err)
	}
	_, err = open(sealed.CiphertextBlob, nil)
	w.want("Decrypt without the encryption context", err, "InvalidCiphertextException")
	for _, at := range []int{60, 100, len(sealed.CiphertextBlob) - 1} {
		broken := append([]byte(nil), sealed.CiphertextBlob...)
		broken[at] ^= 1
		_, err = open(broken, encryptionContext)
		w.want("Decrypt of a changed ciphertext", err, "InvalidCiphertextException")
	}
	data, err := w.root.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key.KeyId, KeySpec: types.DataKeySpecAes256})
	if err != nil {
		t.Fatal(err)
	}
	if opened, err = open(data.CiphertextBlob, nil); err != nil || string(opened.Plaintext) != string(data.Plaintext) {
		t.Errorf("Decrypt of a data key = %v, %v", opened, err)
	}
	// In and out by ReEncrypt.
	blue := w.key()
	moved, err := w.root.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: data.CiphertextBlob, DestinationKeyId: blue.KeyId})
	if err != nil || moved.SourceKeyMaterialId != nil || moved.DestinationKeyMaterialId == nil {
		t.Fatal(moved, err)
	}
	_, err = w.root.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: moved.CiphertextBlob, DestinationKeyId: key.KeyId})
	w.want("ReEncrypt into the key store", err, "")

	// What the external key says, counts; its words are not told.
	proxy.Change("one", func(k *xkstest.Key) { k.Status = "DISABLED" })
	_, err = open(data.CiphertextBlob, nil)
	w.want("Decrypt with a disabled external key", err, "KMSInvalidStateException")
	if err != nil && strings.Contains(err.Error(), "secret words") {
		t.Error("the proxy's words are told")
	}
	proxy.Change("one", func(k *xkstest.Key) { k.Status = "ENABLED" })

	// Answers that make no sense are not stored and not passed on.
	for _, text := range []string{``, `{}`, `[1]`, `{"plaintext":""}`, `{"ciphertext":"AAAA","initializationVector":"AAAAAAAAAAAAAAAA","authenticationTag":"AAAAAAAAAAAAAAAAAAAAAA=="}`,
		`{"plaintext":"` + strings.Repeat("A", 1<<17) + `"}`} {
		proxy.Answer(func(rw http.ResponseWriter, _ string) bool { _, _ = rw.Write([]byte(text)); return true })
		_, err = w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("a")})
		w.want("Encrypt with the answer "+text[:min(20, len(text))], err, "KMSInvalidStateException")
		_, err = open(data.CiphertextBlob, nil)
		w.want("Decrypt with the answer "+text[:min(20, len(text))], err, "KMSInvalidStateException")
	}
	proxy.Answer(func(rw http.ResponseWriter, _ string) bool {
		_, _ = rw.Write([]byte(`{"plaintext":"AAAA"}`))
		return true
	})
	_, err = open(data.CiphertextBlob, nil)
	w.want("Decrypt with the answer of another plaintext", err, "InvalidCiphertextException")
	proxy.Answer(func(rw http.ResponseWriter, _ string) bool {
		xkstest.Refuse(rw, 400, "InvalidCiphertextException")
		return true
	})
	_, err = w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("a")})
	w.want("Encrypt with the answer that a ciphertext is wrong", err, "KMSInvalidStateException")
	proxy.Answer(nil)

	_, err = w.root.DisconnectCustomKeyStore(ctx, &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store})
	w.want("DisconnectCustomKeyStore", err, "")
	if m := w.describe(key.KeyId); m.KeyState != types.KeyStateUnavailable || m.Enabled {
		t.Errorf("%+v", m)
	}
	_, err = open(data.CiphertextBlob, nil)
	w.want("Decrypt while it is not connected", err, "KMSInvalidStateException")
	_, err = w.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key.KeyId})
	w.want("DisableKey while it is not connected", err, "")
	_, err = w.root.DeleteCustomKeyStore(ctx, &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store})
	w.want("DeleteCustomKeyStore with keys", err, "CustomKeyStoreHasCMKsException")
	_, err = w.root.ConnectCustomKeyStore(ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store})
	w.want("ConnectCustomKeyStore", err, "")
	if m := w.describe(key.KeyId); m.KeyState != types.KeyStateDisabled {
		t.Errorf("%+v", m)
	}
}

func TestExternalKeyStoreRefusals(t *testing.T) {
	w, proxy := withProxy(t, kmstest.Quotas(0, 2))
	ctx := t.Context()
	create := func(change func(*kms.CreateCustomKeyStoreInput)) error {
		in := newStore(proxy)
		change(in)
		_, err := w.root.CreateCustomKeyStore(ctx, in)
		return err
	}
	refuse := func(status int, name string) func(http.ResponseWriter, string) bool {
		return func(rw http.ResponseWriter, _ string) bool { xkstest.Refuse(rw, status, name); return true }
	}
	for _, tt := range []struct {
		name   string
		change func(*kms.CreateCustomKeyStoreInput)
		want   string
	}{
		{"a CloudHSM cluster that does not exist", func(in *kms.CreateCustomKeyStoreInput) {
			*in = kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("h"), CloudHsmClusterId: aws.String("cluster-2a23b4cdefg"),
				KeyStorePassword: aws.String("password"), TrustAnchorCertificate: aws.String("certificate")}
		}, "CloudHsmClusterNotFoundException"},
		{"a CloudHSM key store without a cluster", func(in *kms.CreateCustomKeyStoreInput) {
			*in = kms.CreateCustomKeyStoreInput{CustomKeyStoreName: aws.String("h")}
		}, "ValidationException"},
		{"no path", func(in *kms.CreateCustomKeyStoreInput) { in.XksProxyUriPath = nil }, "ValidationException"},
		{"a cluster besides", func(in *kms.CreateCustomKeyStoreInput) { in.CloudHsmClusterId = aws.String("cluster-2a23b4cdefg") }, "ValidationException"},
		{"a VPC endpoint service without name", func(in *kms.CreateCustomKeyStoreInput) {
			in.XksProxyConnectivity = types.XksProxyConnectivityTypeVpcEndpointService
		}, "ValidationException"},
		{"a VPC endpoint service that does not exist", func(in *kms.CreateCustomKeyStoreInput) {
			in.XksProxyConnectivity = types.XksProxyConnectivityTypeVpcEndpointService
			in.XksProxyVpcEndpointServiceName = aws.String("com.amazonaws.vpce.us-east-1.vpce-svc-example")
		}, "XksProxyVpcEndpointServiceNotFoundException"},
		{"a host that the operator does not allow", func(in *kms.CreateCustomKeyStoreInput) { in.XksProxyUriEndpoint = aws.String("https://localhost") }, "XksProxyUriUnreachableException"},
		{"another path", func(in *kms.CreateCustomKeyStoreInput) { in.XksProxyUriPath = aws.String("/other/kms/xks/v1") }, "XksProxyInvalidConfigurationException"},
		{"another secret", func(in *kms.CreateCustomKeyStoreInput) {
			in.XksProxyAuthenticationCredential.RawSecretAccessKey = aws.String(strings.Repeat("wrong", 10))
		}, "XksProxyIncorrectAuthenticationCredentialException"},
	} {
		w.want(tt.name, create(tt.change), tt.want)
	}
	for _, tt := range []struct {
		name   string
		answer func(http.ResponseWriter, string) bool
		want   string
	}{
		{"an answer that is no JSON", func(rw http.ResponseWriter, _ string) bool { _, _ = rw.Write([]byte("<html>")); return true }, "XksProxyInvalidResponseException"},
		{"an empty object", func(rw http.ResponseWriter, _ string) bool { _, _ = rw.Write([]byte("{}")); return true }, "XksProxyInvalidResponseException"},
		{"an endless answer", func(rw http.ResponseWriter, _ string) bool {
			_, _ = rw.Write([]byte(`{"a":"` + strings.Repeat("x", 1<<20)))
			return true
		}, "XksProxyInvalidResponseException"},
		{"a redirect", func(rw http.ResponseWriter, _ string) bool {
			rw.Header().Set("Location", "https://elsewhere")
			rw.WriteHeader(302)
			return true
		}, "XksProxyInvalidResponseException"},
		{"another kind of server", func(rw http.ResponseWriter, _ string) bool { rw.WriteHeader(404); return true }, "XksProxyInvalidConfigurationException"},
		{"an internal error", refuse(500, "InternalException"), "XksProxyInvalidResponseException"},
		{"no access", refuse(403, "AccessDeniedException"), "XksProxyIncorrectAuthenticationCredentialException"},
	} {
		proxy.Answer(tt.answer)
		w.want("CreateCustomKeyStore: "+tt.name, create(func(*kms.CreateCustomKeyStoreInput) {}), tt.want)
	}
	proxy.Answer(nil)
	_, err := w.root.DescribeCustomKeyStores(ctx, &kms.DescribeCustomKeyStoresInput{CustomKeyStoreName: aws.String("outside")})
	w.want("a key store that was refused", err, "CustomKeyStoreNotFoundException")

	store := w.connected(proxy)
	w.want("the name again", create(func(in *kms.CreateCustomKeyStoreInput) { in.XksProxyUriPath = aws.String("/b/kms/xks/v1") }), "CustomKeyStoreNameInUseException")
	w.want("the address again", create(func(in *kms.CreateCustomKeyStoreInput) { in.CustomKeyStoreName = aws.String("b") }), "XksProxyUriInUseException")

	for _, step := range []string{".", ".."} {
		_, err = w.outside(store, step)
		w.want("an external key that is a step in a path", err, "XksKeyNotFoundException")
	}
	_, err = w.outside(store, "none")
	w.want("an external key that does not exist", err, "XksKeyNotFoundException")
	proxy.Change("two", func(k *xkstest.Key) { k.Usage = []string{"ENCRYPT"} })
	_, err = w.outside(store, "two")
	w.want("an external key that does not decrypt", err, "XksKeyInvalidConfigurationException")
	_, err = w.outside(store, "one")
	w.want("an external key", err, "")
	_, err = w.outside(store, "one")
	w.want("an external key that is in use", err, "XksKeyAlreadyInUseException")
	_, err = w.outside(aws.String("cks-none"), "one")
	w.want("no key store", err, "CustomKeyStoreNotFoundException")
	_, err = w.root.CreateKey(ctx, &kms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: store})
	w.want("no external key", err, "ValidationException")
	_, err = w.root.CreateKey(ctx, &kms.CreateKeyInput{Origin: types.OriginTypeAwsCloudhsm, CustomKeyStoreId: store})
	w.want("the other kind of origin", err, "ValidationException")
	_, err = w.root.CreateKey(ctx, &kms.CreateKeyInput{XksKeyId: aws.String("one")})
	w.want("an external key of an ordinary key", err, "ValidationException")
	_, err = w.root.CreateKey(ctx, &kms.CreateKeyInput{Origin: types.OriginTypeExternalKeyStore, CustomKeyStoreId: store, XksKeyId: aws.String("one"), MultiRegion: aws.Bool(true)})
	w.want("a multi-Region key in a key store", err, "UnsupportedOperationException")
	_, err = w.root.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(8), CustomKeyStoreId: store})
	w.want("random bytes of an external key store", err, "UnsupportedOperationException")

	update := func(change kms.UpdateCustomKeyStoreInput) error {
		change.CustomKeyStoreId = store
		_, err := w.root.UpdateCustomKeyStore(ctx, &change)
		return err
	}
	w.want("a new endpoint while connected", update(kms.UpdateCustomKeyStoreInput{XksProxyUriEndpoint: aws.String("https://localhost")}), "CustomKeyStoreInvalidStateException")
	w.want("a new name while connected", update(kms.UpdateCustomKeyStoreInput{NewCustomKeyStoreName: aws.String("renamed")}), "")
	w.want("a wrong path while connected", update(kms.UpdateCustomKeyStoreInput{XksProxyUriPath: aws.String("/b/kms/xks/v1")}), "XksProxyInvalidConfigurationException")
	if s := w.store(store); *s.CustomKeyStoreName != "renamed" || *s.XksProxyConfiguration.UriPath != xkstest.Path {
		t.Errorf("%+v", s)
	}
	_, err = w.root.DeleteCustomKeyStore(ctx, &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: store})
	w.want("DeleteCustomKeyStore with keys", err, "CustomKeyStoreHasCMKsException")
	disconnect := func() error {
		_, err := w.root.DisconnectCustomKeyStore(ctx, &kms.DisconnectCustomKeyStoreInput{CustomKeyStoreId: store})
		return err
	}
	w.want("DisconnectCustomKeyStore", disconnect(), "")
	w.want("DisconnectCustomKeyStore again", disconnect(), "CustomKeyStoreInvalidStateException")
	_, err = w.outside(store, "two")
	w.want("a key in a key store that is not connected", err, "CustomKeyStoreInvalidStateException")

	// A connection that fails says why, and has to be given up first.
	proxy.Answer(refuse(401, "AuthenticationFailedException"))
	connect := func() error {
		_, err := w.root.ConnectCustomKeyStore(ctx, &kms.ConnectCustomKeyStoreInput{CustomKeyStoreId: store})
		return err
	}
	w.want("ConnectCustomKeyStore", connect(), "")
	if s := w.store(store); s.ConnectionState != types.ConnectionStateTypeFailed || s.ConnectionErrorCode != types.ConnectionErrorCodeTypeXksProxyAccessDenied {
		t.Errorf("%+v", s)
	}
	proxy.Answer(nil)
	w.want("ConnectCustomKeyStore after a failure", connect(), "CustomKeyStoreInvalidStateException")
	w.want("DisconnectCustomKeyStore after a failure", disconnect(), "")
	w.want("ConnectCustomKeyStore", connect(), "")
}

func TestKeyStoresCanBeDeleted(t *testing.T) {
	w, proxy := withProxy(t)
	out, err := w.root.CreateCustomKeyStore(t.Context(), newStore(proxy))
	w.want("CreateCustomKeyStore", err, "")
	_, err = w.root.DeleteCustomKeyStore(t.Context(), &kms.DeleteCustomKeyStoreInput{CustomKeyStoreId: out.CustomKeyStoreId})
	w.want("DeleteCustomKeyStore", err, "")
	_, err = w.root.CreateCustomKeyStore(t.Context(), newStore(proxy))
	w.want("CreateCustomKeyStore with the same name and address", err, "")
}
