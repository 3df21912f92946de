package wire_test

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json/v2"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/claviger/claviger/kmstest"
)

// An issuer is an OpenID Connect provider on loopback.
type issuer struct {
	*httptest.Server
	key    *rsa.PrivateKey
	signer jose.Signer
	asked  int // for keys
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key}
	i.signer = signerOf(t, jose.RS256, key, "one")
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.asked++
		text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}})
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	})
	i.Server = httptest.NewUnstartedServer(mux)
	i.Config.ErrorLog = log.New(io.Discard, "", 0)
	i.StartTLS()
	t.Cleanup(i.Close)
	return i
}

func signerOf(t *testing.T, algorithm jose.SignatureAlgorithm, key any, id string) jose.Signer {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (i *issuer) thumbprint() string {
	sum := sha1.Sum(i.Certificate().Raw)
	return hex.EncodeToString(sum[:])
}

func (i *issuer) host() string { return strings.TrimPrefix(i.URL, "https://") }

// claims are good ones; edit changes them.
func (i *issuer) claims(edit func(map[string]any)) map[string]any {
	now := time.Now().Unix()
	c := map[string]any{"iss": i.URL, "sub": "system:serviceaccount:default:app", "aud": "sts.amazonaws.com", "iat": now, "exp": now + 600}
	if edit != nil {
		edit(c)
	}
	return c
}

func token(t *testing.T, s jose.Signer, claims map[string]any) string {
	t.Helper()
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// unsigned sends a Query request without a signature.
func (c client) unsigned(args ...string) (int, string) {
	c.t.Helper()
	r, _ := c.form(args...)
	status, _, text := c.do(r)
	return status, text
}

func TestWebIdentity(t *testing.T) {
	c, i := client{t, kmstest.Start(t)}, newIssuer(t)
	admin := c.user("admin")
	c.query(root, "iam", "Action", "AttachUserPolicy", "UserName", "admin", "PolicyArn", "arn:aws:iam::aws:policy/AdministratorAccess")
	status, text := c.query(admin, "iam", "Action", "CreateOpenIDConnectProvider", "Url", i.URL, "ClientIDList.member.1", "sts.amazonaws.com",
		"ThumbprintList.member.1", i.thumbprint())
	if status != http.StatusOK {
		t.Fatalf("provider: %d %s", status, text)
	}
	provider := element(text, "OpenIDConnectProviderArn")
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"` + provider + `"},"Action":["sts:AssumeRoleWithWebIdentity","sts:TagSession"],
		"Condition":{"StringEquals":{"` + i.host() + `:sub":"system:serviceaccount:default:app","` + i.host() + `:aud":"sts.amazonaws.com"}}}]}`
	c.query(admin, "iam", "Action", "CreateRole", "RoleName", "pod", "AssumeRolePolicyDocument", trust)
	key := c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "PutKeyPolicy", `{"KeyId":"`+key+`","BypassPolicyLockoutSafetyCheck":true,"Policy":"`+
		escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/pod"},"Action":"kms:Encrypt","Resource":"*",`+
			`"Condition":{"StringEquals":{"aws:FederatedProvider":"`+i.host()+`","aws:PrincipalTag/team":"red"}}}]}`)+`"}`, "")
	good := token(t, i.signer, i.claims(func(m map[string]any) {
		m["https://aws.amazon.com/tags"] = map[string]any{"principal_tags": map[string]any{"team": []string{"red"}}}
	}))
	role := "arn:aws:iam::111122223333:role/pod"
	assume := func(token string) (int, string) {
		return c.unsigned("Action", "AssumeRoleWithWebIdentity", "Version", "2011-06-15", "RoleArn", role, "RoleSessionName", "build", "WebIdentityToken", token)
	}
	status, text = assume(good)
	if status != http.StatusOK || element(text, "SubjectFromWebIdentityToken") != "system:serviceaccount:default:app" || element(text, "Audience") != "sts.amazonaws.com" ||
		element(text, "Provider") != provider || element(text, "Arn") != "arn:aws:sts::111122223333:assumed-role/pod/build" {
		t.Fatalf("assume: %d %s", status, text)
	}
	pod := credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), element(text, "SessionToken")}
	c.must(pod, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`, "")

	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none"}`)) + "." + strings.Split(good, ".")[1] + "."
	notJWT := "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)"
	noKey := "Couldn&#39;t retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements"
	for _, tt := range []struct {
		name, token   string
		status        int
		code, message string
	}{
		{"not a JWT", "no.token", 400, "InvalidIdentityToken", notJWT},
		{"alg none", none, 400, "InvalidIdentityToken", notJWT},
		{"alg HS256", token(t, signerOf(t, jose.HS256, []byte(strings.Repeat("k", 32)), "one"), i.claims(nil)), 400, "InvalidIdentityToken", notJWT},
		{"another issuer", token(t, i.signer, i.claims(func(m map[string]any) { m["iss"] = "https://elsewhere.example" })), 400, "InvalidIdentityToken",
			"No OpenIDConnect provider found in your account for https://elsewhere.example"},
		{"wrong audience", token(t, i.signer, i.claims(func(m map[string]any) { m["aud"] = "me" })), 400, "InvalidIdentityToken", "Incorrect token audience"},
		{"no subject", token(t, i.signer, i.claims(func(m map[string]any) { delete(m, "sub") })), 400, "InvalidIdentityToken", "Missing a required claim"},
		{"no expiry", token(t, i.signer, i.claims(func(m map[string]any) { delete(m, "exp") })), 400, "InvalidIdentityToken", "Missing a required claim"},
		{"not yet", token(t, i.signer, i.claims(func(m map[string]any) { m["nbf"] = time.Now().Unix() + 600 })), 400, "InvalidIdentityToken", "Token is not yet valid"},
		{"unknown kid", token(t, signerOf(t, jose.RS256, i.key, "two"), i.claims(nil)), 400, "InvalidIdentityToken", noKey},
		{"another key", token(t, signerOf(t, jose.RS256, other, "one"), i.claims(nil)), 400, "InvalidIdentityToken", "Token signature invalid"},
		{"another subject", token(t, i.signer, i.claims(func(m map[string]any) { m["sub"] = "system:serviceaccount:default:evil" })), 403, "AccessDenied",
			"Not authorized to perform sts:AssumeRoleWithWebIdentity"},
		{"a tag that is too long", token(t, i.signer, i.claims(func(m map[string]any) {
			m["https://aws.amazon.com/tags"] = map[string]any{"principal_tags": map[string]any{"team": []string{strings.Repeat("x", 300)}}}
		})), 400, "InvalidIdentityToken", "The session tags or the source identity in the token are not valid"},
		{"a source identity with a space", token(t, i.signer, i.claims(func(m map[string]any) { m["https://aws.amazon.com/source_identity"] = "a b" })), 400, "InvalidIdentityToken",
			"The session tags or the source identity in the token are not valid"},
		{"huge", strings.Repeat("x", 30_000), 400, "ValidationError", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.unsigned("Action", "AssumeRoleWithWebIdentity", "RoleArn", role, "RoleSessionName", "build", "WebIdentityToken", tt.token)
			if status != tt.status || element(text, "Code") != tt.code || !strings.Contains(element(text, "Message"), tt.message) {
				t.Errorf("%d %s", status, text)
			}
		})
	}
	t.Run("expired", func(t *testing.T) {
		status, text := assume(token(t, i.signer, i.claims(func(m map[string]any) { m["exp"] = 1000 })))
		if status != 400 || element(text, "Code") != "ExpiredTokenException" || !strings.HasSuffix(element(text, "Message"), "must be before the expiration date/time 1000") {
			t.Errorf("%d %s", status, text)
		}
	})
	t.Run("a role that does not exist is refused alike", func(t *testing.T) {
		status, text := client{t, c.srv}.unsigned("Action", "AssumeRoleWithWebIdentity", "RoleArn", role+"x", "RoleSessionName", "build", "WebIdentityToken", good)
		if status != 403 || element(text, "Message") != "Not authorized to perform sts:AssumeRoleWithWebIdentity" {
			t.Errorf("%d %s", status, text)
		}
	})
	if i.asked != 1 {
		t.Errorf("keys were asked for %d times; strangers must not make us ask", i.asked)
	}
	t.Run("a certificate without its thumbprint", func(t *testing.T) {
		c.query(admin, "iam", "Action", "UpdateOpenIDConnectProviderThumbprint", "OpenIDConnectProviderArn", provider, "ThumbprintList.member.1", strings.Repeat("0", 40))
		status, text := assume(good)
		if status != 400 || element(text, "Message") != "OpenIDConnect provider&#39;s HTTPS certificate doesn&#39;t match configured thumbprint" {
			t.Errorf("%d %s", status, text)
		}
	})
}

