package server_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"github.com/claviger/claviger/kmstest"
)

var linearizableSeed = flag.Uint64("linearizable-seed", 0, "of the operations of TestLinearizable; 0 draws one")

// A plot is what the clients of a history do.
type plot struct {
	name    string
	clients int
	keys    int
	verbs   []verb         // drawn from evenly
	part    func(step) int // into histories that share no facts; nil: it is one
}

// plots are histories in which either the facts about keys or those about users
// change, each with many at a time, and one in which all do, so that a decision is
// found out whose key and whose caller are not of the same instant. That one cannot be
// taken apart, and has fewer clients: how long the check takes grows with them.
var plots = []plot{
	{"Keys", 12, 4, []verb{encrypt, decrypt, describeKey, encrypt, decrypt, describeKey, encrypt, decrypt, getKeyPolicy,
		putKeyPolicy, putKeyPolicy, enableKey, disableKey, createGrant, revokeGrant}, func(s step) int { return s.key }},
	{"Users", 12, 1, []verb{encrypt, decrypt, describeKey, encrypt, decrypt, describeKey,
		putUserPolicy, putUserPolicy, deleteUserPolicy, activate, deactivate}, func(s step) int { return s.user }},
	{"Together", 6, 1, []verb{encrypt, decrypt, describeKey, encrypt, decrypt, describeKey, encrypt, decrypt, describeKey, getKeyPolicy,
		putKeyPolicy, enableKey, disableKey, createGrant, revokeGrant, putUserPolicy, deleteUserPolicy, activate, deactivate}, nil},
}

const (
	storySteps   = 2500 // of all clients
	controlSteps = 600
	// storyCuts is how many changes of a history lose their connection. Each is
	// something that may happen at any later time, and doubles what is to be tried.
	storyCuts = 2
)

// TestLinearizable: many clients at a time change and use keys, and what they are
// answered is what they would be if one thing happened after another. A change that
// was answered counts from then on, for everybody; no decision mixes what was with
// what is.
func TestLinearizable(t *testing.T) {
	for _, p := range plots {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, p)
			history := s.run(storySteps, s.perform)
			begin := time.Now()
			if result := check(t, p, history); result != porcupine.Ok {
				t.Errorf("the history is %s", result)
			}
			t.Logf("%d operations of %d clients, %d without an answer, checked in %v", len(history), p.clients, s.open, time.Since(begin).Round(time.Millisecond))
			if len(history) < storySteps*9/10 {
				t.Error("many operations came to nothing: the test shows little")
			}
		})
	}
}

// TestLinearizableControl: the same histories with decisions that are remembered for
// the next 60 operations are found out.
func TestLinearizableControl(t *testing.T) {
	for _, p := range plots {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			s := newStory(t, p)
			m := &memory{perform: s.perform, allowed: map[step]int{}, answers: map[step]answer{}}
			history := s.run(controlSteps, m.answer)
			if result := porcupine.CheckOperationsTimeout(model(p.part), history, checkTime); result != porcupine.Illegal {
				t.Errorf("with stale decisions the history is %s", result)
			}
		})
	}
}

// A memory answers from what was allowed a moment ago.
type memory struct {
	perform func(context.Context, step) (answer, string)

	mu      sync.Mutex   // guards what follows
	now     int          // operations so far
	allowed map[step]int // until when an answer is remembered
	answers map[step]answer
}

func (m *memory) answer(ctx context.Context, s step) (answer, string) {
	m.mu.Lock()
	m.now++
	remembered, known := m.now < m.allowed[s], m.answers[s]
	m.mu.Unlock()
	switch {
	case !s.verb.decides():
		return m.perform(ctx, s)
	case remembered:
		return known, ""
	}
	a, _ := m.perform(ctx, s)
	if a != denied && a != nobody && a != unsettled {
		m.mu.Lock()
		m.allowed[s], m.answers[s] = m.now+60, a
		m.mu.Unlock()
	}
	return a, ""
}

// checkTime bounds the search for an order of one history.
const checkTime = time.Minute

// check looks for an order of the history that explains it. If there is none it shows
// the end of the shortest beginning that has none, and draws it all.
func check(t *testing.T, p plot, history []porcupine.Operation) porcupine.CheckResult {
	t.Helper()
	m := model(p.part)
	result, info := porcupine.CheckOperationsVerbose(m, history, checkTime)
	if result != porcupine.Illegal {
		return result
	}
	picture, err := os.Create(filepath.Join(t.ArtifactDir(), "history.html"))
	if err != nil {
		t.Fatal(err)
	}
	defer picture.Close()
	if err := porcupine.Visualize(m, info, picture); err != nil {
		t.Error(err)
	}
	parts := [][]porcupine.Operation{history}
	if m.Partition != nil {
		parts = m.Partition(history)
	}
	for _, part := range parts {
		if !porcupine.CheckOperations(m, part) {
			show(t, m, part)
		}
	}
	t.Logf("all of it: %s (kept with -artifacts)", picture.Name())
	return result
}

