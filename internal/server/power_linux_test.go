package server_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/claviger/claviger/internal/durable/powertest"
	"github.com/claviger/claviger/internal/server"
)

// A history is every value that something was asked to have, in order, the first of
// them "" for not being there.
type history struct {
	values       []string
	acknowledged int // the last one that was
}

// Histories are what all writers asked for, by name: "key", "alias" or "user" and more.
type histories struct {
	pause sync.RWMutex // held by whoever makes a change, or makes all wait
	mu    sync.Mutex   // guards of
	of    map[string]history
}

// change asks for a value by do.
func (h *histories) change(name, value string, do func() error) error {
	h.pause.RLock()
	defer h.pause.RUnlock()
	h.mu.Lock()
	x := h.of[name]
	if x.values == nil {
		x.values = []string{""}
	}
	x.values = append(x.values, value)
	h.of[name] = x
	h.mu.Unlock()
	if err := do(); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	x.acknowledged = len(x.values) - 1
	h.of[name] = x
	return nil
}

func (h *histories) now() map[string]history {
	h.mu.Lock()
	defer h.mu.Unlock()
	return maps.Clone(h.of)
}

func (s served) iam() *iam.Client {
	return iam.New(iam.Options{BaseEndpoint: &s.url, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""),
		Retryer: aws.NopRetryer{}, HTTPClient: s.Options().HTTPClient})
}

func keyPolicy(version string) *string {
	return aws.String(`{"Version":"2012-10-17","Statement":[{"Sid":"` + version + `","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`)
}

// write makes changes until done: up to 10 keys, whose policies name the key and a
// version, and aliases and users that come and go.
func (s served) write(ctx context.Context, n int, h *histories, done <-chan struct{}) error {
	rng, users := rand.New(rand.NewPCG(uint64(n), 0)), s.iam()
	var keys []string // ids; the name of the i-th is n and i
	there := map[string]bool{}
	for count := 0; ; count++ {
		select {
		case <-done:
			return nil
		default:
		}
		name, version := fmt.Sprintf("k%dx%d", n, len(keys)), fmt.Sprintf("v%d", count)
		alias, user := fmt.Sprintf("alias/w%d-%d", n, rng.IntN(4)), fmt.Sprintf("w%d-%d", n, rng.IntN(4))
		var err error
		switch what := rng.IntN(4); {
		case len(keys) == 0, what == 0 && len(keys) < 10:
			err = h.change("key "+name, version, func() error {
				out, err := s.CreateKey(ctx, &kms.CreateKeyInput{Policy: keyPolicy(name + version)})
				if err == nil {
					keys = append(keys, *out.KeyMetadata.KeyId)
				}
				return err
			})
		case what <= 1:
			i := rng.IntN(len(keys))
			name = fmt.Sprintf("k%dx%d", n, i)
			err = h.change("key "+name, version, func() error {
				_, err := s.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &keys[i], Policy: keyPolicy(name + version)})
				return err
			})
		case what == 2 && there[alias]:
			err = h.change(alias, "", func() error {
				_, err := s.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: &alias})
				return err
			})
			delete(there, alias)
		case what == 2:
			id := keys[rng.IntN(len(keys))]
			err = h.change(alias, id, func() error {
				_, err := s.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias, TargetKeyId: &id})
				return err
			})
			there[alias] = true
		case there[user]:
			err = h.change("user "+user, "", func() error {
				_, err := users.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &user})
				return err
			})
			delete(there, user)
		default:
			err = h.change("user "+user, "there", func() error {
				_, err := users.CreateUser(ctx, &iam.CreateUserInput{UserName: &user})
				return err
			})
			there[user] = true
		}
		if err != nil {
			return err
		}
	}
}

var sid = regexp.MustCompile(`"Sid"\s*:\s*"(k\d+x\d+)(v\d+)"`)

// read looks up everything that writers write.
func (s served) read(ctx context.Context) (map[string]string, error) {
	got := map[string]string{}
	for pages := kms.NewListKeysPaginator(s.Client, &kms.ListKeysInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, k := range page.Keys {
			out, err := s.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: k.KeyId})
			if err != nil {
				return nil, err
			}
			m := sid.FindStringSubmatch(*out.Policy)
			if m == nil || got["key "+m[1]] != "" {
				return nil, fmt.Errorf("a key that was not asked for: %s", *out.Policy)
			}
			got["key "+m[1]] = m[2]
		}
	}
	for pages := kms.NewListAliasesPaginator(s.Client, &kms.ListAliasesInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Aliases {
			if a.TargetKeyId != nil { // and not one that is everywhere
				got[*a.AliasName] = *a.TargetKeyId
			}
		}
	}
	for pages := iam.NewListUsersPaginator(s.iam(), &iam.ListUsersInput{}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, u := range page.Users {
			got["user "+*u.UserName] = "there"
		}
	}
	return got, nil
}

