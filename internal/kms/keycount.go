package kms

import (
	"errors"
	"slices"
	"strconv"
	"sync"

	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

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

// countTurns hands out the parts, so that few transactions at once count in the same one. The
// zero countTurns is ready; it is safe for concurrent use.
type countTurns struct {
	mu    sync.Mutex // guards taken
	taken [countParts]bool
}

// take finds the first part that is free, for a caller that gives it back by calling done.
// The last one is for all that come when there is none.
func (c *countTurns) take() (part int, done func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	part = slices.Index(c.taken[:countParts-1], false)
	if part < 0 {
		return countParts - 1, func() {}
	}
	c.taken[part] = true
	return part, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.taken[part] = false
	}
}
