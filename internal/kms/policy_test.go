package kms

import (
	"runtime"
	"testing"
	"time"
)

// Keys with the same policy share what it compiles to, as long as there are such keys.
func TestCompiledPolicy(t *testing.T) {
	const text = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:TestCompiledPolicy","Resource":"*"}]}`
	a, err := compiledPolicy(text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := compiledPolicy(text)
	if err != nil || a != b {
		t.Fatalf("%p and %p, %v", a, b, err)
	}
	if c, err := compiledPolicy(text + " "); err != nil || c == a {
		t.Fatalf("another text is the same policy, %v", err)
	}
	runtime.KeepAlive(a)
	runtime.KeepAlive(b)
	for range 1000 {
		runtime.GC()
		if _, ok := compiledPolicies.Load(text); !ok {
			return
		}
		time.Sleep(time.Millisecond) // cleanups have a goroutine of their own
	}
	t.Error("a policy of no key is kept")
}
