// Package foreign reads what AWS's command line prints about accounts, keys and organizations
// into a store, so that questions about them can be asked: nothing can be encrypted there.
// What it cannot make sense of it tells, with its place, and goes on.
package foreign

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// A Loader writes what it reads to a store, which must be new. It is for one goroutine.
type Loader struct {
	DB *store.DB
	// Account and Region are of keys whose files do not tell.
	Account, Region string
	// Problem is told what could not be taken in, and where that is.
	Problem func(text string)

	Identities, Policies, KMSKeys, Grants, Accounts int // that were taken in

	keys    map[string]*kms.Key // by id
	aliases []alias
	grants  []*kms.Grant
}

type alias struct{ name, key, where string }

// maxFile bounds a file, in bytes.
const maxFile = 256 << 20

func (l *Loader) problem(format string, args ...any) { l.Problem(fmt.Sprintf(format, args...)) }

// update writes one thing; what is wrong with it is a problem, and not the end.
func (l *Loader) update(ctx context.Context, where string, count *int, fn func(*store.Tx) error) {
	if err := l.DB.Update(ctx, fn); err != nil {
		l.problem("%s: %v", where, err)
		return
	}
	*count++
}

// readJSON reads a file that holds one JSON value.
func readJSON(path string, into any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxFile {
		return fmt.Errorf("%s is longer than %d bytes", path, maxFile)
	}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// A document is a policy: an object, or a text that holds one, URL-encoded or not.
type document string

// UnmarshalJSONFrom reads any of the forms.
func (d *document) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	v, err := dec.ReadValue()
	if err != nil {
		return err
	}
	if v.Kind() != '"' {
		*d = document(v)
		return nil
	}
	var text string
	if err := json.Unmarshal(v, &text); err != nil {
		return err
	}
	if plain, err := url.PathUnescape(text); err == nil && strings.HasPrefix(strings.TrimSpace(text), "%7B") {
		text = plain
	}
	*d = document(text)
	return nil
}

type named struct {
	PolicyName     string
	PolicyDocument document
}

type attached struct{ PolicyName, PolicyArn string }

type tag struct{ Key, Value string }

// A detail is a user, group or role of get-account-authorization-details.
type detail struct {
	Path, UserName, GroupName, RoleName string
	UserID                              string `json:"UserId"`
	GroupID                             string `json:"GroupId"`
	RoleID                              string `json:"RoleId"`
	Arn                                 string
	CreateDate                          time.Time
	UserPolicyList                      []named
	GroupPolicyList                     []named
	RolePolicyList                      []named
	GroupList                           []string
	AttachedManagedPolicies             []attached
	PermissionsBoundary                 struct{ PermissionsBoundaryArn string }
	Tags                                []tag
	AssumeRolePolicyDocument            document
}

// An authorization is what aws iam get-account-authorization-details prints.
type authorization struct {
	UserDetailList, GroupDetailList, RoleDetailList []detail
	Policies                                        []struct {
		PolicyName, Path, Arn string
		PolicyID              string `json:"PolicyId"`
		DefaultVersionID      string `json:"DefaultVersionId"`
		CreateDate            time.Time
		PolicyVersionList     []struct {
			VersionID        string `json:"VersionId"`
			Document         document
			IsDefaultVersion bool
		}
	}
	IsTruncated bool
	Marker      string
}

// Authorization reads what aws iam get-account-authorization-details printed.
func (l *Loader) Authorization(ctx context.Context, path string) error {
	var in authorization
	if err := readJSON(path, &in); err != nil {
		return err
	}
	if in.UserDetailList == nil && in.GroupDetailList == nil && in.RoleDetailList == nil {
		return fmt.Errorf("%s: that is not what get-account-authorization-details prints", path)
	}
	if in.IsTruncated {
		l.problem("%s: the output is truncated: identities and policies are missing from it", path)
	}
	for _, p := range in.Policies {
		a, err := arn.Parse(p.Arn)
		if err != nil {
			l.problem("%s: policy %s: %q is not an ARN", path, p.PolicyName, p.Arn)
			continue
		}
		m := &iam.Managed{Account: a.Account, Name: p.PolicyName, Path: p.Path, ID: p.PolicyID, Created: p.CreateDate}
		if m.Account == "aws" {
			m.Account = ""
		}
		found := false
		for _, v := range p.PolicyVersionList {
			if v.IsDefaultVersion || v.VersionID == p.DefaultVersionID {
				found = true
				l.update(ctx, path+": "+p.Arn, &l.Policies, func(tx *store.Tx) error { return iam.LoadManaged(tx, m, string(v.Document)) })
				break
			}
		}
		if !found {
			l.problem("%s: %s: its default version %s is not in the file", path, p.Arn, p.DefaultVersionID)
		}
	}
	for _, class := range []struct {
		class iam.Class
		list  []detail
	}{{iam.GroupClass, in.GroupDetailList}, {iam.UserClass, in.UserDetailList}, {iam.RoleClass, in.RoleDetailList}} {
		for _, d := range class.list {
			l.identity(ctx, path, class.class, &d)
		}
	}
	return nil
}