// escape makes a JSON string's inside of a text.
func escape(s string) string { return strings.ReplaceAll(s, `"`, `\"`) }

func TestOIDCProviders(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	c.query(root, "iam", "Action", "CreateOpenIDConnectProvider", "Url", "https://id.example/a", "ClientIDList.member.1", "x")
	arn := "arn:aws:iam::111122223333:oidc-provider/id.example/a"
	many := []string{"Action", "CreateOpenIDConnectProvider", "Url", "https://many.example"}
	for i := range 101 {
		many = append(many, fmt.Sprintf("ClientIDList.member.%d", i+1), fmt.Sprint("id", i))
	}
	for _, tt := range []struct {
		name          string
		args          []string
		status        int
		code, message string
	}{
		{"get", []string{"Action", "GetOpenIDConnectProvider", "OpenIDConnectProviderArn", arn}, 200, "", ""},
		{"list", []string{"Action", "ListOpenIDConnectProviders"}, 200, "", ""},
		{"add a client", []string{"Action", "AddClientIDToOpenIDConnectProvider", "OpenIDConnectProviderArn", arn, "ClientID", "y"}, 200, "", ""},
		{"remove a client", []string{"Action", "RemoveClientIDFromOpenIDConnectProvider", "OpenIDConnectProviderArn", arn, "ClientID", "x"}, 200, "", ""},
		{"twice", []string{"Action", "CreateOpenIDConnectProvider", "Url", "https://id.example/a/"}, 409, "EntityAlreadyExists", "Provider with url https://id.example/a already exists."},
		{"http", []string{"Action", "CreateOpenIDConnectProvider", "Url", "http://id.example"}, 400, "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"no scheme", []string{"Action", "CreateOpenIDConnectProvider", "Url", "example.org"}, 400, "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"capital scheme", []string{"Action", "CreateOpenIDConnectProvider", "Url", "HTTPS://id.example"}, 400, "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"space", []string{"Action", "CreateOpenIDConnectProvider", "Url", "https://id.example/a b"}, 400, "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"dots", []string{"Action", "CreateOpenIDConnectProvider", "Url", "https://id.example/../x"}, 400, "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"no port", []string{"Action", "CreateOpenIDConnectProvider", "Url", "https://id.example:99999"}, 400, "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"query", []string{"Action", "CreateOpenIDConnectProvider", "Url", "https://id.example?a=b"}, 400, "ValidationError", "Invalid Open ID Connect Provider URL"},
		{"too many clients", many, 409, "LimitExceeded", "Cannot exceed quota for ClientIdsPerOpenIdConnectProvider: 100"},
		{"get an unknown one", []string{"Action", "GetOpenIDConnectProvider", "OpenIDConnectProviderArn", arn + "b"}, 404, "NoSuchEntity", "OpenIDConnect Provider not found for arn " + arn + "b"},
		{"delete an unknown one", []string{"Action", "DeleteOpenIDConnectProvider", "OpenIDConnectProviderArn", arn + "b"}, 404, "NoSuchEntity", "OpenId connect Provider " + arn + "b cannot be found."},
		{"delete", []string{"Action", "DeleteOpenIDConnectProvider", "OpenIDConnectProviderArn", arn}, 200, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, text := client{t, c.srv}.query(root, "iam", tt.args...)
			if status != tt.status || element(text, "Code") != tt.code || element(text, "Message") != tt.message {
				t.Errorf("%d %s", status, text)
			}
		})
	}
}

