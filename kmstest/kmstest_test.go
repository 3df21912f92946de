package kmstest_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/claviger/claviger/kmstest"
)

func config(srv *kmstest.Server, id, secret, token string) aws.Config {
	return aws.Config{Region: srv.Region, BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, token)}
}

func rootKMS(srv *kmstest.Server) *kms.Client {
	return kms.NewFromConfig(config(srv, srv.AccessKeyID, srv.SecretAccessKey, ""))
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// The whole life of a key, by the Go SDK.
func TestSDKStory(t *testing.T) {
	srv := kmstest.Start(t)
	ctx, root := t.Context(), rootKMS(srv)
	key := must[*kms.CreateKeyOutput](t)(root.CreateKey(ctx, &kms.CreateKeyInput{
		Description: aws.String("blue"), Tags: []types.Tag{{TagKey: aws.String("team"), TagValue: aws.String("a")}}})).KeyMetadata
	must[*kms.CreateAliasOutput](t)(root.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/blue"), TargetKeyId: key.KeyId}))

	encryptionContext := map[string]string{"purpose": "tests"}
	sealed := must[*kms.EncryptOutput](t)(root.Encrypt(ctx, &kms.EncryptInput{
		KeyId: aws.String("alias/blue"), Plaintext: []byte("hello"), EncryptionContext: encryptionContext}))
	opened := must[*kms.DecryptOutput](t)(root.Decrypt(ctx, &kms.DecryptInput{
		CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: encryptionContext}))
	if string(opened.Plaintext) != "hello" || *opened.KeyId != *key.Arn {
		t.Errorf("Decrypt = %q by %s", opened.Plaintext, *opened.KeyId)
	}
	_, err := root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	if code(err) != "InvalidCiphertextException" {
		t.Errorf("Decrypt without its encryption context: %v", err)
	}

	second := must[*kms.CreateKeyOutput](t)(root.CreateKey(ctx, &kms.CreateKeyInput{})).KeyMetadata
	moved := must[*kms.ReEncryptOutput](t)(root.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob,
		SourceEncryptionContext: encryptionContext, DestinationKeyId: second.Arn}))
	if *moved.SourceKeyId != *key.Arn || *moved.KeyId != *second.Arn {
		t.Errorf("ReEncrypt from %s to %s", *moved.SourceKeyId, *moved.KeyId)
	}
	opened = must[*kms.DecryptOutput](t)(root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: moved.CiphertextBlob, KeyId: second.KeyId}))
	if string(opened.Plaintext) != "hello" {
		t.Errorf("Decrypt after ReEncrypt = %q", opened.Plaintext)
	}

	data := must[*kms.GenerateDataKeyOutput](t)(root.GenerateDataKey(ctx, &kms.GenerateDataKeyInput{KeyId: key.Arn, KeySpec: types.DataKeySpecAes256}))
	opened = must[*kms.DecryptOutput](t)(root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: data.CiphertextBlob}))
	if len(data.Plaintext) != 32 || string(opened.Plaintext) != string(data.Plaintext) {
		t.Errorf("the data key of %d bytes does not come back", len(data.Plaintext))
	}
	tags := must[*kms.ListResourceTagsOutput](t)(root.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: key.KeyId}))
	if len(tags.Tags) != 1 || *tags.Tags[0].TagKey != "team" {
		t.Errorf("tags = %v", tags.Tags)
	}
}

