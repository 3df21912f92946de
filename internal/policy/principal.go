package policy

import (
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/arn"
)

// A PrincipalKind is a kind of caller.
type PrincipalKind uint8

// The kinds of callers. The zero kind is nobody and matches no statement.
const (
	Nobody PrincipalKind = iota
	RootUser
	User             // long-term credentials, and GetSessionToken sessions, of an IAM user
	RoleSession      // a session of a role
	FederatedSession // a GetFederationToken session
	Service          // an AWS service calling for itself
	WebIdentity      // whom a token of an identity provider is for, before it has a session
)

// A Principal is who asks, in every representation a Principal element can name.
type Principal struct {
	Kind      PrincipalKind
	Partition string
	Account   string // 12 digits
	ARN       string // the caller as it is shown: user, session, federated user or root ARN
	EntityARN string // the user or role behind it; empty for root and services
	EntityID  string // its unique id, AIDA… or AROA…
	Service   string // the service principal
	Federated string // the ARN of the identity provider, of a web identity
	Bounded   bool   // a permissions boundary is attached (AUTH-2.18)
}

// A Reach says how a Principal element came to name a caller, which decides
// what else the caller needs (authorization.md §5.1).
type Reach uint8

// The reaches, from the weakest.
const (
	NoReach  Reach = iota
	Account        // its account: delegation, not permission (AUTH-3.1)
	Limited        // its role, or the user behind a federated session: boundary and session policy limit it
	Direct         // itself: user, session, federated user, service
	Everyone       // "*"
	numReach
)

// principals is a compiled Principal element.
type principals struct {
	everyone  bool
	accounts  []string // partition:account, or :account when written as 12 digits
	arns      []string
	many      map[string]bool // the same, if they are more than a few
	ids       []string
	services  []string
	federated []string
}

func compilePrincipals(p *Principals) principals {
	c := principals{everyone: p.Everyone}
	for _, e := range p.Entries {
		for _, v := range e.Values.Items {
			switch e.Type {
			case "AWS":
				c.addAWS(v.Text)
			case "Service":
				c.services = append(c.services, v.Text)
			case "Federated": // callers of this kind meet trust policies only (AUTH-2.8)
				c.federated = append(c.federated, v.Text)
			}
			// CanonicalUser principals match no caller here (AUTH-2.9).
		}
	}
	if len(c.arns) > fewARNs {
		c.many = map[string]bool{}
		for _, a := range c.arns {
			c.many[a] = true
		}
	}
	return c
}

func (c *principals) addAWS(text string) {
	if text == "*" {
		c.everyone = true
		return
	}
	if arn.IsAccount(text) {
		c.accounts = append(c.accounts, ":"+text)
		return
	}
	if IsUniqueID(text) {
		c.ids = append(c.ids, text)
		return
	}
	a, err := arn.Parse(text)
	switch {
	case err != nil:
	case a.Service == "iam" && a.Region == "" && a.Resource == "root":
		c.accounts = append(c.accounts, a.Partition+":"+a.Account)
	default:
		c.arns = append(c.arns, text)
	}
}

// IsUniqueID reports whether s has the form of a user's or role's unique id.
func IsUniqueID(s string) bool {
	return len(s) >= 16 && len(s) <= 128 && (strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA")) &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// oneByOne reports whether the element names callers by what names returns alone.
func (c *principals) oneByOne() bool { return !c.everyone && len(c.accounts) == 0 }

func (c *principals) names() []string {
	return slices.Concat(c.arns, c.ids, c.services, c.federated)
}

// names are what an element can name a caller by, but for its account; some are empty.
func (who *Principal) names() [3]string {
	switch who.Kind {
	case Service:
		return [3]string{who.Service}
	case WebIdentity:
		return [3]string{who.Federated}
	default:
		entity := who.EntityARN
		if entity == who.ARN { // a user
			entity = ""
		}
		return [3]string{who.ARN, entity, who.EntityID}
	}
}

// reach is how the element names who (AUTH-2.1 to 2.14).
func (c *principals) reach(who *Principal) Reach {
	switch {
	case who.Kind == Nobody:
		return NoReach
	case c.everyone:
		return Everyone
	case who.Kind == Service:
		return directly(slices.Contains(c.services, who.Service))
	case who.Kind == WebIdentity:
		return directly(slices.Contains(c.federated, who.Federated))
	}
	if c.hasARN(who.ARN) {
		return Direct // for a user this is the user's own ARN, for a session the session's
	}
	if who.EntityARN != "" && (slices.Contains(c.ids, who.EntityID) || c.hasARN(who.EntityARN)) {
		if who.Kind == User {
			return Direct
		}
		return Limited
	}
	if c.hasAccount(who) {
		return Account
	}
	return NoReach
}

func directly(named bool) Reach {
	if named {
		return Direct
	}
	return NoReach
}

// fewARNs are as quickly looked through as looked up.
const fewARNs = 8

func (c *principals) hasARN(s string) bool {
	if c.many != nil {
		return c.many[s]
	}
	return slices.Contains(c.arns, s)
}

// hasAccount compares without joining partition and account, to allocate nothing.
func (c *principals) hasAccount(who *Principal) bool {
	for _, a := range c.accounts {
		partition, account, _ := strings.Cut(a, ":")
		if account == who.Account && (partition == "" || partition == who.Partition) {
			return true
		}
	}
	return false
}

// exempts reports whether the NotPrincipal element of a Deny spares who. This
// is the UNVERIFIED calculus of AUTH-2.18: every representation must be listed,
// and whoever has a permissions boundary is never spared, whatever is listed.
func (c *principals) exempts(who *Principal) bool {
	if who.Bounded {
		return false
	}
	if c.everyone {
		return true
	}
	entity := c.hasARN(who.EntityARN) || who.EntityID != "" && slices.Contains(c.ids, who.EntityID)
	switch who.Kind {
	case RootUser:
		return c.hasAccount(who)
	case User:
		return entity && c.hasAccount(who)
	case RoleSession:
		return entity && c.hasARN(who.ARN) && c.hasAccount(who)
	case FederatedSession:
		return c.hasARN(who.ARN) && c.hasAccount(who)
	case Service:
		return slices.Contains(c.services, who.Service)
	case WebIdentity:
		return slices.Contains(c.federated, who.Federated)
	default:
		return false
	}
}
