package clients

import (
	"crypto"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/sigstore/sigstore/pkg/signature"
	sigkms "github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/kms/aws"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

// What cosign does with awskms:// references: create a key by alias, sign with
// it, and verify with KMS and with the public key alone.
func TestSigstore(t *testing.T) {
	for _, spec := range []types.KeySpec{types.KeySpecEccNistP256, types.KeySpecEccNistP384, types.KeySpecEccNistP521,
		types.KeySpecRsa2048, types.KeySpecRsa4096} {
		t.Run(string(spec), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			reference := "awskms:///alias/sigstore-" + strings.ToLower(string(spec))
			signer, err := sigkms.Get(ctx, reference, crypto.SHA256)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(signer.SupportedAlgorithms(), string(spec)) {
				t.Fatalf("sigstore does not know %s", spec)
			}
			created, err := signer.CreateKey(ctx, string(spec))
			if err != nil {
				t.Fatal(err)
			}
			again, err := signer.CreateKey(ctx, string(spec)) // finds the one that is there
			if err != nil || !created.(interface{ Equal(crypto.PublicKey) bool }).Equal(again) {
				t.Errorf("a second key, %v", err)
			}

			signed, err := signer.SignMessage(strings.NewReader("artifact"), options.WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			var hash crypto.Hash // of the first algorithm that DescribeKey tells
			switch spec {
			case types.KeySpecEccNistP384:
				hash = crypto.SHA384
			case types.KeySpecEccNistP521:
				hash = crypto.SHA512
			default:
				hash = crypto.SHA256
			}
			local, err := signature.LoadVerifier(created, hash)
			if err != nil {
				t.Fatal(err)
			}
			fresh, err := aws.LoadSignerVerifier(ctx, reference)
			if err != nil {
				t.Fatal(err)
			}
			for name, verify := range map[string]func(message string) error{
				"KMS": func(message string) error {
					return fresh.VerifySignature(strings.NewReader(string(signed)), strings.NewReader(message), options.WithRemoteVerification(true))
				},
				"sigstore": func(message string) error {
					return local.VerifySignature(strings.NewReader(string(signed)), strings.NewReader(message))
				},
			} {
				if err := verify("artifact"); err != nil {
					t.Errorf("%s does not verify: %v", name, err)
				}
				if err := verify("another"); err == nil {
					t.Errorf("%s verifies another artifact", name)
				}
			}
		})
	}
}
