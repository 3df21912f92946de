package kms_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/claviger/claviger/kmstest"
)

// A world is a server with its root user's clients.
type world struct {
	t    *testing.T
	srv  *kmstest.Server
	root *kms.Client
	iam  *iam.Client
}

func newWorld(t *testing.T, options ...kmstest.Option) world {
	t.Helper()
	srv := kmstest.Start(t, options...)
	c := config(srv, srv.AccessKeyID, srv.SecretAccessKey)
	return world{t, srv, kms.NewFromConfig(c), iam.NewFromConfig(c)}
}

func config(srv *kmstest.Server, id, secret string) aws.Config {
	return aws.Config{Region: srv.Region, BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")}
}

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return fmt.Sprint(err)
}

func (w world) key() *types.KeyMetadata {
	w.t.Helper()
	out, err := w.root.CreateKey(w.t.Context(), &kms.CreateKeyInput{})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.KeyMetadata
}

func (w world) alias(name string, key *types.KeyMetadata) {
	w.t.Helper()
	if _, err := w.root.CreateAlias(w.t.Context(), &kms.CreateAliasInput{AliasName: &name, TargetKeyId: key.KeyId}); err != nil {
		w.t.Fatal(err)
	}
}

// user makes a user with one inline policy of the given statements.
func (w world) user(name string, statements ...string) *kms.Client {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &name}); err != nil {
		w.t.Fatal(err)
	}
	if len(statements) > 0 {
		doc := `{"Version":"2012-10-17","Statement":[{` + strings.Join(statements, "},{") + `}]}`
		if _, err := w.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &name, PolicyName: aws.String("p"), PolicyDocument: &doc}); err != nil {
			w.t.Fatal(err)
		}
	}
	k, err := w.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &name})
	if err != nil {
		w.t.Fatal(err)
	}
	return kms.NewFromConfig(config(w.srv, *k.AccessKey.AccessKeyId, *k.AccessKey.SecretAccessKey))
}

func allow(actions, resource string) string {
	return `"Effect":"Allow","Action":["` + strings.ReplaceAll(actions, " ", `","`) + `"],"Resource":"` + resource + `"`
}

// want checks an error's code; "" is success.
func (w world) want(what string, err error, wanted string) {
	w.t.Helper()
	got := ""
	if err != nil {
		got = code(err)
	}
	if got != wanted {
		w.t.Errorf("%s: %q, want %q (%v)", what, got, wanted, err)
	}
}

func TestAliasesNeedBothPermissions(t *testing.T) {
	w := newWorld(t)
	ctx, blue, red := t.Context(), w.key(), w.key()
	const aliases = "arn:aws:kms:us-east-1:111122223333:alias/*"
	onAlias := w.user("on-alias", allow("kms:*", aliases))
	onKey := w.user("on-key", allow("kms:*", *blue.Arn))
	both := w.user("both", allow("kms:*", aliases), allow("kms:*", *blue.Arn))
	create := func(c *kms.Client) error {
		_, err := c.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: blue.KeyId})
		return err
	}
	w.want("CreateAlias with the alias alone", create(onAlias), "AccessDeniedException")
	w.want("CreateAlias with the key alone", create(onKey), "AccessDeniedException")
	w.want("CreateAlias with both", create(both), "")
	_, err := both.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: red.KeyId})
	w.want("UpdateAlias without the new key", err, "AccessDeniedException")
	_, err = w.root.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: aws.String("alias/a"), TargetKeyId: red.KeyId})
	w.want("UpdateAlias by root", err, "")
	out, err := w.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/a")})
	if err != nil || *out.KeyMetadata.KeyId != *red.KeyId {
		t.Errorf("after UpdateAlias the alias leads to %v, %v", out, err)
	}
	_, err = both.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/a")})
	w.want("DeleteAlias without the key behind it", err, "AccessDeniedException")
	_, err = w.root.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/a")})
	w.want("DeleteAlias by root", err, "")
	_, err = w.root.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String("alias/a")})
	w.want("DeleteAlias again", err, "NotFoundException")
	for _, name := range []string{"alias/a:b", "alias/"} {
		_, err := w.root.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &name, TargetKeyId: blue.KeyId})
		w.want("CreateAlias "+name, err, "InvalidAliasNameException")
	}
	_, err = w.root.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String("alias/aws/s3"), TargetKeyId: blue.KeyId})
	w.want("CreateAlias of a reserved name", err, "NotAuthorizedException")
}

