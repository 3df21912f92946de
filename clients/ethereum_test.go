package clients

import (
	"crypto/ecdsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/ethereum/go-ethereum/common"
	"github.com/ethereum/go-ethereum/core/types"
	"github.com/ethereum/go-ethereum/crypto"
)

// A wallet whose private key stays in KMS signs transactions, and Ethereum's own
// library recovers the wallet's address from each.
func TestEthereum(t *testing.T) {
	t.Parallel()
	key := createKey(t, func(in *kms.CreateKeyInput) {
		in.KeySpec, in.KeyUsage = kmstypes.KeySpecEccSecgP256k1, kmstypes.KeyUsageTypeSignVerify
	})
	public := ethereumPublicKey(t, key)
	wallet := crypto.PubkeyToAddress(*public)

	signer := types.LatestSignerForChainID(big.NewInt(1))
	to := common.HexToAddress("0x00000000000000000000000000000000deadbeef")
	for nonce := range uint64(8) { // KMS does not normalise S: half of the signatures need it
		tx := types.NewTx(&types.DynamicFeeTx{
			ChainID: big.NewInt(1), Nonce: nonce, To: &to, Value: big.NewInt(1e18), Gas: 21000,
			GasFeeCap: big.NewInt(3e10), GasTipCap: big.NewInt(1e9),
		})
		signature := ethereumSign(t, key, public, signer.Hash(tx))
		signed, err := tx.WithSignature(signer, signature)
		if err != nil {
			t.Fatal(err)
		}
		if from, err := types.Sender(signer, signed); err != nil || from != wallet {
			t.Errorf("transaction %d comes from %s (%v), want %s", nonce, from, err, wallet)
		}
	}
}

// ethereumPublicKey reads the key that KMS gives out; crypto/x509 does not know
// the curve.
func ethereumPublicKey(t *testing.T, key string) *ecdsa.PublicKey {
	t.Helper()
	out, err := kmsClient(region).GetPublicKey(t.Context(), &kms.GetPublicKeyInput{KeyId: &key})
	if err != nil {
		t.Fatal(err)
	}
	var info struct {
		Algorithm struct{ Algorithm, Curve asn1.ObjectIdentifier }
		Point     asn1.BitString
	}
	if rest, err := asn1.Unmarshal(out.PublicKey, &info); err != nil || len(rest) > 0 {
		t.Fatalf("public key: %v, %d bytes left", err, len(rest))
	}
	if curve := fmt.Sprint(info.Algorithm.Curve); curve != "1.3.132.0.10" {
		t.Fatalf("curve %s", curve)
	}
	public, err := crypto.UnmarshalPubkey(info.Point.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// ethereumSign signs a hash: R, S in the lower half of the order, and the number
// that makes the public key recoverable.
func ethereumSign(t *testing.T, key string, public *ecdsa.PublicKey, hash common.Hash) []byte {
	t.Helper()
	out, err := kmsClient(region).Sign(t.Context(), &kms.SignInput{
		KeyId: &key, Message: hash[:], MessageType: kmstypes.MessageTypeDigest,
		SigningAlgorithm: kmstypes.SigningAlgorithmSpecEcdsaSha256,
	})
	if err != nil {
		t.Fatal(err)
	}
	var rs struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(out.Signature, &rs); err != nil || len(rest) > 0 {
		t.Fatalf("signature: %v, %d bytes left", err, len(rest))
	}
	order := crypto.S256().Params().N
	if rs.S.Cmp(new(big.Int).Rsh(order, 1)) > 0 {
		rs.S.Sub(order, rs.S)
	}
	signature := make([]byte, 65)
	rs.R.FillBytes(signature[:32])
	rs.S.FillBytes(signature[32:64])
	for signature[64] = range byte(2) {
		if recovered, err := crypto.SigToPub(hash[:], signature); err == nil && recovered.Equal(public) {
			return signature
		}
	}
	t.Fatal("no recovery number gives the public key")
	return nil
}
