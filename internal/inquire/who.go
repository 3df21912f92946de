package inquire

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/analyze"
	"github.com/claviger/claviger/internal/authz"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A WhoQuestion asks who may do an action with a key.
type WhoQuestion struct {
	Key, Action string
	Region      string
	Given       []string // values of condition keys, as in a Case
	Outside     string   // account or org: only who is not of the key's; empty: everybody
}

// A Row says that some principals may do something, by which way, and what else has to be
// true. Each row is true; together they are everything.
type Row struct {
	Principals []string
	By         string
	Conditions []string `json:",omitzero"` // all of which must hold
	// Open says that the principals are not of the store: they could exist.
	Open bool `json:",omitzero"`
}

// Outside is what may be left out of an answer.
const (
	OutsideAccount = "account"
	OutsideOrg     = "org"
)

// Who lists who may do an action with a key: everybody in the store, by name, and whoever
// else there could be. ErrQuestion: it cannot be asked; analyze.ErrUndecided: the policies
// are too large.
func (w *World) Who(ctx context.Context, q WhoQuestion) (rows []Row, err error) {
	if q.Outside != "" && q.Outside != OutsideAccount && q.Outside != OutsideOrg {
		return nil, fmt.Errorf("%w: outside of %q: %s or %s", ErrQuestion, q.Outside, OutsideAccount, OutsideOrg)
	}
	err = w.view(ctx, func(tx *store.Tx) error {
		t := table{seen: map[string]int{}, sessions: map[string][]string{}, of: map[string][]string{}}
		principals, accounts, err := iam.Everybody(tx)
		if err != nil {
			return err
		}
		if len(principals) == 0 {
			return fmt.Errorf("%w: there is no account", ErrQuestion)
		}
		c := Case{As: principals[0], Action: q.Action, Key: q.Key, Region: q.Region, Given: q.Given}
		first, err := w.situation(tx, c)
		if err != nil {
			return err
		}
		c.Key = first.request.Resource
		names := newPlaces(tx, partition(c.Key))
		stored, err := names.document(first.policies.Resource)
		if err != nil {
			return err
		}
		named, err := namedIn(tx, stored, c.Key)
		if err != nil {
			return err
		}
		for _, c.As = range slices.Concat(named, principals) {
			if err := ctx.Err(); err != nil {
				return err
			}
			s, err := w.situation(tx, c)
			if errors.Is(err, ErrQuestion) {
				continue // a session of a role that is gone
			}
			if err != nil {
				return err
			}
			if s.closed || !s.outside(q.Outside) {
				continue
			}
			ways, err := analyze.Ways(s.subject(q.Given))
			if err != nil {
				return err
			}
			var rows []Row
			for _, way := range ways {
				rows = append(rows, Row{Principals: []string{c.As}, By: names.way(way), Conditions: s.conditions(way)})
			}
			t.addAll(c.As, s.request.Caller.EntityARN, rows)
		}
		rows, err = w.strangers(t, first, names, stored, q.Given, append(accounts, named...))
		return err
	})
	return rows, err
}

// A table is rows, of which those that differ in the principals alone are one.
type table struct {
	rows     []Row
	seen     map[string]int
	sessions map[string][]string // by the role, the sessions of it that are named
	of       map[string][]string // by the session, the rows that it is in
}

func (r *Row) name() string { return fmt.Sprint(r.By, r.Conditions, r.Open) }

func (t *table) add(r Row) {
	name := r.name()
	if i, known := t.seen[name]; known {
		t.rows[i].Principals = append(t.rows[i].Principals, r.Principals...)
		return
	}
	t.seen[name] = len(t.rows)
	t.rows = append(t.rows, r)
}

// addAll adds the rows of one principal: of a session that is named, which comes before its
// role; or of a role, whose rows such a session may not be in.
func (t *table) addAll(who, entity string, rows []Row) {
	session := strings.Contains(who, ":assumed-role/")
	if session {
		t.sessions[entity] = append(t.sessions[entity], who)
	}
	for _, r := range rows {
		if session {
			t.of[who] = append(t.of[who], r.name())
		} else {
			for _, s := range t.sessions[entity] {
				if !slices.Contains(t.of[s], r.name()) {
					r.Conditions = append(slices.Clip(r.Conditions), "not as "+s)
				}
			}
		}
		t.add(r)
	}
}

// strangers adds who is not in the store and could be somewhere.
func (w *World) strangers(t table, first *situation, names *places, stored *policy.Document, given, but []string) ([]Row, error) {
	if first.policies.Resource == nil {
		return t.rows, nil
	}
	request := *first.request
	request.Caller = authz.Caller{}
	known := analyze.Known{Request: &request, Has: knows(&authz.Caller{}, given), Limits: first.policies.RCP}
	p := policy.Compile(stored, policy.Key, storedKeyPolicy)
	open, err := analyze.Who(analyze.Key(request.Resource), p, request.Action, &known, but...)
	if err != nil {
		return nil, err
	}
	for _, r := range open {
		by := authz.By{Policy: first.policies.Resource, Ref: r.Statement}
		t.add(Row{Principals: r.Callers, By: names.name(by), Conditions: r.Conditions, Open: true})
	}
	return t.rows, nil
}

// namedIn are the sessions and services that a key's policy and grants name.
func namedIn(tx *store.Tx, doc *policy.Document, key string) (out []string, err error) {
	grants, err := kms.GrantsOf(tx, key)
	for _, g := range grants {
		out = append(out, g.Grantee)
	}
	_ = doc.EachPrincipal(func(_ string, entry *policy.Item) error {
		out = append(out, entry.Text)
		return nil
	})
	out = slices.DeleteFunc(out, func(who string) bool { return !strings.Contains(who, ":sts::") && !iam.IsServicePrincipal(who) })
	slices.Sort(out)
	return slices.Compact(out), err
}

