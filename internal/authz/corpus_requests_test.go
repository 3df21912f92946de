package authz_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// withoutResource are the actions that no key is asked about (AUTH-0, step 3).
var withoutResource = []string{
	"kms:CreateKey", "kms:ListKeys", "kms:ListAliases", "kms:GenerateRandom", "kms:ListRetirableGrants", "kms:CreateCustomKeyStore",
	"kms:DeleteCustomKeyStore", "kms:UpdateCustomKeyStore", "kms:ConnectCustomKeyStore", "kms:DisconnectCustomKeyStore", "kms:DescribeCustomKeyStores",
}

// acrossAccounts are the actions of AUTH-4.3.
var acrossAccounts = []string{
	"kms:Encrypt", "kms:Decrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext",
	"kms:GenerateDataKeyPair", "kms:GenerateDataKeyPairWithoutPlaintext", "kms:GenerateMac", "kms:VerifyMac", "kms:Sign", "kms:Verify",
	"kms:DeriveSharedSecret", "kms:DescribeKey", "kms:GetKeyRotationStatus", "kms:GetPublicKey", "kms:CreateGrant", "kms:ListGrants",
	"kms:RetireGrant", "kms:RevokeGrant",
}

// severalValues are the condition keys that are multi-valued (condition-keys.md).
var severalValues = []string{
	"aws:tagkeys", "aws:calledvia", "aws:principalorgpaths", "aws:resourceorgpaths", "aws:sourceorgpaths", "aws:principalservicenameslist",
	"kms:encryptioncontextkeys", "kms:grantoperations", "kms:resourcealiases",
}

// A corpusCase is what one published policy is asked: about which key, by whom.
type corpusCase struct {
	key     string
	account string // of the key
	callers []authz.Caller
	tags    map[string]string // that callers have, if the policy asks for any
}