// code is the one-time code of a seed, steps away from now.
func code(t *testing.T, seed string, steps int64) string {
	t.Helper()
	key, err := base32.StdEncoding.DecodeString(seed)
	if err != nil {
		t.Fatal(err)
	}
	m := hmac.New(sha1.New, key)
	m.Write(binary.BigEndian.AppendUint64(nil, uint64(time.Now().Unix()/30+steps)))
	sum := m.Sum(nil)
	at := sum[19] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

func TestMFA(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice, bob := c.user("alice"), c.user("bob")
	_, text := c.query(root, "iam", "Action", "CreateVirtualMFADevice", "VirtualMFADeviceName", "phone")
	seed, err := base64.StdEncoding.DecodeString(element(text, "Base32StringSeed"))
	png, err2 := base64.StdEncoding.DecodeString(element(text, "QRCodePNG"))
	if err != nil || err2 != nil || !strings.HasPrefix(string(png), "\x89PNG") {
		t.Fatalf("device: %s", text)
	}
	serial := element(text, "SerialNumber")
	expect := func(name string, status int, message string) func(int, string) {
		return func(gotStatus int, text string) {
			t.Helper()
			if gotStatus != status || !strings.Contains(text, message) {
				t.Errorf("%s: %d %s", name, gotStatus, text)
			}
		}
	}
	iam := func(args ...string) (int, string) { return c.query(root, "iam", args...) }
	expect("a device twice", 409, "MFA device already exists.")(iam("Action", "CreateVirtualMFADevice", "VirtualMFADeviceName", "phone"))
	enable := []string{"Action", "EnableMFADevice", "UserName", "alice", "SerialNumber", serial, "AuthenticationCode1"}
	expect("wrong codes", 403, "Authentication code for device is not valid")(iam(append(enable, "000000", "AuthenticationCode2", "000001")...))
	expect("codes not in a row", 403, "Authentication code for device is not valid")(iam(append(enable, code(t, string(seed), -2), "AuthenticationCode2", code(t, string(seed), 0))...))
	expect("an unknown device", 404, "does not exist.")(iam("Action", "EnableMFADevice", "UserName", "alice", "SerialNumber", serial+"x", "AuthenticationCode1", "000000", "AuthenticationCode2", "000000"))
	expect("enable", 200, "")(iam(append(enable, code(t, string(seed), -2), "AuthenticationCode2", code(t, string(seed), -1))...))
	expect("enable twice", 409, "MFA Device is already in use.")(iam(append(enable, code(t, string(seed), -2), "AuthenticationCode2", code(t, string(seed), -1))...))
	expect("delete in use", 409, "DeleteConflict")(iam("Action", "DeleteVirtualMFADevice", "SerialNumber", serial))
	expect("list", 200, serial)(iam("Action", "ListMFADevices", "UserName", "alice"))

	key := c.must(root, "CreateKey", `{}`, "Arn")
	c.must(root, "PutKeyPolicy", `{"KeyId":"`+key+`","BypassPolicyLockoutSafetyCheck":true,"Policy":"`+escape(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`+
		`"Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"kms:Encrypt","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"},`+
		`"NumericLessThan":{"aws:MultiFactorAuthAge":"300"}}}]}`)+`"}`, "")
	session := func(who credentials, args ...string) (int, string) {
		return c.query(who, "sts", append([]string{"Action", "GetSessionToken"}, args...)...)
	}
	encrypt := func(who credentials) (int, string) {
		return c.call(who, "Encrypt", `{"KeyId":"`+key+`","Plaintext":"eA=="}`)
	}
	expect("a long-term key", 400, "AccessDenied")(encrypt(alice))
	_, text = session(alice)
	expect("a session without MFA", 400, "AccessDenied")(encrypt(credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), element(text, "SessionToken")}))
	now := code(t, string(seed), 0)
	expect("another's device", 403, "unable to validate MFA code.  Please verify")(session(bob, "SerialNumber", serial, "TokenCode", now))
	status, text := session(alice, "SerialNumber", serial, "TokenCode", now)
	if status != 200 {
		t.Fatalf("session: %d %s", status, text)
	}
	expect("a session with MFA", 200, "")(encrypt(credentials{element(text, "AccessKeyId"), element(text, "SecretAccessKey"), element(text, "SessionToken")}))
	expect("a code twice", 403, "MultiFactorAuthentication failed with invalid MFA one time pass code.")(session(alice, "SerialNumber", serial, "TokenCode", now))
	expect("a wrong code", 403, "MultiFactorAuthentication failed with invalid MFA one time pass code.")(session(alice, "SerialNumber", serial, "TokenCode", "000000"))
	for _, line := range c.srv.Audit() {
		if strings.Contains(string(line), now) || strings.Contains(string(line), string(seed)) {
			t.Errorf("a code or a seed is in the log: %s", line)
		}
	}

	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":"sts:AssumeRole",` +
		`"Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}]}`
	iam("Action", "CreateRole", "RoleName", "careful", "AssumeRolePolicyDocument", trust)
	assume := []string{"Action", "AssumeRole", "RoleArn", "arn:aws:iam::111122223333:role/careful", "RoleSessionName", "careful"}
	expect("a role without MFA", 403, "AccessDenied")(c.query(alice, "sts", assume...))
	expect("a role with MFA", 200, "AssumeRoleResponse")(c.query(alice, "sts", append(assume, "SerialNumber", serial, "TokenCode", code(t, string(seed), 1))...))
	for range 8 {
		session(alice, "SerialNumber", serial, "TokenCode", "000000")
	}
	expect("a device that wrong codes closed", 403, "invalid MFA one time pass code")(session(alice, "SerialNumber", serial, "TokenCode", code(t, string(seed), 1)))
	expect("a user with a device", 409, "must delete MFA device first.")(func() (int, string) {
		iam("Action", "DeleteAccessKey", "UserName", "alice", "AccessKeyId", alice.id)
		return iam("Action", "DeleteUser", "UserName", "alice")
	}())
	expect("deactivate", 200, "")(iam("Action", "DeactivateMFADevice", "UserName", "alice", "SerialNumber", serial))
	expect("deactivate twice", 404, "does not exist.")(iam("Action", "DeactivateMFADevice", "UserName", "alice", "SerialNumber", serial))
	expect("enable with codes that were used", 403, "Authentication code for device is not valid")(iam(append(enable, code(t, string(seed), -2), "AuthenticationCode2", code(t, string(seed), -1))...))
	expect("delete", 200, "")(iam("Action", "DeleteVirtualMFADevice", "SerialNumber", serial))
}