func (l *Loader) identity(ctx context.Context, path string, class iam.Class, d *detail) {
	a, err := arn.Parse(d.Arn)
	if err != nil || !arn.IsAccount(a.Account) {
		l.problem("%s: %s %s: %q is not its ARN", path, class, d.UserName+d.GroupName+d.RoleName, d.Arn)
		return
	}
	e := &iam.Entity{Class: class, Account: a.Account, Name: d.UserName, Path: d.Path, ID: d.UserID, Created: d.CreateDate, Inline: map[string]string{},
		Boundary: d.PermissionsBoundary.PermissionsBoundaryArn, Groups: d.GroupList}
	inline := d.UserPolicyList
	switch class {
	case iam.GroupClass:
		e.Name, e.ID, inline = d.GroupName, d.GroupID, d.GroupPolicyList
	case iam.RoleClass:
		e.Name, e.ID, inline, e.Trust = d.RoleName, d.RoleID, d.RolePolicyList, string(d.AssumeRolePolicyDocument)
	}
	for _, p := range inline {
		e.Inline[p.PolicyName] = string(p.PolicyDocument)
	}
	for _, t := range d.Tags {
		e.Tags = append(e.Tags, iam.Tag{Key: t.Key, Value: t.Value})
	}
	l.update(ctx, path+": "+d.Arn, &l.Identities, func(tx *store.Tx) error {
		e.Attached = nil
		for _, p := range d.AttachedManagedPolicies {
			known, err := iam.ManagedKnown(tx, p.PolicyArn)
			if err != nil {
				return err
			}
			if !known {
				l.problem("%s: %s: its policy %s is not in the file, and is left out", path, d.Arn, p.PolicyArn)
				continue
			}
			e.Attached = append(e.Attached, p.PolicyArn)
		}
		if e.Boundary != "" {
			if known, err := iam.ManagedKnown(tx, e.Boundary); err != nil || !known {
				return errors.Join(fmt.Errorf("its permissions boundary %s is not in the file", e.Boundary), err)
			}
		}
		groups := e.Groups
		e.Groups = nil
		for _, g := range groups {
			if _, err := iam.FindEntity(tx, e.Account, iam.GroupClass, g); err != nil {
				l.problem("%s: %s: its group %s is not in the file, and is left out", path, d.Arn, g)
				continue
			}
			e.Groups = append(e.Groups, g)
		}
		return iam.LoadIdentity(tx, e)
	})
}

