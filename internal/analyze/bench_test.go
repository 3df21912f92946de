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

// many is a policy of about 25 KB that names n roles, each of another account.
func many(n int, last string) *policy.Policy {
	var roles strings.Builder
	for i := range n {
		fmt.Fprintf(&roles, `"arn:aws:iam::%012d:role/application-role-%04d",`, 200000000000+i, i)
	}
	return compiled(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"},
		{"Effect":"Allow","Principal":{"AWS":[` + roles.String() + `"arn:aws:iam::222233334444:role/` + last + `"]},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*"}]}`)
}

// wildcards is a policy of about 29 KB with n patterns of callers' ARNs, which overlap.
func wildcards(n int, last string) *policy.Policy {
	statements := []string{`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`}
	for i := 0; i < n; i += 3 {
		roles := ""
		for j := i; j < i+3; j++ {
			roles += fmt.Sprintf(`,"arn:aws:iam::%012d:role/team-%d*/service-*-%d"`, 200000000000+j%20, j%15, j)
		}
		if i+3 >= n {
			roles += `,"arn:aws:iam::200000000001:role/` + last + `"`
		}
		statements = append(statements, fmt.Sprintf(`{"Sid":"Patterns%03d","Effect":"Allow","Principal":"*","Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*","kms:DescribeKey"],"Resource":"*",`+
			`"Condition":{"StringEquals":{"aws:PrincipalOrgID":"o-a1b2c3d4e5","kms:EncryptionContext:tenant":"t%d"},"ArnLike":{"aws:PrincipalArn":[%s]}}}`, i, i, roles[1:]))
	}
	return compiled(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
}

// sets is a policy of about 31 KB with conditions on keys that have several values.
func sets(n int, last string) *policy.Policy {
	statements := []string{`{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}`}
	for i := range n {
		effect, name := []string{"Deny", "Allow", "Allow"}[i%3], fmt.Sprintf("name-%d", i%12)
		if i == n-1 {
			name = last
		}
		statements = append(statements, fmt.Sprintf(`{"Sid":"Sets%03d","Effect":%q,"Principal":{"AWS":"arn:aws:iam::111122223333:role/role-number-%d"},"Action":["kms:Encrypt","kms:Decrypt","kms:ReEncrypt*","kms:GenerateDataKey*"],"Resource":"*",`+
			`"Condition":{"ForAllValues:StringEquals":{"kms:EncryptionContextKeys":[%q,"purpose","owner"]},"ForAnyValue:StringLike":{"aws:PrincipalOrgPaths":"o-acme/r-%d/*"},"StringNotEquals":{"aws:PrincipalTag/team":"team-%d"}}}`, i, effect, i, name, i%5, i%7))
	}
	return compiled(`{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`)
}

// large are pairs of large policies, of which the second allows more.
var large = []struct {
	name     string
	old, new *policy.Policy
}{
	{"tenants", tenants(55, "app-054"), tenants(55, "app-*")},
	{"many", many(440, "app"), many(440, "other")},
	{"wildcards", wildcards(165, "app"), wildcards(165, "app*")},
	{"sets", sets(65, "name-1"), sets(65, "other")},
}

func BenchmarkNewAccess(b *testing.B) {
	run := func(name string, old, new *policy.Policy) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := NewAccess(testKey(here), old, new); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	run("default", compiled(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`),
		compiled(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:Encrypt","Resource":"*"}]}`))
	for _, x := range large {
		run(x.name, x.old, x.new)
	}
}

func BenchmarkPublic(b *testing.B) {
	for _, x := range large {
		b.Run(x.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Public(testKey(here), x.old); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWho(b *testing.B) {
	for _, x := range large {
		b.Run(x.name, func(b *testing.B) {
			for b.Loop() {
				if _, err := Who(testKey(here), x.old, policy.MustAction("kms:Decrypt"), nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
