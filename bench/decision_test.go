// Package bench compares Claviger's decision with that of cedar-go, on policies that say the
// same. It is a module of its own, so that nothing else depends on cedar-go.
package bench

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cedar-policy/cedar-go"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

const (
	key     = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	account = "111122223333"
)

// Of each size: a statement for each of so many roles with a condition on the encryption
// context, and one that lets the account in. Who asks is the last of these roles.
var sizes = []int{1, 150}

func BenchmarkClaviger(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s strings.Builder
			for i := range n {
				fmt.Fprintf(&s, `{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/service-%d"},"Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*",`+
					`"Condition":{"StringEquals":{"kms:EncryptionContext:app":"a%d"}}},`, i, i)
			}
			doc, err := policy.Parse([]byte(`{"Version":"2012-10-17","Statement":[` + s.String() + `{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`))
			if err != nil {
				b.Fatal(err)
			}
			role := fmt.Sprintf("arn:aws:iam::111122223333:role/service-%d", n-1)
			req := &authz.Request{Caller: authz.Caller{Principal: policy.Principal{Kind: policy.RoleSession, Partition: "aws", Account: account,
				ARN: fmt.Sprintf("arn:aws:sts::111122223333:assumed-role/service-%d/s", n-1), EntityARN: role, EntityID: "AROAEXAMPLEOFAROLE000"}},
				Action: policy.MustAction("kms:Encrypt"), Resource: key, Guarded: true, ResourceAccount: account, CrossAccount: true,
				Now: time.Unix(1.8e9, 0), Region: "us-east-1", ServiceCondition: context{"app": fmt.Sprintf("a%d", n-1)}}
			p := &authz.Policies{Resource: policy.Compile(doc, policy.Key, "key policy")}
			if d := authz.Evaluate(req, p); !d.Allowed() {
				b.Fatal(d.Refusal(req))
			}
			b.ReportAllocs()
			for b.Loop() {
				authz.Evaluate(req, p)
			}
		})
	}
}

// A context is an encryption context.
type context map[string]string

func (c context) Lookup(key policy.ConditionKey) policy.Value { return authz.FoldLookup(c, key.Suffix) }

func BenchmarkCedar(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s strings.Builder
			for i := range n {
				fmt.Fprintf(&s, `permit (principal in Role::"service-%d", action in [Action::"Encrypt", Action::"Decrypt"], resource == Key::"%s") when { context.app == "a%d" };`+"\n", i, key, i)
			}
			fmt.Fprintf(&s, `permit (principal in Account::"%s", action, resource == Key::"%s") when { principal.delegated };`, account, key)
			set, err := cedar.NewPolicySetFromBytes("key policy", []byte(s.String()))
			if err != nil {
				b.Fatal(err)
			}
			id := func(kind, name string) cedar.EntityUID {
				return cedar.NewEntityUID(cedar.EntityType(kind), cedar.String(name))
			}
			session, role := id("Session", "s"), id("Role", fmt.Sprintf("service-%d", n-1))
			entities := cedar.EntityMap{
				session: {UID: session, Parents: cedar.NewEntityUIDSet(role, id("Account", account)), Attributes: cedar.NewRecord(cedar.RecordMap{"delegated": cedar.False})},
				role:    {UID: role},
			}
			req := cedar.Request{Principal: session, Action: id("Action", "Encrypt"), Resource: id("Key", key),
				Context: cedar.NewRecord(cedar.RecordMap{"app": cedar.String(fmt.Sprintf("a%d", n-1))})}
			if ok, diagnostic := cedar.Authorize(set, entities, req); !ok {
				b.Fatal(diagnostic)
			}
			b.ReportAllocs()
			for b.Loop() {
				cedar.Authorize(set, entities, req)
			}
		})
	}
}
