package analyze

import (
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// findCallers divides everybody who could call into classes.
func (s *space) findCallers(partition string) error {
	n := &named{space: s, partition: partition, accounts: []string{s.account}, services: []string{}}
	n.read()
	if err := n.explore(); err != nil {
		return err
	}
	s.accounts, s.arns, s.ids, s.bounded = n.accounts, n.arns, n.ids, n.bounded
	classes := map[string]*caller{}
	for _, who := range n.callers() {
		c := s.classOf(who)
		way := s.wayOf(c)
		if known := classes[way]; known != nil {
			known.members = append(known.members, who)
			continue
		}
		classes[way] = c
		s.callers = append(s.callers, c)
	}
	return nil
}

// classOf asks everything about one caller.
func (s *space) classOf(who authz.Caller) *caller {
	c := &caller{who: who, members: []authz.Caller{who}, holds: map[*test]bool{}, reach: map[*rule]policy.Reach{}}
	at := newSituation(s.key)
	at.Caller = who
	for _, t := range s.order {
		if t.ofCaller {
			c.holds[t] = t.Holds(at)
		}
	}
	for _, rules := range s.rules {
		for _, r := range rules {
			c.reach[r] = r.Reach(&who.Principal)
		}
	}
	c.facts = s.factsOf(who)
	return c
}

// wayOf tells classes apart.
func (s *space) wayOf(c *caller) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %v %v ", c.who.Kind, c.who.Account == s.account, c.who.EntityARN == "")
	for _, t := range s.order {
		b.WriteByte(digitOf[c.holds[t]])
	}
	for _, p := range s.given {
		for _, r := range s.rules[p] {
			b.WriteByte(byte('0' + c.reach[r]))
		}
	}
	return b.String()
}

// factsOf is what is true of every request by such a caller.
func (s *space) factsOf(who authz.Caller) node {
	facts := yes
	for i, p := range s.parts {
		allowed := func(sample) bool { return true }
		isService := who.Kind == policy.Service
		temporary := who.Kind == policy.RoleSession || who.Kind == policy.FederatedSession
		switch {
		case p.name == ofCredentials && (temporary || isService):
			allowed = func(x sample) bool { return (x.apart == lasting) != temporary }
		case p.name == ofForwarding && isService:
			allowed = func(x sample) bool { return x.apart == unforwarded }
		case p.name == ofCallerOrg && isService, strings.HasPrefix(p.name, "aws:PrincipalTag/") && (isService || who.Kind == policy.RootUser),
			p.name == "aws:SourceIdentity" && who.Kind != policy.RoleSession, p.name == "aws:FederatedProvider" && who.Kind != policy.RoleSession,
			strings.HasPrefix(p.name, "aws:Source") && p.name != "aws:SourceIdentity" && !isService:
			allowed = func(x sample) bool { return x.name == "" }
		default:
			continue
		}
		facts = s.and(facts, s.is(i, s.only(p, func(j int) bool { return allowed(p.samples[j]) })))
	}
	return facts
}

// named is who and what the policies name.
type named struct {
	*space
	partition string
	accounts  []string
	arns      []string
	ids       []string
	services  []string
	found     []string // ARNs that no policy names, one for each way to match patterns
	bounded   bool     // a boundary matters
}

// read collects what the statements and the tests about callers name.
func (n *named) read() {
	for _, p := range n.given {
		for _, r := range n.rules[p] {
			if r.Statement.Principal == nil {
				continue
			}
			n.bounded = n.bounded || r.Statement.NotPrincipal
			for _, e := range r.Statement.Principal.Entries {
				for _, v := range e.Values.Items {
					n.principal(e.Type, v.Text)
				}
			}
		}
	}
	for _, t := range n.order {
		if !t.ofCaller {
			continue
		}
		shapes, _ := t.Shapes()
		for _, x := range shapes {
			if x.Kind != policy.TextShape {
				n.pattern(t.Key().ID, x)
				continue
			}
			switch t.Key().ID {
			case policy.KeyPrincipalArn:
				n.principal("AWS", x.Text)
			case policy.KeyPrincipalAccount, policy.KeyKMSCallerAccount, policy.KeyResourceAccount:
				n.account(x.Text)
			case policy.KeyPrincipalServiceName, policy.KeyPrincipalServiceNamesList:
				n.services = append(n.services, x.Text)
			}
		}
	}
}

