// Package scenario reads authorization scenarios: text files that say who
// exists, which policies there are, and who may do what. Tests run each file at
// three depths: the decision alone, the service, and HTTP with real signatures.
//
// A file is a txtar archive: claims on top, policies below. Lines:
//
//	# A comment names the claims that follow it.
//	given key NAME in ACCOUNT [with FILE] [tags K=V,…] [multi-region] [unchecked]
//	given alias alias/NAME for KEY
//	given user|group|role NAME in ACCOUNT [with FILE…] [boundary FILE] [tags K=V,…] [path /P/] [groups G,…] [unchecked]
//	given session NAME of ROLE|USER [with FILE…] [tags K=V,…]
//	given federated NAME of USER [with FILE…]
//	given service PRINCIPAL
//	given grant NAME on KEY to WHO for OPERATION,… [equals K=V,…] [subset K=V,…] [source ARN] [retiring WHO] [from ACCOUNT]
//	given management ACCOUNT
//	given member ACCOUNT
//	given scp|rcp LEVEL in ACCOUNT with FILE…
//	given endpoint NAME with FILE
//	recreate user|role NAME
//	at TIME
//	WHO may [not] ACTION [with KEY] [using NAME=VALUE …]
//	    because FILE#SID allows|denies
//	    because no LAYER allows
//
// WHO is a name given before, or root@ACCOUNT. A name in using is a condition
// key, or grant for the grant that an operation is about, or token for a grant
// whose token is presented; several values of one key repeat it. What comes with unchecked has a policy that the API would not
// save, so that only the decision alone can meet it. In a policy, {{NAME}} is the
// ARN of the key of that name, {{id NAME}} the unique id of the user or role of
// that name, {{organization}} the id of the organization and {{path ACCOUNT}}
// where an account is in it. Its members are the accounts that have a service or
// resource control policy, or are said to be.
package scenario

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/policy"
)

// A File is one scenario file.
type File struct {
	Name   string
	Things []Thing
	Claims []Claim
	Texts  map[string]string // policies by file name

	open func(name string) ([]byte, error)
}

// A Thing is a given line.
type Thing struct {
	Kind, Name string
	Account    string
	Of         string // role or user of a session, key of an alias or grant
	To         string // grantee
	With       []string
	Boundary   string
	Path       string
	Groups     []string
	Operations []string
	Tags       map[string]string
	Equals     map[string]string
	Subset     map[string]string
	Source     string // a grant's SourceArn
	Retiring   string // who may retire a grant
	From       string // the account that made a grant, if it is not the key's
	Flags      []string
	Line       int
}

// A Claim is one assertion, after the things that stand before it.
type Claim struct {
	Name    string
	Who     string
	Action  string // without a service prefix it is of kms
	Key     string // empty for actions without a key
	Allowed bool
	Using   []Pair
	At      time.Time
	Because []string
	Things  int // how many of the file's things exist
	Line    int
}

// A Pair is a condition key and a value.
type Pair struct{ Name, Value string }

// Read reads a scenario file's text. Policies that are not in it are read by open; nil: there
// are none.
func Read(path string, text []byte, open func(name string) ([]byte, error)) (*File, error) {
	archive := txtar.Parse(text)
	f := &File{Name: filepath.Base(path), Texts: map[string]string{}, open: open}
	for _, file := range archive.Files {
		f.Texts[file.Name] = string(file.Data)
	}
	var comment string
	var at time.Time
	for i, line := range strings.Split(string(archive.Comment), "\n") {
		words := strings.Fields(line)
		var err error
		switch {
		case len(words) == 0:
		case words[0] == "#":
			comment = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line), "#"))
		case words[0] == "given", words[0] == "recreate":
			err = f.thing(words, i+1)
		case words[0] == "at":
			at, err = time.Parse(time.RFC3339, strings.Join(words[1:], " "))
		case words[0] == "because":
			err = f.because(strings.Join(words[1:], " "))
		default:
			err = f.claim(words, comment, at, i+1)
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", f.Name, i+1, err)
		}
	}
	return f, f.check()
}

