package oidc

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"testing"
)

// FuzzKeySet: of whatever a provider publishes, public keys for RSA and ECDSA are used
// and nothing else, and not too many.
func FuzzKeySet(f *testing.F) {
	f.Add([]byte(`[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"a","use":"sig"}]`))
	f.Add([]byte(`[{"kty":"oct","k":"c2VjcmV0","kid":"one"},7,{"kty":"RSA","n":"AQAB","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AQ"}]`))
	f.Add([]byte(`[{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ","d":"AQ"},{"kty":"RSA","n":"","e":""}]`))
	f.Add([]byte(`[{"kty":"RSA","n":"","e":"00"}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var set []jsontext.Value
		if json.Unmarshal(text, &set) != nil {
			return
		}
		found := usable(set)
		if len(found) > maxKeys || len(found) > len(set) {
			t.Fatalf("%d keys of %d", len(found), len(set))
		}
		for _, k := range found {
			switch public := k.Key.(type) {
			case *rsa.PublicKey:
				if public.N.BitLen() < minRSA || public.N.BitLen() > maxRSA || public.E < 2 {
					t.Fatalf("an RSA key of %d bits, %d", public.N.BitLen(), public.E)
				}
			case *ecdsa.PublicKey:
				if _, err := public.ECDH(); err != nil {
					t.Fatalf("a point that is not on its curve: %v", err)
				}
			default:
				t.Fatalf("a key that is a %T", k.Key)
			}
			if k.Use != "" && k.Use != "sig" || !k.IsPublic() {
				t.Fatalf("a key that is not for it: %+v", k)
			}
		}
	})
}
