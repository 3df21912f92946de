package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/store"
)

// A caseFlags is the flags that describe a case.
type caseFlags struct {
	asked                    inquire.Case
	given, session, identity fileList
	keyPolicy, endpoint, at  string
	files                    []inquire.Text // identity policies
}

func (c *caseFlags) register(f *flag.FlagSet) {
	f.StringVar(&c.asked.As, "as", "", "who asks: the ARN of a root user, user, role or session, or a service principal")
	f.StringVar(&c.asked.Action, "action", "", "the action, as kms:Decrypt")
	f.StringVar(&c.asked.Key, "key", "", "the key: ARN, id or alias")
	f.StringVar(&c.asked.Region, "region", "", "the Region (default that of the key's ARN, or us-east-1)")
	f.Var(&c.given, "given", "value of a condition key, as kms:EncryptionContext:app=web; may be repeated")
	f.Var(&c.session, "session-policy", "file with a session policy; may be repeated")
	f.StringVar(&c.keyPolicy, "key-policy", "", "file with a key policy, in place of the key's")
	f.Var(&c.identity, "identity-policy", "file with an identity policy of --as, if nothing but files is asked about; may be repeated")
	f.StringVar(&c.endpoint, "endpoint-policy", "", "file with the policy of the VPC endpoint that --given aws:SourceVpce names (default: it allows everything)")
	f.StringVar(&c.asked.Grant, "grant", "", "id of the grant, for kms:RetireGrant")
	f.StringVar(&c.at, "at", "", "time of the request, RFC 3339 (default now)")
}

// read reads the files.
func (c *caseFlags) read() (err error) {
	c.asked.Given = c.given
	if c.at != "" {
		if c.asked.Now, err = time.Parse(time.RFC3339, c.at); err != nil {
			return fmt.Errorf("--at: %w", err)
		}
	}
	for _, name := range c.session {
		t, err := readText(name)
		if err != nil {
			return err
		}
		c.asked.Session = append(c.asked.Session, t)
	}
	if c.keyPolicy != "" {
		t, err := readText(c.keyPolicy)
		if err != nil {
			return err
		}
		c.asked.KeyPolicy = &t
	}
	if c.endpoint != "" {
		t, err := readText(c.endpoint)
		if err != nil {
			return err
		}
		c.asked.EndpointPolicy = &t
	}
	for _, name := range c.identity {
		t, err := readText(name)
		if err != nil {
			return err
		}
		c.files = append(c.files, t)
	}
	return nil
}

func readText(name string) (inquire.Text, error) {
	text, err := os.ReadFile(name)
	return inquire.Text{Name: name, Document: string(text)}, err
}

// inhabit makes the world of a case that files alone describe: whoever asks, and the key.
func (c *caseFlags) inhabit(ctx context.Context, w *inquire.World) error {
	if c.keyPolicy == "" {
		return errors.New("what to ask about: --data DIR, --world EXPORT, or --key-policy FILE")
	}
	who, err := arn.Parse(c.asked.As)
	if err != nil && !iam.IsServicePrincipal(c.asked.As) {
		return fmt.Errorf("--as: %q is not the ARN of a principal, and not a service principal", c.asked.As)
	}
	account := who.Account
	key, err := arn.Parse(c.asked.Key)
	if c.asked.Key == "" || err != nil {
		region := cmp.Or(c.asked.Region, "us-east-1")
		if account == "" {
			return errors.New("--key: the ARN of the key is needed")
		}
		key = arn.ARN{Partition: arn.Partition(region), Service: "kms", Region: region, Account: account, Resource: "key/00000000-0000-0000-0000-000000000000"}
		c.asked.Key = key.String()
	}
	id, ok := strings.CutPrefix(key.Resource, "key/")
	if key.Service != "kms" || !ok {
		return fmt.Errorf("--key: %q is not the ARN of a KMS key", c.asked.Key)
	}
	e, err := c.entity(who)
	if err != nil {
		return err
	}
	return w.DB.Update(ctx, func(tx *store.Tx) error {
		if account != "" {
			if err := iam.AddAccount(tx, iam.Account{ID: account}); err != nil {
				return err
			}
		}
		if e != nil {
			if err := iam.LoadIdentity(tx, e); err != nil {
				return err
			}
		}
		return kms.LoadKey(tx, &kms.Key{ID: id, Account: key.Account, Region: key.Region,
			Policy: `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Principal":"*","Action":"kms:*","Resource":"*"}]}`})
	})
}

// entity is the user or role of an ARN, with the policies of the files.
func (c *caseFlags) entity(who arn.ARN) (*iam.Entity, error) {
	parts := strings.Split(who.Resource, "/")
	e := &iam.Entity{Account: who.Account, Class: iam.Class(parts[0]), Name: parts[len(parts)-1], Inline: map[string]string{}}
	switch {
	case who.Service == "iam" && (parts[0] == "user" || parts[0] == "role") && len(parts) > 1:
		e.Path = "/" + strings.Join(append(parts[1:len(parts)-1:len(parts)-1], ""), "/")
	case who.Service == "sts" && parts[0] == "assumed-role" && len(parts) == 3:
		e.Class, e.Name = iam.RoleClass, parts[1]
	default:
		if c.files != nil {
			return nil, errors.New("--identity-policy: " + c.asked.As + " has no identity policies")
		}
		return nil, nil
	}
	for _, t := range c.files {
		e.Inline[t.Name] = t.Document
	}
	return e, nil
}