// A key scheduled for deletion is gone after its waiting period, and with it its
// alias; virtual time makes a month pass at once.
func TestDeletionTakesItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := kmstest.Start(t)
		ctx, root := t.Context(), rootKMS(srv)
		key := must[*kms.CreateKeyOutput](t)(root.CreateKey(ctx, &kms.CreateKeyInput{})).KeyMetadata
		must[*kms.CreateAliasOutput](t)(root.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/blue"), TargetKeyId: key.KeyId}))
		must[*kms.ScheduleKeyDeletionOutput](t)(root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: aws.Int32(7)}))

		time.Sleep(7*24*time.Hour - time.Minute)
		described := must[*kms.DescribeKeyOutput](t)(root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyId})).KeyMetadata
		if described.KeyState != types.KeyStatePendingDeletion {
			t.Errorf("state before the end = %s", described.KeyState)
		}
		_, err := root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
		if code(err) != "KMSInvalidStateException" || !strings.HasSuffix(err.Error(), *key.Arn+" is pending deletion.") {
			t.Errorf("Encrypt while pending deletion: %v", err)
		}

		time.Sleep(3 * time.Minute)
		_, err = root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyId})
		if code(err) != "NotFoundException" {
			t.Errorf("DescribeKey after the end: %v", err)
		}
		aliases := must[*kms.ListAliasesOutput](t)(root.ListAliases(ctx, &kms.ListAliasesInput{}))
		for _, a := range aliases.Aliases {
			if a.TargetKeyId != nil {
				t.Errorf("alias after the end: %s", *a.AliasName)
			}
		}
	})
}

// Temporary credentials work until they expire.
func TestSessionsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv := kmstest.Start(t)
		ctx := t.Context()
		admin := iam.NewFromConfig(config(srv, srv.AccessKeyID, srv.SecretAccessKey, ""))
		must[*iam.CreateUserOutput](t)(admin.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("alice")}))
		must[*iam.AttachUserPolicyOutput](t)(admin.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{
			UserName: aws.String("alice"), PolicyArn: aws.String("arn:aws:iam::aws:policy/AdministratorAccess")}))
		must[*iam.CreateRoleOutput](t)(admin.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String("app"), AssumeRolePolicyDocument: aws.String(
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}]}`)}))
		must[*iam.AttachRolePolicyOutput](t)(admin.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{
			RoleName: aws.String("app"), PolicyArn: aws.String("arn:aws:iam::aws:policy/AWSKeyManagementServicePowerUser")}))
		k := must[*iam.CreateAccessKeyOutput](t)(admin.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("alice")})).AccessKey
		alice := sts.NewFromConfig(config(srv, *k.AccessKeyId, *k.SecretAccessKey, ""))
		assumed := must[*sts.AssumeRoleOutput](t)(alice.AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: aws.String("arn:aws:iam::111122223333:role/app"), RoleSessionName: aws.String("s1"), DurationSeconds: aws.Int32(900)}))
		c := assumed.Credentials
		app := config(srv, *c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken)

		who := must[*sts.GetCallerIdentityOutput](t)(sts.NewFromConfig(app).GetCallerIdentity(ctx, nil))
		if *who.Arn != "arn:aws:sts::111122223333:assumed-role/app/s1" || *who.Arn != *assumed.AssumedRoleUser.Arn {
			t.Errorf("the session is %s", *who.Arn)
		}
		must[*kms.ListKeysOutput](t)(kms.NewFromConfig(app).ListKeys(ctx, nil))
		_, err := kms.NewFromConfig(app).Encrypt(ctx, &kms.EncryptInput{KeyId: aws.String("alias/none"), Plaintext: []byte("x")})
		if code(err) != "NotFoundException" {
			t.Errorf("an alias that does not exist: %v", err)
		}

		time.Sleep(15 * time.Minute)
		_, err = kms.NewFromConfig(app).ListKeys(ctx, nil)
		if code(err) != "ExpiredTokenException" {
			t.Errorf("after its expiry: %v", err)
		}
		_, err = sts.NewFromConfig(config(srv, srv.AccessKeyID, srv.SecretAccessKey, "")).AssumeRole(ctx, &sts.AssumeRoleInput{
			RoleArn: aws.String("arn:aws:iam::111122223333:role/app"), RoleSessionName: aws.String("s1")})
		if code(err) != "AccessDenied" || !strings.Contains(err.Error(), "Roles may not be assumed by root accounts.") {
			t.Errorf("root assumes a role: %v", err)
		}
	})
}
