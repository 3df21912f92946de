// Package throttle limits how often an account may call, by pools of requests.
package throttle

import (
	"strings"
	"sync"

	"golang.org/x/time/rate"
)

// A Limits has one limiter for each account, Region and pool that was used. A
// nil Limits allows everything. It is safe for concurrent use.
type Limits struct {
	rates map[string]float64 // requests per second, by pool; never changed

	mu       sync.RWMutex // guards limiters
	limiters map[bucket]*rate.Limiter
}

type bucket struct{ account, region, pool string }

// maxLimiters bounds the memory: Regions are whatever callers name. Beyond it
// limiters that have recovered are dropped, and all of them if none has.
const maxLimiters = 100_000

// New makes Limits with the rates of pools in requests per second. A pool
// "name/part" without a rate of its own has that of "name", and one without any is
// not limited. In one second a pool may be used up at once.
func New(rates map[string]float64) *Limits {
	return &Limits{rates: rates, limiters: map[bucket]*rate.Limiter{}}
}

// Allow counts a request and reports whether it is within the pool's rate.
func (l *Limits) Allow(account, region, pool string) bool {
	if l == nil {
		return true
	}
	r, ok := l.rates[pool]
	if !ok {
		name, _, _ := strings.Cut(pool, "/")
		if r, ok = l.rates[name]; !ok {
			return true
		}
	}
	return l.limiter(bucket{account, region, pool}, r).Allow()
}

func (l *Limits) limiter(b bucket, r float64) *rate.Limiter {
	l.mu.RLock()
	found := l.limiters[b]
	l.mu.RUnlock()
	if found != nil {
		return found
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if found = l.limiters[b]; found != nil {
		return found
	}
	if len(l.limiters) >= maxLimiters {
		l.forget()
	}
	found = rate.NewLimiter(rate.Limit(r), max(1, int(r)))
	l.limiters[b] = found
	return found
}

// forget drops the limiters that make no difference. l.mu is held.
func (l *Limits) forget() {
	for b, limiter := range l.limiters {
		if limiter.Tokens() >= float64(limiter.Burst()) {
			delete(l.limiters, b)
		}
	}
	if len(l.limiters) >= maxLimiters {
		clear(l.limiters)
	}
}
