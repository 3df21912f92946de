// Package inquire answers what people ask about the policies of a store: why a request is
// decided as it is and what would decide it otherwise, who may do something, and what
// somebody may do. It reads the store and changes nothing; every answer is a decision by
// authz about requests as the service would put them.
package inquire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A World is what questions are about. It is safe for concurrent use.
type World struct {
	DB  *store.DB
	KMS *kms.Service
}

// A Case is a request to decide about, which nobody need have made.
type Case struct {
	As     string   // who asks: the ARN of a root user, user, role or session, or a service principal
	Of     string   `json:",omitzero"` // the user whose federated user As is; empty for the root user's
	Action string   // as kms:Decrypt; kms: may be left out
	Key    string   `json:",omitzero"` // id, ARN or alias; empty for actions about no key
	Region string   `json:",omitzero"` // default that of the key's ARN, or else us-east-1
	Given  []string `json:",omitzero"` // values of condition keys, each as NAME=VALUE
	// Session are session policies of As. SessionOnly limits it even if there are none.
	Session     []Text   `json:",omitzero"`
	SessionOnly bool     `json:",omitzero"`
	SessionARNs []string `json:",omitzero"` // of managed policies that limit the session
	Grant       string   `json:",omitzero"` // which one RetireGrant is about
	// EndpointPolicy is that of the VPC endpoint that it comes through, if it does. One that
	// is not given is taken to allow everything.
	EndpointPolicy *Text `json:",omitzero"`
	// KeyPolicy is in place of the key's policy, if it is given.
	KeyPolicy *Text `json:",omitzero"`
	// Now is the time of the request; zero is the present.
	Now time.Time `json:",omitzero"`

	recorded bool // it was made, so that it had what is given
}

// A Text is a policy document with a name for it.
type Text struct{ Name, Document string }

// A situation is a case as authz sees it.
type situation struct {
	request  *authz.Request
	policies authz.Policies
	closed   bool // one of the accounts
}

func (s *situation) evaluate() authz.Decision {
	if s.closed {
		return authz.Decision{Missing: authz.ResourceLayer}
	}
	return authz.Evaluate(s.request, &s.policies)
}

// ErrQuestion reports a question that cannot be asked: of nobody, of nothing, or with what
// cannot be.
var ErrQuestion = errors.New("inquire: that cannot be asked")

// Bounds on what a case brings, so that it is decided in moments.
const (
	maxGiven    = 200
	maxSessions = 10
	maxDocument = 32 << 10 // bytes
)

// bounded refuses a case that brings too much.
func (c *Case) bounded() error {
	documents := slices.Clone(c.Session)
	for _, t := range []*Text{c.KeyPolicy, c.EndpointPolicy} {
		if t != nil {
			documents = append(documents, *t)
		}
	}
	for _, t := range documents {
		if len(t.Document) > maxDocument {
			return fmt.Errorf("%w: %s is longer than %d bytes", ErrQuestion, t.Name, maxDocument)
		}
	}
	if len(c.Given) > maxGiven || len(c.Session)+len(c.SessionARNs) > maxSessions {
		return fmt.Errorf("%w: more than %d condition keys, or than %d session policies", ErrQuestion, maxGiven, maxSessions)
	}
	return nil
}

