package kms_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
)

const aDay = 24 * time.Hour

// sealed encrypts a text and returns the blob.
func (w world) sealed(key *string, text string) []byte {
	w.t.Helper()
	out, err := w.root.Encrypt(w.t.Context(), &kms.EncryptInput{KeyId: key, Plaintext: []byte(text)})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.CiphertextBlob
}

// opens checks that a blob holds a text, and returns the material that opened it.
func (w world) opens(blob []byte, text string) string {
	w.t.Helper()
	out, err := w.root.Decrypt(w.t.Context(), &kms.DecryptInput{CiphertextBlob: blob})
	if err != nil || string(out.Plaintext) != text {
		w.t.Fatalf("Decrypt = %v, %v; want %q", out, err, text)
	}
	return aws.ToString(out.KeyMaterialId)
}

func (w world) rotations(key *string, include types.IncludeKeyMaterial) []types.RotationsListEntry {
	w.t.Helper()
	out, err := w.root.ListKeyRotations(w.t.Context(), &kms.ListKeyRotationsInput{KeyId: key, IncludeKeyMaterial: include})
	if err != nil {
		w.t.Fatal(err)
	}
	return out.Rotations
}

func TestAutomaticRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, key := t.Context(), w.key()
		status := func() *kms.GetKeyRotationStatusOutput {
			out, err := w.root.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: key.KeyId})
			if err != nil {
				t.Fatal(err)
			}
			return out
		}
		if s := status(); s.KeyRotationEnabled || s.RotationPeriodInDays != nil || *s.KeyId != *key.Arn {
			t.Errorf("status %+v", s)
		}
		_, err := w.root.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: key.KeyId, RotationPeriodInDays: aws.Int32(90)})
		w.want("EnableKeyRotation", err, "")
		start := time.Now()
		if s := status(); !s.KeyRotationEnabled || *s.RotationPeriodInDays != 90 || !s.NextRotationDate.Equal(start.Add(90*aDay).Truncate(time.Second)) {
			t.Errorf("status %+v", s)
		}
		first := w.sealed(key.KeyId, "first")
		time.Sleep(89 * aDay)
		if n := len(w.rotations(key.KeyId, "")); n != 0 {
			t.Errorf("%d rotations after 89 days", n)
		}
		time.Sleep(2 * aDay)
		second := w.sealed(key.KeyId, "second")
		before, after := w.opens(first, "first"), w.opens(second, "second")
		if before == after || before != *key.CurrentKeyMaterialId {
			t.Errorf("materials %s and %s", before, after)
		}
		list := w.rotations(key.KeyId, "")
		if len(list) != 1 || list[0].RotationType != types.RotationTypeAutomatic || *list[0].KeyMaterialId != after || list[0].KeyMaterialState != types.KeyMaterialStateCurrent {
			t.Errorf("rotations %+v", list)
		}
		all := w.rotations(key.KeyId, types.IncludeKeyMaterialAllKeyMaterial)
		if len(all) != 2 || all[0].RotationDate != nil || all[0].KeyMaterialState != types.KeyMaterialStateNonCurrent || *all[0].KeyMaterialId != before {
			t.Errorf("materials %+v", all)
		}

		// A disabled key is rotated when it is enabled.
		_, err = w.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key.KeyId})
		w.want("DisableKey", err, "")
		time.Sleep(200 * aDay)
		if n := len(w.rotations(key.KeyId, "")); n != 1 {
			t.Errorf("%d rotations of a disabled key", n)
		}
		_, err = w.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key.KeyId})
		w.want("EnableKey", err, "")
		if n := len(w.rotations(key.KeyId, "")); n != 2 {
			t.Errorf("%d rotations after enabling", n)
		}
		if next := status().NextRotationDate; !next.After(time.Now()) {
			t.Errorf("the next rotation is at %v, in the past", next)
		}
		_, err = w.root.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId})
		w.want("ScheduleKeyDeletion", err, "")
		if status().KeyRotationEnabled {
			t.Error("a key pending deletion rotates")
		}
		_, err = w.root.CancelKeyDeletion(ctx, &kms.CancelKeyDeletionInput{KeyId: key.KeyId})
		w.want("CancelKeyDeletion", err, "")
		if !status().KeyRotationEnabled {
			t.Error("rotation was forgotten with the deletion")
		}
		_, err = w.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key.KeyId})
		w.want("EnableKey", err, "")
		_, err = w.root.DisableKeyRotation(ctx, &kms.DisableKeyRotationInput{KeyId: key.KeyId})
		w.want("DisableKeyRotation", err, "")
		time.Sleep(100 * aDay)
		if n := len(w.rotations(key.KeyId, "")); n != 2 {
			t.Errorf("%d rotations after rotation was disabled", n)
		}
		w.opens(first, "first")
		w.opens(second, "second")
	})
}

func TestRotationOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, key := t.Context(), w.key()
		rotate := func() error {
			_, err := w.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: key.KeyId})
			return err
		}
		var blobs [][]byte
		for range 25 {
			blobs = append(blobs, w.sealed(key.KeyId, "x"))
			w.want("RotateKeyOnDemand", rotate(), "")
		}
		w.want("RotateKeyOnDemand for the 26th time", rotate(), "LimitExceededException")
		seen := map[string]bool{}
		for _, b := range blobs {
			seen[w.opens(b, "x")] = true
		}
		if len(seen) != 25 {
			t.Errorf("%d materials encrypted 25 blobs", len(seen))
		}
		page, err := w.root.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: key.KeyId, Limit: aws.Int32(10)})
		if err != nil || len(page.Rotations) != 10 || !page.Truncated {
			t.Fatal(page, err)
		}
		rest, err := w.root.ListKeyRotations(ctx, &kms.ListKeyRotationsInput{KeyId: key.KeyId, Marker: page.NextMarker})
		if err != nil || len(rest.Rotations) != 15 || rest.Truncated {
			t.Fatal(rest, err)
		}
		red := w.key()
		_, err = w.root.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: red.KeyId, RotationPeriodInDays: aws.Int32(90)})
		w.want("EnableKeyRotation", err, "")
		time.Sleep(90*aDay - 10*time.Minute)
		_, err = w.root.RotateKeyOnDemand(ctx, &kms.RotateKeyOnDemandInput{KeyId: red.KeyId})
		w.want("RotateKeyOnDemand just before the automatic one", err, "ConflictException")
	})
}

func TestLastUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		ctx, key := t.Context(), w.key()
		last := func() *types.KeyLastUsageData {
			out, err := w.root.GetKeyLastUsage(ctx, &kms.GetKeyLastUsageInput{KeyId: key.KeyId})
			if err != nil || !out.KeyCreationDate.Equal(*key.CreationDate) {
				t.Fatal(out, err)
			}
			return out.KeyLastUsage
		}
		if l := last(); l == nil || l.Timestamp != nil {
			t.Errorf("an unused key was used: %+v", l)
		}
		_, err := w.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyId, Plaintext: []byte("x"), DryRun: aws.Bool(true)})
		w.want("a dry run", err, "DryRunOperationException")
		if l := last(); l.Timestamp != nil {
			t.Errorf("a dry run counts: %+v", l)
		}
		w.sealed(key.KeyId, "x")
		used := time.Now()
		time.Sleep(3 * aDay)
		if l := last(); l.Operation != types.KeyLastUsageTrackingOperationEncrypt || l.Timestamp.Sub(used).Abs() > time.Second {
			t.Errorf("last usage %+v, want Encrypt at %v", l, used)
		}
	})
}
