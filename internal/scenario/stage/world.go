package stage

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"encoding/xml"
	"fmt"
	"github.com/claviger/claviger/internal/scenario"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

// Credentials are what a caller signs with.
type Credentials struct{ ID, Secret, Token string }

// A World is a server in memory that holds what a file gives, made through the
// API as an administrator would.
type World struct {
	Server *server.Server
	HTTP   *httptest.Server
	KeyARN map[string]string // by name
	KeyID  map[string]string
	UserID map[string]string // unique ids of users and roles by name
	// Callers are the credentials of everyone who may stand in a claim.
	Callers map[string]Credentials

	tb      testing.TB
	file    *scenario.File
	things  []scenario.Thing
	grants  map[string]string // ids by name
	tokens  map[string]string // grant tokens by the grant's name
	org     string
	paths   map[string]string // of accounts in the organization
	through *iam.Endpoint     // what claims come through
}

const adminPolicy = "arn:aws:iam::aws:policy/AdministratorAccess"

// NewWorld makes the world of the first n things of f.
func NewWorld(tb testing.TB, f *scenario.File, n int) *World {
	tb.Helper()
	s, err := server.Open(tb.Context(), server.Config{Account: "111122223333", Logger: slog.New(slog.DiscardHandler),
		RootKeys: []server.Credentials{{ID: "root111122223333", Secret: "secret"}}, Services: serviceCredentials(f)})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	w := &World{Server: s, KeyARN: map[string]string{}, KeyID: map[string]string{}, UserID: map[string]string{}, Callers: map[string]Credentials{},
		tb: tb, file: f, things: f.Things[:n], grants: map[string]string{}, tokens: map[string]string{}, paths: map[string]string{}}
	w.HTTP = httptest.NewTestServer(tb, http.HandlerFunc(w.serve))
	for _, c := range serviceCredentials(f) {
		w.Callers[c.Service] = Credentials{ID: c.ID, Secret: string(c.Secret)}
	}
	for _, t := range w.things {
		w.account(t)
	}
	w.organize()
	for _, step := range []func(scenario.Thing){w.key, w.alias, w.group, w.entity, w.grant, w.keyPolicy, w.session, w.recreate} {
		for _, t := range w.things {
			step(t)
		}
	}
	w.bind()
	for _, t := range scenario.Given(w.things, "endpoint") {
		w.endpoint(t)
	}
	return w
}

// serve answers through the VPC endpoint once there is one.
func (w *World) serve(rw http.ResponseWriter, r *http.Request) {
	if w.through != nil {
		w.Server.Through(w.through).ServeHTTP(rw, r)
		return
	}
	w.Server.Handler().ServeHTTP(rw, r)
}

// serviceCredentials are those of every service that calls or forwards in a file.
func serviceCredentials(f *scenario.File) (out []iam.ServiceCredential) {
	var services []string
	for _, t := range scenario.Given(f.Things, "service") {
		services = append(services, t.Name)
	}
	for _, c := range f.Claims {
		services = append(services, c.Via()...)
	}
	slices.Sort(services)
	for _, s := range slices.Compact(services) {
		out = append(out, iam.ServiceCredential{Service: s, ID: "service" + strings.NewReplacer(".", "", "-", "").Replace(s), Secret: "secret"})
	}
	return out
}

// Inexpressible is the flag of things that only the pure decision knows.
const Inexpressible = "unchecked"

// Expressible reports whether the API can make the first n things of f.
func Expressible(f *scenario.File, n int) bool {
	return !slices.ContainsFunc(f.Things[:n], func(t scenario.Thing) bool { return slices.Contains(t.Flags, Inexpressible) })
}

func (w *World) texts(name string) string { return w.file.Text(name, w) }

func (w *World) ARNOf(name string) string     { return w.KeyARN[name] }
func (w *World) IDOf(name string) string      { return w.UserID[name] }
func (w *World) Organization() string         { return w.org }
func (w *World) PathOf(account string) string { return w.paths[account] }

func (w *World) root(account string) Credentials {
	return Credentials{ID: "root" + account, Secret: "secret"}
}