// show tells the last operations of the shortest beginning of a history that cannot be
// explained.
func show(t *testing.T, m porcupine.Model, history []porcupine.Operation) {
	t.Helper()
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	// until are the first n that were answered, and the changes that were under way.
	until := func(n int) []porcupine.Operation {
		out := slices.Clone(history[:n])
		for _, o := range history[n:] {
			if o.Call < history[n-1].Return && !o.Input.(step).verb.reads() {
				o.Output, o.Return = unsettled, math.MaxInt64
				out = append(out, o)
			}
		}
		return out
	}
	n := 1
	for n < len(history) && porcupine.CheckOperations(m, until(n)) {
		n++
	}
	shortest := until(n)
	for _, o := range shortest[max(0, n-12):] {
		t.Logf("client %2d, from %v to %v: %v: %v", o.ClientId, time.Duration(o.Call), time.Duration(o.Return), o.Input, o.Output)
	}
}

// A story is a server whose clients leave a history.
type story struct {
	plot
	t     *testing.T
	seed  uint64
	begin time.Time
	root  *kms.Client
	iam   *iam.Client
	users [users]*kms.Client
	arns  [users]string
	ids   [users]string // of their access keys
	keys  []string
	blobs [][]byte // by key
	texts []string // of keyPolicies

	mu      sync.Mutex // guards what follows
	history []porcupine.Operation
	cuts    int // changes whose connection is still to be lost
	open    int // changes without an answer
}

var userNames = [users]string{"alice", "bob"}

func newStory(t *testing.T, p plot) *story {
	t.Helper()
	srv := kmstest.Start(t)
	config := func(id, secret string) aws.Config {
		return aws.Config{Region: srv.Region, BaseEndpoint: &srv.URL, HTTPClient: srv.Client(), RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")}
	}
	c := config(srv.AccessKeyID, srv.SecretAccessKey)
	s := &story{plot: p, t: t, seed: *linearizableSeed, root: kms.NewFromConfig(c), iam: iam.NewFromConfig(c), cuts: storyCuts}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	t.Logf("-linearizable-seed %d", s.seed)
	ctx := t.Context()
	for i := range users {
		user, err := s.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &userNames[i]})
		if err != nil {
			t.Fatal(err)
		}
		k, err := s.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &userNames[i]})
		if err != nil {
			t.Fatal(err)
		}
		s.arns[i], s.ids[i] = *user.User.Arn, *k.AccessKey.AccessKeyId
		s.users[i] = kms.NewFromConfig(config(s.ids[i], *k.AccessKey.SecretAccessKey))
	}
	for _, k := range keyPolicies {
		s.texts = append(s.texts, k.text(srv.Account, s.arns))
	}
	for range p.keys {
		key, err := s.root.CreateKey(ctx, &kms.CreateKeyInput{Policy: &s.texts[0]})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := s.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("x")})
		if err != nil {
			t.Fatal(err)
		}
		s.keys, s.blobs = append(s.keys, *key.KeyMetadata.KeyId), append(s.blobs, sealed.CiphertextBlob)
	}
	return s
}

var policyID = regexp.MustCompile(`"Id" ?: ?"([^"]*)"`)

// text is the policy's document.
func (k writtenPolicy) text(account string, arns [users]string) string {
	admin := `"kms:Put*","kms:Get*","kms:Enable*","kms:Disable*","kms:CreateGrant","kms:RevokeGrant"`
	if k.delegates {
		admin = `"kms:*"`
	}
	statements := []string{`"Effect":"Allow","Principal":{"AWS":"` + account + `"},"Action":[` + admin + `]`}
	for i, a := range arns {
		if k.allows[i] {
			statements = append(statements, `"Effect":"Allow","Principal":{"AWS":"`+a+`"},"Action":["kms:Encrypt","kms:Decrypt","kms:DescribeKey"]`)
		}
		if k.denies[i] {
			statements = append(statements, `"Effect":"Deny","Principal":{"AWS":"`+a+`"},"Action":"kms:*"`)
		}
	}
	return `{"Version":"2012-10-17","Id":"` + k.name + `","Statement":[{` + strings.Join(statements, `,"Resource":"*"},{`) + `,"Resource":"*"}]}`
}