// situation reads what a decision about the case depends on.
func (w *World) situation(tx *store.Tx, c Case) (*situation, error) {
	if err := c.bounded(); err != nil {
		return nil, err
	}
	around := circumstances{call: iam.Call{Now: c.Now, SourceIP: "203.0.113.10", UserAgent: "claviger", Secure: true, Region: region(c), Entry: &audit.Entry{}}}
	if c.Now.IsZero() {
		around.call.Now = time.Now().UTC()
	}
	for _, pair := range c.Given {
		if err := around.set(pair); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrQuestion, err)
		}
	}
	action := c.Action
	if !strings.Contains(action, ":") {
		action = "kms:" + action
	}
	var ok bool
	if around.hypothesis.Action, ok = policy.ActionNamed(action); !ok || !strings.HasPrefix(around.hypothesis.Action.String(), "kms:") {
		return nil, fmt.Errorf("%w: there is no action %s", ErrQuestion, action)
	}
	if around.hypothesis.Key, around.hypothesis.Grant = c.Key, c.Grant; c.Key == "" && authz.OnKeys.Has(around.hypothesis.Action) {
		return nil, fmt.Errorf("%w: %s needs a key", ErrQuestion, action)
	}
	if a := around.hypothesis.Action; c.Key != "" && !authz.OnKeys.Has(a) && !strings.HasSuffix(action, "Alias") {
		return nil, fmt.Errorf("%w: %s is about no key", ErrQuestion, a)
	}
	for _, pair := range c.Given {
		name, _, _ := strings.Cut(pair, "=")
		if key := policy.KeyNamed(name); !c.recorded && !analyze.Carries(key, around.hypothesis.Action) {
			return nil, fmt.Errorf("%w: requests for %s do not have %s", ErrQuestion, action, key)
		}
	}
	credential, err := iam.Suppose(tx, c.As, c.Of)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	around.call.Credential = credential
	if err := around.limit(c); err != nil {
		return nil, err
	}
	if e := around.call.Through; e != nil {
		e.Policy = openEndpoint
		if c.EndpointPolicy != nil {
			if e.Policy, err = compile(*c.EndpointPolicy, policy.Endpoint); err != nil {
				return nil, err
			}
		}
	}
	q, err := w.KMS.Query(tx, &around.call, around.hypothesis)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	if c.KeyPolicy != nil {
		if q.ResourcePolicy, err = keyPolicy(tx, q.Resource, *c.KeyPolicy); err != nil {
			return nil, err
		}
	}
	s := &situation{}
	s.request, s.policies, s.closed, err = around.call.Situation(tx, q)
	return s, err
}

// openEndpoint stands for the policy of an endpoint that is not known.
var openEndpoint = policy.Compile(&policy.Document{Version: "2012-10-17", Statements: []policy.Statement{{Effect: policy.Allow,
	Principal: &policy.Principals{Everyone: true}, Action: texts("*"), Resource: texts("*")}}}, policy.Endpoint, "a policy that is not known, taken to allow everything")

// region is the Region of a case.
func region(c Case) string {
	if a, err := arn.Parse(c.Key); err == nil && a.Region != "" {
		return a.Region
	}
	if c.Region != "" {
		return c.Region
	}
	return "us-east-1"
}

// limit adds the session's policies.
func (c *circumstances) limit(from Case) error {
	s := c.call.Credential.Session
	if s == nil {
		return nil
	}
	c.apply(s)
	s.Limited = from.SessionOnly || s.Kind == policy.FederatedSession
	s.PolicyARNs = from.SessionARNs
	s.Limited = s.Limited || s.PolicyARNs != nil
	for _, t := range from.Session {
		p, err := compile(t, policy.Identity)
		if err != nil {
			return err
		}
		c.call.Credential.Limit(p)
	}
	return nil
}

// compile reads a policy.
func compile(t Text, kind policy.Kind) (*policy.Policy, error) {
	doc, err := policy.Parse([]byte(t.Document))
	if err == nil {
		err = policy.Validate(doc, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrQuestion, t.Name, err)
	}
	return policy.Compile(doc, kind, t.Name), nil
}

// keyPolicy reads a key policy as the service would keep it: principals that exist as unique
// ids. Those that do not are left as they are, and are nobody who is known.
func keyPolicy(tx *store.Tx, key string, t Text) (*policy.Policy, error) {
	p, err := compile(t, policy.Key)
	if err != nil {
		return nil, err
	}
	a, _ := arn.Parse(key)
	if err := iam.ResolveKnown(tx, p.Document, a.Partition); err != nil {
		return nil, err
	}
	return policy.Compile(p.Document, policy.Key, t.Name), nil
}

// view runs fn in a transaction that changes nothing.
func (w *World) view(ctx context.Context, fn func(*store.Tx) error) error { return w.DB.View(ctx, fn) }
