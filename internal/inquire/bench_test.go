package inquire_test

import (
	"fmt"
	"testing"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/store"
)

// BenchmarkWho asks who may decrypt with one key, of a thousand roles.
func BenchmarkWho(b *testing.B) {
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
	for b.Loop() {
		if _, err := w.Who(b.Context(), inquire.WhoQuestion{Key: keyARN, Action: "Decrypt"}); err != nil {
			b.Fatal(err)
		}
	}
}
