package kms_test

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/kmstest"
)

// in is the root user's world in another Region.
func (w world) in(region string) world {
	c := config(w.srv, "test", "test")
	c.Region = region
	w.root = kms.NewFromConfig(c)
	return w
}

// multiRegion makes a primary key with replicas.
func (w world) multiRegion(origin types.OriginType, regions ...string) *types.KeyMetadata {
	w.t.Helper()
	out, err := w.root.CreateKey(w.t.Context(), &kms.CreateKeyInput{MultiRegion: aws.Bool(true), Origin: origin})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, r := range regions {
		if _, err := w.root.ReplicateKey(w.t.Context(), &kms.ReplicateKeyInput{KeyId: out.KeyMetadata.KeyId, ReplicaRegion: &r}); err != nil {
			w.t.Fatal(err)
		}
	}
	return out.KeyMetadata
}

func TestMultiRegionKeys(t *testing.T) {
	w := newWorld(t)
	ctx, eu := t.Context(), w.in("eu-west-1")
	key := w.multiRegion("")
	if c := key.MultiRegionConfiguration; c.MultiRegionKeyType != types.MultiRegionKeyTypePrimary || *c.PrimaryKey.Arn != *key.Arn || len(c.ReplicaKeys) != 0 {
		t.Errorf("%+v", c)
	}
	out, err := w.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-1"), Description: aws.String("the copy"),
		Tags: []types.Tag{{TagKey: aws.String("a"), TagValue: aws.String("b")}}})
	if err != nil {
		t.Fatal(err)
	}
	m := out.ReplicaKeyMetadata
	if m.KeyState != types.KeyStateCreating || m.Enabled || *m.KeyId != *key.KeyId || m.MultiRegionConfiguration.MultiRegionKeyType != types.MultiRegionKeyTypeReplica ||
		m.CurrentKeyMaterialId != nil || len(out.ReplicaTags) != 1 || out.ReplicaPolicy == nil {
		t.Errorf("%+v", out)
	}
	if m := eu.describe(key.KeyId); m.KeyState != types.KeyStateEnabled || *m.Description != "the copy" || *m.CurrentKeyMaterialId != *key.CurrentKeyMaterialId {
		t.Errorf("%+v", m)
	}
	if c := w.describe(key.KeyId).MultiRegionConfiguration; len(c.ReplicaKeys) != 1 || *c.ReplicaKeys[0].Region != "eu-west-1" {
		t.Errorf("%+v", c)
	}
	_, err = w.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-1")})
	w.want("a second replica in one Region", err, "AlreadyExistsException")
	for _, region := range []string{"us-east-1", "cn-north-1"} {
		_, err = w.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: &region})
		w.want("a replica in "+region, err, "ValidationException")
	}
	_, err = eu.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-2")})
	w.want("a replica of a replica", err, "UnsupportedOperationException")
	_, err = w.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: w.key().KeyId, ReplicaRegion: aws.String("eu-west-1")})
	w.want("a replica of a single-Region key", err, "UnsupportedOperationException")

	// A ciphertext made in one Region opens in another, for as long as the keys live.
	blob := w.sealed(key.KeyId, "here")
	eu.opens(blob, "here")
	w.opens(eu.sealed(key.KeyId, "there"), "there")
	_, err = w.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
	w.want("RotateKeyOnDemand", err, "")
	_, err = eu.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
	w.want("RotateKeyOnDemand of a replica", err, "UnsupportedOperationException")
	fresh := w.sealed(key.KeyId, "fresh")
	if a, b := eu.opens(fresh, "fresh"), eu.opens(eu.sealed(key.KeyId, "x"), "x"); a != b || a == *key.CurrentKeyMaterialId {
		t.Errorf("materials %s and %s", a, b)
	}
	eu.opens(blob, "here")

	// Policies, states, aliases and tags are each Region's own.
	_, err = eu.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key.KeyId})
	w.want("DisableKey of the replica", err, "")
	w.opens(blob, "here")
	_, err = eu.root.Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: blob})
	w.want("Decrypt with the disabled replica", err, "DisabledException")
	deny := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"},` +
		`{"Effect":"Deny","Principal":"*","Action":"kms:Encrypt","Resource":"*"}]}`
	_, err = w.root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key.KeyId, Policy: &deny})
	w.want("PutKeyPolicy", err, "")
	_, err = w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
	w.want("Encrypt where the policy denies", err, "AccessDeniedException")
	_, err = eu.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key.KeyId})
	w.want("EnableKey", err, "")
	w.opens(eu.sealed(key.KeyId, "the replica's policy allows"), "the replica's policy allows")
}

