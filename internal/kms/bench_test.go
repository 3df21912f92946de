package kms_test

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
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

// BenchmarkWrites is changes on disk by 16 callers at once, beside as many commits of the
// engine alone with what CreateKey writes; and reads beside the one and the other.
func BenchmarkWrites(b *testing.B) {
	const writers = 16
	g := newBenchIn(b, b.TempDir())
	region := func(i int) string { return fmt.Sprintf("us-east-%d", i%writers+1) }
	run := func(name string, write func(writer, i int) error) {
		b.Run(name, func(b *testing.B) {
			var n atomic.Int64
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
						if err := write(w, int(i)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
		})
	}
	engine, err := bolt.Open(filepath.Join(b.TempDir(), "store.db"))
	if err != nil {
		b.Fatal(err)
	}
	defer engine.Close()
	commit := func(w, i int) error {
		_, err := engine.Commit(b.Context(), store.Txn{Do: []store.Item{
			{Key: fmt.Sprintf("key/%d/%d", w, i), Val: make([]byte, 1000)}, {Key: fmt.Sprintf("material/%d/%d", w, i), Val: make([]byte, 200)},
			{Key: fmt.Sprintf("count/%d", w), Val: make([]byte, 60)}, {Key: fmt.Sprintf("mark/%d/%d", w, i), Val: make([]byte, 60)}}})
		return err
	}
	run("engine", commit)
	create := func(region string) (string, error) {
		call := g.call(g.root)
		call.Region = region
		out, err := g.server.KMS.CreateKey(b.Context(), call, &kmsapi.CreateKeyRequest{})
		if err != nil {
			return "", err
		}
		return *out.KeyMetadata.Arn, call.Entry.End()
	}
	run("CreateKey, each in its Region", func(w, _ int) error {
		_, err := create(region(w))
		return err
	})
	run("CreateKey, all in one", func(int, int) error {
		_, err := create("eu-west-1")
		return err
	})
	var keys [writers]string
	for w := range keys {
		if keys[w], err = create("us-east-1"); err != nil {
			b.Fatal(err)
		}
	}
	put := func(w, i int) error {
		call := g.call(g.root)
		_, err := g.server.KMS.PutKeyPolicy(b.Context(), call, &kmsapi.PutKeyPolicyRequest{KeyId: &keys[w], Policy: new(fmt.Sprintf(
			`{"Version":"2012-10-17","Id":"%d","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`, i))})
		if err != nil {
			return err
		}
		return call.Entry.End()
	}
	run("PutKeyPolicy", put)
	read := func(b *testing.B) {
		for b.Loop() {
			call := g.call(g.root)
			if _, err := g.server.KMS.Encrypt(b.Context(), call, &kmsapi.EncryptRequest{KeyId: &keys[0], Plaintext: []byte("x")}); err != nil {
				b.Fatal(err)
			}
			if err := call.Entry.End(); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.Run("Encrypt alone", read)
	beside := func(name string, write func(writer, i int) error) {
		b.Run("Encrypt beside "+name, func(b *testing.B) {
			var stop atomic.Bool
			var wg sync.WaitGroup
			for w := range writers {
				wg.Go(func() {
					for i := 0; !stop.Load(); i++ {
						if err := write(w, i); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			read(b)
			stop.Store(true)
			wg.Wait()
		})
	}
	beside("engine", commit)
	beside("PutKeyPolicy", put)
}
