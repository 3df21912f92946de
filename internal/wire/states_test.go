package wire_test

import (
	"cmp"
	"encoding/json/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/claviger/claviger/internal/wire"
	"github.com/claviger/claviger/internal/xks/xkstest"
	"github.com/claviger/claviger/kmstest"
)

// A keyCase is a kind of key for the table of operations, kinds and states.
type keyCase struct {
	name   string
	create string
	states []string
	// has are the operations that only some kinds have and this one does, and
	// usage those its key usage allows.
	has, usage string
	signing    string
}

const (
	cryptographic = "Encrypt Decrypt ReEncrypt GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext " +
		"Sign Verify GenerateMac VerifyMac DeriveSharedSecret Encapsulate Decapsulate"
	ofSome = "EnableKeyRotation DisableKeyRotation GetKeyRotationStatus ListKeyRotations RotateKeyOnDemand GetParametersForImport ImportKeyMaterial " +
		"DeleteImportedKeyMaterial ReplicateKey UpdatePrimaryRegion GetPublicKey"
	symmetricUses = "Encrypt Decrypt ReEncrypt GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext"
	rotating      = "EnableKeyRotation DisableKeyRotation GetKeyRotationStatus ListKeyRotations RotateKeyOnDemand"
	importing     = "GetParametersForImport ImportKeyMaterial DeleteImportedKeyMaterial"
)

var (
	usable = []string{"Enabled", "Disabled", "PendingDeletion"}
	cases  = []keyCase{
		{"symmetric", `{}`, usable, rotating, symmetricUses, ""},
		{"HMAC", `{"KeySpec":"HMAC_256","KeyUsage":"GENERATE_VERIFY_MAC"}`, usable, "", "GenerateMac VerifyMac", ""},
		{"RSA for encryption", `{"KeySpec":"RSA_2048","KeyUsage":"ENCRYPT_DECRYPT"}`, usable, "GetPublicKey", "Encrypt Decrypt ReEncrypt", ""},
		{"RSA for signing", `{"KeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY"}`, usable, "GetPublicKey", "Sign Verify", "RSASSA_PSS_SHA_256"},
		{"ECC for signing", `{"KeySpec":"ECC_NIST_P256","KeyUsage":"SIGN_VERIFY"}`, usable, "GetPublicKey", "Sign Verify", "ECDSA_SHA_256"},
		{"ECC for agreement", `{"KeySpec":"ECC_NIST_P384","KeyUsage":"KEY_AGREEMENT"}`, usable, "GetPublicKey", "DeriveSharedSecret", ""},
		{"Ed25519", `{"KeySpec":"ECC_NIST_EDWARDS25519","KeyUsage":"SIGN_VERIFY"}`, usable, "GetPublicKey", "Sign Verify", "ED25519_SHA_512"},
		{"secp256k1", `{"KeySpec":"ECC_SECG_P256K1","KeyUsage":"SIGN_VERIFY"}`, usable, "GetPublicKey", "Sign Verify", "ECDSA_SHA_256"},
		{"ML-DSA", `{"KeySpec":"ML_DSA_65","KeyUsage":"SIGN_VERIFY"}`, usable, "GetPublicKey", "Sign Verify", "ML_DSA_SHAKE_256"},
		{"ML-KEM", `{"KeySpec":"ML_KEM_768","KeyUsage":"ENCAPSULATE_DECAPSULATE"}`, usable, "GetPublicKey", "Encapsulate Decapsulate", ""},
		{"imported symmetric", `{"Origin":"EXTERNAL"}`, []string{"PendingImport", "PendingDeletion"},
			"GetKeyRotationStatus ListKeyRotations RotateKeyOnDemand " + importing, symmetricUses, ""},
		{"imported RSA", `{"Origin":"EXTERNAL","KeySpec":"RSA_2048","KeyUsage":"SIGN_VERIFY"}`, []string{"PendingImport", "PendingDeletion"},
			"GetPublicKey " + importing, "Sign Verify", "RSASSA_PSS_SHA_256"},
		{"multi-Region primary", `{"MultiRegion":true}`, usable, rotating + " ReplicateKey UpdatePrimaryRegion", symmetricUses, ""},
		{"external key store", "outside", []string{"Enabled", "Disabled", "PendingDeletion", "Unavailable"}, "",
			"Encrypt Decrypt ReEncrypt GenerateDataKey GenerateDataKeyWithoutPlaintext", ""},
	}
)

// passing are the kinds of keys with states that pass by themselves.
var passing = []keyCase{
	{"multi-Region replica", "replica", []string{"Creating", "Enabled", "Disabled"}, "GetKeyRotationStatus ListKeyRotations", symmetricUses, ""},
	{"multi-Region primary on the move", "moving", []string{"Updating", "Enabled"}, rotating + " ReplicateKey UpdatePrimaryRegion", symmetricUses, ""},
}

