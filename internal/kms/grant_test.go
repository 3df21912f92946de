package kms_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/model/iamapi"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/server"
)

func (w world) grant(key *types.KeyMetadata, user string, operations ...types.GrantOperation) *kms.CreateGrantOutput {
	w.t.Helper()
	out, err := w.root.CreateGrant(w.t.Context(), &kms.CreateGrantInput{KeyId: key.KeyId, GranteePrincipal: new("arn:aws:iam::111122223333:user/" + user), Operations: operations})
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w world) encrypts(who *kms.Client, key *types.KeyMetadata) string {
	w.t.Helper()
	_, err := who.Encrypt(w.t.Context(), &kms.EncryptInput{KeyId: key.Arn, Plaintext: []byte("x")})
	if err == nil {
		return "ok"
	}
	return code(err)
}

// TestGrantsOutlast: what happens to a key does not touch its grants (AUTH-6.12);
// revoking ends one at once.
func TestGrantsOutlast(t *testing.T) {
	w := newWorld(t)
	alice, key := w.user("alice"), w.key()
	grant := w.grant(key, "alice", types.GrantOperationEncrypt)
	check := func(after, want string) {
		t.Helper()
		if got := w.encrypts(alice, key); got != want {
			t.Errorf("after %s: %s, want %s", after, got, want)
		}
	}
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("CreateGrant", "ok")
	must(w.root.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: key.KeyId}))
	check("DisableKey", "DisabledException")
	must(w.root.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: key.KeyId}))
	check("EnableKey", "ok")
	must(w.root.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: key.KeyId, Policy: new(onlyRoot)}))
	check("PutKeyPolicy", "ok")
	must(w.root.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId}))
	check("ScheduleKeyDeletion", "KMSInvalidStateException")
	must(w.root.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: key.KeyId}))
	must(w.root.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: key.KeyId}))
	check("CancelKeyDeletion", "ok")
	must(w.root.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: key.KeyId, GrantId: grant.GrantId}))
	check("RevokeGrant", "AccessDeniedException")
}

const onlyRoot = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":["kms:PutKeyPolicy",` +
	`"kms:ScheduleKeyDeletion","kms:CancelKeyDeletion","kms:EnableKey","kms:RevokeGrant"],"Resource":"*"}]}`

// TestSameTerms: grants with the same terms share what is looked up, and the last
// one's end ends the permission.
func TestSameTerms(t *testing.T) {
	w := newWorld(t)
	alice, key := w.user("alice"), w.key()
	var ids []*string
	for range 20 {
		ids = append(ids, w.grant(key, "alice", types.GrantOperationEncrypt).GrantId)
	}
	for i, id := range ids {
		if got := w.encrypts(alice, key); got != "ok" {
			t.Fatalf("after %d of %d: %s", i, len(ids), got)
		}
		if _, err := w.root.RevokeGrant(t.Context(), &kms.RevokeGrantInput{KeyId: key.KeyId, GrantId: id}); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.encrypts(alice, key); got != "AccessDeniedException" {
		t.Errorf("after all were revoked: %s", got)
	}
}

// TestDeletionTakesGrants: with a key its grants vanish, more of them than one
// transaction holds, and of as many forms.
func TestDeletionTakesGrants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.user("alice")
		key := w.key()
		for i := range 900 {
			pairs := map[string]string{}
			for j := range 8 {
				pairs[fmt.Sprintf("%d %d %s", i, j, strings.Repeat("x", 370))] = "v"
			}
			in := &kms.CreateGrantInput{KeyId: key.KeyId, GranteePrincipal: new(fmt.Sprintf("arn:aws:sts::111122223333:federated-user/u%d", i%3)), Name: new(fmt.Sprint("n", i)),
				RetiringPrincipal: new("arn:aws:iam::111122223333:user/alice"), Operations: []types.GrantOperation{types.GrantOperationEncrypt},
				Constraints: &types.GrantConstraints{EncryptionContextSubset: pairs}}
			if _, err := w.root.CreateGrant(t.Context(), in); err != nil {
				t.Fatal(err)
			}
		}
		retirable := func() int {
			out, err := w.root.ListRetirableGrants(t.Context(), &kms.ListRetirableGrantsInput{RetiringPrincipal: new("arn:aws:iam::111122223333:user/alice")})
			if err != nil {
				t.Fatal(err)
			}
			return len(out.Grants)
		}
		if n := retirable(); n != 50 {
			t.Fatalf("a page shows %d grants", n)
		}
		if _, err := w.root.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: key.KeyId, PendingWindowInDays: new(int32(7))}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(8 * 24 * time.Hour)
		synctest.Wait()
		if n := retirable(); n != 0 {
			t.Errorf("a deleted key left %d grants", n)
		}
	})
}

