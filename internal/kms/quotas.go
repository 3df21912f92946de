package kms

import (
	"cmp"
	"errors"
	"strings"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
)

// Quotas are the resource quotas of an account and Region that can be adjusted
// (quotas.md §1).
type Quotas struct {
	Keys      int // customer managed keys in every state; zero: 100,000
	KeyStores int // custom key stores; zero: 10
}

func (q Quotas) orDefaults() Quotas {
	if q.Keys == 0 {
		q.Keys = 100_000
	}
	if q.KeyStores == 0 {
		q.KeyStores = 10
	}
	return q
}

// Pools of request quotas that several operations share (quotas.md §2.1).
const (
	poolSymmetric = "CryptographicOperationsSymmetric"
	poolRSA       = "CryptographicOperationsRSA"
	poolECC       = "CryptographicOperationsECC"
	poolMLDSA     = "CryptographicOperationsMLDSA"
	poolStore     = "CryptographicOperationsCustomKeyStore"
)

func throttled() *model.Fault {
	return model.NewFault("ThrottlingException", 400, "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.")
}

// Admit counts a request against the quota of its operation. Cryptographic
// operations share quotas by the kind of their key, and are counted by charge.
func (s *Service) Admit(call *iam.Call, operation string) error {
	if operationUsage(operation) != "" {
		return nil
	}
	pool := operation
	if operation == "GenerateRandom" {
		pool = poolSymmetric
	}
	return s.take(call, pool)
}

// take counts one request against a pool of the caller's account (not of the key's).
func (s *Service) take(call *iam.Call, pool string) error {
	account := call.Account()
	if account == "" {
		account = call.Credential.Service
	}
	if !s.config.Limits.Allow(account, call.Region, pool) {
		return throttled()
	}
	return nil
}

// charge counts a cryptographic use: of the key, if it was found.
func (s *Service) charge(call *iam.Call, u use, key *Key) error {
	switch {
	case key == nil:
		return s.take(call, poolSymmetric)
	case strings.HasPrefix(u.operation, "GenerateDataKeyPair"):
		return s.take(call, "GenerateDataKeyPair/"+u.request[0].value)
	case key.StoreID != "":
		return errors.Join(s.take(call, poolStore+"/"+key.StoreID), s.take(call, poolSymmetric))
	default:
		return s.take(call, keySpecs[key.Spec].pool)
	}
}

// unkeyed counts a cryptographic use that ended before its key was known.
func (s *Service) unkeyed(call *iam.Call, err error) error {
	return cmp.Or(s.take(call, poolSymmetric), err)
}

// RequestQuotas are AWS's request quotas, in requests per second, by pool: a
// shared pool, or an operation (quotas.md §2). That of symmetric cryptographic
// operations is higher in some Regions.
func RequestQuotas() map[string]float64 {
	rates := map[string]float64{
		poolSymmetric: 10_000, poolRSA: 1_000, poolECC: 1_000, poolMLDSA: 1_000, poolStore: 1_800,
		"GenerateDataKeyPair": 100, "GenerateDataKeyPair/RSA_2048": 20, "GenerateDataKeyPair/RSA_3072": 4, "GenerateDataKeyPair/RSA_4096": 1,
		"GenerateDataKeyPair/SM2": 25,
	}
	for rate, operations := range map[float64]string{
		1: "GetParametersForImport",
		5: "CancelKeyDeletion ConnectCustomKeyStore CreateAlias CreateCustomKeyStore CreateKey DeleteCustomKeyStore DescribeCustomKeyStores " +
			"DisableKey DisableKeyRotation DisconnectCustomKeyStore EnableKey GetKeyLastUsage ReplicateKey RotateKeyOnDemand UntagResource " +
			"UpdateAlias UpdateCustomKeyStore UpdateKeyDescription UpdatePrimaryRegion",
		10:    "TagResource",
		15:    "DeleteAlias DeleteImportedKeyMaterial EnableKeyRotation ImportKeyMaterial PutKeyPolicy ScheduleKeyDeletion",
		50:    "CreateGrant RetireGrant RevokeGrant",
		100:   "ListGrants ListKeyPolicies ListKeyRotations ListRetirableGrants",
		500:   "ListAliases ListKeys",
		1_000: "GetKeyPolicy GetKeyRotationStatus",
		2_000: "DescribeKey GetPublicKey ListResourceTags",
	} {
		for _, o := range strings.Fields(operations) {
			rates[o] = rate
		}
	}
	return rates
}