func words(s string) []string { return strings.Fields(s) }

// expected is the code of a fault by the published tables, "" if the operation
// is to be tried.
func (k keyCase) expected(states map[string]map[string]string, operation, state string) string {
	switch {
	case slices.Contains(words(cryptographic), operation) && !slices.Contains(words(k.usage), operation):
		switch {
		case operation == "Decrypt":
			return "IncorrectKeyException"
		case strings.HasPrefix(operation, "GenerateDataKeyPair") && k.create == "outside":
			return "UnsupportedOperationException"
		}
		return "InvalidKeyUsageException"
	case operation == "GetKeyRotationStatus" && k.create != "outside": // false for keys that never rotate
	case slices.Contains(words(ofSome), operation) && !slices.Contains(words(k.has), operation):
		return "UnsupportedOperationException"
	}
	switch answer := states[operation][state]; answer {
	case "ok":
		return ""
	default:
		return answer
	}
}

// keyStates reads the published table of operations and key states.
func keyStates(t *testing.T) (states map[string]map[string]string) {
	t.Helper()
	text, err := os.ReadFile("testdata/key-states.json")
	if err == nil {
		err = json.Unmarshal(text, &states)
	}
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// TestOperationsByKindAndState sends every operation on every kind of key in every
// state that it can be in. What the tables of the Developer Guide refuse is
// refused with the exception they name, and nothing else is for those reasons.
func TestOperationsByKindAndState(t *testing.T) {
	states := keyStates(t)
	proxy := xkstest.Start(t, "one")
	c := client{t, kmstest.Start(t, kmstest.Proxies(proxy.Addresses(), proxy.Roots(), time.Minute))}
	for _, k := range cases {
		key, region, store := c.keyOf(k, proxy)
		for _, state := range k.states {
			t.Run(k.name+" "+state, func(t *testing.T) { client{t, c.srv}.everyOperation(k, states, key, region, store, state) })
		}
	}
}

// TestOperationsInPassingStates is the same for states that end by themselves.
func TestOperationsInPassingStates(t *testing.T) {
	states := keyStates(t)
	for _, k := range passing {
		synctest.Test(t, func(t *testing.T) {
			const settling = 10 * time.Hour
			c := client{t, kmstest.Start(t, kmstest.Settling(settling))}
			key, region, _ := c.keyOf(k, nil)
			if k.create == "moving" {
				time.Sleep(settling)
				c.must(root, "UpdatePrimaryRegion", `{"KeyId":"`+key+`","PrimaryRegion":"eu-west-1"}`, "")
				region, key = "eu-west-1", strings.Replace(key, "us-east-1", "eu-west-1", 1)
			}
			for i, state := range k.states {
				if i == 1 {
					time.Sleep(settling)
				}
				c.everyOperation(k, states, key, region, "", state)
			}
		})
	}
}

// reasons are the exceptions that say that a key cannot do something.
var reasons = []string{"DisabledException", "KMSInvalidStateException", "UnsupportedOperationException", "InvalidKeyUsageException",
	"IncorrectKeyException", "AccessDeniedException", "KMSInternalException"}

func (c client) everyOperation(k keyCase, states map[string]map[string]string, key, region, store, state string) {
	c.t.Helper()
	for _, operation := range wire.Operations()[0].Done {
		body, ok := k.request(operation, key)
		if !ok || states[operation]["Enabled"] == "n/a" {
			continue
		}
		c.bring(key, region, store, state)
		want := k.expected(states, operation, state)
		_, answer := c.callIn(region, root, operation, body)
		got := find(answer, "__type")
		switch {
		case want == got, want == "" && !slices.Contains(reasons, got):
		case operation == "GetPublicKey" && state == "PendingImport" && got == "KMSInvalidStateException": // there is none yet
		case operation == "RotateKeyOnDemand" && strings.Contains(answer, "pending rotation"):
		default:
			c.t.Errorf("%s %s: %s: %s, want %q", k.name, state, operation, answer, want)
		}
	}
}

// request is a request of an operation on a key of this kind; ok is false for
// operations that are not about a key.
func (k keyCase) request(operation, key string) (body string, ok bool) {
	body = strings.ReplaceAll(request(operation, key, ""), "ECDSA_SHA_256", cmp.Or(k.signing, "ECDSA_SHA_256"))
	switch operation {
	case "Decrypt":
		body = `{"KeyId":"` + key + `","CiphertextBlob":"eA==","EncryptionAlgorithm":"` + k.encryption() + `"}`
	case "Encrypt":
		body = `{"KeyId":"` + key + `","Plaintext":"eA==","EncryptionAlgorithm":"` + k.encryption() + `"}`
	case "ReEncrypt":
		body = `{"SourceKeyId":"` + key + `","CiphertextBlob":"eA==","DestinationKeyId":"` + key + `","SourceEncryptionAlgorithm":"` + k.encryption() +
			`","DestinationEncryptionAlgorithm":"` + k.encryption() + `"}`
	case "DeleteAlias", "UpdateAlias", "ListAliases", "ListRetirableGrants":
		return "", false
	case "CreateGrant":
		body = `{"KeyId":"` + key + `","DryRun":true,"GranteePrincipal":"arn:aws:iam::111122223333:root","Operations":["DescribeKey"]}`
	case "GetParametersForImport":
		if k.name == "imported RSA" {
			body = strings.ReplaceAll(body, "RSAES_OAEP", "RSA_AES_KEY_WRAP")
		}
	case "ReplicateKey": // to its own Region: refused in the end
		body = `{"KeyId":"` + key + `","ReplicaRegion":"` + strings.Split(key, ":")[3] + `"}`
	}
	return body, true
}

func (k keyCase) encryption() string {
	if k.name == "RSA for encryption" {
		return "RSAES_OAEP_SHA_256"
	}
	return "SYMMETRIC_DEFAULT"
}

// callIn is call in another Region.
func (c client) callIn(region string, who credentials, operation, body string) (int, string) {
	c.t.Helper()
	r := c.post(operation, body)
	status, _, text := c.do(signed(r, body, who, region, "kms", time.Now()))
	return status, text
}

// keyOf makes a key of a kind.
func (c client) keyOf(k keyCase, proxy *xkstest.Proxy) (key, region, store string) {
	c.t.Helper()
	switch k.create {
	case "replica":
		primary := c.must(root, "CreateKey", `{"MultiRegion":true}`, "Arn")
		c.must(root, "ReplicateKey", `{"KeyId":"`+primary+`","ReplicaRegion":"eu-west-1"}`, "")
		return strings.Replace(primary, "us-east-1", "eu-west-1", 1), "eu-west-1", ""
	case "moving":
		primary := c.must(root, "CreateKey", `{"MultiRegion":true}`, "Arn")
		c.must(root, "ReplicateKey", `{"KeyId":"`+primary+`","ReplicaRegion":"eu-west-1"}`, "")
		return primary, "us-east-1", ""
	case "outside":
		store = c.must(root, "CreateCustomKeyStore", keyStoreRequest("s", proxy), "CustomKeyStoreId")
		c.must(root, "ConnectCustomKeyStore", `{"CustomKeyStoreId":"`+store+`"}`, "")
		key = c.must(root, "CreateKey", `{"Origin":"EXTERNAL_KEY_STORE","CustomKeyStoreId":"`+store+`","XksKeyId":"one"}`, "Arn")
		return key, "us-east-1", store
	default:
		return c.must(root, "CreateKey", k.create, "Arn"), "us-east-1", ""
	}
}

// keyStoreRequest asks for a custom key store at a test's proxy.
func keyStoreRequest(name string, proxy *xkstest.Proxy) string {
	return `{"CustomKeyStoreName":"` + name + `","CustomKeyStoreType":"EXTERNAL_KEY_STORE","XksProxyConnectivity":"PUBLIC_ENDPOINT","XksProxyUriEndpoint":"https://` +
		xkstest.Host + `","XksProxyUriPath":"` + xkstest.Path + `","XksProxyAuthenticationCredential":{"AccessKeyId":"` + proxy.AccessKeyID +
		`","RawSecretAccessKey":"` + proxy.Secret + `"}}`
}

// bring brings a key into a state, wherever it was.
func (c client) bring(key, region, store, state string) {
	c.t.Helper()
	now := func() string {
		_, text := c.callIn(region, root, "DescribeKey", `{"KeyId":"`+key+`"}`)
		return find(text, "KeyState")
	}
	do := func(operation string) { c.callIn(region, root, operation, `{"KeyId":"`+key+`"}`) }
	if store != "" && state != "Unavailable" {
		c.call(root, "ConnectCustomKeyStore", `{"CustomKeyStoreId":"`+store+`"}`)
	}
	if now() == state {
		return
	}
	do("CancelKeyDeletion")
	do("EnableKey")
	switch state {
	case "Disabled":
		do("DisableKey")
	case "PendingDeletion":
		do("ScheduleKeyDeletion")
	case "Unavailable":
		c.call(root, "DisconnectCustomKeyStore", `{"CustomKeyStoreId":"`+store+`"}`)
	}
	if got := now(); got != state {
		c.t.Fatalf("the key is %s, want %s", got, state)
	}
}