// openWreck opens a server on a damaged file, which may make it panic.
func openWreck(t *testing.T, c server.Config) (s *server.Server, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	// Reading a mapped file beyond its end would be the end of the test.
	path := filepath.Join(c.Dir, "store.db")
	if info, err := os.Stat(path); err == nil {
		if err := os.Truncate(path, info.Size()+64<<20); err != nil {
			return nil, err
		}
	}
	return open(t, c)
}

// cutPower cuts the power of a disk and opens what is left with open: everything has the value
// that was acknowledged before or a later one that was asked for, the server goes on,
// and its audit log is whole.
func (h *histories) cutPower(t *testing.T, disk *powertest.Disk, rng *rand.Rand, open func(*testing.T, server.Config) (*server.Server, error)) error {
	t.Helper()
	before := h.now()
	c := server.Config{Dir: disk.Cut(rng), RootKeys: rootKeys}
	after := h.now()
	h.pause.Lock() // the cut has met them at work; now there is something else to do
	defer h.pause.Unlock()
	opened, err := open(t, c)
	if err != nil {
		return fmt.Errorf("the server does not open: %w", err)
	}
	s := behindHTTP(t, opened, opened.Close)
	defer s.close() // again
	got, err := s.read(t.Context())
	if err != nil { // a connection may break; what is on the disk does not change by that
		got, err = s.read(t.Context())
	}
	if err != nil {
		return err
	}
	for name, x := range after {
		if possible := x.values[before[name].acknowledged:]; !slices.Contains(possible, got[name]) {
			err = errors.Join(err, fmt.Errorf("%s is %q and not one of %q", name, got[name], possible))
		}
		delete(got, name)
	}
	if len(got) > 0 {
		err = errors.Join(err, fmt.Errorf("nobody asked for %v", got))
	}
	if _, more := s.CreateKey(t.Context(), &kms.CreateKeyInput{}); more != nil {
		err = errors.Join(err, fmt.Errorf("no key can be made: %w", more))
	}
	return errors.Join(err, s.close(), verifyLog(t.Context(), c))
}

// work runs 8 writers on a disk and during calls f a number of times.
func work(t *testing.T, disk *powertest.Disk, times int, rng *rand.Rand, f func(*histories)) {
	t.Helper()
	s, h := serve(t, server.Config{Dir: disk.Dir}), &histories{of: map[string]history{}}
	done := make(chan struct{})
	var writers sync.WaitGroup
	for n := range 8 {
		writers.Go(func() {
			if err := s.write(t.Context(), n, h, done); err != nil {
				t.Errorf("writer %d: %v", n, err)
			}
		})
	}
	for range times {
		time.Sleep(time.Duration(rng.IntN(200)) * time.Millisecond)
		f(h)
	}
	close(done)
	writers.Wait()
	s.stop(t)
	changes := 0
	for _, x := range h.of {
		changes += x.acknowledged
	}
	t.Logf("%d changes acknowledged, %d cuts", changes, times)
	if changes < 10*times {
		t.Error("hardly anything was acknowledged: the test shows nothing")
	}
}

// TestPowerCuts cuts the power at random moments under 8 concurrent writers.
func TestPowerCuts(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	disk := powertest.Mount(t)
	work(t, disk, 25, rng, func(h *histories) {
		if err := h.cutPower(t, disk, rng, open); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
	})
}

// TestPowerCutControl does the same on a disk that lies about what it has synced.
func TestPowerCutControl(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	disk := powertest.Mount(t)
	lost := 0
	work(t, disk, 5, rng, func(h *histories) {
		disk.LoseSyncs(true)
		if err := h.cutPower(t, disk, rng, openWreck); err != nil {
			lost++
		}
	})
	if lost == 0 {
		t.Errorf("seed %d: nothing was lost", seed)
	}
	t.Logf("%d cuts lost something", lost)
}