// newCase reads from a policy which key it may be about, and whom it names.
func newCase(doc *policy.Document) *corpusCase {
	c := &corpusCase{key: keyARN, account: home, tags: map[string]string{}}
	var names []string
	for i := range doc.Statements {
		s := &doc.Statements[i]
		for _, item := range values(s.Resource) {
			if key := sample(item.Text, ""); strings.HasPrefix(item.Text, "arn:aws:kms:") && strings.Contains(item.Text, ":key/") && len(accountOf(key)) == 12 {
				c.key, c.account = key, accountOf(key)
			}
		}
		if s.Principal != nil {
			for _, e := range s.Principal.Entries {
				for _, item := range e.Values.Items {
					names = append(names, item.Text)
				}
			}
		}
		for _, condition := range s.Conditions {
			if strings.EqualFold(condition.Key, "aws:PrincipalArn") {
				for _, item := range condition.Values.Items {
					names = append(names, sample(item.Text, home))
				}
			}
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if len(c.callers) < 12 {
			c.callers = append(c.callers, c.named(name)...)
		}
	}
	strangers := callers()
	c.callers = append(c.callers, strangers[0], strangers[1], strangers[2], strangers[5], strangers[7], strangers[len(strangers)-1])
	return c
}

// values are the items of a list that may be missing.
func values(l *policy.List) []policy.Item {
	if l == nil {
		return nil
	}
	return l.Items
}

// sample makes a value that a pattern likely matches. In an account field the
// wildcard becomes a number.
func sample(pattern, account string) string {
	text := variable.ReplaceAllString(pattern, "x")
	fields := strings.Split(text, ":")
	if len(fields) > 5 && fields[0] == "arn" && fields[4] == "*" {
		fields[4] = account
		if account == "" {
			fields[4] = home
		}
	}
	return strings.NewReplacer("*", "x", "?", "x").Replace(strings.Join(fields, ":"))
}

// accountOf is the fifth field of an ARN.
func accountOf(arn string) string {
	if fields := strings.SplitN(arn, ":", 6); len(fields) == 6 {
		return fields[4]
	}
	return ""
}

// named are callers whom a principal in a policy names, or nearly.
func (c *corpusCase) named(name string) []authz.Caller {
	account, resource := accountOf(name), name[strings.LastIndex(name, ":")+1:]
	kind, rest, _ := strings.Cut(resource, "/")
	last := rest[strings.LastIndex(rest, "/")+1:]
	switch {
	case name == "" || name == "*":
		return nil
	case strings.HasPrefix(name, "AIDA"):
		return []authz.Caller{user(c.account, "arn:aws:iam::"+c.account+":user/x", "x", name)}
	case strings.HasPrefix(name, "AROA"):
		return []authz.Caller{session(c.account, "x", "s", "arn:aws:iam::"+c.account+":role/x", name)}
	case account == "" && !strings.Contains(name, ":"):
		if len(name) == 12 && strings.Trim(name, "0123456789") == "" {
			return ofAccount(name)
		}
		return []authz.Caller{service(name)}
	case kind == "user":
		u := user(account, name, last, "AIDANAMED00000000001")
		return []authz.Caller{u, federated(account, "f", u)}
	case kind == "role":
		return []authz.Caller{session(account, last, "s", name, "AROANAMED00000000001")}
	case kind == "assumed-role":
		role, of, _ := strings.Cut(rest, "/")
		return []authz.Caller{session(account, role, of, "arn:aws:iam::"+account+":role/"+role, "AROANAMED00000000002")}
	case kind == "federated-user":
		return []authz.Caller{federated(account, rest, user(account, "arn:aws:iam::"+account+":user/u", "u", "AIDANAMED00000000002"))}
	default:
		return ofAccount(account)
	}
}

// ofAccount are callers of an account: the root user, a user and a role session.
func ofAccount(account string) []authz.Caller {
	return []authz.Caller{
		root(account),
		user(account, "arn:aws:iam::"+account+":user/someone", "someone", "AIDASOMEONE000000001"),
		session(account, "some", "s", "arn:aws:iam::"+account+":role/some", "AROASOME000000000001"),
	}
}

// ask asks for every action on the key, on an alias and on nothing.
func (c *corpusCase) ask(t *testing.T, p *papers, call authz.Request, count *[3]int) {
	t.Helper()
	compiled := p.compiled()
	without := *p
	without.key, without.rcp = nil, nil
	compiledWithout := without.compiled()
	for _, caller := range c.callers {
		req := call
		caller.Tags = c.tags
		req.Caller, req.Now, req.SecureTransport = caller, time.Unix(1.8e9, 0), true
		for a := policy.Action(1); int(a) < policy.NumActions; a++ {
			name := a.String()
			if !strings.HasPrefix(name, "kms:") {
				continue
			}
			req.Action, req.CrossAccount = a, slices.Contains(acrossAccounts, name)
			req.Resource, req.ResourceAccount, req.Guarded = c.key, c.account, true
			switch {
			case slices.Contains(withoutResource, name):
				req.Resource, req.ResourceAccount, req.Guarded = "*", "", false
				count[agree(t, &req, &without, compiledWithout)]++
			case name == "kms:RetireGrant": // key policies and RCPs have no say (AUTH-5.6, 6.6)
				count[agree(t, &req, &without, compiledWithout)]++
			default:
				count[agree(t, &req, p, compiled)]++
			}
		}
	}
}

// context is a call that satisfies many of a policy's conditions: a condition
// key has the first value that a condition names for it.
func (c *corpusCase) context(doc *policy.Document) authz.Request {
	f := facts{}
	req := authz.Request{Region: "us-east-1", SourceIP: "10.0.0.1", ServiceCondition: f}
	for i := range doc.Statements {
		for _, condition := range doc.Statements[i].Conditions {
			name := strings.ToLower(condition.Key)
			if len(condition.Values.Items) == 0 || policy.KeyNamed(name).ID == policy.KeyUnknown || f[name].Present {
				continue
			}
			text := sample(condition.Values.Items[0].Text, c.account)
			f[name] = policy.Value{Present: true, Text: text}
			if slices.Contains(severalValues, name) {
				f[name] = policy.Value{Present: true, Multi: true, List: []string{text}}
			}
			tag, isTag := strings.CutPrefix(name, "aws:principaltag/")
			switch { // what the request answers itself
			case isTag:
				c.tags[tag] = text
			case name == "aws:requestedregion":
				req.Region = text
			case name == "aws:sourceip":
				req.SourceIP, _, _ = strings.Cut(text, "/")
			case name == "aws:useragent":
				req.UserAgent = text
			}
		}
	}
	f.onto(&req)
	return req
}