func (w *World) account(t scenario.Thing) {
	if t.Kind == "member" || t.Kind == "management" {
		t.Account = t.Name
	}
	if t.Account == "" {
		return
	}
	root := w.root(t.Account)
	if _, ok := w.Callers["root@"+t.Account]; ok {
		return
	}
	if err := w.Server.AddAccount(w.tb.Context(), t.Account, server.Credentials{ID: root.ID, Secret: iam.Secret(root.Secret)}); err != nil {
		w.tb.Fatal(err)
	}
	w.Callers["root@"+t.Account] = root
}

// organize makes the organization with its units, if the file has one, and puts
// the members into their places.
func (w *World) organize() {
	manager := scenario.Management(w.things)
	if manager == "" {
		return
	}
	w.account(scenario.Thing{Account: manager})
	root := w.root(manager)
	var made struct {
		Organization struct {
			ID string `json:"Id"`
		}
	}
	w.orgs(root, "CreateOrganization", map[string]any{}, &made)
	w.org = made.Organization.ID
	top := w.top()
	for _, kind := range []string{iam.SCPType, iam.RCPType} {
		w.orgs(root, "EnablePolicyType", map[string]any{"RootId": top, "PolicyType": kind}, nil)
	}
	w.paths[manager] = w.org + "/" + top + "/"
	for who := range w.Callers {
		account, ok := strings.CutPrefix(who, "root@")
		if !ok || account == manager || !scenario.IsMember(w.things, account) {
			continue
		}
		if err := w.Server.JoinOrganization(w.tb.Context(), account, manager); err != nil {
			w.tb.Fatal(err)
		}
		w.settle(account, top)
	}
}

func (w *World) top() string {
	var out struct {
		Roots []struct {
			ID string `json:"Id"`
		}
	}
	w.orgs(w.root(scenario.Management(w.things)), "ListRoots", map[string]any{}, &out)
	return out.Roots[0].ID
}

// settle makes a unit for each level above an account and moves it there.
func (w *World) settle(account, top string) {
	root, at := w.root(scenario.Management(w.things)), top
	w.paths[account] = w.org + "/" + top + "/"
	names := scenario.Levels(w.things, account)
	for _, level := range names[:max(0, len(names)-1)] {
		var unit struct {
			OrganizationalUnit struct {
				ID   string `json:"Id"`
				Path string
			}
		}
		w.orgs(root, "CreateOrganizationalUnit", map[string]any{"ParentId": at, "Name": level + " of " + account}, &unit)
		at, w.paths[account] = unit.OrganizationalUnit.ID, unit.OrganizationalUnit.Path
	}
	if at != top {
		w.orgs(root, "MoveAccount", map[string]any{"AccountId": account, "SourceParentId": top, "DestinationParentId": at}, nil)
	}
}

// bind attaches the service and resource control policies, when all else is done.
func (w *World) bind() {
	for _, t := range scenario.Given(w.things, "scp", "rcp") {
		root, kind := w.root(scenario.Management(w.things)), map[string]string{"scp": iam.SCPType, "rcp": iam.RCPType}[t.Kind]
		target := w.level(t)
		for _, file := range t.With {
			if file == "full.json" { // AWS's own, attached from the beginning
				continue
			}
			var out struct {
				Policy struct {
					PolicySummary struct {
						ID string `json:"Id"`
					}
				}
			}
			w.orgs(root, "CreatePolicy", map[string]any{"Name": t.Name + " " + t.Account + " " + file, "Description": "", "Type": kind, "Content": w.texts(file)}, &out)
			w.orgs(root, "AttachPolicy", map[string]any{"PolicyId": out.Policy.PolicySummary.ID, "TargetId": target}, nil)
		}
		if t.Kind == "scp" && !slices.Contains(t.With, "full.json") {
			w.orgs(root, "DetachPolicy", map[string]any{"PolicyId": iam.FullAccess(kind).ID, "TargetId": target}, nil)
		}
	}
}

// level is the unit or account that a policy's level stands for.
func (w *World) level(t scenario.Thing) string {
	names := scenario.Levels(w.things, t.Account)
	i := slices.Index(names, t.Name)
	if i == len(names)-1 {
		return t.Account
	}
	return strings.Split(w.paths[t.Account], "/")[2+i]
}