// run lets the clients act at the same time, and returns what they saw. perform may
// return the id of a grant.
func (s *story) run(steps int, perform func(context.Context, step) (answer, string)) []porcupine.Operation {
	s.begin = time.Now()
	var wg sync.WaitGroup
	for n := range s.clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(s.seed, uint64(n)))
			var grants []step // that this client made, to revoke
			for range steps / s.clients {
				next := s.draw(r)
				if next.verb == revokeGrant {
					if len(grants) == 0 {
						continue
					}
					next, grants = grants[0], grants[1:]
				}
				a, grant := s.record(n, next, r, perform)
				if next.verb == createGrant && a == done {
					next.verb, next.grant = revokeGrant, grant
					grants = append(grants, next)
				}
			}
		})
	}
	wg.Wait()
	return s.history
}

func (s *story) draw(r *rand.Rand) step {
	next := step{verb: s.verbs[r.IntN(len(s.verbs))], key: r.IntN(s.plot.keys), user: r.IntN(users)}
	switch next.verb {
	case putKeyPolicy:
		next.policy = r.IntN(len(keyPolicies))
	case putUserPolicy:
		next.inline = inlineAllows + inlinePolicy(r.IntN(4)/3)
	}
	return next
}

// record performs one operation and notes when and what came of it. What read
// and got no answer says nothing and is left out; what changed and got none stays
// open to the end.
func (s *story) record(client int, next step, r *rand.Rand, perform func(context.Context, step) (answer, string)) (answer, string) {
	ctx, stop := context.WithCancel(s.t.Context())
	defer stop()
	if !next.verb.reads() && r.IntN(100) == 0 {
		s.mu.Lock()
		if s.cuts > 0 {
			s.cuts--
			time.AfterFunc(time.Duration(r.IntN(2000))*time.Microsecond, stop)
		}
		s.mu.Unlock()
	}
	call := time.Since(s.begin)
	a, grant := perform(ctx, next)
	o := porcupine.Operation{ClientId: client, Input: next, Call: int64(call), Output: a, Return: int64(time.Since(s.begin))}
	s.mu.Lock()
	defer s.mu.Unlock()
	if a == unsettled {
		if next.verb.reads() {
			return a, ""
		}
		s.open++
		o.Return = math.MaxInt64
	}
	s.history = append(s.history, o)
	return a, grant
}

// perform sends one operation.
func (s *story) perform(ctx context.Context, n step) (a answer, grant string) {
	a, key, name := done, &s.keys[n.key], &userNames[n.user]
	var err error
	switch n.verb {
	case encrypt:
		_, err = s.users[n.user].Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	case decrypt:
		_, err = s.users[n.user].Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: s.blobs[n.key]})
	case describeKey:
		var out *kms.DescribeKeyOutput
		if out, err = s.users[n.user].DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key}); err == nil {
			a = answer(out.KeyMetadata.KeyState)
		}
	case getKeyPolicy:
		var out *kms.GetKeyPolicyOutput
		if out, err = s.root.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: key}); err == nil {
			a = answer(policyID.FindStringSubmatch(*out.Policy)[1])
		}
	case putKeyPolicy:
		_, err = s.root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key, Policy: &s.texts[n.policy]})
	case enableKey:
		_, err = s.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key})
	case disableKey:
		_, err = s.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})
	case createGrant:
		var out *kms.CreateGrantOutput
		if out, err = s.root.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: key, GranteePrincipal: &s.arns[n.user],
			Operations: []types.GrantOperation{"Encrypt", "Decrypt", "DescribeKey"}}); err == nil {
			grant = *out.GrantId
		}
	case revokeGrant:
		_, err = s.root.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: key, GrantId: &n.grant})
	case putUserPolicy:
		text := fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":%q,"Action":"kms:*","Resource":"*"}}`, [...]string{"", "Allow", "Deny"}[n.inline])
		_, err = s.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: name, PolicyName: aws.String("p"), PolicyDocument: &text})
	case deleteUserPolicy:
		_, err = s.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: name, PolicyName: aws.String("p")})
	case activate, deactivate:
		status := iamtypes.StatusTypeActive
		if n.verb == deactivate {
			status = iamtypes.StatusTypeInactive
		}
		_, err = s.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: name, AccessKeyId: &s.ids[n.user], Status: status})
	}
	return s.outcome(a, err), grant
}

// outcome is what an error says. One that is no decision says nothing.
func (s *story) outcome(a answer, err error) answer {
	if err == nil {
		return a
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unsettled
	}
	switch code := answer(api.ErrorCode()); code {
	case denied, disabled, nobody, nothing:
		return code
	default:
		s.t.Logf("%v", err)
		return unsettled
	}
}