func TestPrimaryRegionMoves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, kmstest.Settling(time.Minute))
		ctx, eu, ap := t.Context(), w.in("eu-west-1"), w.in("ap-south-1")
		key := w.multiRegion("", "eu-west-1", "ap-south-1")
		move := func(from world, to string) error {
			_, err := from.root.UpdatePrimaryRegion(ctx, &kms.UpdatePrimaryRegionInput{KeyId: key.KeyId, PrimaryRegion: &to})
			return err
		}
		w.want("a move to a replica that is being created", move(w, "eu-west-1"), "KMSInvalidStateException")
		_, err := eu.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x")})
		w.want("Encrypt with a replica that is being created", err, "KMSInvalidStateException")
		time.Sleep(time.Minute)
		_, err = w.root.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: key.KeyId, RotationPeriodInDays: aws.Int32(90)})
		w.want("EnableKeyRotation", err, "")
		w.want("a move to where no replica is", move(w, "eu-north-1"), "NotFoundException")
		w.want("a move from a replica", move(eu, "ap-south-1"), "UnsupportedOperationException")
		w.want("the move", move(w, "eu-west-1"), "")
		if a, b, c := w.describe(key.KeyId), eu.describe(key.KeyId), ap.describe(key.KeyId); a.KeyState != types.KeyStateUpdating || b.KeyState != types.KeyStateUpdating || c.KeyState != types.KeyStateEnabled {
			t.Errorf("states %s, %s, %s", a.KeyState, b.KeyState, c.KeyState)
		}
		w.opens(w.sealed(key.KeyId, "while it moves"), "while it moves")
		w.want("a move while it moves", move(eu, "us-east-1"), "KMSInvalidStateException")
		time.Sleep(time.Minute)
		for _, region := range []world{w, eu, ap} {
			c := region.describe(key.KeyId).MultiRegionConfiguration
			replicas := []string{*c.ReplicaKeys[0].Region, *c.ReplicaKeys[1].Region}
			if *c.PrimaryKey.Region != "eu-west-1" || !slices.Equal(replicas, []string{"ap-south-1", "us-east-1"}) {
				t.Errorf("primary %s, replicas %v", *c.PrimaryKey.Region, replicas)
			}
		}
		// Rotation goes on from the new primary, for all.
		blob := w.sealed(key.KeyId, "old")
		time.Sleep(91 * aDay)
		if a, b := ap.opens(blob, "old"), ap.opens(w.sealed(key.KeyId, "new"), "new"); a == b {
			t.Error("the keys were not rotated")
		}
		if n := len(w.rotations(key.KeyId, "")); n != 1 {
			t.Errorf("%d rotations", n)
		}
	})
}

func TestReplicasGoBeforeThePrimary(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, eu := t.Context(), w.in("eu-west-1")
		key := w.multiRegion("", "eu-west-1")
		blob := w.sealed(key.KeyId, "x")
		out, err := w.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: aws.Int32(7)})
		if err != nil || out.KeyState != types.KeyStatePendingReplicaDeletion || out.DeletionDate != nil || *out.PendingWindowInDays != 7 {
			t.Fatal(out, err)
		}
		if m := w.describe(key.KeyId); m.KeyState != types.KeyStatePendingReplicaDeletion || *m.PendingDeletionWindowInDays != 7 || m.DeletionDate != nil {
			t.Errorf("%+v", m)
		}
		time.Sleep(30 * aDay)
		eu.opens(blob, "x")
		_, err = eu.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: aws.Int32(10)})
		w.want("ScheduleKeyDeletion of the replica", err, "")
		time.Sleep(10*aDay + time.Minute)
		_, err = eu.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyId})
		w.want("the replica", err, "NotFoundException")
		m := w.describe(key.KeyId)
		if m.KeyState != types.KeyStatePendingDeletion || m.DeletionDate == nil || len(m.MultiRegionConfiguration.ReplicaKeys) != 0 {
			t.Errorf("%+v", m)
		}
		time.Sleep(7*aDay + time.Minute)
		_, err = w.root.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key.KeyId})
		w.want("the primary", err, "NotFoundException")
	})
}

