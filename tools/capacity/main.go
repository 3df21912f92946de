// Capacity builds a store of very many keys, grants, users and roles, serves it with the
// program, and prints what that costs: the file, the start, the memory, and how long requests
// take for keys that are used all the time and for keys that nearly never are.
package main

import (
	"bufio"
	"context"
	"encoding/json/v2"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/tools/kmsclient"
)

var (
	program = flag.String("program", "bin/claviger", "what serves the store")
	folder  = flag.String("folder", "", "where the store is made; one that is there is used")
	keys    = flag.Int("keys", 1_000_000, "keys, each with a grant")
	users   = flag.Int("users", 10_000, "users")
	roles   = flag.Int("roles", 1_000, "roles")
	span    = flag.Duration("span", 10*time.Second, "length of one measurement")
)

const (
	account = "111122223333"
	regions = 100 // in each of which keys are made one after another
	hot     = 10_000
	clients = 16
)

// client keeps a connection for each of those who call at once.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "capacity:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir := *folder
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "claviger-capacity"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "keys")); err != nil {
		if err := build(ctx, dir); err != nil {
			return err
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "keys"))
	if err != nil {
		return err
	}
	return measure(ctx, dir, strings.Fields(string(text)))
}

func region(i int) string { return fmt.Sprintf("xx-part-%d", i%regions) }

// A builder calls the services as the root user.
type builder struct {
	*server.Server
	iam  *iam.Service
	root *iam.Credential
}

func (b *builder) call(region string) *iam.Call {
	return &iam.Call{Credential: b.root, RequestID: "capacity", Region: region, Now: time.Now().UTC(), Entry: b.Log.Begin(audit.Record{RequestID: "capacity"})}
}

