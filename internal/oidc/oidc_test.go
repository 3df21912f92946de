package oidc_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/claviger/claviger/internal/leakcheck"
	"github.com/claviger/claviger/internal/oidc"
)

func TestMain(m *testing.M) { os.Exit(leakcheck.Run(m)) }

// An idp is an identity provider on loopback.
type idp struct {
	*httptest.Server
	key   *rsa.PrivateKey
	keys  string // the key set's inside, besides its own key
	asked atomic.Int32
	slow  atomic.Pointer[chan struct{}] // if set, key sets wait for it
}

// newIDP starts one whose certificate is for the given names, under a CA of its own.
func newIDP(t testing.TB, names ...string) (i *idp, thumbprint string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	i = &idp{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"issuer":%q,"jwks_uri":%q}`, i.URL, i.URL+"/keys")
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		i.asked.Add(1)
		if wait := i.slow.Load(); wait != nil {
			<-*wait
		}
		text, err := json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: "one", Use: "sig"})
		if err != nil {
			t.Error(err)
		}
		fmt.Fprintf(w, `{"keys":[%s%s]}`, i.keys, text)
	})
	i.Server = httptest.NewUnstartedServer(mux)
	i.Config.ErrorLog = log.New(io.Discard, "", 0)
	chain, private := certificates(t, names)
	i.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: chain, PrivateKey: private}}}
	i.StartTLS()
	t.Cleanup(i.Close)
	sum := sha1.Sum(chain[1])
	return i, hex.EncodeToString(sum[:])
}

func certificates(t testing.TB, names []string) (chain [][]byte, private any) {
	t.Helper()
	make := func(template, parent *x509.Certificate, public, signer any) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	newKey := func() *ecdsa.PrivateKey {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	caKey, key := newKey(), newKey()
	ca := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, n)
		}
	}
	return [][]byte{make(leaf, ca, &key.PublicKey, caKey), make(ca, ca, &caKey.PublicKey, caKey)}, key
}

// token signs good claims under a key id; edit changes them.
func (i *idp) token(t testing.TB, id string, edit func(map[string]any)) string {
	t.Helper()
	now := time.Now().Unix()
	c := map[string]any{"iss": i.URL, "sub": "app", "aud": "me", "iat": now, "exp": now + 600}
	if edit != nil {
		edit(c)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", id))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(c).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestCertificate: the provider's certificate must be for its host, an IP address
// included, and under a trusted root.
func TestCertificate(t *testing.T) {
	for _, tt := range []struct {
		name, certificate, host string
		pinned                  bool
		want                    error
	}{
		{"its address", "127.0.0.1", "127.0.0.1", true, nil},
		{"its name", "localhost", "localhost", true, nil},
		{"another name, by address", "attacker.example", "127.0.0.1", true, oidc.ErrKeys},
		{"another name, by name", "attacker.example", "localhost", true, oidc.ErrKeys},
		{"an unknown root", "127.0.0.1", "127.0.0.1", false, oidc.ErrThumbprint},
	} {
		t.Run(tt.name, func(t *testing.T) {
			i, thumbprint := newIDP(t, tt.certificate)
			i.URL = strings.Replace(i.URL, "127.0.0.1", tt.host, 1)
			if !tt.pinned {
				thumbprint = strings.Repeat("0", 40)
			}
			_, err := oidc.NewVerifier(slog.New(slog.DiscardHandler)).Verify(t.Context(), oidc.Provider{URL: i.URL, Thumbprints: []string{thumbprint}}, i.token(t, "one", nil), time.Now())
			if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
				t.Errorf("%v, want %v", err, tt.want)
			}
		})
	}
}

// TestKeySet: keys that cannot be used do not spoil the set, and are not used.
func TestKeySet(t *testing.T) {
	for name, more := range map[string]string{
		"another curve":      `{"kty":"EC","crv":"secp256k1","x":"AQ","y":"AQ","kid":"x"},`,
		"another type":       `{"kty":"OKP","crv":"X25519","x":"AQ","kid":"x"},`,
		"malformed":          `{"kty":"AKP","alg":"ML-DSA-44","pub":7,"kid":"x"},`,
		"a secret of its id": `{"kty":"oct","k":"c2VjcmV0","kid":"one"},`,
		"no object":          `7,`,
	} {
		t.Run(name, func(t *testing.T) {
			i, thumbprint := newIDP(t, "127.0.0.1")
			i.keys = more
			p := oidc.Provider{URL: i.URL, Thumbprints: []string{thumbprint}}
			if _, err := oidc.NewVerifier(slog.New(slog.DiscardHandler)).Verify(t.Context(), p, i.token(t, "one", nil), time.Now()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestStrangers: whoever sends unknown key ids, or hangs up, keeps nobody's token
// from being verified, and does not make us ask again and again.
func TestStrangers(t *testing.T) {
	i, thumbprint := newIDP(t, "127.0.0.1")
	p, v, now := oidc.Provider{URL: i.URL, Thumbprints: []string{thumbprint}}, oidc.NewVerifier(slog.New(slog.DiscardHandler)), time.Now()
	gone, hangUp := context.WithCancel(t.Context())
	hangUp()
	if _, err := v.Verify(gone, p, i.token(t, "unknown", nil), now); !errors.Is(err, oidc.ErrKeys) {
		t.Fatalf("a stranger who hung up: %v", err)
	}
	if _, err := v.Verify(t.Context(), p, i.token(t, "one", nil), now); err != nil {
		t.Fatalf("a good token after that: %v", err)
	}
	for range 5 {
		if _, err := v.Verify(t.Context(), p, i.token(t, "unknown", nil), now); !errors.Is(err, oidc.ErrKeys) {
			t.Errorf("an unknown key: %v", err)
		}
	}
	if n := i.asked.Load(); n != 1 {
		t.Errorf("keys were asked for %d times", n)
	}
	// A fetch that hangs does not hold up tokens whose key is known.
	release := make(chan struct{})
	i.slow.Store(&release)
	later := now.Add(11 * time.Second)
	waiting := make(chan error)
	go func() {
		_, err := v.Verify(t.Context(), p, i.token(t, "unknown", nil), later)
		waiting <- err
	}()
	for i.asked.Load() < 2 {
		time.Sleep(time.Millisecond)
	}
	if _, err := v.Verify(t.Context(), p, i.token(t, "one", nil), later); err != nil {
		t.Errorf("a good token beside a fetch that hangs: %v", err)
	}
	close(release)
	if err := <-waiting; !errors.Is(err, oidc.ErrKeys) {
		t.Errorf("the stranger: %v", err)
	}
}

// TestTimes: claims that are no times are missing ones.
func TestTimes(t *testing.T) {
	i, thumbprint := newIDP(t, "127.0.0.1")
	p, v := oidc.Provider{URL: i.URL, Thumbprints: []string{thumbprint}}, oidc.NewVerifier(slog.New(slog.DiscardHandler))
	for name, edit := range map[string]func(map[string]any){
		"exp as text":   func(c map[string]any) { c["exp"] = "9999999999" },
		"exp too great": func(c map[string]any) { c["exp"] = 1e300 },
		"nbf too great": func(c map[string]any) { c["nbf"] = 1e300 },
		"iat negative":  func(c map[string]any) { c["iat"] = -1 },
		"no aud":        func(c map[string]any) { delete(c, "aud") },
		"another iss":   func(c map[string]any) { c["iss"] = "https://elsewhere.example" },
	} {
		if _, err := v.Verify(t.Context(), p, i.token(t, "one", edit), time.Now()); !errors.Is(err, oidc.ErrClaims) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var expired *oidc.ExpiredError
	if _, err := v.Verify(t.Context(), p, i.token(t, "one", nil), time.Now().Add(601*time.Second)); !errors.As(err, &expired) {
		t.Errorf("later: %v", err)
	}
}

// FuzzVerify: of all tokens, the one that the provider signed is good, and what it
// does not say is not believed.
func FuzzVerify(f *testing.F) {
	i, thumbprint := newIDP(f, "127.0.0.1")
	p, v, now := oidc.Provider{URL: i.URL, Thumbprints: []string{thumbprint}}, oidc.NewVerifier(slog.New(slog.DiscardHandler)), time.Now()
	good := i.token(f, "one", nil)
	head, _, _ := strings.Cut(good, ".")
	_, tail, _ := strings.Cut(good, ".")
	f.Add(good)
	f.Add("eyJhbGciOiJub25lIn0." + tail)
	f.Add("eyJhbGciOiJIUzI1NiIsImtpZCI6Im9uZSJ9." + tail)
	f.Add(head + ".e30." + tail)
	f.Add(good + "=")
	f.Add(good[:len(good)-1] + "_")
	f.Add(" " + good + "\n")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := v.Verify(t.Context(), p, token, now)
		if token == good && err != nil || err == nil && !slices.Equal(pieces(token), pieces(good)) {
			t.Fatalf("%q: %v, %v", token, c, err)
		}
		issuer, wrong := oidc.Issuer(token)
		if err == nil && (wrong != nil || issuer != i.URL || c.Text("sub") != "app") {
			t.Fatalf("%q is of %q: %v, %v", token, issuer, c, wrong)
		}
	})
}

// pieces are a token's three parts, decoded; nil if it has others. Space and what is
// left over at the end of base64 are passed over.
func pieces(token string) (out []string) {
	for part := range strings.SplitSeq(strings.Join(strings.Fields(token), ""), ".") {
		b, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil {
			return nil
		}
		out = append(out, string(b))
	}
	return out
}

// FuzzClaims: whatever a provider signs, what is accepted is in force, and says from
// whom, for whom and about whom it is.
func FuzzClaims(f *testing.F) {
	i, thumbprint := newIDP(f, "127.0.0.1")
	p, v, now := oidc.Provider{URL: i.URL, Thumbprints: []string{thumbprint}}, oidc.NewVerifier(slog.New(slog.DiscardHandler)), time.Unix(1.8e9, 0)
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "one"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"iss":"ISSUER","sub":"app","aud":["me",7],"iat":1799999999,"exp":1800000600,"nbf":0}`))
	f.Add([]byte(`{"iss":"ISSUER/","sub":"app","aud":"me","iat":1.8e9,"exp":1e300}`))
	f.Add([]byte(`{"iss":7,"sub":{},"aud":[],"iat":"0","exp":null,"exp":1}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, claims []byte) {
		if !jsontext.Value(claims).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
			return // takes as long to sign, and says nothing
		}
		signed, err := s.Sign(bytes.ReplaceAll(claims, []byte("ISSUER"), []byte(i.URL)))
		if err != nil {
			t.Fatal(err)
		}
		token, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		c, err := v.Verify(t.Context(), p, token, now)
		if err != nil {
			return
		}
		expires, _ := c["exp"].(float64)
		issued, ok := c["iat"].(float64)
		if !(expires > 1.8e9) || !ok || issued > 1.8e9+60+1 || c.Text("sub") == "" || len(c.List("aud")) == 0 || strings.TrimSuffix(c.Text("iss"), "/") != i.URL {
			t.Fatalf("%s is accepted as %v", claims, c)
		}
	})
}