func TestImportIntoMultiRegionKeys(t *testing.T) {
	w := newWorld(t)
	ctx, eu := t.Context(), w.in("eu-west-1")
	key := w.multiRegion(types.OriginTypeExternal)
	secret, next := bytes.Repeat([]byte("1"), 32), bytes.Repeat([]byte("2"), 32)
	replicate := func() error {
		_, err := w.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-1")})
		return err
	}
	w.want("a replica of a key without material", replicate(), "KMSInvalidStateException")
	first, err := w.bring(key.KeyId, secret, nil)
	w.want("the import into the primary", err, "")
	w.want("the replica", replicate(), "")
	if m := eu.describe(key.KeyId); m.KeyState != types.KeyStatePendingImport {
		t.Errorf("the replica is %s", m.KeyState)
	}
	_, err = eu.bring(key.KeyId, next, nil)
	w.want("other material into the replica", err, "IncorrectKeyMaterialException")
	again, err := eu.bring(key.KeyId, secret, nil)
	if err != nil || *again.KeyMaterialId != *first.KeyMaterialId {
		t.Fatal(again, err)
	}
	eu.opens(w.sealed(key.KeyId, "x"), "x")
	fresh := func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }
	_, err = eu.bring(key.KeyId, next, fresh)
	w.want("new material into the replica", err, "UnsupportedOperationException")
	_, err = w.bring(key.KeyId, next, fresh)
	w.want("new material into the primary", err, "")
	state := func() types.KeyMaterialState {
		all := w.rotations(key.KeyId, types.IncludeKeyMaterialAllKeyMaterial)
		return all[len(all)-1].KeyMaterialState
	}
	if s := state(); s != types.KeyMaterialStatePendingMultiRegionImportAndRotation {
		t.Errorf("new material is %s", s)
	}
	rotate := func() error {
		_, err := w.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
		return err
	}
	w.want("RotateKeyOnDemand before the replica has it", rotate(), "KMSInvalidStateException")
	_, err = eu.bring(key.KeyId, next, nil)
	w.want("the new material into the replica", err, "")
	if s := state(); s != types.KeyMaterialStatePendingRotation {
		t.Errorf("new material is %s", s)
	}
	w.want("RotateKeyOnDemand", rotate(), "")
	if id := eu.opens(eu.sealed(key.KeyId, "y"), "y"); id == *first.KeyMaterialId {
		t.Error("the replica encrypts with the old material")
	}
}

// Material that waits for all keys waits again when one of them loses it, and no
// more when the one that lacked it is gone.
func TestWaitingMaterialOfMultiRegionKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, eu := t.Context(), w.in("eu-west-1")
		secret, next := bytes.Repeat([]byte("1"), 32), bytes.Repeat([]byte("2"), 32)
		key := w.multiRegion(types.OriginTypeExternal)
		describe := func(text string) func(*kms.ImportKeyMaterialInput) {
			return func(in *kms.ImportKeyMaterialInput) { in.KeyMaterialDescription = &text }
		}
		_, err := w.bring(key.KeyId, secret, describe("primary"))
		w.want("the first import", err, "")
		_, err = w.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-1")})
		w.want("ReplicateKey", err, "")
		_, err = eu.bring(key.KeyId, secret, describe("replica"))
		w.want("the replica's import", err, "")
		if all := w.rotations(key.KeyId, types.IncludeKeyMaterialAllKeyMaterial); *all[0].KeyMaterialDescription != "primary" {
			t.Errorf("the replica changed the description: %s", *all[0].KeyMaterialDescription)
		}
		fresh := func(in *kms.ImportKeyMaterialInput) { in.ImportType = types.ImportTypeNewKeyMaterial }
		waiting, err := w.bring(key.KeyId, next, fresh)
		w.want("new material", err, "")
		until := time.Now().Add(aDay)
		_, err = eu.bring(key.KeyId, next, func(in *kms.ImportKeyMaterialInput) {
			in.ExpirationModel, in.ValidTo = types.ExpirationModelTypeKeyMaterialExpires, &until
		})
		w.want("new material into the replica", err, "")
		state := func() types.KeyMaterialState {
			all := w.rotations(key.KeyId, types.IncludeKeyMaterialAllKeyMaterial)
			return all[len(all)-1].KeyMaterialState
		}
		rotate := func() error {
			_, err := w.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
			return err
		}
		if s := state(); s != types.KeyMaterialStatePendingRotation {
			t.Errorf("new material is %s", s)
		}
		time.Sleep(aDay + time.Hour)
		w.want("RotateKeyOnDemand after the replica's copy expired", rotate(), "KMSInvalidStateException")
		if s := state(); s != types.KeyMaterialStatePendingMultiRegionImportAndRotation {
			t.Errorf("after the replica's copy expired new material is %s", s)
		}
		_, err = eu.bring(key.KeyId, next, nil)
		w.want("new material into the replica again", err, "")
		_, err = eu.root.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId, KeyMaterialId: waiting.KeyMaterialId})
		w.want("DeleteImportedKeyMaterial on the replica", err, "")
		w.want("RotateKeyOnDemand after the replica lost it", rotate(), "KMSInvalidStateException")
		if m := eu.describe(key.KeyId); m.KeyState != types.KeyStateEnabled {
			t.Errorf("the replica is %s", m.KeyState)
		}
		_, err = eu.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: aws.Int32(7)})
		w.want("ScheduleKeyDeletion of the replica", err, "")
		time.Sleep(8 * aDay)
		if s := state(); s != types.KeyMaterialStatePendingRotation {
			t.Errorf("without the replica new material is %s", s)
		}
		w.want("RotateKeyOnDemand", rotate(), "")
		_, err = w.root.DeleteImportedKeyMaterial(ctx, &kms.DeleteImportedKeyMaterialInput{KeyId: key.KeyId, KeyMaterialId: aws.String(strings.Repeat("a", 64))})
		w.want("DeleteImportedKeyMaterial of what is not there", err, "")
	})
}

