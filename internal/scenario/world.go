package scenario

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"encoding/xml"
	"fmt"
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

	tb    testing.TB
	file  *File
	texts func(name string) string
}

const adminPolicy = "arn:aws:iam::aws:policy/AdministratorAccess"

// NewWorld makes the world of the first n things of f.
func NewWorld(tb testing.TB, f *File, n int) *World {
	tb.Helper()
	s, err := server.Open(tb.Context(), server.Config{Account: "111122223333", Logger: slog.New(slog.DiscardHandler),
		RootKeys: []server.Credentials{{ID: "root111122223333", Secret: "secret"}}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.Close() })
	w := &World{Server: s, HTTP: httptest.NewTestServer(tb, s.Handler()), KeyARN: map[string]string{}, KeyID: map[string]string{},
		UserID: map[string]string{}, Callers: map[string]Credentials{}, tb: tb, file: f}
	w.texts = func(name string) string {
		return f.text(name, func(key string) string { return w.KeyARN[key] }, func(entity string) string { return w.UserID[entity] })
	}
	things := f.Things[:n]
	for _, step := range []func(Thing){w.account, w.key, w.alias, w.group, w.entity, w.keyPolicy, w.session, w.recreate} {
		for _, t := range things {
			step(t)
		}
	}
	return w
}

// Inexpressible lists the kinds of things, and the flag, that only the pure
// decision knows.
var Inexpressible = []string{"service", "grant", "scp", "rcp", "endpoint", "unchecked"}

// Expressible reports whether the API can make the first n things of f.
func Expressible(f *File, n int) bool {
	return !slices.ContainsFunc(f.Things[:n], func(t Thing) bool {
		return slices.Contains(Inexpressible, t.Kind) || slices.ContainsFunc(t.Flags, func(flag string) bool { return slices.Contains(Inexpressible, flag) })
	})
}

func (w *World) root(account string) Credentials {
	return Credentials{ID: "root" + account, Secret: "secret"}
}

func (w *World) account(t Thing) {
	if t.Account == "" {
		return
	}
	root := w.root(t.Account)
	if _, ok := w.Callers["root@"+t.Account]; ok {
		return
	}
	if err := w.Server.AddAccount(w.tb.Context(), t.Account, server.Credentials{ID: root.ID, Secret: root.Secret}); err != nil {
		w.tb.Fatal(err)
	}
	w.Callers["root@"+t.Account] = root
}

func (w *World) key(t Thing) {
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

func (w *World) keyPolicy(t Thing) {
	if t.Kind == "key" && len(t.With) > 0 {
		w.kms(w.root(t.Account), "PutKeyPolicy", map[string]any{
			"KeyId": w.KeyID[t.Name], "Policy": w.texts(t.With[0]), "BypassPolicyLockoutSafetyCheck": true}, nil)
	}
}

func (w *World) alias(t Thing) {
	if t.Kind != "alias" {
		return
	}
	i := slices.IndexFunc(w.file.Things, func(k Thing) bool { return k.Kind == "key" && k.Name == t.Of })
	w.kms(w.root(w.file.Things[i].Account), "CreateAlias", map[string]any{"AliasName": t.Name, "TargetKeyId": w.KeyID[t.Of]}, nil)
}

func (w *World) group(t Thing) {
	if t.Kind != "group" {
		return
	}
	w.query(w.root(t.Account), "iam", "CreateGroup", "GroupName", t.Name)
	for i, file := range t.With {
		w.query(w.root(t.Account), "iam", "PutGroupPolicy", "GroupName", t.Name, "PolicyName", strconv.Itoa(i), "PolicyDocument", w.texts(file))
	}
}

const anyoneMayAssume = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"*"},"Action":["sts:AssumeRole","sts:TagSession"]}]}`

func (w *World) entity(t Thing) {
	if t.Kind == "user" || t.Kind == "role" {
		w.makeEntity(t)
	}
}

func (w *World) makeEntity(t Thing) {
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

func (w *World) accessKey(t Thing) Credentials {
	out := w.query(w.root(t.Account), "iam", "CreateAccessKey", "UserName", t.Name)
	return Credentials{ID: out["AccessKeyId"], Secret: out["SecretAccessKey"]}
}

// managed makes a managed policy of a file and returns its ARN.
func (w *World) managed(account, name, file string) string {
	return w.query(w.root(account), "iam", "CreatePolicy", "PolicyName", name, "PolicyDocument", w.texts(file))["Arn"]
}

func (w *World) session(t Thing) {
	if t.Kind != "session" && t.Kind != "federated" {
		return
	}
	i := slices.IndexFunc(w.file.Things, func(e Thing) bool { return e.Name == t.Of && (e.Kind == "role" || e.Kind == "user") })
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
		out = w.query(w.assumer(e.Account), "sts", "AssumeRole", append(args, "RoleArn", EntityARN(e), "RoleSessionName", t.Name)...)
	}
	w.Callers[t.Name] = Credentials{out["AccessKeyId"], out["SecretAccessKey"], out["SessionToken"]}
}

// sessionPolicies passes the first policy of a session inline, the others as
// managed policies.
func (w *World) sessionPolicies(t Thing, account string) (args []string) {
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
		w.Callers[name] = w.accessKey(Thing{Name: name, Account: account})
	}
	return w.Callers[name]
}

// recreate deletes a user or role and makes another of the same name; sessions
// of a role are new as well.
func (w *World) recreate(t Thing) {
	kind, ok := strings.CutPrefix(t.Kind, "recreate ")
	if !ok {
		return
	}
	i := slices.IndexFunc(w.file.Things, func(e Thing) bool { return e.Kind == kind && e.Name == t.Name })
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
	body, err := json.Marshal(in)
	if err != nil {
		w.tb.Fatal(err)
	}
	r := w.request("application/x-amz-json-1.1", body)
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	status, answer := w.send(c, "kms", r, body)
	if status != http.StatusOK {
		w.tb.Fatalf("%s: %d %s", operation, status, answer)
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
	sigv4.Sign(r, body, c.ID, c.Secret, c.Token, Region, service, time.Now())
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