// pattern reads the account that a pattern names although it is one.
func (n *named) pattern(key policy.KeyID, x policy.Shape) {
	var begin strings.Builder // as far as it is one text, whatever its case
	whole := true
	for _, p := range x.Pieces {
		if whole = !p.Wild; !whole {
			break
		}
		begin.WriteRune(p.Rune)
	}
	switch fields := strings.Split(begin.String(), ":"); {
	case key == policy.KeyPrincipalArn && len(fields) > 5:
		n.account(fields[4])
	case key != policy.KeyPrincipalArn && whole:
		n.account(begin.String())
	}
}

func (n *named) account(id string) {
	if arn.IsAccount(id) && !slices.Contains(n.accounts, id) {
		n.accounts = append(n.accounts, id)
	}
}

func (n *named) principal(kind, text string) {
	switch {
	case kind == "Service":
		n.services = append(n.services, text)
	case arn.IsAccount(text):
		n.account(text)
	case policy.IsUniqueID(text):
		n.ids = append(n.ids, text)
	default:
		a, err := arn.Parse(text)
		if err != nil || !arn.IsAccount(a.Account) { // nobody's
			return
		}
		n.account(a.Account)
		if a.Resource != "root" && !slices.Contains(n.arns, text) {
			n.arns = append(n.arns, text)
		}
	}
}

// explore finds callers for each way to match the patterns on callers' ARNs, accounts and
// names.
func (n *named) explore() error {
	var patterns []pattern
	add := func(parts ...pattern) { patterns = append(patterns, joined(parts...)) }
	field := pattern{{class: noColon, run: true}, {class: one, char: ':'}}
	beginning := joined(field, field, field, field) // arn:partition:service::
	for _, id := range n.accounts {
		add(beginning, literal(id+":"), everything)
	}
	services := []pattern{joined(some(word), literal(".amazonaws.com")), joined(some(word), literal(".amazonaws.com.cn"))}
	var ofServices []pattern
	for _, t := range n.order {
		shapes, _ := t.Shapes()
		for _, x := range shapes {
			p := patternOf(x.Pieces)
			switch {
			case !t.ofCaller:
			case t.Key().ID == policy.KeyUsername:
				if x.Kind == policy.TextShape {
					p = literal(x.Text)
				}
				p = p.within(noSlash)
				add(beginning, repeat(digit, 12), literal(":user/"), p)
				add(beginning, repeat(digit, 12), literal(":user/"), everything, literal("/"), p)
			case x.Kind != policy.PatternShape:
			case t.Key().ID == policy.KeyPrincipalArn:
				add(p)
			case t.Key().ID == policy.KeyPrincipalAccount, t.Key().ID == policy.KeyKMSCallerAccount:
				add(beginning, p.within(digit), literal(":"), everything)
			case t.Key().ID == policy.KeyPrincipalServiceName, t.Key().ID == policy.KeyPrincipalServiceNamesList:
				ofServices = append(ofServices, p)
			}
		}
	}
	entity := func(service, kind string, name pattern) pattern {
		return joined(literal("arn:"+n.partition+":"+service+"::"), repeat(digit, 12), literal(":"+kind), name)
	}
	path := joined(some(pathMark), literal("/"), some(word))
	universes := []pattern{entity("iam", "root", nil), entity("iam", "user/", some(word)), entity("iam", "role/", some(word)),
		entity("iam", "user/", path), entity("iam", "role/", path), entity("sts", "federated-user/", some(word))}
	for _, text := range n.arns { // the role of a session that is named may have a path
		if a, err := arn.Parse(text); err == nil && strings.HasPrefix(a.Resource, "assumed-role/") {
			role := strings.Split(a.Resource+"/", "/")[1]
			universes = append(universes, joined(literal("arn:"+n.partition+":iam::"+a.Account+":role/"), some(pathMark), literal("/"+role)))
		}
	}
	var err error
	n.found, err = samples(universes, patterns, n.arns)
	if err != nil {
		return err
	}
	n.space.services = slices.Clone(n.services)
	fresh, err := samples(services, ofServices, n.services)
	n.services = append(n.services, fresh...)
	for _, name := range slices.Clone(n.services) { // a service has a name with the Region, and one without
		n.services = append(n.services, otherName(name, n.region))
	}
	return err
}

// otherName is a service's name with the Region if it is without one, and the other way round.
func otherName(name, region string) string {
	base, end, _ := strings.Cut(name, ".amazonaws.")
	if before, ok := strings.CutSuffix(base, "."+region); ok {
		return before + ".amazonaws." + end
	}
	return base + "." + region + ".amazonaws." + end
}

