package server_test

import (
	"bytes"
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/claviger/claviger/internal/server"
)

// A server that was away for longer than a day cannot know that the clock is right: a
// key whose waiting period is over by the clock is kept until somebody says so.
func TestDeletionWaitsForTheClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mustOpen(t, server.Config{RootKeys: rootKeys})
		defer closeServer(t, s)
		srv := httptest.NewTestServer(t, s.Handler())
		c := kms.New(kms.Options{BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), Region: "us-east-1", RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider("test", "test", "")})
		run := func() (stop func()) {
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { s.Run(ctx) })
			return func() {
				cancel()
				wg.Wait()
			}
		}
		deleted := func() bool {
			return bytes.Contains(bytes.Join(s.Log.Recent(), nil), []byte(`"eventName":"DeleteKey"`))
		}
		stop := run()
		key, err := c.CreateKey(t.Context(), &kms.CreateKeyInput{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: key.KeyMetadata.KeyId, PendingWindowInDays: aws.Int32(7)}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * 24 * time.Hour)
		stop()
		time.Sleep(5 * 24 * time.Hour) // away
		stop = run()
		time.Sleep(3 * time.Hour)
		if deleted() || !s.KMS.ClockHeld() {
			t.Error("a key was deleted by a clock that nobody has accepted")
		}
		if _, err := s.AcceptClock(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if !deleted() || s.KMS.ClockHeld() {
			t.Error("the key was not deleted once the clock was accepted")
		}
		stop()
	})
}
