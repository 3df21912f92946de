package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// Region is where scenarios take place.
const Region = "us-east-1"

// A Pure answers claims by authz.Evaluate alone.
type Pure struct {
	file       *File
	generation map[string]int // how often an entity was made
	resolve    map[string]string

	changed  string // the file that change changes
	change   func(*policy.Document)
	compiled map[string]*policy.Policy // by file and kind; made when first needed
	applied  func(file string, statement policy.Ref)
}

// NewPure makes the world of the first n things of f.
func NewPure(f *File, n int) (*Pure, error) {
	p := &Pure{file: &File{Name: f.Name, Texts: f.Texts}, generation: map[string]int{}, resolve: map[string]string{}}
	for _, t := range f.Things[:n] {
		if kind, ok := strings.CutPrefix(t.Kind, "recreate "); ok {
			i := slices.IndexFunc(p.file.Things, func(o Thing) bool { return o.Kind == kind && o.Name == t.Name })
			if i < 0 {
				return nil, fmt.Errorf("%s: nothing to recreate: %s", f.Name, t.Name)
			}
			p.generation[t.Name]++
			continue
		}
		p.file.Things = append(p.file.Things, t)
		if t.Kind == "user" || t.Kind == "role" {
			p.resolve[EntityARN(t)] = EntityID(t.Kind, t.Name, 0)
		}
	}
	return p, nil
}

// EntityARN is the ARN of a user, group or role.
func EntityARN(t Thing) string { return arn.IAM("aws", t.Account, t.Kind+t.Path+t.Name) }

// EntityID is the unique id of the nth entity of a name.
func EntityID(kind, name string, n int) string {
	prefix := map[string]string{"user": "AIDA", "role": "AROA", "group": "AGPA"}[kind]
	id := prefix + strings.ToUpper(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, name)) + strconv.Itoa(n)
	return (id + strings.Repeat("X", 21))[:21]
}

// KeyID is the id of a key: the name's bytes in the form of a UUID.
func KeyID(name string) string {
	hex := fmt.Sprintf("%-32s", fmt.Sprintf("%x", name))
	hex = strings.ReplaceAll(hex[:32], " ", "0")
	return hex[:8] + "-" + hex[8:12] + "-" + hex[12:16] + "-" + hex[16:20] + "-" + hex[20:]
}

func (p *Pure) find(kind, name string) (Thing, bool) {
	for _, t := range p.file.Things {
		if t.Kind == kind && t.Name == name {
			return t, true
		}
	}
	return Thing{}, false
}

// compile reads a policy; in key policies existing users and roles become
// unique ids, as they do when a policy is saved (AUTH-2.16).
func (p *Pure) compile(name string, kind policy.Kind) (*policy.Policy, error) {
	key := fmt.Sprint(kind, name)
	if known := p.compiled[key]; known != nil {
		return known, nil
	}
	doc, err := policy.Parse([]byte(p.file.Text(name, p)))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if p.change != nil && name == p.changed {
		p.change(doc)
	}
	if kind == policy.Key {
		err = doc.EachPrincipal(func(_ string, entry *policy.Item) error {
			if id, ok := p.resolve[entry.Text]; ok {
				entry.Text = id
			}
			return nil
		})
	}
	if p.compiled == nil {
		p.compiled = map[string]*policy.Policy{}
	}
	p.compiled[key] = policy.Compile(doc, kind, name)
	return p.compiled[key], err
}

func (p *Pure) ARNOf(name string) string {
	t, _ := p.find("key", name)
	if slices.Contains(t.Flags, "multi-region") {
		return arn.Key(Region, t.Account, "mrk-"+strings.ReplaceAll(KeyID(name), "-", ""))
	}
	return arn.Key(Region, t.Account, KeyID(name))
}

// IDOf is the unique id that a user or role had at first.
func (p *Pure) IDOf(name string) string {
	if _, ok := p.find("user", name); ok {
		return EntityID("user", name, 0)
	}
	return EntityID("role", name, 0)
}

// Organization is the id of the organization.
func (p *Pure) Organization() string { return "o-a1b2c3d4e5" }