func (f *File) thing(words []string, line int) error {
	if len(words) < 3 {
		return fmt.Errorf("cannot read %q", strings.Join(words, " "))
	}
	t := Thing{Kind: words[1], Name: words[2], Path: "/", Line: line}
	if words[0] == "recreate" {
		t.Kind = "recreate " + words[1]
	}
	for i := 3; i < len(words); i++ {
		word := words[i]
		if word == "multi-region" || word == "unchecked" {
			t.Flags = append(t.Flags, word)
			continue
		}
		i++
		if i == len(words) {
			return fmt.Errorf("%s needs a value", word)
		}
		if err := t.set(word, words[i]); err != nil {
			return err
		}
		for word == "with" && i+1 < len(words) && strings.HasSuffix(words[i+1], ".json") {
			i++
			t.With = append(t.With, words[i])
		}
	}
	f.Things = append(f.Things, t)
	return nil
}

func (t *Thing) set(word, value string) error {
	switch word {
	case "in":
		t.Account = value
	case "with":
		t.With = append(t.With, value)
	case "boundary":
		t.Boundary = value
	case "path":
		t.Path = value
	case "of", "on":
		t.Of = value
	case "to":
		t.To = value
	case "groups":
		t.Groups = strings.Split(value, ",")
	case "tags":
		t.Tags = pairs(value)
	case "equals":
		t.Equals = pairs(value)
	case "subset":
		t.Subset = pairs(value)
	case "source":
		t.Source = value
	case "retiring":
		t.Retiring = value
	case "from":
		t.From = value
	case "for":
		t.Of, t.Operations = orElse(t.Of, value), strings.Split(value, ",")
	default:
		return fmt.Errorf("cannot read %q", word)
	}
	return nil
}

