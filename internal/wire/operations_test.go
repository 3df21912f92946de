package wire_test

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/wire"
	"github.com/claviger/claviger/kmstest"
)

// TestEveryOperation answers an unsigned, a malformed and an empty request to
// every KMS operation that the model has, and finds an action for each.
func TestEveryOperation(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	for _, s := range wire.Operations() {
		if s.Service != "kms" {
			continue
		}
		for _, name := range slices.Concat(s.Done, s.Missing) {
			t.Run(name, func(t *testing.T) {
				if _, ok := policy.ActionNamed("kms:" + name); !ok && name != "ReEncrypt" {
					t.Error("no action")
				}
				status, _, text := client{t, c.srv}.do(c.post(name, `{}`))
				if status != 400 || find(text, "__type") != "MissingAuthenticationTokenException" {
					t.Errorf("unsigned: %d %s", status, text)
				}
				want := "SerializationException"
				if slices.Contains(s.Missing, name) {
					want = "UnsupportedOperationException"
				}
				if status, text := (client{t, c.srv}).call(root, name, `{`); status != 400 || find(text, "__type") != want {
					t.Errorf("malformed: %d %s", status, text)
				}
				if status, text := (client{t, c.srv}).call(root, name, `{}`); status >= 500 {
					t.Errorf("empty: %d %s", status, text)
				}
			})
		}
	}
}