func TestReEncryptNeedsFromAndTo(t *testing.T) {
	w := newWorld(t)
	ctx, blue, red := t.Context(), w.key(), w.key()
	sealed, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: blue.KeyId, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	same := `"Effect":"Deny","Action":"kms:ReEncrypt*","Resource":"*","Condition":{"Bool":{"kms:ReEncryptOnSameKey":"false"}}`
	tests := []struct {
		name       string
		statements []string
		to         *types.KeyMetadata
		want       string
	}{
		{"from-alone", []string{allow("kms:ReEncryptFrom", *blue.Arn)}, red, "AccessDeniedException"},
		{"to-alone", []string{allow("kms:ReEncryptTo", *red.Arn)}, red, "AccessDeniedException"},
		{"both", []string{allow("kms:ReEncryptFrom", *blue.Arn), allow("kms:ReEncryptTo", *red.Arn)}, red, ""},
		{"wrong-way", []string{allow("kms:ReEncryptFrom", *red.Arn), allow("kms:ReEncryptTo", *blue.Arn)}, red, "AccessDeniedException"},
		{"same-key-alone", []string{allow("kms:ReEncrypt*", "*"), same}, red, "AccessDeniedException"},
		{"same-key", []string{allow("kms:ReEncrypt*", "*"), same}, blue, ""},
	}
	for i, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := w.user(fmt.Sprintf("u%d", i), tt.statements...)
			_, err := c.ReEncrypt(ctx, &kms.ReEncryptInput{CiphertextBlob: sealed.CiphertextBlob, DestinationKeyId: tt.to.KeyId})
			w.want("ReEncrypt", err, tt.want)
		})
	}
}

func TestPages(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	var want []string
	first := w.key()
	for i := range 7 {
		name := fmt.Sprintf("alias/a%d", i)
		w.alias(name, first)
		want = append(want, name)
	}
	var got []string
	pages := kms.NewListAliasesPaginator(w.root, &kms.ListAliasesInput{Limit: aws.Int32(3)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range page.Aliases {
			got = append(got, *a.AliasName)
		}
	}
	const predefined = 27 // aliases of AWS managed keys, behind ours
	if n := len(got) - predefined; n < 0 || !slices.IsSorted(got) || !slices.Equal(got[:n], want) {
		t.Errorf("aliases by pages = %q, want %q", got, want)
	}
	ofKey, err := w.root.ListAliases(ctx, &kms.ListAliasesInput{KeyId: first.Arn, Limit: aws.Int32(3)})
	if err != nil || len(ofKey.Aliases) != 3 || !ofKey.Truncated {
		t.Errorf("aliases of a key = %v, %v", ofKey, err)
	}
	keys := map[string]bool{*first.KeyId: true}
	for range 4 {
		keys[*w.key().KeyId] = true
	}
	lists := kms.NewListKeysPaginator(w.root, &kms.ListKeysInput{Limit: aws.Int32(2)})
	for lists.HasMorePages() {
		page, err := lists.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range page.Keys {
			delete(keys, *k.KeyId)
		}
	}
	if len(keys) != 0 {
		t.Errorf("not listed: %v", keys)
	}
	_, err = w.root.ListKeys(ctx, &kms.ListKeysInput{Marker: ofKey.NextMarker})
	w.want("a marker of another list", err, "InvalidMarkerException")
}

// Keys, aliases and policies of one Region mean nothing in another.
func TestRegionsAreApart(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	w.alias("alias/blue", blue)
	c := config(w.srv, w.srv.AccessKeyID, w.srv.SecretAccessKey)
	c.Region = "eu-central-1"
	elsewhere := kms.NewFromConfig(c)
	_, err := elsewhere.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: blue.KeyId})
	w.want("a key id of another Region", err, "NotFoundException")
	_, err = elsewhere.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: blue.Arn})
	w.want("a key ARN of another Region", err, "NotFoundException")
	_, err = elsewhere.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: aws.String("alias/blue")})
	w.want("an alias of another Region", err, "NotFoundException")
	sealed, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: blue.KeyId, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = elsewhere.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	w.want("a ciphertext of another Region", err, "AccessDeniedException")
	if err == nil || !strings.Contains(err.Error(), "the resource associated with this ciphertext because the resource does not exist in this Region") {
		t.Errorf("it says %v", err)
	}
	keys, err := elsewhere.ListKeys(ctx, &kms.ListKeysInput{})
	if err != nil || len(keys.Keys) != 0 {
		t.Errorf("keys elsewhere: %v, %v", keys, err)
	}
}