// outside reports whether the caller is not of the key's account, or organization.
func (s *situation) outside(of string) bool {
	r := s.request
	switch of {
	case OutsideAccount:
		return r.Caller.Account != r.ResourceAccount
	case OutsideOrg:
		return r.Caller.Account != r.ResourceAccount && (r.CallerOrg.Organization == "" || r.CallerOrg.Organization != r.ResourceOrg.Organization)
	default:
		return true
	}
}

// conditions are those of a way, and what an alias needs beside its key (AUTH-9.1).
func (s *situation) conditions(w analyze.Way) []string {
	if strings.HasSuffix(s.request.Action.String(), "Alias") {
		return append(slices.Clip(w.Conditions), "identity policies allow it on the alias as well")
	}
	return w.Conditions
}

// subject is a situation of which only what is known for certain is fixed.
func (s *situation) subject(given []string) analyze.Subject {
	return analyze.Subject{Known: analyze.Known{Request: s.request, Has: knows(&s.request.Caller, given)}, Policies: &s.policies}
}

// ofTheKey are condition keys about the key and where it is.
var ofTheKey = []policy.KeyID{policy.KeyResourceAccount, policy.KeyResourceOrgID, policy.KeyResourceOrgPaths, policy.KeyRequestedRegion, policy.KeyResourceTag, policy.KeyKMSResourceTag,
	policy.KeyKMSKeySpec, policy.KeyKMSKeyUsage, policy.KeyKMSKeyOrigin, policy.KeyKMSMultiRegion, policy.KeyKMSMultiRegionKeyType, policy.KeyKMSResourceAliases,
	policy.KeyKMSCustomerMasterKeySpec, policy.KeyKMSCustomerMasterKeyUsage}

// ofTheCaller are condition keys that a caller who is known has for certain; ofLasting are
// those that session tags and names can change.
var (
	ofTheCaller = []policy.KeyID{policy.KeyPrincipalAccount, policy.KeyPrincipalArn, policy.KeyPrincipalIsAWSService, policy.KeyPrincipalOrgID, policy.KeyPrincipalOrgPaths,
		policy.KeyPrincipalServiceName, policy.KeyPrincipalServiceNamesList, policy.KeyPrincipalType, policy.KeyUsername, policy.KeyKMSCallerAccount}
	ofLasting = []policy.KeyID{policy.KeyPrincipalTag, policy.KeyUserid}
)

// knows tells which condition keys are known: those of the key, of a caller that is known, and
// what is given, with all that depends on it.
func knows(who *authz.Caller, given []string) func(policy.ConditionKey) bool {
	groups := map[string]bool{}
	for _, pair := range given {
		name, _, _ := strings.Cut(pair, "=")
		groups[analyze.Group(policy.KeyNamed(name))] = true
	}
	return func(key policy.ConditionKey) bool {
		caller := who.Kind != policy.Nobody
		lasting := who.Kind == policy.User || who.Kind == policy.RootUser || who.Kind == policy.Service
		return slices.Contains(ofTheKey, key.ID) || caller && slices.Contains(ofTheCaller, key.ID) || lasting && slices.Contains(ofLasting, key.ID) ||
			groups[analyze.Group(key)]
	}
}

// way is a way in words.
func (p *places) way(w analyze.Way) string {
	switch {
	case w.By.Ref == 0:
		return p.name(w.Via)
	case w.Via.Ref == 0:
		return p.name(w.By)
	default:
		return p.name(w.Via) + ", and " + p.name(w.By)
	}
}

// A Right is some actions that a principal may do with a key.
type Right struct {
	Key        string
	Actions    []string
	By         string
	Conditions []string `json:",omitzero"`
}

// What lists what a principal may do with the keys of the store, or with one of them if key
// is not empty. ErrQuestion: there is no such principal or key; analyze.ErrUndecided: the
// policies are too large.
func (w *World) What(ctx context.Context, as, key string, given []string) (rights []Right, err error) {
	keys := []string{key}
	if key == "" {
		if keys, err = kms.Keys(ctx, w.DB); err != nil {
			return nil, err
		}
	}
	for _, key := range keys {
		err := w.view(ctx, func(tx *store.Tx) error {
			some, err := w.rights(tx, Case{As: as, Key: key, Given: given})
			rights = append(rights, some...)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return rights, nil
}

// rights are what a principal may do with one key. The case's action is of no account.
func (w *World) rights(tx *store.Tx, c Case) (out []Right, err error) {
	seen := map[string]int{}
	names := newPlaces(tx, "")
	for a := policy.Action(1); int(a) < policy.NumActions; a++ {
		if !authz.OnKeys.Has(a) {
			continue
		}
		c.Action = a.String()
		s, err := w.situation(tx, c)
		if err != nil {
			return nil, err
		}
		if s.closed {
			return nil, nil
		}
		c.Key, names.partition = s.request.Resource, partition(s.request.Resource)
		ways, err := analyze.Ways(s.subject(c.Given))
		if err != nil {
			return nil, err
		}
		for _, way := range ways {
			r := Right{Key: c.Key, Actions: []string{c.Action}, By: names.way(way), Conditions: s.conditions(way)}
			name := fmt.Sprint(r.By, r.Conditions)
			if i, known := seen[name]; known {
				out[i].Actions = append(out[i].Actions, c.Action)
				continue
			}
			seen[name] = len(out)
			out = append(out, r)
		}
	}
	return out, nil
}
