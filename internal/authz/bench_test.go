package authz

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/policy"
)

const benchKey = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"

func compiled(tb testing.TB, text string, kind policy.Kind) *policy.Policy {
	tb.Helper()
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	return policy.Compile(doc, kind, "test")
}

func benchRequest() *Request {
	const user = "arn:aws:iam::111122223333:user/alice"
	return &Request{
		Caller: Caller{Principal: policy.Principal{
			Kind: policy.User, Partition: "aws", Account: "111122223333", ARN: user, EntityARN: user, EntityID: "AIDAEXAMPLEALICE00001"},
			UserID: "AIDAEXAMPLEALICE00001", UserName: "alice"},
		Action: policy.MustAction("kms:Encrypt"), Resource: benchKey, Guarded: true,
		ResourceAccount: "111122223333", CrossAccount: true, Now: time.Unix(1.8e9, 0), Region: "us-east-1", SourceIP: "10.0.0.1",
	}
}

const defaultKeyPolicy = `{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions",
	"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`

const useKey = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"` + benchKey + `"}]}`

func BenchmarkDefaultPolicy(b *testing.B) {
	p := &Policies{Resource: compiled(b, defaultKeyPolicy, policy.Key), Identity: []*policy.Policy{compiled(b, useKey, policy.Identity)}}
	benchmark(b, p)
}

// largePolicy has n statements for as many roles, with conditions, and one that
// names the account last; at 150 it is about 32 KB.
func largePolicy(n int) string {
	var s strings.Builder
	s.WriteString(`{"Version":"2012-10-17","Statement":[`)
	for i := range n {
		fmt.Fprintf(&s, `{"Sid":"Use%d","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/service-%d"},
"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:app":"a%d"}}},`, i, i, i)
	}
	s.WriteString(`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`)
	return s.String()
}

func BenchmarkLargePolicy(b *testing.B) {
	text := largePolicy(150)
	b.Logf("%d bytes", len(text))
	p := &Policies{Resource: compiled(b, text, policy.Key), Identity: []*policy.Policy{compiled(b, useKey, policy.Identity)}}
	benchmark(b, p)
}

// BenchmarkManyPolicies is a user with ten managed policies of 6 KB and a 32 KB key
// policy.
func BenchmarkManyPolicies(b *testing.B) {
	p := &Policies{Resource: compiled(b, largePolicy(150), policy.Key)}
	for i := range 10 {
		var s strings.Builder
		for j := range 40 {
			fmt.Fprintf(&s, `{"Sid":"S%d","Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"arn:aws:kms:us-east-1:111122223333:key/%08d-0000-4000-8000-%012d"},`, j, i, j)
		}
		text := `{"Version":"2012-10-17","Statement":[` + s.String() + `{"Effect":"Allow","Action":"s3:*","Resource":"*"}]}`
		p.Identity = append(p.Identity, compiled(b, text, policy.Identity))
	}
	p.Identity = append(p.Identity[:9], compiled(b, useKey, policy.Identity))
	benchmark(b, p)
}

func benchmark(b *testing.B, p *Policies) {
	req := benchRequest()
	if d := Evaluate(req, p); !d.Allowed() {
		b.Fatalf("refused: %s", d.Refusal(req))
	}
	b.ReportAllocs()
	for b.Loop() {
		Evaluate(req, p)
	}
}

func BenchmarkCompileLargePolicy(b *testing.B) {
	doc, err := policy.Parse([]byte(largePolicy(150)))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		policy.Compile(doc, policy.Key, "test")
	}
}

func TestDecisionAllocatesNothing(t *testing.T) {
	p := &Policies{Resource: compiled(t, defaultKeyPolicy, policy.Key), Identity: []*policy.Policy{compiled(t, useKey, policy.Identity)}}
	req := benchRequest()
	if n := testing.AllocsPerRun(100, func() { Evaluate(req, p) }); n != 0 {
		t.Errorf("Evaluate allocates %v times, want 0", n)
	}
}