// A key policy names people, not names (AUTH-2.16).
func TestKeyPolicyFollowsTheUser(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	alice := w.user("alice")
	const doc = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":["arn:aws:iam::111122223333:user/alice","111122223333"]},"Action":"kms:*","Resource":"*"}]}`
	put := func(doc string) error {
		_, err := w.root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: blue.KeyId, Policy: aws.String(doc)})
		return err
	}
	get := func() string {
		out, err := w.root.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: blue.KeyId})
		if err != nil {
			t.Fatal(err)
		}
		return *out.Policy
	}
	w.want("PutKeyPolicy", put(doc), "")
	if got := get(); !strings.Contains(got, `[ "arn:aws:iam::111122223333:user/alice", "arn:aws:iam::111122223333:root" ]`) {
		t.Errorf("GetKeyPolicy = %s", got)
	}
	_, err := alice.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: blue.KeyId})
	w.want("alice, named", err, "")

	if _, err := w.iam.UpdateUser(ctx, &iam.UpdateUserInput{UserName: aws.String("alice"), NewUserName: aws.String("alicia"), NewPath: aws.String("/staff/")}); err != nil {
		t.Fatal(err)
	}
	if got := get(); !strings.Contains(got, "user/staff/alicia") {
		t.Errorf("after a change of name GetKeyPolicy = %s", got)
	}
	_, err = alice.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: blue.KeyId})
	w.want("alice under a new name", err, "")

	keys, err := w.iam.ListAccessKeys(ctx, &iam.ListAccessKeysInput{UserName: aws.String("alicia")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.iam.DeleteAccessKey(ctx, &iam.DeleteAccessKeyInput{UserName: aws.String("alicia"), AccessKeyId: keys.AccessKeyMetadata[0].AccessKeyId}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: aws.String("alicia")}); err != nil {
		t.Fatal(err)
	}
	orphan := get()
	if !strings.Contains(orphan, `"AIDA`) {
		t.Errorf("after the user's deletion GetKeyPolicy = %s", orphan)
	}
	w.want("putting the policy of an orphan again", put(orphan), "MalformedPolicyDocumentException")
	again := w.user("alice")
	_, err = again.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: blue.KeyId})
	w.want("another user of the same name", err, "AccessDeniedException")
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	tag := func(k, v string) types.Tag { return types.Tag{TagKey: &k, TagValue: &v} }
	byTag := w.user("by-tag", `"Effect":"Allow","Action":"kms:DescribeKey","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/Team":"a"}}`)
	_, err := byTag.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: blue.KeyId})
	w.want("before the tag", err, "AccessDeniedException")
	_, err = w.root.TagResource(ctx, &kms.TagResourceInput{KeyId: blue.KeyId, Tags: []types.Tag{tag("team", "a"), tag("x", "")}})
	w.want("TagResource", err, "")
	_, err = byTag.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: blue.KeyId})
	w.want("with the tag", err, "")
	_, err = w.root.UntagResource(ctx, &kms.UntagResourceInput{KeyId: blue.KeyId, TagKeys: []string{"team", "never"}})
	w.want("UntagResource", err, "")
	out, err := w.root.ListResourceTags(ctx, &kms.ListResourceTagsInput{KeyId: blue.KeyId})
	if err != nil || len(out.Tags) != 1 || *out.Tags[0].TagKey != "x" {
		t.Errorf("ListResourceTags = %v, %v", out, err)
	}
	var many []types.Tag
	for i := range 50 {
		many = append(many, tag(fmt.Sprintf("k%d", i), ""))
	}
	_, err = w.root.TagResource(ctx, &kms.TagResourceInput{KeyId: blue.KeyId, Tags: many})
	w.want("51 tags", err, "TagException")
	creator := w.user("creator", allow("kms:CreateKey", "*"))
	_, err = creator.CreateKey(ctx, &kms.CreateKeyInput{})
	w.want("CreateKey without tags", err, "")
	_, err = creator.CreateKey(ctx, &kms.CreateKeyInput{Tags: []types.Tag{tag("a", "b")}})
	w.want("CreateKey with tags and without kms:TagResource", err, "AccessDeniedException")
	tagger := w.user("tagger", allow("kms:CreateKey", "*"), allow("kms:TagResource", "arn:aws:kms:*:*:key/*"))
	_, err = tagger.CreateKey(ctx, &kms.CreateKeyInput{Tags: []types.Tag{tag("a", "b")}})
	w.want("CreateKey with tags and kms:TagResource", err, "")
}