// grant makes a grant. A key policy that lets everybody do everything makes way
// for it; keyPolicy puts the right one.
func (w *World) grant(t scenario.Thing) {
	if t.Kind != "grant" {
		return
	}
	key, _ := w.find("key", t.Of)
	maker := w.root(key.Account)
	if t.From != "" {
		w.account(scenario.Thing{Account: t.From})
		maker = w.root(t.From)
		w.kms(w.root(key.Account), "PutKeyPolicy", map[string]any{"KeyId": w.KeyID[t.Of], "Policy": openToAll}, nil)
	}
	constraints := map[string]any{}
	for name, pairs := range map[string]map[string]string{"EncryptionContextEquals": t.Equals, "EncryptionContextSubset": t.Subset} {
		if pairs != nil {
			constraints[name] = pairs
		}
	}
	if t.Source != "" {
		constraints["SourceArn"] = t.Source
	}
	in := map[string]any{"KeyId": w.KeyARN[t.Of], "Operations": t.Operations, "Constraints": constraints, "Name": t.Name}
	w.principal(in, "Grantee", t.To)
	if t.Retiring != "" {
		w.principal(in, "Retiring", t.Retiring)
	}
	var out struct {
		GrantID    string `json:"GrantId"`
		GrantToken string
	}
	w.kms(maker, "CreateGrant", in, &out)
	w.grants[t.Name], w.tokens[t.Name] = out.GrantID, out.GrantToken
	if t.From != "" && len(key.With) == 0 {
		w.tb.Fatalf("%s: a grant from another account needs a key with a policy", t.Name)
	}
}

func (w *World) principal(in map[string]any, role, who string) {
	if name := scenario.PrincipalARN(w.things, who); strings.HasPrefix(name, "arn:") {
		in[role+"Principal"] = name
	} else {
		in[role+"ServicePrincipal"] = name
	}
}

const openToAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}]}`

func (w *World) find(kind, name string) (scenario.Thing, bool) {
	i := slices.IndexFunc(w.things, func(t scenario.Thing) bool { return t.Kind == kind && t.Name == name })
	if i < 0 {
		return scenario.Thing{}, false
	}
	return w.things[i], true
}

func (w *World) endpoint(t scenario.Thing) {
	doc, err := policy.Parse([]byte(w.texts(t.With[0])))
	if err == nil {
		err = policy.Validate(doc, policy.Endpoint)
	}
	if err != nil {
		w.tb.Fatal(err)
	}
	w.through = &iam.Endpoint{Endpoint: scenario.TestEndpoint, Policy: policy.Compile(doc, policy.Endpoint, t.With[0])}
}

func (w *World) key(t scenario.Thing) {
	if t.Kind != "key" {
		return
	}
	in := map[string]any{"MultiRegion": slices.Contains(t.Flags, "multi-region")}
	var tags []map[string]string
	for k, v := range t.Tags {
		tags = append(tags, map[string]string{"TagKey": k, "TagValue": v})
	}
	if tags != nil {
		in["Tags"] = tags
	}
	var out struct {
		KeyMetadata struct {
			Arn string
			ID  string `json:"KeyId"`
		}
	}
	w.kms(w.root(t.Account), "CreateKey", in, &out)
	w.KeyARN[t.Name], w.KeyID[t.Name] = out.KeyMetadata.Arn, out.KeyMetadata.ID
}

func (w *World) keyPolicy(t scenario.Thing) {
	if t.Kind == "key" && len(t.With) > 0 {
		w.kms(w.root(t.Account), "PutKeyPolicy", map[string]any{
			"KeyId": w.KeyID[t.Name], "Policy": w.texts(t.With[0]), "BypassPolicyLockoutSafetyCheck": true}, nil)
	}
}

func (w *World) alias(t scenario.Thing) {
	if t.Kind != "alias" {
		return
	}
	i := slices.IndexFunc(w.file.Things, func(k scenario.Thing) bool { return k.Kind == "key" && k.Name == t.Of })
	w.kms(w.root(w.file.Things[i].Account), "CreateAlias", map[string]any{"AliasName": t.Name, "TargetKeyId": w.KeyID[t.Of]}, nil)
}

func (w *World) group(t scenario.Thing) {
	if t.Kind != "group" {
		return
	}
	w.query(w.root(t.Account), "iam", "CreateGroup", "GroupName", t.Name)
	for i, file := range t.With {
		w.query(w.root(t.Account), "iam", "PutGroupPolicy", "GroupName", t.Name, "PolicyName", strconv.Itoa(i), "PolicyDocument", w.texts(file))
	}
}

const anyoneMayAssume = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`

