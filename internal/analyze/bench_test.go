package analyze

import (
	"fmt"
	"strings"
	"testing"

	"github.com/claviger/claviger/internal/policy"
)

// tenants is a policy of about 32 KB: a statement with two conditions for each tenant.
func tenants(n int, last string) *policy.Policy {
	statements := []string{`{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}`}
	for i := range n {
		app := fmt.Sprintf("app-%03d", i)
		if i == n-1 {
			app = last
		}
		statements = append(statements, fmt.Sprintf(`{"Sid":"Tenant%03d","Effect":"Allow","Principal":{"AWS":["arn:aws:iam::%012d:role/tenants/app-%03d","arn:aws:iam::%012d:role/tenants/admin-%03d"]},`+
			`"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:DescribeKey"],"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:tenant":%q},`+
			`"StringLike":{"kms:ViaService":["s3.*.amazonaws.com","dynamodb.us-east-1.amazonaws.com"]},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/tenants/*"}}}`, i, 200000000000+i, i, 200000000000+i, i, app))
	}
	return compiled(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
}

func BenchmarkNewAccess(b *testing.B) {
	for _, bench := range []struct {
		name     string
		old, new *policy.Policy
	}{
		{"default", compiled(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`),
			compiled(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:Encrypt","Resource":"*"}]}`)},
		{"tenants", tenants(55, "app-054"), tenants(55, "app-*")},
	} {
		b.Run(bench.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := NewAccess(testKey(here), bench.old, bench.new); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkPublic(b *testing.B) {
	p := tenants(55, "app-054")
	for b.Loop() {
		if _, err := Public(testKey(here), p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkWho(b *testing.B) {
	p := tenants(55, "app-054")
	for b.Loop() {
		if _, err := Who(testKey(here), p, policy.MustAction("kms:Decrypt"), nil); err != nil {
			b.Fatal(err)
		}
	}
}