// A replica in the place of an earlier one was never used.
func TestReplicaAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, eu := t.Context(), w.in("eu-west-1")
		key := w.multiRegion("", "eu-west-1")
		if n := countRecords(w, "CreateKey", "eu-west-1"); n != 1 {
			t.Errorf("%d records of the replica's creation", n)
		}
		eu.sealed(key.KeyId, "x")
		_, err := eu.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId})
		w.want("ScheduleKeyDeletion", err, "")
		time.Sleep(31 * aDay)
		_, err = w.root.ReplicateKey(ctx, &kms.ReplicateKeyInput{KeyId: key.KeyId, ReplicaRegion: aws.String("eu-west-1")})
		w.want("ReplicateKey again", err, "")
		out, err := eu.root.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: key.KeyId})
		if err != nil || out.KeyLastUsage.Timestamp != nil {
			t.Errorf("%+v, %v", out.KeyLastUsage, err)
		}
	})
}

func countRecords(w world, event, region string) (n int) {
	for _, line := range w.srv.Audit() {
		if bytes.Contains(line, []byte(`"eventName":"`+event+`"`)) && bytes.Contains(line, []byte(`"awsRegion":"`+region+`"`)) {
			n++
		}
	}
	return n
}

// Nobody is a principal of another partition, whose Regions are refused.
func TestOtherPartitions(t *testing.T) {
	w := newWorld(t)
	for _, region := range []string{"cn-north-1", "us-gov-west-1"} {
		_, err := w.in(region).root.CreateKey(t.Context(), &kms.CreateKeyInput{})
		w.want("CreateKey in "+region, err, "InvalidSignatureException")
	}
}

// Related keys with the longest policies, descriptions and tags change together,
// and go; there are at most 40 replicas.
func TestLargeMultiRegionKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, key := t.Context(), w.multiRegion("")
		policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]` +
			strings.Repeat("\n", 32000) + `}`
		in := &kms.ReplicateKeyInput{KeyId: key.KeyId, Policy: &policy, Description: aws.String(strings.Repeat("\x01", 8192))}
		for i := range 50 {
			in.Tags = append(in.Tags, types.Tag{TagKey: aws.String(fmt.Sprint(i, strings.Repeat("ü", 120))), TagValue: aws.String(strings.Repeat("ü", 256))})
		}
		region := func(i int) string { return fmt.Sprintf("xx-moon-%d", i) }
		for i := range 40 {
			in.ReplicaRegion = aws.String(region(i))
			if _, err := w.root.ReplicateKey(ctx, in); err != nil {
				t.Fatal(i, err)
			}
		}
		in.ReplicaRegion = aws.String(region(40))
		_, err := w.root.ReplicateKey(ctx, in)
		w.want("ReplicateKey for the 41st time", err, "LimitExceededException")
		_, err = w.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
		w.want("RotateKeyOnDemand", err, "")
		_, err = w.root.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: key.KeyId})
		w.want("EnableKeyRotation", err, "")
		_, err = w.in(region(7)).root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: aws.Int32(7)})
		w.want("ScheduleKeyDeletion", err, "")
		time.Sleep(8 * aDay)
		synctest.Wait()
		if n := len(w.describe(key.KeyId).MultiRegionConfiguration.ReplicaKeys); n != 39 {
			t.Errorf("%d replicas are left", n)
		}
	})
}
