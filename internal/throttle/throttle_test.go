package throttle

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(map[string]float64{"a": 2, "b": 1, "b/special": 3})
		count := func(account, pool string) (n int) {
			for range 10 {
				if l.Allow(account, "r", pool) {
					n++
				}
			}
			return n
		}
		for _, tt := range []struct {
			account, pool string
			want          int
		}{{"x", "a", 2}, {"y", "a", 2}, {"x", "b/other", 1}, {"x", "b/special", 3}, {"x", "unknown", 10}, {"x", "a", 0}} {
			if got := count(tt.account, tt.pool); got != tt.want {
				t.Errorf("%s may call %s %d times at once, want %d", tt.account, tt.pool, got, tt.want)
			}
		}
		time.Sleep(time.Second)
		if got := count("x", "a"); got != 2 {
			t.Errorf("a second later %d times", got)
		}
		if !(*Limits)(nil).Allow("x", "r", "a") {
			t.Error("no limits refuse")
		}
	})
}

// Whatever Regions callers invent, the memory is bounded.
func TestLimitersAreBounded(t *testing.T) {
	l := New(map[string]float64{"a": 1})
	for i := range maxLimiters + 10 {
		l.Allow("x", fmt.Sprint(i), "a")
	}
	if n := len(l.limiters); n > maxLimiters {
		t.Errorf("%d limiters", n)
	}
}
