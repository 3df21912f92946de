package kms_test

import (
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/kmstest"
)

// An AWS managed key is there when it is first asked for, is used through its
// service alone, and cannot be managed.
func TestManagedKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx := t.Context()
		alias := aws.String("alias/aws/s3")
		m := w.describe(alias)
		if m.KeyManager != types.KeyManagerTypeAws || m.KeyState != types.KeyStateEnabled || *m.KeyId != *w.describe(alias).KeyId {
			t.Errorf("%+v", m)
		}
		_, err := w.user("alice").DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/aws/rds")})
		w.want("DescribeKey without permission", err, "AccessDeniedException")
		if list, err := w.root.ListKeys(ctx, &kms.ListKeysInput{}); err != nil || len(list.Keys) != 1 {
			t.Errorf("who may not use a key brought it about: %+v, %v", list, err)
		}
		_, err = w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: alias, Plaintext: []byte("x")})
		w.want("Encrypt without the service", err, "AccessDeniedException")
		_, err = w.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: m.KeyId})
		w.want("ScheduleKeyDeletion", err, "AccessDeniedException")
		_, err = w.root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: m.KeyId, Policy: aws.String(`{"Version":"2012-10-17","Statement":[]}`)})
		w.want("PutKeyPolicy", err, "AccessDeniedException")
		_, err = w.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/aws/nothing")})
		w.want("an alias of no service", err, "NotFoundException")
		policy, err := w.root.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: m.KeyId})
		if err != nil || policy.Policy == nil {
			t.Fatal(err)
		}
		status, err := w.root.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: m.KeyId})
		if err != nil || !status.KeyRotationEnabled {
			t.Errorf("%+v, %v", status, err)
		}
		time.Sleep(366 * aDay)
		if n := len(w.rotations(m.KeyId, "")); n != 1 {
			t.Errorf("%d rotations in a year", n)
		}
		list, err := w.root.ListAliases(ctx, &kms.ListAliasesInput{})
		if err != nil || len(list.Aliases) < 20 {
			t.Errorf("%+v, %v", list, err)
		}
		for _, a := range list.Aliases {
			if (*a.AliasName == "alias/aws/s3") != (a.TargetKeyId != nil) {
				t.Errorf("%s leads to %v", *a.AliasName, a.TargetKeyId)
			}
		}
		_, err = w.root.ReEncrypt(ctx, &kms.ReEncryptInput{SourceKeyId: aws.String("alias/aws/ssm"), DestinationKeyId: aws.String("alias/aws/sns"), DryRun: aws.Bool(true),
			DryRunModifiers: []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}})
		w.want("ReEncrypt between two managed keys", err, "AccessDeniedException")
	})
}

func TestResourceQuotas(t *testing.T) {
	w := newWorld(t, kmstest.Quotas(2, 0))
	w.describe(aws.String("alias/aws/ebs")) // does not count
	w.key()
	w.key()
	_, err := w.root.CreateKey(t.Context(), &kms.CreateKeyInput{})
	w.want("CreateKey beyond the quota", err, "LimitExceededException")
	_, err = w.in("eu-west-1").root.CreateKey(t.Context(), &kms.CreateKeyInput{})
	w.want("CreateKey in another Region", err, "")
}

// Keys that are created at the same time count too, near the quota and far below it.
func TestResourceQuotaConcurrently(t *testing.T) {
	const quota, extra = 100, 10
	w := newWorld(t, kmstest.Quotas(quota, 0))
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	for range quota + extra {
		wg.Go(func() {
			switch _, err := w.root.CreateKey(t.Context(), &kms.CreateKeyInput{}); {
			case err == nil:
				made.Add(1)
			case code(err) == "LimitExceededException":
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if made.Load() != quota || refused.Load() != extra {
		t.Errorf("%d keys made and %d refused, want %d and %d", made.Load(), refused.Load(), quota, extra)
	}
}

func TestRequestQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kmstest.RequestQuotas(map[string]float64{"CryptographicOperationsSymmetric": 3, "ListKeys": 2}))
		w.srv.AddAccount(t, "444455556666", "other", "secret")
		ctx, key := t.Context(), w.key()
		time.Sleep(time.Second)
		encrypt := func() error {
			_, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x"), DryRun: aws.Bool(true)})
			return err
		}
		for range 3 {
			w.want("Encrypt", encrypt(), "DryRunOperationException")
		}
		w.want("Encrypt for the fourth time in a second", encrypt(), "ThrottlingException")
		_, err := w.root.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
		w.want("GenerateRandom, which shares the quota", err, "ThrottlingException")
		_, err = w.in("eu-west-1").root.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
		w.want("GenerateRandom in another Region", err, "")
		other := kms.NewFromConfig(config(w.srv, "other", "secret"))
		_, err = other.GenerateRandom(ctx, &kms.GenerateRandomInput{NumberOfBytes: aws.Int32(1)})
		w.want("GenerateRandom by another account", err, "")
		_, err = w.root.ListKeys(ctx, &kms.ListKeysInput{})
		w.want("ListKeys, which does not", err, "")
		time.Sleep(time.Second)
		w.want("Encrypt a second later", encrypt(), "DryRunOperationException")

		// What fails early counts, once.
		time.Sleep(time.Second)
		early := []func() error{
			func() error {
				_, err := w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: []byte("no blob")})
				return err
			},
			func() error {
				_, err := w.root.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key.KeyId})
				return err
			},
			func() error {
				_, err := w.root.ReEncrypt(ctx, &kms.ReEncryptInput{SourceKeyId: aws.String("alias/none"), DestinationKeyId: aws.String("alias/none"),
					CiphertextBlob: []byte("none")})
				return err
			},
		}
		for i, do := range append(early, early...) {
			if throttled := code(do()) == "ThrottlingException"; throttled != (i >= 3) {
				t.Errorf("request %d of a second is throttled: %v", i, throttled)
			}
		}
	})
}
