package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store/etcd"
	"github.com/claviger/claviger/internal/store/etcd/etcdtest"
)

// BenchmarkShared is an Encrypt without HTTP on a store of its own, and on one that nodes
// share: with a lease, and without one. Beside it, what takes a permission away, and a
// plain write to the cluster.
func BenchmarkShared(b *testing.B) {
	c := etcdtest.Start(b, 3)
	client, err := clientv3.New(clientv3.Config{Endpoints: c.Endpoints()})
	if err != nil {
		b.Fatal(err)
	}
	defer client.Close()
	b.Run("put of etcd", func(b *testing.B) {
		for b.Loop() {
			if _, err := client.Put(b.Context(), "k", string(make([]byte, 1000))); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, tt := range []struct {
		name   string
		shared bool
		lease  time.Duration
	}{{"alone", false, 0}, {"lease of 1s", true, time.Second}, {"no lease", true, 0}} {
		b.Run(tt.name, func(b *testing.B) {
			config := server.Config{Dir: b.TempDir(), NewAccount: "111122223333", RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}, Logger: slog.New(slog.DiscardHandler)}
			if tt.shared {
				config.Cluster = &etcd.Config{Endpoints: c.Endpoints(), Prefix: fmt.Sprintf("/%s/", tt.name), Node: "n", Lease: tt.lease}
			}
			s, err := server.Open(b.Context(), config)
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.Run(ctx)
			}()
			defer func() {
				stop()
				<-done
				if err := s.Close(); err != nil {
					b.Error(err)
				}
			}()
			root, err := s.Directory.Find(ctx, "test", "")
			if err != nil {
				b.Fatal(err)
			}
			call := func() *iam.Call {
				return &iam.Call{Credential: root, Region: "us-east-1", Now: time.Now(), RequestID: fmt.Sprint(time.Now().UnixNano()), Entry: s.Log.Begin(audit.Record{RequestID: fmt.Sprint(time.Now().UnixNano())})}
			}
			key, err := s.KMS.CreateKey(ctx, call(), &kmsapi.CreateKeyRequest{})
			if err != nil {
				b.Fatal(err)
			}
			id := key.KeyMetadata.KeyId
			b.Run("Encrypt", func(b *testing.B) {
				for b.Loop() {
					call := call()
					if _, err := s.KMS.Encrypt(ctx, call, &kmsapi.EncryptRequest{KeyId: id, Plaintext: []byte("x")}); err != nil {
						b.Fatal(err)
					}
					if err := call.Entry.End(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("DisableKey", func(b *testing.B) {
				for b.Loop() {
					call := call()
					if _, err := s.KMS.DisableKey(ctx, call, &kmsapi.DisableKeyRequest{KeyId: id}); err != nil {
						b.Fatal(err)
					}
					if err := call.Entry.End(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