// TestFederationNeedsPermission sends every operation on providers and devices as a
// user without any.
func TestFederationNeedsPermission(t *testing.T) {
	c := client{t, kmstest.Start(t)}
	alice := c.user("alice")
	c.query(root, "iam", "Action", "CreateOpenIDConnectProvider", "Url", "https://id.example")
	c.query(root, "iam", "Action", "CreateVirtualMFADevice", "VirtualMFADeviceName", "phone")
	provider, device := "arn:aws:iam::111122223333:oidc-provider/id.example", "arn:aws:iam::111122223333:mfa/phone"
	before := c.srv.Revision()
	for _, args := range [][]string{
		{"CreateOpenIDConnectProvider", "Url", "https://other.example"},
		{"GetOpenIDConnectProvider", "OpenIDConnectProviderArn", provider},
		{"GetOpenIDConnectProvider", "OpenIDConnectProviderArn", provider + "x"},
		{"ListOpenIDConnectProviders"},
		{"AddClientIDToOpenIDConnectProvider", "OpenIDConnectProviderArn", provider, "ClientID", "x"},
		{"RemoveClientIDFromOpenIDConnectProvider", "OpenIDConnectProviderArn", provider, "ClientID", "x"},
		{"UpdateOpenIDConnectProviderThumbprint", "OpenIDConnectProviderArn", provider, "ThumbprintList.member.1", strings.Repeat("0", 40)},
		{"DeleteOpenIDConnectProvider", "OpenIDConnectProviderArn", provider},
		{"CreateVirtualMFADevice", "VirtualMFADeviceName", "phone"},
		{"EnableMFADevice", "UserName", "alice", "SerialNumber", device, "AuthenticationCode1", "000000", "AuthenticationCode2", "000000"},
		{"DeactivateMFADevice", "UserName", "alice", "SerialNumber", device},
		{"DeleteVirtualMFADevice", "SerialNumber", device},
		{"DeleteVirtualMFADevice", "SerialNumber", device + "x"},
		{"ListMFADevices", "UserName", "alice"},
	} {
		status, text := c.query(alice, "iam", append([]string{"Action"}, args...)...)
		want := "User: arn:aws:iam::111122223333:user/alice is not authorized to perform: iam:" + args[0] + " on resource: "
		if status != 403 || element(text, "Code") != "AccessDenied" || !strings.HasPrefix(element(text, "Message"), want) {
			t.Errorf("%q: %d %s", args, status, text)
		}
	}
	if after := c.srv.Revision(); after != before {
		t.Errorf("refused requests changed something: revision %d, was %d", after, before)
	}
}
