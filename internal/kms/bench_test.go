package kms_test

import (
	"testing"

	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model/kmsapi"
)

// BenchmarkOverhead compares each cryptographic operation, without HTTP, with the
// bare primitive that it is for: the difference is the service's own.
func BenchmarkOverhead(b *testing.B) {
	g := newGrantBench(b)
	message := make([]byte, 64)
	run := func(name string, service, bare func() error) {
		for kind, f := range map[string]func() error{"service": service, "bare": bare} {
			b.Run(name+"/"+kind, func(b *testing.B) {
				for b.Loop() {
					if err := f(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
	create := func(spec, usage string) string {
		out, err := g.server.KMS.CreateKey(b.Context(), g.call(g.root), &kmsapi.CreateKeyRequest{KeySpec: &spec, KeyUsage: &usage})
		if err != nil {
			b.Fatal(err)
		}
		return *out.KeyMetadata.KeyId
	}
	pairOf := func(spec string) *material.Pair {
		der, err := material.GeneratePair(spec)
		if err != nil {
			b.Fatal(err)
		}
		pair, err := material.NewPair(spec, material.NewSecret(der))
		if err != nil {
			b.Fatal(err)
		}
		return pair
	}
	for spec, algorithm := range map[string]string{"ECC_NIST_P256": "ECDSA_SHA_256", "ECC_NIST_EDWARDS25519": "ED25519_SHA_512", "RSA_2048": "RSASSA_PSS_SHA_256"} {
		key, pair := create(spec, "SIGN_VERIFY"), pairOf(spec)
		in := &kmsapi.SignRequest{KeyId: &key, Message: message, SigningAlgorithm: &algorithm}
		run("Sign/"+spec, func() error {
			_, err := g.server.KMS.Sign(b.Context(), g.call(g.root), in)
			return err
		}, func() error {
			_, err := pair.Sign(algorithm, material.Raw, message)
			return err
		})
	}
	secret, err := material.Generate()
	if err != nil {
		b.Fatal(err)
	}
	symmetric, err := material.NewSymmetric(material.MaterialID("k", secret), material.NewSecret(secret))
	if err != nil {
		b.Fatal(err)
	}
	owner := material.Owner{Account: "111122223333", KeyID: "1234abcd-12ab-34cd-56ef-1234567890ab"}
	run("Encrypt", func() error {
		_, err := g.server.KMS.Encrypt(b.Context(), g.call(g.root), &kmsapi.EncryptRequest{KeyId: &g.key, Plaintext: message})
		return err
	}, func() error {
		_, err := symmetric.Encrypt(owner, message, nil)
		return err
	})
	macKey := create("HMAC_256", "GENERATE_VERIFY_MAC")
	mac, err := material.NewMAC("HMAC_256", material.NewSecret(secret))
	if err != nil {
		b.Fatal(err)
	}
	run("GenerateMac", func() error {
		_, err := g.server.KMS.GenerateMac(b.Context(), g.call(g.root), &kmsapi.GenerateMacRequest{KeyId: &macKey, Message: message, MacAlgorithm: new("HMAC_SHA_256")})
		return err
	}, func() error {
		mac.Sum(message)
		return nil
	})
}
