package material

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/mldsa"
	"crypto/rsa"
	"crypto/sha3"
	"crypto/x509"
	"encoding/hex"
	"encoding/json/v2"
	"encoding/pem"
	"io/fs"
	"testing"

	"github.com/c2sp/wycheproof"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// hexBytes is a member of a vector file.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

type vectorGroup struct {
	TagSize         int      `json:"tagSize"`
	PrivateKeyPkcs8 hexBytes `json:"privateKeyPkcs8"`
	PrivateSeed     hexBytes `json:"privateSeed"`
	PublicKeyDer    hexBytes `json:"publicKeyDer"`
	Tests           []vector `json:"tests"`
}

type vector struct {
	TcID    int      `json:"tcId"`
	Msg     hexBytes `json:"msg"`
	Ct      hexBytes `json:"ct"`
	Sig     hexBytes `json:"sig"`
	Label   hexBytes `json:"label"`
	Ctx     hexBytes `json:"ctx"`
	Mu      hexBytes `json:"mu"`
	Key     hexBytes `json:"key"`
	Tag     hexBytes `json:"tag"`
	Public  string   `json:"public"`
	Private string   `json:"private"`
	Shared  hexBytes `json:"shared"`
	Seed    hexBytes `json:"seed"`
	Ek      hexBytes `json:"ek"`
	C       hexBytes `json:"c"`
	K       hexBytes `json:"K"`
	Result  string   `json:"result"`
	Comment string   `json:"comment"`
}

// vectors runs f on each vector of a file of Wycheproof. f returns nil for what
// it accepts, errSkip for what does not concern us.
func vectors(t *testing.T, file string, f func(g *vectorGroup, v *vector) error) {
	t.Run(file, func(t *testing.T) {
		t.Parallel()
		text, err := fs.ReadFile(wycheproof.TestVectors, file+"_test.json")
		if err != nil {
			t.Fatal(err)
		}
		var all struct {
			TestGroups []vectorGroup `json:"testGroups"`
		}
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		looked := 0
		for _, g := range all.TestGroups {
			for _, v := range g.Tests {
				err := f(&g, &v)
				if err == errOther {
					continue
				}
				looked++
				if v.Result == "valid" && err != nil || v.Result == "invalid" && err == nil {
					t.Errorf("%d (%s): %v, want %s", v.TcID, v.Comment, err, v.Result)
				}
			}
		}
		if looked < 5 {
			t.Errorf("only %d vectors concern us", looked)
		}
	})
}

var errOther = fs.ErrInvalid // a vector of something we do not do

func TestWycheproofRSA(t *testing.T) {
	for file, algorithm := range map[string]string{
		"rsa_oaep_2048_sha1_mgf1sha1": "RSAES_OAEP_SHA_1", "rsa_oaep_2048_sha256_mgf1sha256": "RSAES_OAEP_SHA_256",
		"rsa_oaep_3072_sha256_mgf1sha256": "RSAES_OAEP_SHA_256", "rsa_oaep_4096_sha256_mgf1sha256": "RSAES_OAEP_SHA_256",
	} {
		vectors(t, file, func(g *vectorGroup, v *vector) error {
			if len(v.Label) > 0 {
				return errOther
			}
			key, err := x509.ParsePKCS8PrivateKey(g.PrivateKeyPkcs8)
			if err != nil {
				return err
			}
			got, err := rsaPair{key.(*rsa.PrivateKey)}.decrypt(algorithm, v.Ct)
			if err == nil && !bytes.Equal(got, v.Msg) {
				err = ErrOpen
			}
			return err
		})
	}
	for file, algorithm := range map[string]string{
		"rsa_pss_2048_sha256_mgf1_32": "RSASSA_PSS_SHA_256", "rsa_pss_2048_sha384_mgf1_48": "RSASSA_PSS_SHA_384",
		"rsa_pss_3072_sha256_mgf1_32": "RSASSA_PSS_SHA_256", "rsa_pss_4096_sha512_mgf1_64": "RSASSA_PSS_SHA_512",
		"rsa_signature_2048_sha256": "RSASSA_PKCS1_V1_5_SHA_256", "rsa_signature_3072_sha384": "RSASSA_PKCS1_V1_5_SHA_384",
		"rsa_signature_4096_sha512": "RSASSA_PKCS1_V1_5_SHA_512",
	} {
		vectors(t, file, func(g *vectorGroup, v *vector) error {
			public, err := x509.ParsePKIXPublicKey(g.PublicKeyDer)
			if err != nil {
				return err
			}
			return rsaPair{&rsa.PrivateKey{PublicKey: *public.(*rsa.PublicKey)}}.verify(algorithm, Raw, v.Msg, v.Sig)
		})
	}
}