// callers are all that have to be looked at.
func (n *named) callers() (out []authz.Caller) {
	for _, text := range slices.Concat(n.arns, n.found) {
		out = append(out, n.fromARN(text)...)
	}
	for _, c := range slices.Clone(out) { // whoever it is may have an id that is named
		for _, id := range n.ids {
			switch {
			case c.Kind == policy.User && strings.HasPrefix(id, "AIDA"):
				c.UserID = id
			case c.Kind == policy.RoleSession && strings.HasPrefix(id, "AROA"):
				c.UserID = id + ":session"
			case c.Kind == policy.FederatedSession && c.EntityARN != "" && strings.HasPrefix(id, "AIDA"):
			default:
				continue
			}
			c.EntityID = id
			out = append(out, c)
		}
	}
	for _, s := range distinct(n.services) {
		out = append(out, authz.Caller{Principal: policy.Principal{Kind: policy.Service, Partition: n.partition, Service: s}, UserID: s})
	}
	if n.bounded {
		for _, c := range slices.Clone(out) {
			if c.Kind == policy.User || c.Kind == policy.RoleSession || c.Kind == policy.FederatedSession && c.EntityARN != "" {
				c.Bounded = true
				out = append(out, c)
			}
		}
	}
	return out
}

// entity is a user, or a session of a role.
func (n *named) entity(kind policy.PrincipalKind, account, entity, id string) authz.Caller {
	c := authz.Caller{Principal: policy.Principal{Kind: kind, Partition: n.partition, Account: account, ARN: entity, EntityARN: entity, EntityID: id}}
	name := entity[strings.LastIndexByte(entity, '/')+1:]
	if kind == policy.User {
		c.UserName, c.UserID = name, id
		return c
	}
	c.ARN, c.UserID, c.TokenIssued = "arn:"+n.partition+":sts::"+account+":assumed-role/"+name+"/session", id+":session", fixed
	return c
}

// fromARN are the callers that an ARN can be of.
func (n *named) fromARN(text string) (out []authz.Caller) {
	a, err := arn.Parse(text)
	if err != nil {
		return nil
	}
	kind, name, _ := strings.Cut(a.Resource, "/")
	switch {
	case a.Service == "iam" && a.Resource == "root":
		return []authz.Caller{{Principal: policy.Principal{Kind: policy.RootUser, Partition: a.Partition, Account: a.Account, ARN: text}, UserID: a.Account}}
	case a.Service == "iam" && kind == "user":
		out = append(out, n.entity(policy.User, a.Account, text, "AIDAEXAMPLEOFAUSER000"), n.federated(a.Account, "arn:"+a.Partition+":sts::"+a.Account+":federated-user/other", text))
		for _, other := range n.ofKind(a.Account, "federated-user/") {
			out = append(out, n.federated(a.Account, other, text))
		}
		return out
	case a.Service == "iam" && kind == "role":
		return []authz.Caller{n.entity(policy.RoleSession, a.Account, text, "AROAEXAMPLEOFAROLE000")}
	case a.Service == "sts" && kind == "federated-user":
		return []authz.Caller{n.federated(a.Account, text, ""), n.federated(a.Account, text, "arn:"+a.Partition+":iam::"+a.Account+":user/other")}
	case a.Service == "sts" && kind == "assumed-role":
		role, _, _ := strings.Cut(name, "/")
		roles := []string{"arn:" + a.Partition + ":iam::" + a.Account + ":role/" + role}
		for _, other := range n.ofKind(a.Account, "role/") { // one with a path
			if strings.HasSuffix(other, "/"+role) {
				roles = append(roles, other)
			}
		}
		for _, entity := range distinct(roles) {
			c := n.entity(policy.RoleSession, a.Account, entity, "AROAEXAMPLEOFAROLE000")
			c.ARN = text
			out = append(out, c, n.entity(policy.RoleSession, a.Account, entity, "AROAEXAMPLEOFAROLE000"))
		}
	}
	return out
}

// ofKind are the ARNs there are in an account whose resource begins so.
func (n *named) ofKind(account, prefix string) (out []string) {
	begin := "::" + account + ":" + prefix
	for _, list := range [][]string{n.arns, n.found} {
		for _, text := range list {
			if strings.Contains(text, begin) {
				out = append(out, text)
			}
		}
	}
	return out
}

func (n *named) federated(account, text, by string) authz.Caller {
	c := authz.Caller{Principal: policy.Principal{Kind: policy.FederatedSession, Partition: n.partition, Account: account, ARN: text, EntityARN: by}, TokenIssued: fixed}
	c.UserID = account + ":" + text[strings.LastIndexByte(text, '/')+1:]
	return c
}
