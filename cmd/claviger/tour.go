package main

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/sigv4"
)

const tourRegion = "us-east-1"

// A guide plays the tour: it sends requests to a server in this process and
// prints each, its answer and why.
type guide struct {
	out    io.Writer
	url    string
	server *server.Server

	who    traveller
	err    error // the first failure; later steps do nothing
	keyID  string
	keyARN string
}

// A traveller is somebody with credentials.
type traveller struct{ name, id, secret string }

// tour plays the story of one key policy.
func tour(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := parse(newFlags("tour", stderr), args); err != nil {
		return err
	}
	s, err := server.Open(ctx, server.Config{Account: "111122223333", Logger: slog.New(slog.DiscardHandler),
		RootKeys: []server.Credentials{{ID: "test", Secret: "test"}}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return errors.Join(err, s.Close())
	}
	serving, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	var served error
	wg.Go(func() { served = front.Serve(serving, []net.Listener{listener}, []http.Handler{s.Handler()}) })
	g := &guide{out: stdout, url: "http://" + listener.Addr().String() + "/", server: s}
	g.play(ctx)
	stop()
	wg.Wait()
	return errors.Join(g.err, served, s.Close())
}

const (
	letAliceUse = `{"Version":"2012-10-17","Statement":[{"Sid":"Use","Effect":"Allow","Action":["kms:Encrypt","kms:Decrypt"],"Resource":"*"}]}`
	onlyAlice   = `{"Version":"2012-10-17","Statement":[{"Sid":"OnlyEncrypt","Effect":"Allow",` +
		`"Principal":{"AWS":"arn:aws:iam::111122223333:user/alice"},"Action":["kms:Encrypt","kms:PutKeyPolicy"],"Resource":"*"}]}`
)

func (g *guide) play(ctx context.Context) {
	root := traveller{"root", "test", "test"}
	g.who = root
	g.say("A key is made. Nobody gave a key policy, so it has the default one: it lets the account's identity policies decide.")
	var created struct {
		KeyMetadata struct {
			Arn string
			ID  string `json:"KeyId"`
		}
	}
	g.kms(ctx, "CreateKey", map[string]any{}, &created)
	g.keyID, g.keyARN = created.KeyMetadata.ID, created.KeyMetadata.Arn
	g.kms(ctx, "CreateAlias", map[string]any{"AliasName": "alias/blue", "TargetKeyId": g.keyID}, nil)

	g.say("Alice is made. She has no policy, so there is nothing for the key policy to let in.")
	g.iam(ctx, "CreateUser", "UserName", "alice")
	key := g.iam(ctx, "CreateAccessKey", "UserName", "alice")
	alice := traveller{"alice", key.ID, key.Secret}
	encrypt := map[string]any{"KeyId": "alias/blue", "Plaintext": []byte("attack at dawn")}
	g.as(alice).kms(ctx, "Encrypt", encrypt, nil)

	g.say("Now an identity policy lets her, and the key policy lets that policy in.")
	g.as(root).iam(ctx, "PutUserPolicy", "UserName", "alice", "PolicyName", "use-keys", "PolicyDocument", letAliceUse)
	var blob struct{ CiphertextBlob []byte }
	g.as(alice).kms(ctx, "Encrypt", encrypt, &blob)
	g.kms(ctx, "Decrypt", map[string]any{"CiphertextBlob": blob.CiphertextBlob}, nil)

	g.say("A key policy without the account: first refused, because root would lock itself out; then forced.")
	put := map[string]any{"KeyId": g.keyID, "Policy": onlyAlice}
	g.as(root).kms(ctx, "PutKeyPolicy", put, nil)
	put["BypassPolicyLockoutSafetyCheck"] = true
	g.kms(ctx, "PutKeyPolicy", put, nil)

	g.say("The key policy is the law: alice may what it names, her identity policy counts for nothing, and root may nothing.")
	g.as(alice).kms(ctx, "Encrypt", encrypt, nil)
	g.kms(ctx, "Decrypt", map[string]any{"CiphertextBlob": blob.CiphertextBlob}, nil)
	g.as(root).kms(ctx, "DescribeKey", map[string]any{"KeyId": g.keyID}, nil)
}

func (g *guide) as(t traveller) *guide {
	g.who = t
	return g
}

func (g *guide) say(text string) {
	if g.err == nil {
		fmt.Fprintf(g.out, "\n# %s\n", text)
	}
}

// kms calls a KMS operation and prints it; out may be nil.
func (g *guide) kms(ctx context.Context, operation string, in map[string]any, out any) {
	body, err := json.Marshal(in, json.Deterministic(true))
	if err != nil || g.err != nil {
		g.err = errors.Join(g.err, err)
		return
	}
	fmt.Fprintf(g.out, "\n%s> kms %s %s\n", g.who.name, operation, longText.ReplaceAll(body, []byte("$1…")))
	status, answer := g.send(ctx, "kms", "application/x-amz-json-1.1", "TrentService."+operation, body)
	g.show(status, strings.TrimSpace(string(answer)))
	if out != nil && status == http.StatusOK {
		g.err = errors.Join(g.err, json.Unmarshal(answer, out))
	}
}

// iam calls an IAM operation, prints it, and returns the access key it made, if any.
func (g *guide) iam(ctx context.Context, action string, args ...string) accessKey {
	if g.err != nil {
		return accessKey{}
	}
	form := url.Values{"Action": {action}}
	fmt.Fprintf(g.out, "\n%s> iam %s", g.who.name, action)
	for i := 0; i+1 < len(args); i += 2 {
		form.Set(args[i], args[i+1])
		fmt.Fprintf(g.out, " %s=%s", args[i], args[i+1])
	}
	fmt.Fprintln(g.out)
	status, answer := g.send(ctx, "iam", "application/x-www-form-urlencoded", "", []byte(form.Encode()))
	var told iamAnswer
	g.err = errors.Join(g.err, xml.Unmarshal(answer, &told))
	g.show(status, told.String())
	return told.Key
}

// iamAnswer is what the tour shows of an answer of IAM.
type iamAnswer struct {
	Key   accessKey `xml:"CreateAccessKeyResult>AccessKey"`
	User  string    `xml:"CreateUserResult>User>Arn"`
	Fault string    `xml:"Error>Message"`
}

type accessKey struct {
	ID     string `xml:"AccessKeyId"`
	Secret string `xml:"SecretAccessKey"`
}

func (a iamAnswer) String() string {
	switch {
	case a.Key.ID != "":
		return "AccessKeyId " + a.Key.ID
	case a.User != "":
		return "Arn " + a.User
	default:
		return a.Fault
	}
}

func (g *guide) send(ctx context.Context, service, contentType, target string, body []byte) (int, []byte) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url, bytes.NewReader(body))
	if err != nil {
		g.err = err
		return 0, nil
	}
	r.Header.Set("Content-Type", contentType)
	if target != "" {
		r.Header.Set("X-Amz-Target", target)
	}
	sigv4.Sign(r, body, g.who.id, g.who.secret, "", tourRegion, service, time.Now())
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		g.err = err
		return 0, nil
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	g.err = errors.Join(g.err, err)
	return answer.StatusCode, text
}

