package analyze

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/policy"
)

// findCallers divides everybody who could call into classes.
func (s *space) findCallers(partition string) error {
	n := &named{space: s, partition: partition, accounts: newNames(), arns: newNames(), services: []string{}}
	n.accounts.add(s.account)
	n.read()
	if err := n.explore(); err != nil {
		return err
	}
	s.accounts, s.arns, s.ids, s.bounded = n.accounts, n.arns, n.ids, n.bounded
	s.inAccount = map[string][]member{}
	classes := map[string]*caller{}
	found := n.callers()
	for i := range found {
		who := &found[i]
		c := s.ask(*who)
		way := s.wayOf(c)
		if known := classes[way]; known != nil {
			c = known
		} else {
			classes[way] = c
			c.facts = s.factsOf(*who)
			s.callers = append(s.callers, c)
		}
		c.members = append(c.members, who)
		s.inAccount[who.Account] = append(s.inAccount[who.Account], member{who, c})
	}
	return nil
}

// classOf is the class of one caller.
func (s *space) classOf(who authz.Caller) *caller {
	c := s.ask(who)
	c.facts = s.factsOf(who)
	return c
}

// ask asks everything about one caller.
func (s *space) ask(who authz.Caller) *caller {
	c := &caller{who: who, holds: make([]bool, len(s.order)), reach: make([]policy.Reach, s.ruleCount)}
	s.asking.Caller = who
	for _, t := range s.order {
		if t.ofCaller {
			c.holds[t.index] = t.Holds(s.asking)
		}
	}
	for _, rules := range s.rules {
		for _, r := range rules {
			c.reach[r.index] = r.Reach(&who.Principal)
		}
	}
	return c
}

// wayOf tells classes apart.
func (s *space) wayOf(c *caller) string {
	way := make([]byte, 0, 3+len(c.holds)+len(c.reach))
	way = append(way, byte(c.who.Kind), digitOf(c.who.Account == s.account), digitOf(c.who.EntityARN == ""))
	for _, holds := range c.holds {
		way = append(way, digitOf(holds))
	}
	for _, reach := range c.reach {
		way = append(way, byte(reach))
	}
	return string(way)
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
	accounts  *names
	arns      *names
	ids       []string
	services  []string
	found     []string            // ARNs that no policy names, one for each way to match patterns
	within    map[string][]string // all of them, and those that are found, by account
	bounded   bool                // a boundary matters
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
	if arn.IsAccount(id) {
		n.accounts.add(id)
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
		if a.Resource != "root" {
			n.arns.add(text)
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
	for _, text := range n.arns.list { // the role of a session that is named may have a path
		if a, err := arn.Parse(text); err == nil && strings.HasPrefix(a.Resource, "assumed-role/") {
			role := strings.Split(a.Resource+"/", "/")[1]
			universes = append(universes, joined(literal("arn:"+n.partition+":iam::"+a.Account+":role/"), some(pathMark), literal("/"+role)))
		}
	}
	var err error
	ofAccount := func(id string) pattern { return joined(beginning, literal(id+":"), everything) }
	if n.found, err = n.samples(universes, patterns, ofAccount); err != nil {
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

// samples finds callers' ARNs as the function samples does, of each account that is named and
// of others. Of the accounts that no pattern tells apart it looks at one, and puts the others
// in its place.
func (n *named) samples(universes, patterns []pattern, ofAccount func(id string) pattern) ([]string, error) {
	a, start := newAutomaton(slices.Concat(universes, patterns))
	alike := map[string]string{}  // by the ways in which the patterns go on, the account that is looked at
	looked := map[string]string{} // the same by account
	for _, id := range n.accounts.list {
		way := ""
		for _, service := range []string{"iam", "sts"} {
			at := start
			for _, r := range "arn:" + n.partition + ":" + service + "::" + id + ":" {
				at = a.step(at, r)
			}
			way += string(appendBytes(nil, at))
		}
		if alike[way] == "" {
			alike[way] = id
		}
		looked[id] = alike[way]
	}
	for {
		all := slices.Clone(patterns)
		for _, id := range n.accounts.list {
			if looked[id] == id {
				all = append(all, ofAccount(id))
			}
		}
		found, err := withAvoided(universes, all, n.arns.list)
		if err != nil {
			return nil, err
		}
		byAccount := map[string][]string{}
		missed := false
		miss := func(id string) { looked[id], missed = id, true } // which has to be looked at itself
		for _, text := range found {
			id := strings.Split(text, ":")[4]
			if byAccount[id] = append(byAccount[id], text); looked[id] != "" && looked[id] != id {
				miss(id) // it is no other account
			}
		}
		for _, id := range n.accounts.list {
			if looked[id] == id {
				continue
			}
			for _, text := range byAccount[looked[id]] {
				here := strings.Replace(text, ":"+looked[id]+":", ":"+id+":", 1)
				if found = append(found, here); n.arns.has(here) && !n.arns.has(text) {
					miss(id)
				}
			}
		}
		if !missed {
			return slices.DeleteFunc(found, n.arns.has), nil
		}
	}
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
	all := slices.Concat(n.arns.list, n.found)
	n.within = map[string][]string{}
	for _, text := range all {
		account := strings.Split(text, ":")[4]
		n.within[account] = append(n.within[account], text)
	}
	out = make([]authz.Caller, 0, 3*len(all))
	for _, text := range all {
		out = append(out, n.fromARN(text)...)
	}
	for _, c := range out[:len(out):len(out)] { // whoever it is may have an id that is named
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
		for _, c := range out[:len(out):len(out)] {
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
	for _, text := range n.within[account] {
		if strings.Contains(text, "::"+account+":"+prefix) {
			out = append(out, text)
		}
	}
	return out
}

func (n *named) federated(account, text, by string) authz.Caller {
	c := authz.Caller{Principal: policy.Principal{Kind: policy.FederatedSession, Partition: n.partition, Account: account, ARN: text, EntityARN: by}, TokenIssued: fixed}
	c.UserID = account + ":" + text[strings.LastIndexByte(text, '/')+1:]
	return c
}