// TestEveryOperationRefusesStrangers sends every implemented operation as a user
// without any permission.
func TestEveryOperationRefusesStrangers(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	key := c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "CreateAlias", `{"AliasName":"alias/blue","TargetKeyId":"`+key+`"}`, "")
	blob := c.must(root, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`, "CiphertextBlob")
	before := c.srv.Revision()
	for _, name := range wire.Operations()[0].Done {
		body := request(name, key, blob)
		status, text := c.call(alice, name, body)
		if status != 400 || find(text, "__type") != "AccessDeniedException" || !strings.Contains(text, "because no identity-based policy allows the kms:") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	if after := c.srv.Revision(); after != before {
		t.Errorf("refused requests changed something: revision %d, was %d", after, before)
	}
}

// members are what each operation needs besides KeyId, in JSON.
var members = map[string]string{
	"CreateAlias": `"AliasName":"alias/red","TargetKeyId":"<key>"`, "UpdateAlias": `"AliasName":"alias/blue","TargetKeyId":"<key>"`,
	"DeleteAlias": `"AliasName":"alias/blue"`, "CreateKey": ``, "ListKeys": ``, "ListAliases": ``, "GenerateRandom": `"NumberOfBytes":1`,
	"Decrypt": `"CiphertextBlob":"<blob>"`, "ReEncrypt": `"CiphertextBlob":"<blob>","DestinationKeyId":"<key>"`, "Encrypt": `"Plaintext":"eA=="`,
	"GenerateDataKey": `"KeySpec":"AES_256"`, "GenerateDataKeyWithoutPlaintext": `"KeySpec":"AES_256"`,
	"GenerateDataKeyPair": `"KeyPairSpec":"ECC_NIST_P256"`, "GenerateDataKeyPairWithoutPlaintext": `"KeyPairSpec":"ECC_NIST_P256"`,
	"PutKeyPolicy": `"Policy":"{}"`, "TagResource": `"Tags":[]`, "UntagResource": `"TagKeys":[]`, "UpdateKeyDescription": `"Description":""`,
	"CreateGrant":         `"GranteePrincipal":"arn:aws:iam::111122223333:root","Operations":["DescribeKey"]`,
	"ListRetirableGrants": `"RetiringPrincipal":"arn:aws:iam::111122223333:root"`,
	"RetireGrant":         `"GrantId":"` + noGrant + `"`, "RevokeGrant": `"GrantId":"` + noGrant + `"`,
	"Sign": `"Message":"eA==","SigningAlgorithm":"<signing>"`, "Verify": `"Message":"eA==","Signature":"eA==","SigningAlgorithm":"<signing>"`,
	"GenerateMac": `"Message":"eA==","MacAlgorithm":"HMAC_SHA_256"`, "VerifyMac": `"Message":"eA==","Mac":"eA==","MacAlgorithm":"HMAC_SHA_256"`,
	"DeriveSharedSecret": `"KeyAgreementAlgorithm":"ECDH","PublicKey":"eA=="`,
	"Encapsulate":        `"EncapsulationAlgorithm":"ML_KEM"`, "Decapsulate": `"EncapsulationAlgorithm":"ML_KEM","SharedSecretCiphertextBlob":"eA=="`,
	"GetParametersForImport": `"WrappingAlgorithm":"<wrapping>","WrappingKeySpec":"RSA_2048"`,
	"ImportKeyMaterial":      `"ImportToken":"eA==","EncryptedKeyMaterial":"eA==","ExpirationModel":"KEY_MATERIAL_DOES_NOT_EXPIRE"`,
	"ReplicateKey":           `"ReplicaRegion":"eu-west-1"`, "UpdatePrimaryRegion": `"PrimaryRegion":"ap-south-1"`,
	"CreateCustomKeyStore": `"CustomKeyStoreName":"s"`, "ConnectCustomKeyStore": `"CustomKeyStoreId":"cks-1"`, "DeleteCustomKeyStore": `"CustomKeyStoreId":"cks-1"`,
	"DisconnectCustomKeyStore": `"CustomKeyStoreId":"cks-1"`, "UpdateCustomKeyStore": `"CustomKeyStoreId":"cks-1"`, "DescribeCustomKeyStores": ``,
}

// keyless are the operations without the member KeyId, or that go without it.
var keyless = []string{"CreateAlias", "UpdateAlias", "DeleteAlias", "CreateKey", "ListKeys", "ListAliases", "GenerateRandom", "Decrypt", "ReEncrypt",
	"ListRetirableGrants", "CreateCustomKeyStore", "ConnectCustomKeyStore", "DeleteCustomKeyStore", "DisconnectCustomKeyStore", "UpdateCustomKeyStore", "DescribeCustomKeyStores"}

const noGrant = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// request is a request of an operation on a key that the API accepts.
func request(operation, key, blob string) string {
	body := strings.NewReplacer("<key>", key, "<blob>", blob, "<signing>", "ECDSA_SHA_256", "<wrapping>", "RSAES_OAEP_SHA_256").Replace(members[operation])
	switch {
	case slices.Contains(keyless, operation):
		return "{" + body + "}"
	case body == "":
		return `{"KeyId":"` + key + `"}`
	default:
		return `{"KeyId":"` + key + `",` + body + "}"
	}
}

// FuzzJSON feeds any body to the input type of every KMS operation.
func FuzzJSON(f *testing.F) {
	inputs := map[string]reflect.Type{}
	for _, in := range []any{kmsapi.CreateKeyRequest{}, kmsapi.EncryptRequest{}, kmsapi.CreateGrantRequest{}, kmsapi.ReEncryptRequest{},
		kmsapi.ImportKeyMaterialRequest{}, kmsapi.TagResourceRequest{}, kmsapi.CreateCustomKeyStoreRequest{}} {
		inputs[reflect.TypeOf(in).Name()] = reflect.TypeOf(in)
	}
	names := slices.Sorted(maps.Keys(inputs))
	for i := range names {
		f.Add(uint8(i), []byte(`{"KeyId":"k","Plaintext":"eA==","Tags":[{"TagKey":"a"}],"ValidTo":1e9,"GrantTokens":[""],"EncryptionContext":{"a":"b"}}`))
	}
	f.Fuzz(func(t *testing.T, which uint8, body []byte) {
		in := reflect.New(inputs[names[int(which)%len(names)]]).Interface()
		err := wire.DecodeJSON(body, in.(interface {
			Check(*model.Violations, string)
		}))
		if err != nil && strings.Contains(err.Error(), "Go ") && !strings.Contains(err.Error(), "SerializationException") {
			t.Fatalf("the fault names a Go type: %v", err)
		}
	})
}
