package kms

import (
	"cmp"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
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

// A keyCount is a part of how many customer managed keys an account has in a Region. It may
// be negative; the parts together are not. There are several so that keys which are created
// at the same time do not wait for each other's commit.
type keyCount struct{ N int }

// countParts bounds the parts.
const countParts = 64

var keyCountKind = store.Kind[keyCount]{Tag: 41, Name: "number of keys"}

func keyCountKey(region, account string, part int) string {
	key := "k/" + region + "/" + account + "/keycount"
	if part > 0 {
		key += "/" + strconv.Itoa(part)
	}
	return key
}

// countKey adds n to a part of the number of keys of the key's account and Region. Keys
// that AWS manages do not count.
func (s *Service) countKey(tx *store.Tx, k *Key, n, part int) error {
	if k.Manager != "" {
		return nil
	}
	if n > 0 {
		total, err := keyTotal(tx, k, s.config.Quotas.Keys)
		if err != nil {
			return err
		}
		if total+n > s.config.Quotas.Keys {
			return kmsapi.LimitExceededException("The number of KMS keys has reached the limit of the account.")
		}
	}
	at := keyCountKey(k.Region, k.Account, part)
	c, err := store.Edit(tx, keyCountKind, at)
	if errors.Is(err, store.ErrNotFound) {
		c, err = &keyCount{}, nil
	}
	if err != nil {
		return err
	}
	c.N += n
	return store.Put(tx, keyCountKind, at, c)
}

// keyTotal is how many keys count. Near the quota the commit depends on it; before, others
// that are created meanwhile may be missing: if an account is filled while a transaction
// waits, the quota is exceeded by it, by countParts keys at most.
func keyTotal(tx *store.Tx, k *Key, quota int) (total int, err error) {
	parts, err := store.List(tx, keyCountKind, keyCountKey(k.Region, k.Account, 0), "", countParts)
	if err != nil {
		return 0, err
	}
	for _, p := range parts {
		total += p.Value.N
	}
	if total+countParts < quota {
		return total, nil
	}
	total = 0
	for part := range countParts {
		c, err := store.Get(tx, keyCountKind, keyCountKey(k.Region, k.Account, part))
		if err == nil {
			total += c.N
		} else if !errors.Is(err, store.ErrNotFound) {
			return 0, err
		}
	}
	return total, nil
}

// places are the parts that nobody counts in at the moment. The zero places is ready; it is
// safe for concurrent use.
type places struct {
	mu    sync.Mutex // guards taken
	taken [countParts]bool
}

// take finds the first part that is free, for a caller that gives it back by calling done.
// The last one is for all that come when there is none.
func (p *places) take() (part int, done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	part = slices.Index(p.taken[:countParts-1], false)
	if part < 0 {
		return countParts - 1, func() {}
	}
	p.taken[part] = true
	return part, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.taken[part] = false
	}
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
