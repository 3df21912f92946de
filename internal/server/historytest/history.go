// Package historytest has clients of a key management service act at the same time, on one
// server or on the nodes of one, and holds what they were answered to what it may answer:
// one thing happens after another, and what was answered counts from then on for everybody.
package historytest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
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
)

var linearizableSeed = flag.Uint64("linearizable-seed", 0, "of the operations of histories; 0 draws one")

// A Plot is what the clients of a history do.
type Plot struct {
	Name    string
	Clients int
	keys    int
	verbs   []verb         // drawn from evenly
	part    func(Step) int // into histories that share no facts; nil: it is one
}

// Plots are histories in which either the facts about keys or those about users
// change, each with many at a time, and one in which all do, so that a decision is
// found out whose key and whose caller are not of the same instant. That one cannot be
// taken apart, and has fewer clients: how long the check takes grows with them.
var Plots = []Plot{
	{"Keys", 12, 4, []verb{encrypt, decrypt, describeKey, encrypt, decrypt, describeKey, encrypt, decrypt, getKeyPolicy,
		putKeyPolicy, putKeyPolicy, enableKey, disableKey, createGrant, revokeGrant}, func(s Step) int { return s.key }},
	{"Users", 12, 1, []verb{encrypt, decrypt, describeKey, encrypt, decrypt, describeKey,
		putUserPolicy, putUserPolicy, deleteUserPolicy, activate, deactivate}, func(s Step) int { return s.user }},
	{"Together", 6, 1, []verb{encrypt, decrypt, describeKey, encrypt, decrypt, describeKey, encrypt, decrypt, describeKey, getKeyPolicy,
		putKeyPolicy, enableKey, disableKey, createGrant, revokeGrant, putUserPolicy, deleteUserPolicy, activate, deactivate}, nil},
}

// storyCuts is how many changes of a history lose their connection. Each is
// something that may happen at any later time, and doubles what is to be tried.
const storyCuts = 2

// A memory answers from what was allowed a moment ago.
type memory struct {
	perform performer

	mu      sync.Mutex   // guards what follows
	now     int          // operations so far
	allowed map[Step]int // until when an answer is remembered
	answers map[Step]Answer
}

func (m *memory) answer(ctx context.Context, at int, s Step) (Answer, string) {
	m.mu.Lock()
	m.now++
	remembered, known := m.now < m.allowed[s], m.answers[s]
	m.mu.Unlock()
	switch {
	case !s.verb.decides():
		return m.perform(ctx, at, s)
	case remembered:
		return known, ""
	}
	a, _ := m.perform(ctx, at, s)
	if a != denied && a != nobody && a != unsettled {
		m.mu.Lock()
		m.allowed[s], m.answers[s] = m.now+60, a
		m.mu.Unlock()
	}
	return a, ""
}

// checkTime bounds the search for an order of one history.
const checkTime = time.Minute