func (w *World) entity(t scenario.Thing) {
	if t.Kind == "user" || t.Kind == "role" {
		w.makeEntity(t)
	}
}

func (w *World) makeEntity(t scenario.Thing) {
	root, class := w.root(t.Account), strings.ToUpper(t.Kind[:1])+t.Kind[1:]
	args := []string{class + "Name", t.Name, "Path", t.Path}
	if t.Kind == "role" {
		args = append(args, "AssumeRolePolicyDocument", anyoneMayAssume)
	}
	w.UserID[t.Name] = w.query(root, "iam", "Create"+class, append(args, tagArgs(t.Tags)...)...)[class+"Id"]
	for i, file := range t.With {
		w.query(root, "iam", "Put"+class+"Policy", class+"Name", t.Name, "PolicyName", strconv.Itoa(i), "PolicyDocument", w.texts(file))
	}
	if t.Boundary != "" {
		w.query(root, "iam", "Put"+class+"PermissionsBoundary", class+"Name", t.Name, "PermissionsBoundary", w.managed(t.Account, "boundary-"+t.Name, t.Boundary))
	}
	if t.Kind == "user" {
		for _, g := range t.Groups {
			w.query(root, "iam", "AddUserToGroup", "UserName", t.Name, "GroupName", g)
		}
		w.Callers[t.Name] = w.accessKey(t)
	}
}

func tagArgs(tags map[string]string) (args []string) {
	n := 0
	for k, v := range tags {
		n++
		args = append(args, fmt.Sprintf("Tags.member.%d.Key", n), k, fmt.Sprintf("Tags.member.%d.Value", n), v)
	}
	return args
}

func (w *World) accessKey(t scenario.Thing) Credentials {
	out := w.query(w.root(t.Account), "iam", "CreateAccessKey", "UserName", t.Name)
	return Credentials{ID: out["AccessKeyId"], Secret: out["SecretAccessKey"]}
}

// managed makes a managed policy of a file and returns its ARN.
func (w *World) managed(account, name, file string) string {
	return w.query(w.root(account), "iam", "CreatePolicy", "PolicyName", name, "PolicyDocument", w.texts(file))["Arn"]
}

func (w *World) session(t scenario.Thing) {
	if t.Kind != "session" && t.Kind != "federated" {
		return
	}
	i := slices.IndexFunc(w.file.Things, func(e scenario.Thing) bool { return e.Name == t.Of && (e.Kind == "role" || e.Kind == "user") })
	e := w.file.Things[i]
	args := append(w.sessionPolicies(t, e.Account), tagArgs(t.Tags)...)
	var out map[string]string
	if e.Kind == "user" && t.Kind == "session" {
		out = w.query(w.Callers[e.Name], "sts", "GetSessionToken")
	} else if t.Kind == "federated" {
		w.query(w.root(e.Account), "iam", "AttachUserPolicy", "UserName", e.Name, "PolicyArn", adminPolicy)
		out = w.query(w.Callers[e.Name], "sts", "GetFederationToken", append(args, "Name", t.Name)...)
		w.query(w.root(e.Account), "iam", "DetachUserPolicy", "UserName", e.Name, "PolicyArn", adminPolicy)
	} else {
		out = w.query(w.assumer(e.Account), "sts", "AssumeRole", append(args, "RoleArn", scenario.EntityARN(e), "RoleSessionName", t.Name)...)
	}
	w.Callers[t.Name] = Credentials{out["AccessKeyId"], out["SecretAccessKey"], out["SessionToken"]}
}

// sessionPolicies passes the first policy of a session inline, the others as
// managed policies.
func (w *World) sessionPolicies(t scenario.Thing, account string) (args []string) {
	for n, file := range t.With {
		if n == 0 {
			args = append(args, "Policy", w.texts(file))
			continue
		}
		args = append(args, fmt.Sprintf("PolicyArns.member.%d.arn", n), w.managed(account, "session-"+t.Name+strconv.Itoa(n), file))
	}
	return args
}