func TestMultiRegionKeyAndStates(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	out, err := w.root.CreateKey(ctx, &kms.CreateKeyInput{MultiRegion: aws.Bool(true)})
	if err != nil {
		t.Fatal(err)
	}
	key := out.KeyMetadata
	if !strings.HasPrefix(*key.KeyId, "mrk-") || key.MultiRegionConfiguration.MultiRegionKeyType != types.MultiRegionKeyTypePrimary {
		t.Errorf("multi-Region key: %+v", key)
	}
	sealed, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key.KeyId})
	w.want("DisableKey", err, "")
	_, err = w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob})
	w.want("Decrypt while disabled", err, "DisabledException")
	_, err = w.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key.KeyId})
	w.want("EnableKey", err, "")
	_, err = w.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId})
	w.want("ScheduleKeyDeletion", err, "")
	_, err = w.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId})
	w.want("ScheduleKeyDeletion again", err, "KMSInvalidStateException")
	_, err = w.root.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: key.KeyId})
	w.want("CancelKeyDeletion", err, "")
	described, err := w.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyId})
	if err != nil || described.KeyMetadata.KeyState != types.KeyStateDisabled || described.KeyMetadata.DeletionDate != nil {
		t.Errorf("after CancelKeyDeletion: %+v, %v", described, err)
	}
}

func TestDryRunIgnoringTheCiphertext(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	ignore := []types.DryRunModifierType{types.DryRunModifierTypeIgnoreCiphertext}
	_, err := w.root.Decrypt(ctx, &kms.DecryptInput{KeyId: blue.KeyId, DryRun: aws.Bool(true), DryRunModifiers: ignore})
	w.want("with a key", err, "DryRunOperationException")
	_, err = w.root.Decrypt(ctx, &kms.DecryptInput{DryRun: aws.Bool(true), DryRunModifiers: ignore})
	w.want("without a key", err, "ValidationException")
	_, err = w.root.Decrypt(ctx, &kms.DecryptInput{KeyId: blue.KeyId, DryRunModifiers: ignore})
	w.want("without DryRun", err, "ValidationException")
	_, err = w.root.Decrypt(ctx, &kms.DecryptInput{KeyId: blue.KeyId})
	w.want("without a ciphertext", err, "ValidationException")
}

// Administrators take a permission away while it is being used: once the change
// is acknowledged no use succeeds.
func TestChangesCountAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	alice := w.user("alice", allow("kms:Encrypt", "*"))
	encrypt := func() error {
		_, err := alice.Encrypt(ctx, &kms.EncryptInput{KeyId: blue.KeyId, Plaintext: []byte("x")})
		return err
	}
	for range 10 {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() { _ = encrypt() })
		}
		if _, err := w.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: blue.KeyId}); err != nil {
			t.Fatal(err)
		}
		w.want("Encrypt after DisableKey was answered", encrypt(), "DisabledException")
		wg.Wait()
		if _, err := w.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: blue.KeyId}); err != nil {
			t.Fatal(err)
		}
		w.want("Encrypt after EnableKey was answered", encrypt(), "")
	}
	if _, err := w.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: aws.String("alice"), PolicyName: aws.String("p")}); err != nil {
		t.Fatal(err)
	}
	w.want("Encrypt after the policy was deleted", encrypt(), "AccessDeniedException")
}

// No record of an audit log holds a plaintext.
func TestAuditRecords(t *testing.T) {
	w := newWorld(t)
	ctx, blue := t.Context(), w.key()
	sealed, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: blue.KeyId, Plaintext: []byte("canary-canary"), EncryptionContext: map[string]string{"purpose": "test"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: sealed.CiphertextBlob, EncryptionContext: map[string]string{"purpose": "test"}}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, line := range w.srv.Audit() {
		for _, secret := range []string{"canary", "Y2FuYXJ5LWNhbmFyeQ"} {
			if strings.Contains(string(line), secret) {
				t.Errorf("the audit log holds a plaintext: %s", line)
			}
		}
		if strings.Contains(string(line), `"eventName":"Encrypt"`) {
			names = append(names, "Encrypt")
			for _, part := range []string{`"encryptionContext":{"purpose":"test"}`, `"type":"Root"`, `"ARN":"` + *blue.Arn + `"`, `"outcome":"Allowed"`, `"previous":"`} {
				if !strings.Contains(string(line), part) {
					t.Errorf("the record lacks %s: %s", part, line)
				}
			}
		}
	}
	if len(names) != 1 {
		t.Errorf("%d records of one Encrypt", len(names))
	}
}