func orElse(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

func pairs(s string) map[string]string {
	m := map[string]string{}
	for p := range strings.SplitSeq(s, ",") {
		k, v, _ := strings.Cut(p, "=")
		m[k] = v
	}
	return m
}

func (f *File) claim(words []string, comment string, at time.Time, line int) error {
	c := Claim{Name: comment, Who: words[0], At: at, Things: len(f.Things), Allowed: true, Line: line}
	rest := words[1:]
	if len(rest) < 2 || rest[0] != "may" {
		return fmt.Errorf("cannot read %q", strings.Join(words, " "))
	}
	rest = rest[1:]
	if rest[0] == "not" {
		c.Allowed, rest = false, rest[1:]
	}
	if len(rest) == 0 {
		return fmt.Errorf("no action")
	}
	c.Action, rest = rest[0], rest[1:]
	if len(rest) >= 2 && rest[0] == "with" {
		c.Key, rest = rest[1], rest[2:]
	}
	if len(rest) > 0 && rest[0] != "using" {
		return fmt.Errorf("cannot read %q", rest[0])
	}
	for _, p := range rest[min(1, len(rest)):] {
		name, value, ok := strings.Cut(p, "=")
		if !ok {
			return fmt.Errorf("%q is not NAME=VALUE", p)
		}
		c.Using = append(c.Using, Pair{name, value})
	}
	f.Claims = append(f.Claims, c)
	return nil
}

func (f *File) because(text string) error {
	if len(f.Claims) == 0 {
		return fmt.Errorf("because stands before any claim")
	}
	c := &f.Claims[len(f.Claims)-1]
	c.Because = append(c.Because, text)
	return nil
}

var reference = regexp.MustCompile(`\{\{([^}]+)\}\}`)

// Referents are what policies can refer to, in some world.
type Referents interface {
	ARNOf(name string) string
	IDOf(name string) string
	Organization() string
	PathOf(account string) string
}

// Text is a policy with all that it refers to filled in.
func (f *File) Text(name string, n Referents) string {
	return reference.ReplaceAllStringFunc(f.Texts[name], func(ref string) string {
		kind, rest, _ := strings.Cut(strings.Trim(ref, "{}"), " ")
		switch kind {
		case "id":
			return n.IDOf(rest)
		case "path":
			return n.PathOf(rest)
		case "organization":
			return n.Organization()
		default:
			return n.ARNOf(kind)
		}
	})
}

// Given returns the things of the kinds that the file gives, in order.
func Given(things []Thing, kinds ...string) (found []Thing) {
	for _, t := range things {
		if slices.Contains(kinds, t.Kind) {
			found = append(found, t)
		}
	}
	return found
}

// Management is the account of the organization, or empty if there is none.
func Management(things []Thing) string {
	if given := Given(things, "management"); len(given) > 0 {
		return given[0].Name
	}
	if len(Given(things, "member", "scp", "rcp")) > 0 {
		return "999988887777"
	}
	return ""
}

// IsMember reports whether an account is in the organization.
func IsMember(things []Thing, account string) bool {
	return account != "" && (account == Management(things) || slices.ContainsFunc(Given(things, "scp", "rcp"), func(t Thing) bool { return t.Account == account }) ||
		slices.ContainsFunc(Given(things, "member"), func(t Thing) bool { return t.Name == account }))
}

// Levels are the names of the levels at which policies bind an account, the
// account itself last.
func Levels(things []Thing, account string) (names []string) {
	for _, t := range Given(things, "scp", "rcp") {
		if t.Account == account && !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

// PrincipalARN is the ARN of whom a name stands for; a service's is its name.
func PrincipalARN(things []Thing, who string) string {
	if account, ok := strings.CutPrefix(who, "root@"); ok {
		return arn.Root("aws", account)
	}
	i := slices.IndexFunc(things, func(t Thing) bool {
		return t.Name == who && slices.Contains([]string{"user", "role", "session", "federated"}, t.Kind)
	})
	if i < 0 {
		return who
	}
	t := things[i]
	if t.Kind == "user" || t.Kind == "role" {
		return EntityARN(t)
	}
	j := slices.IndexFunc(things, func(e Thing) bool { return e.Name == t.Of && (e.Kind == "role" || e.Kind == "user") })
	switch e := things[j]; {
	case t.Kind == "federated":
		return arn.STS("aws", e.Account, "federated-user/"+t.Name)
	case e.Kind == "user":
		return EntityARN(e)
	default:
		return arn.STS("aws", e.Account, "assumed-role/"+e.Name+"/"+t.Name)
	}
}

// Via are the services that forward a claim's request, the last one to us.
func (c Claim) Via() (services []string) {
	for _, u := range c.Using {
		switch policy.KeyNamed(u.Name).ID {
		case policy.KeyCalledVia:
			services = append(services, u.Value)
		case policy.KeyKMSViaService:
			label, _, _ := strings.Cut(u.Value, ".")
			services = append(services, label+".amazonaws.com")
		}
	}
	return services
}

// Value is the value of a condition key in a claim, or empty.
func (c Claim) Value(id policy.KeyID) string {
	for _, u := range c.Using {
		if policy.KeyNamed(u.Name).ID == id {
			return u.Value
		}
	}
	return ""
}

// Grant is the grant that a claim is about: the one it names, or the first on its key.
func (c Claim) Grant(things []Thing) (Thing, bool) {
	for _, t := range Given(things, "grant") {
		named := !slices.ContainsFunc(c.Using, func(u Pair) bool { return u.Name == "grant" && u.Value != t.Name })
		if t.Of == c.Key && named {
			return t, true
		}
	}
	return Thing{}, false
}

// check insists that every file a line names exists, and that every file is named.
func (f *File) check() error {
	named := map[string]bool{}
	for _, t := range f.Things {
		for _, file := range slices.Concat(t.With, []string{t.Boundary}) {
			if file == "" {
				continue
			}
			named[file] = true
			if _, ok := f.Texts[file]; ok {
				continue
			}
			if f.open == nil {
				return fmt.Errorf("%s:%d: no file %s", f.Name, t.Line, file)
			}
			text, err := f.open(file)
			if err != nil {
				return fmt.Errorf("%s:%d: %w", f.Name, t.Line, err)
			}
			f.Texts[file] = string(text)
		}
	}
	for file := range f.Texts {
		if !named[file] {
			return fmt.Errorf("%s: nothing uses %s", f.Name, file)
		}
	}
	if len(f.Claims) == 0 {
		return fmt.Errorf("%s: claims nothing", f.Name)
	}
	return nil
}