// assumer is a user who may assume the account's roles.
func (w *World) assumer(account string) Credentials {
	name := "assumer" + account
	if _, ok := w.Callers[name]; !ok {
		w.query(w.root(account), "iam", "CreateUser", "UserName", name)
		w.query(w.root(account), "iam", "AttachUserPolicy", "UserName", name, "PolicyArn", adminPolicy)
		w.Callers[name] = w.accessKey(scenario.Thing{Name: name, Account: account})
	}
	return w.Callers[name]
}

// recreate deletes a user or role and makes another of the same name; sessions
// of a role are new as well.
func (w *World) recreate(t scenario.Thing) {
	kind, ok := strings.CutPrefix(t.Kind, "recreate ")
	if !ok {
		return
	}
	i := slices.IndexFunc(w.file.Things, func(e scenario.Thing) bool { return e.Kind == kind && e.Name == t.Name })
	e := w.file.Things[i]
	root, class := w.root(e.Account), strings.ToUpper(kind[:1])+kind[1:]
	for n := range e.With {
		w.query(root, "iam", "Delete"+class+"Policy", class+"Name", e.Name, "PolicyName", strconv.Itoa(n))
	}
	if kind == "user" {
		w.query(root, "iam", "DeleteAccessKey", "UserName", e.Name, "AccessKeyId", w.Callers[e.Name].ID)
	}
	w.query(root, "iam", "Delete"+class, class+"Name", e.Name)
	w.makeEntity(e)
	for _, s := range w.file.Things {
		if s.Kind == "session" && s.Of == e.Name && len(s.With) == 0 {
			w.session(s)
		}
	}
}

// kms calls a KMS operation that must succeed.
func (w *World) kms(c Credentials, operation string, in, out any) {
	w.tb.Helper()
	w.json(c, "kms", "TrentService."+operation, in, out)
}

// orgs calls an Organizations operation that must succeed.
func (w *World) orgs(c Credentials, operation string, in, out any) {
	w.tb.Helper()
	w.json(c, "organizations", "AWSOrganizationsV20161128."+operation, in, out)
}

func (w *World) json(c Credentials, service, target string, in, out any) {
	w.tb.Helper()
	body, err := json.Marshal(in)
	if err != nil {
		w.tb.Fatal(err)
	}
	r := w.request("application/x-amz-json-1.1", body)
	r.Header.Set("X-Amz-Target", target)
	status, answer := w.send(c, service, r, body)
	if status != http.StatusOK {
		w.tb.Fatalf("%s %s: %d %s", target, body, status, answer)
	}
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			w.tb.Fatal(err)
		}
	}
}

// query calls an operation of a Query service that must succeed and returns the
// leaves of its answer by name; of several with one name the first counts.
func (w *World) query(c Credentials, service, action string, args ...string) map[string]string {
	w.tb.Helper()
	form := url.Values{"Action": {action}}
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
	}
	body := []byte(form.Encode())
	status, answer := w.send(c, service, w.request("application/x-www-form-urlencoded", body), body)
	if status != http.StatusOK {
		w.tb.Fatalf("%s %q: %d %s", action, args, status, answer)
	}
	return leaves(answer)
}

func (w *World) request(contentType string, body []byte) *http.Request {
	r, err := http.NewRequestWithContext(context.WithoutCancel(w.tb.Context()), http.MethodPost, "http://claviger.test/", bytes.NewReader(body))
	if err != nil {
		w.tb.Fatal(err)
	}
	r.Header.Set("Content-Type", contentType)
	return r
}

func (w *World) send(c Credentials, service string, r *http.Request, body []byte) (int, []byte) {
	w.tb.Helper()
	sigv4.Sign(r, body, c.ID, c.Secret, c.Token, scenario.Region, service, time.Now())
	return w.Do(r)
}

// Do sends a signed request.
func (w *World) Do(r *http.Request) (int, []byte) {
	w.tb.Helper()
	answer, err := w.HTTP.Client().Do(r)
	if err != nil {
		w.tb.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		w.tb.Fatal(err)
	}
	return answer.StatusCode, text
}

func leaves(answer []byte) map[string]string {
	out := map[string]string{}
	d := xml.NewDecoder(bytes.NewReader(answer))
	var name, text string
	for {
		token, err := d.Token()
		if err != nil {
			return out
		}
		switch token := token.(type) {
		case xml.StartElement:
			name, text = token.Name.Local, ""
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			if _, ok := out[name]; !ok && token.Name.Local == name {
				out[name] = text
			}
			name = ""
		}
	}
}