// show prints an answer and, from the audit log, why it is what it is.
func (g *guide) show(status int, answer string) {
	if g.err != nil {
		return
	}
	if answer == "" {
		answer = "done"
	}
	fmt.Fprintf(g.out, "  %d %s\n", status, longText.ReplaceAllString(answer, "$1…"))
	lines := g.server.Log.Recent()
	var r audit.Record
	if err := json.Unmarshal(lines[len(lines)-1], &r); err != nil {
		g.err = err
		return
	}
	for _, d := range r.Claviger.Decisions {
		fmt.Fprintf(g.out, "  why: %s %s\n", d.Action, reason(d))
	}
}

// longText is a blob or digest, of which the beginning is enough.
var longText = regexp.MustCompile(`([A-Za-z0-9+/]{16})[A-Za-z0-9+/=]{44,}`)

func reason(d audit.Decision) string {
	switch {
	case d.Outcome == "ExplicitDeny":
		return "is denied by " + d.By
	case d.Outcome == "ImplicitDeny":
		return "is refused: no " + d.Missing + " allows it"
	case d.By == "" && d.Via != "":
		return "is allowed to the root user by " + d.Via
	case d.By == "":
		return "is allowed to the root user, whom no key policy concerns here"
	case d.Via != "":
		return "is allowed by " + d.By + ", which " + d.Via + " lets in"
	default:
		return "is allowed by " + d.By
	}
}