// Check looks for an order of the history that explains it. If there is none it shows
// the end of the shortest beginning that has none, and draws it all.
func Check(t *testing.T, p Plot, history []porcupine.Operation) porcupine.CheckResult {
	t.Helper()
	begin := time.Now()
	defer func() {
		t.Logf("%d operations of %d clients, checked in %v", len(history), p.Clients, time.Since(begin).Round(time.Millisecond))
	}()
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
			if o.Call < history[n-1].Return && !o.Input.(Step).verb.reads() {
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

// A Server is where clients send what they ask: one, or one of several nodes.
type Server struct {
	URL             string
	AccessKeyID     string // of the root user of the account
	SecretAccessKey string
	Account         string
	Client          *http.Client
}

// A node is the clients of one server.
type node struct {
	root  *kms.Client
	iam   *iam.Client
	users [users]*kms.Client
}

// A Story is servers whose clients leave a history.
type Story struct {
	Plot
	t     *testing.T
	seed  uint64
	begin time.Time
	nodes []node
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

// New begins a history: with two users, and keys that the plot asks for.
func New(t *testing.T, p Plot, servers ...Server) *Story {
	t.Helper()
	s := &Story{Plot: p, t: t, seed: *linearizableSeed, cuts: storyCuts}
	if s.seed == 0 {
		s.seed = rand.Uint64()
	}
	t.Logf("-linearizable-seed %d", s.seed)
	config := func(n Server, id, secret string) aws.Config {
		return aws.Config{Region: "us-east-1", BaseEndpoint: &n.URL, HTTPClient: n.Client, RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider(id, secret, "")}
	}
	for _, n := range servers {
		c := config(n, n.AccessKeyID, n.SecretAccessKey)
		s.nodes = append(s.nodes, node{root: kms.NewFromConfig(c), iam: iam.NewFromConfig(c)})
	}
	first, ctx := s.nodes[0], t.Context()
	for i := range users {
		user, err := first.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &userNames[i]})
		if err != nil {
			t.Fatal(err)
		}
		k, err := first.iam.CreateAccessKey(ctx, &iam.CreateAccessKeyInput{UserName: &userNames[i]})
		if err != nil {
			t.Fatal(err)
		}
		s.arns[i], s.ids[i] = *user.User.Arn, *k.AccessKey.AccessKeyId
		for n := range servers {
			s.nodes[n].users[i] = kms.NewFromConfig(config(servers[n], s.ids[i], *k.AccessKey.SecretAccessKey))
		}
	}
	for _, k := range keyPolicies {
		s.texts = append(s.texts, k.text(servers[0].Account, s.arns))
	}
	for range p.keys {
		key, err := first.root.CreateKey(ctx, &kms.CreateKeyInput{Policy: &s.texts[0]})
		if err != nil {
			t.Fatal(err)
		}
		sealed, err := first.root.Encrypt(ctx, &kms.EncryptInput{KeyId: key.KeyMetadata.KeyId, Plaintext: []byte("x")})
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

// A performer sends an operation to a node. It may return the id of a grant.
type performer func(ctx context.Context, at int, n Step) (Answer, string)

// Run lets the clients act at the same time, and returns what they saw.
func (s *Story) Run(steps int) []porcupine.Operation { return s.run(steps, s.perform) }

// RunForgetful is Run with decisions that are remembered for the next 60 operations.
func (s *Story) RunForgetful(steps int) []porcupine.Operation {
	m := &memory{perform: s.perform, allowed: map[Step]int{}, answers: map[Step]Answer{}}
	return s.run(steps, m.answer)
}

// Explained reports whether there is an order that explains a history.
func Explained(p Plot, history []porcupine.Operation) porcupine.CheckResult {
	return porcupine.CheckOperationsTimeout(model(p.part), history, checkTime)
}

// Open is how many changes were not answered.
func (s *Story) Open() int { return s.open }

func (s *Story) run(steps int, perform performer) []porcupine.Operation {
	s.begin = time.Now()
	var wg sync.WaitGroup
	for n := range s.Clients {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(s.seed, uint64(n)))
			var grants []Step // that this client made, to revoke
			for range steps / s.Clients {
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

func (s *Story) draw(r *rand.Rand) Step {
	next := Step{verb: s.verbs[r.IntN(len(s.verbs))], key: r.IntN(s.Plot.keys), user: r.IntN(users)}
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
func (s *Story) record(client int, next Step, r *rand.Rand, perform performer) (Answer, string) {
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
	a, grant := perform(ctx, r.IntN(len(s.nodes)), next)
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
func (s *Story) perform(ctx context.Context, at int, n Step) (a Answer, grant string) {
	node := s.nodes[at]
	a, key, name := done, &s.keys[n.key], &userNames[n.user]
	var err error
	switch n.verb {
	case encrypt:
		_, err = node.users[n.user].Encrypt(ctx, &kms.EncryptInput{KeyId: key, Plaintext: []byte("x")})
	case decrypt:
		_, err = node.users[n.user].Decrypt(ctx, &kms.DecryptInput{CiphertextBlob: s.blobs[n.key]})
	case describeKey:
		var out *kms.DescribeKeyOutput
		if out, err = node.users[n.user].DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: key}); err == nil {
			a = Answer(out.KeyMetadata.KeyState)
		}
	case getKeyPolicy:
		var out *kms.GetKeyPolicyOutput
		if out, err = node.root.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: key}); err == nil {
			a = Answer(policyID.FindStringSubmatch(*out.Policy)[1])
		}
	case putKeyPolicy:
		_, err = node.root.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: key, Policy: &s.texts[n.policy]})
	case enableKey:
		_, err = node.root.EnableKey(ctx, &kms.EnableKeyInput{KeyId: key})
	case disableKey:
		_, err = node.root.DisableKey(ctx, &kms.DisableKeyInput{KeyId: key})
	case createGrant:
		var out *kms.CreateGrantOutput
		if out, err = node.root.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: key, GranteePrincipal: &s.arns[n.user],
			Operations: []types.GrantOperation{"Encrypt", "Decrypt", "DescribeKey"}}); err == nil {
			grant = *out.GrantId
		}
	case revokeGrant:
		_, err = node.root.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: key, GrantId: &n.grant})
	case putUserPolicy:
		text := fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":%q,"Action":"kms:*","Resource":"*"}}`, [...]string{"", "Allow", "Deny"}[n.inline])
		_, err = node.iam.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: name, PolicyName: aws.String("p"), PolicyDocument: &text})
	case deleteUserPolicy:
		_, err = node.iam.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: name, PolicyName: aws.String("p")})
	case activate, deactivate:
		status := iamtypes.StatusTypeActive
		if n.verb == deactivate {
			status = iamtypes.StatusTypeInactive
		}
		_, err = node.iam.UpdateAccessKey(ctx, &iam.UpdateAccessKeyInput{UserName: name, AccessKeyId: &s.ids[n.user], Status: status})
	}
	return s.outcome(a, err), grant
}

// outcome is what an error says. One that is no decision says nothing.
func (s *Story) outcome(a Answer, err error) Answer {
	if err == nil {
		return a
	}
	var api smithy.APIError
	if !errors.As(err, &api) {
		return unsettled
	}
	switch code := Answer(api.ErrorCode()); code {
	case denied, disabled, nobody, nothing:
		return code
	default:
		s.t.Logf("%v", err)
		return unsettled
	}
}