// TestLockout: a policy must let its maker change it again (AUTH-9.8).
func TestLockout(t *testing.T) {
	w := newWorld(t)
	alice := "arn:aws:iam::111122223333:user/alice"
	aliceClient := w.user("alice")
	statement := func(effect, principal, action, more string) string {
		return `{"Effect":"` + effect + `","Principal":` + principal + `,"Action":"` + action + `","Resource":"*"` + more + `}`
	}
	user, account := `{"AWS":"`+alice+`"}`, `{"AWS":"arn:aws:iam::111122223333:root"}`
	for _, tt := range []struct {
		name       string
		statements []string
		want       string
	}{
		{"names the account", []string{statement("Allow", account, "kms:*", "")}, "ok"},
		{"names everybody", []string{statement("Allow", `"*"`, "kms:PutKeyPolicy", "")}, "ok"},
		{"names another user", []string{statement("Allow", user, "kms:*", "")}, "MalformedPolicyDocumentException"},
		{"lacks the action", []string{statement("Allow", account, "kms:Encrypt", "")}, "MalformedPolicyDocumentException"},
		{"denies", []string{statement("Allow", account, "kms:*", ""), statement("Deny", `"*"`, "kms:Put*", "")}, "MalformedPolicyDocumentException"},
		{"has a condition that fails now", []string{statement("Allow", account, "kms:*", `,"Condition":{"StringEquals":{"kms:ViaService":"s3.us-east-1.amazonaws.com"}}`)}, "MalformedPolicyDocumentException"},
		{"has a condition that holds now", []string{statement("Allow", account, "kms:*", `,"Condition":{"StringEquals":{"aws:PrincipalAccount":"111122223333"}}`)}, "ok"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := `{"Version":"2012-10-17","Statement":[` + strings.Join(tt.statements, ",") + `]}`
			_, err := w.root.PutKeyPolicy(t.Context(), &kms.PutKeyPolicyInput{KeyId: w.key().KeyId, Policy: &text})
			if got := code(err); err == nil && tt.want != "ok" || err != nil && got != tt.want {
				t.Errorf("PutKeyPolicy: %s, want %s", got, tt.want)
			}
			_, err = w.root.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &text})
			if got := code(err); err == nil && tt.want != "ok" || err != nil && got != tt.want {
				t.Errorf("CreateKey: %s, want %s", got, tt.want)
			}
			if _, err = w.root.CreateKey(t.Context(), &kms.CreateKeyInput{Policy: &text, BypassPolicyLockoutSafetyCheck: true}); err != nil {
				t.Errorf("bypassing: %v", err)
			}
		})
	}
	if got := w.encrypts(aliceClient, w.key()); got != "AccessDeniedException" {
		t.Errorf("alice: %s", got)
	}
}

