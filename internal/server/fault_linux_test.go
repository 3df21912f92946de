package server_test

import (
	"io"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/claviger/claviger/internal/durable/powertest"
	"github.com/claviger/claviger/internal/server"
)

// describe reads a key.
func (s served) describe(t *testing.T, id string) error {
	t.Helper()
	_, err := s.DescribeKey(t.Context(), &kms.DescribeKeyInput{KeyId: &id})
	return err
}

// refusing insists that /readyz and the metrics say that writing is not possible.
func (s served) refusing(t *testing.T) {
	t.Helper()
	if status := s.ready(t); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz says %d", status)
	}
	r, err := http.Get(s.url + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if text, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(text), "_writable 0\n") {
		t.Errorf("the metrics do not say so: %v", err)
	}
}

// A sync that fails: nothing is changed any more, until a restart. What reads is
// answered unless it is the audit log that could not be synced. What was acknowledged
// is there after the restart, and after a power cut then.
func TestFailedSync(t *testing.T) {
	disk := powertest.Mount(t)
	for _, tt := range []struct {
		name string
		c    server.Config
		read bool
	}{
		{"of the store", server.Config{Dir: filepath.Join(disk.Dir, "a"), AuditDir: t.TempDir()}, true},
		{"of both", server.Config{Dir: filepath.Join(disk.Dir, "b")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.c)
			first, err := s.create(t)
			if err != nil {
				t.Fatal(err)
			}
			made, refused := map[string]bool{first: true}, 0
			disk.FailSync(syscall.EIO)
			defer disk.FailSync(0)
			for range 100 { // whose records wait for the next sync
				_ = s.describe(t, first)
			}
			for range 5 {
				if _, err := s.create(t); err == nil {
					t.Error("a key was made that is not on the disk")
				}
				refused++
			}
			disk.FailSync(0)
			if _, err := s.create(t); err == nil {
				t.Error("a key was made after a sync that failed")
			}
			refused++
			if err := s.describe(t, first); (err == nil) != tt.read {
				t.Errorf("DescribeKey: %v", err)
			}
			s.refusing(t)
			if err := s.close(); (err == nil) != tt.read {
				t.Errorf("Close = %v", err)
			}
			s.verify(t, tt.c, made, refused)

			s = serve(t, tt.c)
			last, err := s.create(t)
			if err != nil {
				t.Fatal(err)
			}
			made[last] = true
			if tt.c.AuditDir == "" {
				for i := range 5 {
					left := server.Config{Dir: filepath.Join(disk.Cut(rand.New(rand.NewPCG(uint64(i), 0))), "b")}
					s.verify(t, left, made, refused)
				}
			}
			s.stop(t)
			s.verify(t, tt.c, made, refused)
		})
	}
}

// A disk that is read-only for a while: what would change something is refused, and
// what reads is answered while the audit log, on another disk, can be written. Then all
// goes on by itself.
func TestReadOnlyDisk(t *testing.T) {
	disk := powertest.Mount(t)
	for _, tt := range []struct {
		name string
		c    server.Config
		read bool
	}{
		{"the store", server.Config{Dir: filepath.Join(disk.Dir, "a"), AuditDir: t.TempDir()}, true},
		{"both", server.Config{Dir: filepath.Join(disk.Dir, "b")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := serve(t, tt.c)
			first, err := s.create(t)
			if err != nil {
				t.Fatal(err)
			}
			made, refused := map[string]bool{first: true}, 0
			disk.ReadOnly(true)
			defer disk.ReadOnly(false)
			for range 10 {
				if _, err := s.create(t); err == nil {
					t.Error("a key was made on a read-only disk")
				}
				refused++
				if err := s.describe(t, first); (err == nil) != tt.read {
					t.Errorf("DescribeKey: %v", err)
				}
			}
			s.refusing(t)
			disk.ReadOnly(false)
			eventually(t, "/readyz does not recover", func() bool { return s.ready(t) == http.StatusOK })
			last, err := s.create(t)
			if err != nil {
				t.Fatal(err)
			}
			made[last] = true
			s.stop(t)
			s.verify(t, tt.c, made, 0)
		})
	}
}
