package inquire_test

import (
	"fmt"
	"testing"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/store"
)

// crowd is a world with a thousand roles.
func crowd(b *testing.B) *inquire.World {
	w := world(b, keyPolicy(delegating))
	for i := range 10 {
		err := w.DB.Update(b.Context(), func(tx *store.Tx) error {
			for j := range 100 {
				e := &iam.Entity{Class: iam.RoleClass, Account: account, Name: fmt.Sprintf("role-%d-%d", i, j), Inline: map[string]string{
					"use": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*","Condition":{"StringEquals":{"kms:EncryptionContext:app":"web"}}}]}`}}
				if err := iam.LoadIdentity(tx, e); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	return w
}

// BenchmarkWho asks who may decrypt with one key, of a thousand roles.
func BenchmarkWho(b *testing.B) {
	w := crowd(b)
	for b.Loop() {
		if _, err := w.Who(b.Context(), inquire.WhoQuestion{Key: keyARN, Action: "Decrypt"}); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWhoOfAll asks who may decrypt anything, of a thousand roles and ten thousand keys
// with ten policies.
func BenchmarkWhoOfAll(b *testing.B) {
	w := crowd(b)
	for i := range 100 {
		err := w.DB.Update(b.Context(), func(tx *store.Tx) error {
			for j := range 100 {
				k := &kms.Key{ID: fmt.Sprintf("00000000-0000-0000-%04d-%012d", i, j), Account: account, Region: "us-east-1",
					Policy: keyPolicy(delegating, fmt.Sprintf(`{"Sid":"Role%d","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:role/role-%d-0"},"Action":"kms:Decrypt","Resource":"*"}`, j%10, j%10))}
				if err := kms.LoadKey(tx, k); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		if _, err := w.WhoOfAll(b.Context(), inquire.WhoQuestion{Action: "Decrypt"}); err != nil {
			b.Fatal(err)
		}
	}
}