// keyID finds the id of a key in the name of a file.
var (
	keyID  = regexp.MustCompile(`mrk-[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	region = regexp.MustCompile(`\b[a-z]{2}(-[a-z]+)+-[0-9]\b`)
	digits = regexp.MustCompile(`\b[0-9]{12}\b`)
)

// A piece is anything that aws kms prints about a key, or a key policy itself.
type piece struct {
	Policy      *string // get-key-policy
	KeyMetadata *struct {
		Arn, KeyID, KeySpec, KeyUsage, Origin, KeyState, Description, KeyManager string
		MultiRegion                                                              bool
		MultiRegionConfiguration                                                 struct {
			MultiRegionKeyType string
			PrimaryKey         struct{ Region string }
		}
	}
	Aliases   []struct{ AliasName, TargetKeyID string }
	Tags      []struct{ TagKey, TagValue string }
	Grants    []grant
	Statement jsontext.Value
}

// A grant is one of list-grants.
type grant struct {
	KeyID, GrantID, Name, GranteePrincipal, RetiringPrincipal, IssuingAccount string
	GranteeServicePrincipal, RetiringServicePrincipal                         string
	Operations                                                                []string
	Constraints                                                               struct {
		EncryptionContextEquals, EncryptionContextSubset map[string]string
		SourceArn                                        string
	}
}

func (g *grant) terms() policy.GrantTerms {
	return policy.GrantTerms{Grantee: g.GranteePrincipal + g.GranteeServicePrincipal, Operations: g.Operations,
		Equals: g.Constraints.EncryptionContextEquals, Subset: g.Constraints.EncryptionContextSubset, SourceArn: g.Constraints.SourceArn}
}

// ReadGrants reads the terms of what aws kms list-grants printed; their names are the grants'
// ids.
func ReadGrants(text []byte) (out []policy.GrantTerms, err error) {
	var in piece
	if err := json.Unmarshal(text, &in, json.MatchCaseInsensitiveNames(true)); err != nil {
		return nil, err
	}
	if in.Grants == nil {
		return nil, errors.New("that is not what aws kms list-grants prints")
	}
	for _, g := range in.Grants {
		terms := g.terms()
		terms.Name = g.GrantID
		out = append(out, terms)
	}
	return out, nil
}

// Keys reads what aws kms printed: for each key get-key-policy, and as far as they are there
// describe-key, list-aliases, list-resource-tags and list-grants, in files with names that
// have the key's id in them, or in folders whose names do. A Region or an account in a name
// counts, too. It may be called for several directories; Finish writes what was found.
func (l *Loader) Keys(dir string) error {
	if l.keys == nil {
		l.keys = map[string]*kms.Key{}
	}
	found := false
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		found = true
		if err := l.keyFile(dir, path); err != nil {
			l.problem("%v", err)
		}
		return nil
	})
	if err == nil && !found {
		err = fmt.Errorf("%s has no files", dir)
	}
	return err
}

func (l *Loader) keyFile(dir, path string) error {
	var in piece
	if err := readKeyFile(path, &in); err != nil {
		return err
	}
	name, err := filepath.Rel(dir, path)
	if err != nil {
		return err
	}
	if in.KeyMetadata != nil {
		name += " " + in.KeyMetadata.Arn
	}
	switch id := keyID.FindString(name); {
	case in.Grants != nil:
		for _, g := range in.Grants {
			l.grant(path, g.KeyID, &kms.Grant{ID: g.GrantID, Name: g.Name, Issuer: accountOf(g.IssuingAccount), Retiring: g.RetiringPrincipal + g.RetiringServicePrincipal, Terms: g.terms()})
		}
	case in.Aliases != nil:
		for _, a := range in.Aliases {
			if a.TargetKeyID != "" {
				l.aliases = append(l.aliases, alias{a.AliasName, a.TargetKeyID, path})
			}
		}
	case id == "":
		return fmt.Errorf("%s: which key it is of is not plain: its name has no key id", path)
	case in.Policy != nil || in.Statement != nil || in.KeyMetadata != nil || in.Tags != nil:
		l.describe(l.key(id, name), &in, path)
	default:
		return fmt.Errorf("%s: that is nothing that aws kms prints about a key", path)
	}
	return nil
}

// readKeyFile reads a file; members are written in any case, and KeyId as KeyId.
func readKeyFile(path string, in *piece) error {
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, in, json.MatchCaseInsensitiveNames(true))
	}
	if err == nil && in.Statement != nil {
		in.Policy = new(string(text))
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func accountOf(text string) string {
	if a, err := arn.Parse(text); err == nil {
		return a.Account
	}
	return text
}

// key is the key of an id, with what the name of a file says about it.
func (l *Loader) key(id, name string) *kms.Key {
	k := l.keys[id]
	if k == nil {
		k = &kms.Key{ID: id, Account: l.Account, Region: l.Region}
		l.keys[id] = k
	}
	if r := region.FindString(name); r != "" {
		k.Region = r
	}
	if a := digits.FindString(name); a != "" && !strings.Contains(id, a) {
		k.Account = a
	}
	return k
}

func (l *Loader) describe(k *kms.Key, in *piece, path string) {
	if in.Policy != nil {
		k.Policy = *in.Policy
	}
	for _, t := range in.Tags {
		k.Tags = append(k.Tags, kms.Tag{Key: t.TagKey, Value: t.TagValue})
	}
	m := in.KeyMetadata
	if m == nil {
		return
	}
	a, err := arn.Parse(m.Arn)
	if err != nil {
		l.problem("%s: %q is not the ARN of a key", path, m.Arn)
		return
	}
	k.Account, k.Region, k.Spec, k.Usage, k.Origin, k.State, k.Description, k.MultiRegion = a.Account, a.Region, m.KeySpec, m.KeyUsage, m.Origin, m.KeyState, m.Description, m.MultiRegion
	if m.MultiRegion {
		k.Primary = m.MultiRegionConfiguration.PrimaryKey.Region
	}
	if m.KeyManager == "AWS" {
		k.Manager = m.KeyManager
	}
}

func (l *Loader) grant(path, key string, g *kms.Grant) {
	a, err := arn.Parse(key)
	id := keyID.FindString(key)
	switch {
	case id == "":
		l.problem("%s: grant %s: %q is no key", path, g.ID, key)
		return
	case err == nil:
		g.Account, g.Region = a.Account, a.Region
	}
	g.KeyID = id
	l.grants = append(l.grants, g)
}

// Finish writes the keys, aliases and grants that were found.
func (l *Loader) Finish(ctx context.Context) {
	for _, id := range sorted(l.keys) {
		k := l.keys[id]
		switch {
		case k.Policy == "":
			l.problem("key %s: its policy is not in the files: it is left out", id)
		case k.Account == "" || k.Region == "":
			l.problem("key %s: which account and Region it is in is not plain: add describe-key, or say --account and --region", id)
		default:
			l.update(ctx, "key "+id, &l.KMSKeys, func(tx *store.Tx) error { return kms.LoadKey(tx, k) })
		}
	}
	ignored := 0
	for _, a := range l.aliases {
		k := l.keys[a.key]
		if k == nil {
			continue // of a key that is not asked about
		}
		l.update(ctx, a.where+": "+a.name, &ignored, func(tx *store.Tx) error { return kms.LoadAlias(tx, k.Region, k.Account, a.name, a.key) })
	}
	for _, g := range l.grants {
		k := l.keys[g.KeyID]
		if k == nil {
			l.problem("grant %s: its key %s is not in the files: it is left out", g.ID, g.KeyID)
			continue
		}
		g.Account, g.Region = k.Account, k.Region
		l.update(ctx, "grant "+g.ID, &l.Grants, func(tx *store.Tx) error { return kms.LoadGrant(tx, g) })
	}
}

func sorted[T any](m map[string]T) (out []string) {
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