// BenchmarkGrants is a use that a grant allows, up to the cipher, beside few and
// many other grants, and making and revoking a grant among them.
func BenchmarkGrants(b *testing.B) {
	for _, bb := range []struct {
		name    string
		others  int
		grantee func(i int) string
		pairs   func(i int) map[string]string
	}{
		{"one", 0, nil, nil},
		{"50000 of other grantees", 50_000 - 2, func(i int) string { return fmt.Sprintf("arn:aws:sts::111122223333:federated-user/u%d", i) }, nil},
		{"50000 of the same grantee", 50_000 - 2, func(int) string { return alicesARN }, func(i int) map[string]string { return map[string]string{"volume": fmt.Sprint(i)} }},
		{"50000 the same", 50_000 - 2, func(int) string { return alicesARN }, nil},
	} {
		b.Run(bb.name, func(b *testing.B) {
			g := newGrantBench(b)
			for i := range bb.others {
				in := &kmsapi.CreateGrantRequest{KeyId: &g.key, GranteePrincipal: new(bb.grantee(i)), Operations: []string{"Encrypt"}}
				if bb.pairs != nil {
					in.Constraints = &kmsapi.GrantConstraints{EncryptionContextEquals: bb.pairs(i)}
				}
				g.create(b, in)
			}
			mine := &kmsapi.CreateGrantRequest{KeyId: &g.key, GranteePrincipal: new(alicesARN), Operations: []string{"Encrypt"},
				Constraints: &kmsapi.GrantConstraints{EncryptionContextEquals: map[string]string{"volume": "mine"}}}
			g.create(b, mine)
			b.Run("use", func(b *testing.B) {
				in := &kmsapi.EncryptRequest{KeyId: &g.key, Plaintext: []byte("x"), EncryptionContext: map[string]string{"volume": "mine"}, DryRun: new(true)}
				for b.Loop() {
					if _, err := g.server.KMS.Encrypt(b.Context(), g.call(g.alice), in); !strings.HasPrefix(err.Error(), "DryRun") {
						b.Fatal(err)
					}
				}
			})
			b.Run("create and revoke", func(b *testing.B) {
				for b.Loop() {
					id := g.create(b, mine)
					if _, err := g.server.KMS.RevokeGrant(b.Context(), g.call(g.root), &kmsapi.RevokeGrantRequest{KeyId: &g.key, GrantId: &id}); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}

const alicesARN = "arn:aws:iam::111122223333:user/alice"

// A grantBench is a server with a key and a user, called without HTTP.
type grantBench struct {
	server      *server.Server
	key         string
	root, alice *iam.Credential
}

func newGrantBench(b *testing.B) *grantBench { return newBenchIn(b, "") }

// newBenchIn keeps everything in a folder; none: in memory.
func newBenchIn(b *testing.B, dir string) *grantBench {
	b.Helper()
	s, err := server.Open(b.Context(), server.Config{Dir: dir, Account: "111122223333", RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	g := &grantBench{server: s}
	if g.root, err = s.Directory.Find(b.Context(), "test", ""); err != nil {
		b.Fatal(err)
	}
	out, err := s.KMS.CreateKey(b.Context(), g.call(g.root), &kmsapi.CreateKeyRequest{})
	if err != nil {
		b.Fatal(err)
	}
	g.key = *out.KeyMetadata.Arn
	id := benchUser(b, s, g.call(g.root))
	if g.alice, err = s.Directory.Find(b.Context(), id, ""); err != nil {
		b.Fatal(err)
	}
	return g
}

func (g *grantBench) call(c *iam.Credential) *iam.Call {
	return &iam.Call{Credential: c, RequestID: "bench", Region: "us-east-1", Now: time.Now().UTC(), Entry: g.server.Log.Begin(audit.Record{RequestID: "bench"})}
}

func (g *grantBench) create(b *testing.B, in *kmsapi.CreateGrantRequest) string {
	b.Helper()
	out, err := g.server.KMS.CreateGrant(b.Context(), g.call(g.root), in)
	if err != nil {
		b.Fatal(err)
	}
	return *out.GrantId
}

// benchUser makes the user alice and returns its access key's id.
func benchUser(b *testing.B, s *server.Server, call *iam.Call) string {
	b.Helper()
	users := iam.NewService(s.DB)
	if _, err := users.CreateUser(b.Context(), call, &iamapi.CreateUserRequest{UserName: new("alice")}); err != nil {
		b.Fatal(err)
	}
	out, err := users.CreateAccessKey(b.Context(), call, &iamapi.CreateAccessKeyRequest{UserName: new("alice")})
	if err != nil {
		b.Fatal(err)
	}
	return *out.AccessKey.AccessKeyId
}