// build makes the store, as callers would: each change in a transaction of its own, as many
// at once as there are Regions.
func build(ctx context.Context, dir string) error {
	begin := time.Now()
	s, err := server.Open(ctx, server.Config{Dir: dir, Account: account, RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	b := &builder{Server: s, iam: iam.NewService(s.DB)}
	if b.root, err = s.Directory.Find(ctx, "test", ""); err != nil {
		return err
	}
	made := make([][]string, regions)
	errs := make([]error, regions)
	var wg sync.WaitGroup
	for r := range regions {
		wg.Go(func() {
			for i := r; i < *keys && errs[r] == nil; i += regions {
				var arn string
				if arn, errs[r] = b.key(ctx, region(r), i); errs[r] == nil {
					made[r] = append(made[r], arn)
				}
			}
			for i := r; i < *users && errs[r] == nil; i += regions {
				errs[r] = b.user(ctx, i)
			}
			for i := r; i < *roles && errs[r] == nil; i += regions {
				errs[r] = b.role(ctx, i)
			}
		})
	}
	wg.Wait()
	for _, err := range append(errs, s.Close()) {
		if err != nil {
			return err
		}
	}
	fmt.Printf("made in %v, %d changes a second\n", time.Since(begin).Round(time.Second), int(float64(2**keys+*users+*roles)/time.Since(begin).Seconds()))
	return os.WriteFile(filepath.Join(dir, "keys"), []byte(strings.Join(slices.Concat(made...), "\n")), 0o600)
}

func (b *builder) key(ctx context.Context, region string, i int) (string, error) {
	out, err := b.KMS.CreateKey(ctx, b.call(region), &kmsapi.CreateKeyRequest{})
	if err != nil {
		return "", err
	}
	arn := *out.KeyMetadata.Arn
	_, err = b.KMS.CreateGrant(ctx, b.call(region), &kmsapi.CreateGrantRequest{KeyId: &arn, Operations: []string{"Encrypt", "Decrypt"},
		GranteePrincipal: new(fmt.Sprintf("arn:aws:sts::%s:federated-user/u%d", account, i%*users))})
	return arn, err
}

func (b *builder) user(ctx context.Context, i int) error {
	name := fmt.Sprintf("user-%d", i)
	if _, err := b.iam.CreateUser(ctx, b.call("us-east-1"), &iamapi.CreateUserRequest{UserName: &name}); err != nil {
		return err
	}
	_, err := b.iam.PutUserPolicy(ctx, b.call("us-east-1"), &iamapi.PutUserPolicyRequest{UserName: &name, PolicyName: new("use"),
		PolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*"}]}`)})
	return err
}

func (b *builder) role(ctx context.Context, i int) error {
	_, err := b.iam.CreateRole(ctx, b.call("us-east-1"), &iamapi.CreateRoleRequest{RoleName: new(fmt.Sprintf("role-%d", i)),
		AssumeRolePolicyDocument: new(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":"sts:AssumeRole"}]}`)})
	return err
}

// measure serves the store and prints a table.
func measure(ctx context.Context, dir string, arns []string) error {
	info, err := os.Stat(filepath.Join(dir, "store.db"))
	if err != nil {
		return err
	}
	fmt.Printf("store file %.2f GB, %d bytes a key with its grant\n", float64(info.Size())/1e9, info.Size()/int64(len(arns)))
	begin := time.Now()
	p := exec.CommandContext(ctx, *program, "serve", "--data", dir, "--listen", "127.0.0.1:0")
	out, err := p.StderrPipe()
	if err != nil {
		return err
	}
	if err := p.Start(); err != nil {
		return err
	}
	defer p.Process.Kill()
	lines := bufio.NewScanner(out)
	url := ""
	for url == "" && lines.Scan() {
		_, url, _ = strings.Cut(lines.Text(), "ready on ")
	}
	if url == "" {
		return fmt.Errorf("%s does not serve", *program)
	}
	fmt.Printf("ready in %v, resident %s\n", time.Since(begin).Round(time.Millisecond), resident(p.Process.Pid))
	go io.Copy(io.Discard, out)

	rand.Shuffle(len(arns), func(i, j int) { arns[i], arns[j] = arns[j], arns[i] })
	var p99s []time.Duration
	for _, n := range []int{10, min(hot, len(arns)), len(arns)} {
		if n == hot { // so that they are
			if _, err := encrypts(url, arns[:n], *span); err != nil {
				return err
			}
		}
		all, err := encrypts(url, arns[:n], *span)
		if err != nil {
			return err
		}
		p99s = append(p99s, all[len(all)*99/100])
		fmt.Printf("Encrypt over %d keys: %.0f/s, p50 %v, p99 %v, resident %s\n", n, float64(len(all))/span.Seconds(), all[len(all)/2], all[len(all)*99/100], resident(p.Process.Pid))
	}
	fmt.Printf("p99 over all keys is %.2f times that over ten\n", float64(p99s[2])/float64(p99s[0]))
	return pages(url)
}

// resident is the memory of a process: its own, and what is mapped of the store's file, which
// the system takes back when it needs it.
func resident(pid int) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	mb := func(name string) (kb int) {
		_, after, _ := strings.Cut(string(text), name)
		_, _ = fmt.Sscan(after, &kb)
		return kb / 1024
	}
	return fmt.Sprintf("%d MB of its own and %d MB of the file", mb("RssAnon:"), mb("RssFile:"))
}

// encrypts sends Encrypt for keys drawn at random, and returns how long each took, in order.
func encrypts(url string, arns []string, span time.Duration) ([]time.Duration, error) {
	until := time.Now().Add(span)
	took := make([][]time.Duration, clients)
	errs := make([]error, clients)
	var wg sync.WaitGroup
	for c := range clients {
		wg.Go(func() {
			for time.Now().Before(until) && errs[c] == nil {
				arn := arns[rand.IntN(len(arns))]
				begin := time.Now()
				_, errs[c] = kmsclient.Call(client, url, strings.Split(arn, ":")[3], "Encrypt", []byte(`{"KeyId":"`+arn+`","Plaintext":"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="}`))
				took[c] = append(took[c], time.Since(begin))
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return slices.Sorted(slices.Values(slices.Concat(took...))), nil
}

// pages lists the keys of one Region, a hundred at a time, and tells how long the first pages
// and the last ones take.
func pages(url string) error {
	var took []time.Duration
	for marker := ""; ; {
		begin := time.Now()
		text, err := kmsclient.Call(client, url, region(0), "ListKeys", []byte(`{"Limit":100`+marker+`}`))
		if err != nil {
			return err
		}
		took = append(took, time.Since(begin))
		var page struct {
			Truncated  bool
			NextMarker string
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return err
		}
		if !page.Truncated {
			break
		}
		marker = `,"Marker":"` + page.NextMarker + `"`
	}
	median := func(list []time.Duration) time.Duration { return slices.Sorted(slices.Values(list))[len(list)/2] }
	n := max(1, len(took)/5)
	fmt.Printf("ListKeys, %d pages: the first fifth %v a page, the last %v\n", len(took), median(took[:n]), median(took[len(took)-n:]))
	return nil
}