func TestWycheproofECDSA(t *testing.T) {
	for file, algorithm := range map[string]string{
		"ecdsa_secp256r1_sha256": "ECDSA_SHA_256", "ecdsa_secp384r1_sha384": "ECDSA_SHA_384", "ecdsa_secp521r1_sha512": "ECDSA_SHA_512",
	} {
		vectors(t, file, func(g *vectorGroup, v *vector) error {
			public, err := x509.ParsePKIXPublicKey(g.PublicKeyDer)
			if err != nil {
				return err
			}
			return nistPair{key: &ecdsa.PrivateKey{PublicKey: *public.(*ecdsa.PublicKey)}}.verify(algorithm, Raw, v.Msg, v.Sig)
		})
	}
	vectors(t, "ecdsa_secp256k1_sha256", func(g *vectorGroup, v *vector) error {
		public, err := secp256k1.ParsePubKey(g.PublicKeyDer[len(g.PublicKeyDer)-65:])
		if err != nil {
			return err
		}
		return secpPair{public: public}.verify("ECDSA_SHA_256", Raw, v.Msg, v.Sig)
	})
	vectors(t, "ed25519", func(g *vectorGroup, v *vector) error {
		public, err := x509.ParsePKIXPublicKey(g.PublicKeyDer)
		if err != nil {
			return err
		}
		key := append(make([]byte, 32), public.(ed25519.PublicKey)...)
		return edPair{key}.verify(edPure, Raw, v.Msg, v.Sig)
	})
}

func TestWycheproofECDH(t *testing.T) {
	for file, spec := range map[string]string{
		"ecdh_secp256r1_pem": "ECC_NIST_P256", "ecdh_secp384r1_pem": "ECC_NIST_P384", "ecdh_secp521r1_pem": "ECC_NIST_P521",
	} {
		vectors(t, file, func(_ *vectorGroup, v *vector) error {
			private, _ := pem.Decode([]byte(v.Private))
			public, _ := pem.Decode([]byte(v.Public))
			if public == nil {
				return ErrPeer
			}
			p, err := NewPair(spec, NewSecret(private.Bytes))
			if err != nil {
				return err
			}
			got, err := p.Agree(public.Bytes)
			if err == nil && !bytes.Equal(got, v.Shared) {
				err = ErrPeer
			}
			return err
		})
	}
}

func TestWycheproofMAC(t *testing.T) {
	for file, spec := range map[string]string{
		"hmac_sha224": "HMAC_224", "hmac_sha256": "HMAC_256", "hmac_sha384": "HMAC_384", "hmac_sha512": "HMAC_512",
	} {
		vectors(t, file, func(g *vectorGroup, v *vector) error {
			m, err := NewMAC(spec, NewSecret(v.Key))
			if g.TagSize != 8*MACSize(spec) || err != nil {
				return errOther // truncated, or too short a key for KMS
			}
			if !m.Verify(v.Msg, v.Tag) {
				return ErrSignature
			}
			return nil
		})
	}
}

func TestWycheproofKeyWrap(t *testing.T) {
	vectors(t, "aes_kwp", func(_ *vectorGroup, v *vector) error {
		k, err := subtle.NewKWP(v.Key)
		if err != nil || len(v.Msg) < subtle.MinWrapSize {
			return errOther
		}
		got, err := k.Unwrap(v.Ct)
		if err == nil && !bytes.Equal(got, v.Msg) {
			err = ErrOpen
		}
		return err
	})
}

// mu is the µ of FIPS 204 for an empty context.
func mu(public, message []byte) []byte {
	tr := sha3.SumSHAKE256(public, 64)
	return sha3.SumSHAKE256(append(append(tr, 0, 0), message...), 64)
}

func TestWycheproofMLDSA(t *testing.T) {
	for _, n := range []string{"44", "65", "87"} {
		params, _ := dsaParameters("ML_DSA_" + n)
		for _, form := range []string{Raw, ExternalMu} {
			vectors(t, "mldsa_"+n+"_verify", func(g *vectorGroup, v *vector) error {
				public, err := x509.ParsePKIXPublicKey(g.PublicKeyDer)
				if err != nil {
					return err
				}
				message := []byte(v.Msg)
				if len(v.Ctx) > 0 {
					return errOther
				}
				pk := public.(*mldsa.PublicKey)
				if pk.Parameters() != params {
					return ErrSpec
				}
				if form == ExternalMu {
					message = mu(pk.Bytes(), message)
				}
				return dsaPair{nil, pk}.verify("ML_DSA_SHAKE_256", form, message, v.Sig)
			})
		}
		vectors(t, "mldsa_"+n+"_sign_seed", func(g *vectorGroup, v *vector) error {
			key, err := mldsa.NewPrivateKey(params, g.PrivateSeed)
			if len(v.Mu) == 0 || len(v.Ctx) > 0 || v.Result != "valid" {
				return errOther
			}
			if err != nil {
				return err
			}
			return dsaPair{key, key.PublicKey()}.verify("ML_DSA_SHAKE_256", ExternalMu, v.Mu, v.Sig)
		})
	}
}

func TestWycheproofMLKEM(t *testing.T) {
	for _, n := range []string{"512", "768", "1024"} {
		vectors(t, "mlkem_"+n, func(_ *vectorGroup, v *vector) error {
			k, err := newKEM("ML_KEM_"+n, v.Seed)
			if err != nil {
				return err
			}
			if !bytes.Equal(k.public, v.Ek) {
				return ErrSpec
			}
			got, err := k.decapsulate(v.C)
			if err == nil && !bytes.Equal(got, v.K) {
				err = ErrOpen
			}
			return err
		})
	}
}
