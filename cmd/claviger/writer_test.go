package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	kmstypes "github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"
)

// A fact is something that a writer changes and that can be looked up: the policy
// of a key, its state, a grant, an alias, a user.
type fact struct{ kind, of, name string }

// A writer changes things of its own as fast as it can, and remembers of each
// fact which values it may have: one when the last change was acknowledged, the
// old and the new one otherwise.
type writer struct {
	n, count     int
	random       *rand.Rand
	keys         []string
	facts        map[fact][]string
	grants       map[fact]string // ids
	touched      []fact          // since the last check
	acknowledged int

	kms *kms.Client
	iam *iam.Client
}

// run works until the server is gone.
func (w *writer) run(t *testing.T, p *process) {
	w.kms, w.iam = p.clients()
	for {
		err := w.step(t.Context())
		if _, fault := errors.AsType[smithy.APIError](err); fault {
			t.Errorf("writer %d: %v", w.n, err)
		}
		if err != nil {
			return
		}
		w.acknowledged++
	}
}

// change lets a fact become value by do.
func (w *writer) change(f fact, value string, do func() error) error {
	before := w.facts[f]
	if before == nil {
		before = []string{""}
	}
	w.touched = append(w.touched, f)
	w.facts[f] = append(slices.Clone(before), value)
	err := do()
	if err == nil {
		w.facts[f] = []string{value}
	}
	return err
}

func (w *writer) is(f fact) string { return append(w.facts[f], "")[0] }

func policyText(version string) string {
	return `{"Version":"2012-10-17","Statement":[{"Sid":"` + version + `","Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}`
}

// step makes one change.
func (w *writer) step(ctx context.Context) error {
	w.count++
	name := fmt.Sprintf("w%dn%d", w.n, w.count)
	if len(w.keys) == 0 || w.random.IntN(8) == 0 {
		out, err := w.kms.CreateKey(ctx, &kms.CreateKeyInput{Policy: aws.String(policyText(name))})
		if err == nil {
			id := *out.KeyMetadata.KeyId
			w.keys = append(w.keys, id)
			w.facts[fact{"policy", id, ""}], w.facts[fact{"state", id, ""}] = []string{name}, []string{"Enabled"}
			w.touched = append(w.touched, fact{"policy", id, ""})
		}
		return err
	}
	key := w.keys[max(0, len(w.keys)-1-w.random.IntN(20))]
	state := fact{"state", key, ""}
	switch w.random.IntN(6) {
	case 0:
		return w.change(fact{"policy", key, ""}, name, func() error {
			_, err := w.kms.PutKeyPolicy(ctx, &kms.PutKeyPolicyInput{KeyId: &key, Policy: aws.String(policyText(name))})
			return err
		})
	case 1:
		if w.is(state) == "Enabled" {
			return w.change(state, "Disabled", func() error {
				_, err := w.kms.DisableKey(ctx, &kms.DisableKeyInput{KeyId: &key})
				return err
			})
		}
		return w.change(state, "Enabled", func() error {
			_, err := w.kms.EnableKey(ctx, &kms.EnableKeyInput{KeyId: &key})
			return err
		})
	case 2:
		if w.is(state) != "Enabled" {
			return nil
		}
		grant := fact{"grant", key, name}
		return w.change(grant, "granted", func() error {
			out, err := w.kms.CreateGrant(ctx, &kms.CreateGrantInput{KeyId: &key, Name: &name, GranteePrincipal: aws.String("arn:aws:iam::111122223333:root"),
				Operations: []kmstypes.GrantOperation{kmstypes.GrantOperationDecrypt}})
			if err == nil {
				w.grants[grant] = *out.GrantId
			}
			return err
		})
	case 3:
		for grant, id := range w.grants {
			delete(w.grants, grant)
			return w.change(grant, "", func() error {
				_, err := w.kms.RevokeGrant(ctx, &kms.RevokeGrantInput{KeyId: &grant.of, GrantId: &id})
				return err
			})
		}
		return nil
	case 4:
		alias := fact{"alias", fmt.Sprintf("alias/w%d-%d", w.n, w.random.IntN(5)), ""}
		if at := w.is(alias); at == "" {
			return w.change(alias, key, func() error {
				_, err := w.kms.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: &alias.of, TargetKeyId: &key})
				return err
			})
		} else if at != key {
			return w.change(alias, key, func() error {
				_, err := w.kms.UpdateAlias(ctx, &kms.UpdateAliasInput{AliasName: &alias.of, TargetKeyId: &key})
				return err
			})
		}
		return w.change(alias, "", func() error {
			_, err := w.kms.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: &alias.of})
			return err
		})
	default:
		user := fact{"user", fmt.Sprintf("w%d-%d", w.n, w.random.IntN(5)), ""}
		if w.is(user) == "" {
			return w.change(user, "there", func() error {
				_, err := w.iam.CreateUser(ctx, &iam.CreateUserInput{UserName: &user.of})
				return err
			})
		}
		return w.change(user, "", func() error {
			_, err := w.iam.DeleteUser(ctx, &iam.DeleteUserInput{UserName: &user.of})
			return err
		})
	}
}

// check looks up the facts that changed since the last check, or all of them,
// and settles which of its possible values each has.
func (w *writer) check(t *testing.T, p *process, all bool) {
	w.kms, w.iam = p.clients()
	if all {
		w.touched = w.touched[:0]
		for f := range w.facts {
			w.touched = append(w.touched, f)
		}
	}
	seen := map[fact]bool{}
	for _, f := range w.touched {
		if seen[f] {
			continue
		}
		seen[f] = true
		got, err := w.look(t.Context(), f)
		if err != nil || !slices.Contains(w.facts[f], got) {
			t.Errorf("writer %d: %v is %q, %v; want one of %q", w.n, f, got, err, w.facts[f])
		}
		w.facts[f] = []string{got}
	}
	w.touched = w.touched[:0]
}

var sid = regexp.MustCompile(`"Sid"\s*:\s*"(w\d+n\d+)"`)

func (w *writer) look(ctx context.Context, f fact) (string, error) {
	var err error
	switch f.kind {
	case "policy":
		out, err := w.kms.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &f.of})
		if err != nil {
			return "", err
		}
		return sid.FindStringSubmatch(*out.Policy)[1], nil
	case "state":
		out, err := w.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &f.of})
		if err != nil {
			return "", err
		}
		return string(out.KeyMetadata.KeyState), nil
	case "alias":
		out, err := w.kms.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &f.of})
		if absent(err) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		return *out.KeyMetadata.KeyId, nil
	case "user":
		if _, err = w.iam.GetUser(ctx, &iam.GetUserInput{UserName: &f.of}); err == nil {
			return "there", nil
		}
	case "grant":
		for pages := kms.NewListGrantsPaginator(w.kms, &kms.ListGrantsInput{KeyId: &f.of, Limit: aws.Int32(100)}); pages.HasMorePages(); {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return "", err
			}
			for _, g := range page.Grants {
				if *g.Name == f.name {
					w.grants[f] = *g.GrantId
					return "granted", nil
				}
			}
		}
		delete(w.grants, f)
	}
	if absent(err) {
		err = nil
	}
	return "", err
}

func absent(err error) bool {
	e, ok := errors.AsType[smithy.APIError](err)
	return ok && (e.ErrorCode() == "NotFoundException" || e.ErrorCode() == "NoSuchEntity")
}