// PathOf is where an account is in the organization.
func (p *Pure) PathOf(account string) string {
	at := p.Organization() + "/r-a1b2/"
	names := Levels(p.file.Things, account)
	for _, level := range names[:max(0, len(names)-1)] {
		at += "ou-a1b2-" + level + "/"
	}
	return at
}

func (p *Pure) membership(account string) authz.Membership {
	if !IsMember(p.file.Things, account) {
		return authz.Membership{}
	}
	return authz.Membership{Organization: p.Organization(), Paths: []string{p.PathOf(account)}}
}

func (p *Pure) compileAll(names []string, kind policy.Kind) ([]*policy.Policy, error) {
	var out []*policy.Policy
	for _, name := range names {
		c, err := p.compile(name, kind)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// Decide answers a claim: its pairs of action and resource are asked one after
// the other until one is refused (AUTH-1.9).
func (p *Pure) Decide(c Claim) (d authz.Decision, err error) {
	for _, asked := range p.pairs(c) {
		if d, err = p.decide(asked); err != nil || !d.Allowed() {
			return d, err
		}
	}
	return d, nil
}

// A pair is one question of an operation: a claim, and the resource it is about
// if that is not the claim's key.
type pair struct {
	Claim
	resource string
}

// pairs are the questions of an operation. On an alias it asks for the alias and
// for the key, UpdateAlias for the alias's present key as well (AUTH-9.1), and
// CreateKey with tags for the right to tag (AUTH-9.4).
func (p *Pure) pairs(c Claim) []pair {
	switch {
	case strings.HasSuffix(c.Action, "Alias"):
		alias := pair{c, arn.Alias(Region, p.accountOf(c.Who), p.aliasOf(c))}
		alias.Key = ""
		out := []pair{alias, {Claim: c}}
		if present := p.behind(p.aliasOf(c)); c.Action == "UpdateAlias" && present != "" && present != c.Key {
			out = append(out, pair{Claim: c})
			out[1].Key = present
		}
		return out
	case c.Action == "CreateKey" && slices.ContainsFunc(c.Using, func(u Pair) bool { return policy.KeyNamed(u.Name).ID == policy.KeyRequestTag }):
		tag := pair{c, arn.Key(Region, p.accountOf(c.Who), KeyID("new"))}
		tag.Action = "TagResource"
		return []pair{{Claim: c}, tag}
	default:
		return []pair{{Claim: c}}
	}
}

// behind is the key that an alias is for.
func (p *Pure) behind(alias string) string {
	t, _ := p.find("alias", alias)
	return t.Of
}

func (p *Pure) accountOf(who string) string {
	caller, _, err := p.caller(who)
	if err != nil {
		return ""
	}
	return caller.Account
}

func (p *Pure) decide(c pair) (authz.Decision, error) {
	req, policies, err := p.request(c.Claim)
	if err != nil {
		return authz.Decision{}, err
	}
	if c.resource != "" {
		req.Resource = c.resource
	}
	if req.Guarded && c.Action != "RetireGrant" { // over which key policies have no say
		key, _ := p.find("key", c.Key)
		if policies.Resource, err = p.keyPolicy(key); err != nil {
			return authz.Decision{}, err
		}
	}
	d := authz.Evaluate(req, policies)
	if p.applied == nil {
		return d, nil
	}
	explained, steps := authz.Explain(req, policies)
	for _, s := range steps {
		if s.Applies {
			p.applied(s.Policy.Name, s.Statement)
		}
	}
	if explained != d {
		return d, fmt.Errorf("explain decides %v, evaluate %v", explained, d)
	}
	return d, nil
}

func (p *Pure) aliasOf(c Claim) string {
	for _, u := range c.Using {
		if u.Name == "alias" {
			return u.Value
		}
	}
	return "alias/" + c.Key
}

func (p *Pure) keyPolicy(key Thing) (*policy.Policy, error) {
	if len(key.With) > 0 {
		return p.compile(key.With[0], policy.Key)
	}
	text := `{"Version":"2012-10-17","Statement":[{"Sid":"Enable IAM User Permissions","Effect":"Allow","Principal":{"AWS":"` +
		arn.Root("aws", key.Account) + `"},"Action":"kms:*","Resource":"*"}]}`
	doc, err := policy.Parse([]byte(text))
	if err != nil {
		return nil, err
	}
	return policy.Compile(doc, policy.Key, "default"), nil
}

func (p *Pure) request(c Claim) (*authz.Request, *authz.Policies, error) {
	caller, policies, err := p.caller(c.Who)
	if err != nil {
		return nil, nil, err
	}
	action, ok := policy.ActionNamed("kms:" + c.Action)
	if strings.Contains(c.Action, ":") {
		action, ok = policy.ActionNamed(c.Action)
	}
	if !ok {
		return nil, nil, fmt.Errorf("no action %s", c.Action)
	}
	now := c.At
	if now.IsZero() {
		now = time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	}
	req := &authz.Request{Caller: caller, Action: action, Resource: "*", Now: now, Region: Region, SourceIP: "127.0.0.1", UserAgent: "scenario"}
	ctx := &pureContext{world: p, claim: c, hasKey: c.Key != ""}
	if c.Key != "" {
		if ctx.key, ok = p.find("key", c.Key); !ok {
			return nil, nil, fmt.Errorf("no key %s", c.Key)
		}
		req.Resource, req.Guarded, req.ResourceAccount = p.ARNOf(c.Key), true, ctx.key.Account
		req.CrossAccount = authz.AcrossAccounts.Has(action)
	}
	ctx.apply(req)
	req.ServiceCondition = ctx
	req.CallerOrg, req.ResourceOrg, req.SourceOrg = p.membership(caller.Account), p.membership(req.ResourceAccount), p.membership(req.SourceAccount)
	return req, policies, p.guardrails(c, ctx.key, req, policies)
}

// guardrails adds what limits and grants: SCPs, RCPs, an endpoint policy, grants.
func (p *Pure) guardrails(c Claim, key Thing, req *authz.Request, out *authz.Policies) error {
	for _, t := range p.file.Things {
		var compiled []*policy.Policy
		var err error
		switch {
		case t.Kind == "scp" && t.Account == req.Caller.Account && req.Caller.Kind != policy.Service:
			compiled, err = p.compileAll(t.With, policy.SCP)
			out.SCP = append(out.SCP, compiled)
		case t.Kind == "rcp" && t.Account == key.Account && c.Key != "" && c.Action != "RetireGrant":
			compiled, err = p.compileAll(t.With, policy.RCP)
			out.RCP = append(out.RCP, compiled...)
		case t.Kind == "endpoint":
			out.ThroughEndpoint, req.Through = true, &TestEndpoint
			out.Endpoint, err = p.compile(t.With[0], policy.Endpoint)
		case t.Kind == "grant" && t.Of == c.Key && c.Action != "RetireGrant":
			out.Grants = append(out.Grants, policy.Grant(p.terms(t)))
		}
		if err != nil {
			return err
		}
	}
	if c.Action == "RetireGrant" {
		out.Grants = []*policy.Policy{p.retirement(c, key)}
	}
	return nil
}

// TestEndpoint is the VPC endpoint of files that give one.
var TestEndpoint = authz.Endpoint{ID: "vpce-0123456789abcdef0", VPC: "vpc-0123456789abcdef0", Account: "111122223333"}

func (p *Pure) terms(t Thing) policy.GrantTerms {
	return policy.GrantTerms{Name: t.Name, Grantee: PrincipalARN(p.file.Things, t.To), Operations: t.Operations, Equals: t.Equals, Subset: t.Subset, SourceArn: t.Source}
}

// retirement is who may retire the grant a claim is about (AUTH-6.6).
func (p *Pure) retirement(c Claim, key Thing) *policy.Policy {
	who := []string{arn.Root("aws", key.Account)}
	if t, ok := c.Grant(p.file.Things); ok {
		if t.From != "" {
			who = append(who, arn.Root("aws", t.From))
		}
		if t.Retiring != "" {
			who = append(who, PrincipalARN(p.file.Things, t.Retiring))
		}
		if slices.Contains(t.Operations, "RetireGrant") {
			who = append(who, PrincipalARN(p.file.Things, t.To))
		}
	}
	return policy.Retirement("grant", who...)
}

// caller builds who asks and the policies it carries.
func (p *Pure) caller(who string) (authz.Caller, *authz.Policies, error) {
	if account, ok := strings.CutPrefix(who, "root@"); ok {
		return authz.Caller{Principal: policy.Principal{Kind: policy.RootUser, Partition: "aws", Account: account,
			ARN: arn.Root("aws", account)}, UserID: account}, &authz.Policies{}, nil
	}
	if t, ok := p.find("service", who); ok {
		return authz.Caller{Principal: policy.Principal{Kind: policy.Service, Service: t.Name}}, &authz.Policies{}, nil
	}
	if t, ok := p.find("session", who); ok {
		if user, ok := p.find("user", t.Of); ok {
			return p.token(user)
		}
		return p.session(t, "role")
	}
	if t, ok := p.find("federated", who); ok {
		return p.session(t, "user")
	}
	for _, kind := range []string{"user", "role"} {
		if t, ok := p.find(kind, who); ok {
			return p.entity(t)
		}
	}
	return authz.Caller{}, nil, fmt.Errorf("nobody is called %s", who)
}

func (p *Pure) entity(t Thing) (authz.Caller, *authz.Policies, error) {
	id := EntityID(t.Kind, t.Name, p.generation[t.Name])
	caller := authz.Caller{Principal: policy.Principal{Kind: policy.User, Partition: "aws", Account: t.Account, ARN: EntityARN(t),
		EntityARN: EntityARN(t), EntityID: id, Bounded: t.Boundary != ""}, UserID: id, UserName: t.Name, Tags: t.Tags}
	files := slices.Clone(t.With)
	for _, g := range t.Groups {
		group, ok := p.find("group", g)
		if !ok {
			return caller, nil, fmt.Errorf("no group %s", g)
		}
		files = append(files, group.With...)
	}
	out := &authz.Policies{HasBoundary: t.Boundary != ""}
	var err error
	if out.Identity, err = p.compileAll(files, policy.Identity); err == nil && t.Boundary != "" {
		out.Boundary, err = p.compile(t.Boundary, policy.Identity)
	}
	return caller, out, err
}

// token is a user's session of GetSessionToken: the user, for a while.
func (p *Pure) token(user Thing) (authz.Caller, *authz.Policies, error) {
	caller, out, err := p.entity(user)
	caller.TokenIssued = issued
	return caller, out, err
}

// issued is when sessions began.
var issued = time.Date(2026, 11, 1, 11, 0, 0, 0, time.UTC)

func (p *Pure) session(t Thing, kind string) (authz.Caller, *authz.Policies, error) {
	e, ok := p.find(kind, t.Of)
	if !ok {
		return authz.Caller{}, nil, fmt.Errorf("no %s %s", kind, t.Of)
	}
	caller, out, err := p.entity(e)
	if err != nil {
		return caller, nil, err
	}
	caller.TokenIssued, caller.UserName = issued, ""
	caller.Kind, caller.ARN, caller.UserID = policy.RoleSession, arn.STS("aws", e.Account, "assumed-role/"+e.Name+"/"+t.Name), caller.EntityID+":"+t.Name
	out.HasSession = len(t.With) > 0
	if kind == "user" {
		caller.Kind, caller.ARN, caller.UserID = policy.FederatedSession, arn.STS("aws", e.Account, "federated-user/"+t.Name), e.Account+":"+t.Name
		out.HasSession = true
	}
	for k, v := range t.Tags {
		tags := map[string]string{k: v}
		for ek, ev := range caller.Tags {
			if _, ok := t.Tags[ek]; !ok {
				tags[ek] = ev
			}
		}
		caller.Tags = tags
	}
	out.Session, err = p.compileAll(t.With, policy.Identity)
	return caller, out, err
}
