package kms_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

// Another account learns nothing about keys and aliases that do not let it in.
func TestStrangersLearnNothing(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	w.alias("alias/prod", blue)
	w.srv.AddAccount(t, "999988887777", "other", "secret")
	stranger := config(w.srv, "other", "secret")
	text := func(c *kms.Client, id string) string {
		_, err := c.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &id})
		if err == nil {
			t.Fatalf("DescribeKey %s succeeded", id)
		}
		_, after, _ := strings.Cut(err.Error(), "api error ")
		return strings.NewReplacer(id, "ID", *blue.KeyId, "KEY").Replace(after)
	}
	root := kms.NewFromConfig(stranger)
	const aliases, missing = "arn:aws:kms:us-east-1:111122223333:alias/", "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
	if got, want := text(root, aliases+"prod"), text(root, aliases+"none"); got != want {
		t.Errorf("an alias that exists: %s\none that does not: %s", got, want)
	}
	admin := iam.NewFromConfig(stranger)
	if _, err := admin.CreateUser(ctx, &iam.CreateUserInput{UserName: aws.String("mallory")}); err != nil {
		t.Fatal(err)
	}
	deny := `{"Statement":{"Effect":"Deny","Action":"kms:*","Resource":"*"}}`
	if _, err := admin.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: aws.String("mallory"), PolicyName: aws.String("p"), PolicyDocument: &deny}); err != nil {
		t.Fatal(err)
	}
	k, err := admin.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: aws.String("mallory")})
	if err != nil {
		t.Fatal(err)
	}
	mallory := kms.NewFromConfig(config(w.srv, *k.AccessKey.AccessKeyId, *k.AccessKey.SecretAccessKey))
	if got, want := text(mallory, *blue.Arn), text(mallory, missing); got != want {
		t.Errorf("with a Deny of one's own, a key that exists: %s\none that does not: %s", got, want)
	}
	theirs, err := root.CreateKey(ctx, &kms.CreateKeyInput{})
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := root.Encrypt(ctx, &kms.EncryptInput{KeyId: theirs.KeyMetadata.KeyId, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"prod", "none"} {
		_, err := root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, KeyId: aws.String(aliases + name)})
		w.want("Decrypt with a foreign alias "+name, err, "AccessDeniedException")
	}
}

// A tag key in another spelling cannot hide the real one from a Deny.
func TestTagSpellings(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	tag := func(k, v string) types.Tag { return types.Tag{TagKey: &k, TagValue: &v} }
	bob := w.user("bob", allow("kms:*", "*"), `"Effect":"Deny","Action":"kms:TagResource","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"admin"}}`)
	_, err := bob.TagResource(ctx, &kms.TagResourceInput{KeyId: blue.KeyId, Tags: []types.Tag{tag("Team", "x"), tag("team", "admin")}})
	w.want("both spellings in a request", err, "AccessDeniedException")
	_, err = w.root.TagResource(ctx, &kms.TagResourceInput{KeyId: blue.KeyId, Tags: []types.Tag{tag("team", "red")}})
	w.want("TagResource", err, "")
	_, err = bob.TagResource(ctx, &kms.TagResourceInput{KeyId: blue.KeyId, Tags: []types.Tag{tag("TEAM", "blue")}})
	w.want("a second spelling on the key", err, "TagException")
}

// A key past its waiting period is gone with its aliases at once, and the sweep
// takes it whatever the fraction of the second.
func TestGoneMeansGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx := t.Context()
		time.Sleep(300 * time.Millisecond)
		var keys []*types.KeyMetadata
		for i := range 3 {
			time.Sleep(150 * time.Millisecond)
			key := w.key()
			keys = append(keys, key)
			w.alias("alias/a"+string(rune('0'+i)), key)
			if _, err := w.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: aws.Int32(7)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(7 * 24 * time.Hour) // past the period, perhaps not yet swept
		_, err := w.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/a0")})
		w.want("an alias of a key that is gone", err, "NotFoundException")
		if err == nil || !strings.Contains(err.Error(), "alias/a0 is not found") {
			t.Errorf("it says %v", err)
		}
		out, err := w.root.ListAliases(ctx, &kms.ListAliasesInput{})
		if err != nil || slices.ContainsFunc(out.Aliases, func(a types.AliasListEntry) bool { return a.TargetKeyId != nil }) {
			t.Errorf("ListAliases = %v, %v", out.Aliases, err)
		}
		fresh := w.key()
		w.alias("alias/a0", fresh)
		time.Sleep(3 * time.Minute)
		described, err := w.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/a0")})
		if err != nil || *described.KeyMetadata.KeyId != *fresh.KeyId {
			t.Errorf("the sweep took another key's alias: %v", err)
		}
		deleted := 0
		for _, line := range w.srv.Audit() {
			if strings.Contains(string(line), `"eventName":"DeleteKey"`) && strings.Contains(string(line), `"phase":"outcome","committed":true`) {
				deleted++
			}
		}
		if deleted != len(keys) {
			t.Errorf("%d deletions on record, want %d", deleted, len(keys))
		}
	})
}

// An operator without a condition does not open a key to everyone.
func TestEmptyOperator(t *testing.T) {
	w := newWorld(t)
	doc := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*","Condition":{"StringEqals":{}}}]}`
	_, err := w.root.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &doc})
	w.want("CreateKey", err, "MalformedPolicyDocumentException")
}

// What GetKeyPolicy prints, PutKeyPolicy takes.
func TestKeyPolicyRoundTrip(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	doc := `{"Version":"2012-10-17","Id":"\u0100\ud83d\ude00\u00e9","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}`
	_, err := w.root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: blue.KeyId, Policy: &doc})
	w.want("PutKeyPolicy", err, "")
	got, err := w.root.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: blue.KeyId})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: blue.KeyId, Policy: got.Policy})
	w.want("putting it again", err, "")
}
