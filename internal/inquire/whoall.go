package inquire

import (
	"context"
	"errors"
	"strings"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/policy"
	"github.com/claviger/claviger/internal/store"
)

// KeysAlike are keys about which everything is decided alike, and who may do something with
// any of them.
type KeysAlike struct {
	Keys []string
	Rows []Row
}

// WhoOfAll is Who for every key of the store: keys that no policy can tell apart are asked
// about once.
func (w *World) WhoOfAll(ctx context.Context, q WhoQuestion) (out []KeysAlike, err error) {
	keys, err := kms.Keys(ctx, w.DB)
	if err != nil {
		return nil, err
	}
	at := map[string]int{}
	err = w.view(ctx, func(tx *store.Tx) error {
		out, at = nil, map[string]int{}
		rules, err := w.aboutResources(tx, keys, q)
		if err != nil {
			return err
		}
		for _, key := range keys {
			like, err := kms.Likeness(tx, key)
			if errors.Is(err, store.ErrNotFound) {
				continue // it was deleted meanwhile
			}
			if err != nil {
				return err
			}
			var bits strings.Builder
			bits.WriteString(like)
			for _, r := range rules {
				bits.WriteByte(map[bool]byte{false: '0', true: '1'}[r.Covers(key, nil)])
			}
			i, known := at[bits.String()]
			if !known {
				i = len(out)
				at[bits.String()] = i
				out = append(out, KeysAlike{})
			}
			out[i].Keys = append(out[i].Keys, key)
		}
		return nil
	})
	for i := range out {
		if err != nil {
			break
		}
		q.Key = out[i].Keys[0]
		out[i].Rows, err = w.Who(ctx, q)
	}
	return out, err
}

// aboutResources are the statements, of everybody's policies, that are about particular
// resources. With variables in them, keys are not alike.
func (w *World) aboutResources(tx *store.Tx, keys []string, q WhoQuestion) (out []policy.Rule, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	principals, _, err := iam.Everybody(tx)
	if err != nil {
		return nil, err
	}
	seen := map[*policy.Policy]bool{}
	for _, who := range principals {
		s, err := w.situation(tx, Case{As: who, Action: q.Action, Key: keys[0], Given: q.Given})
		if err != nil {
			return nil, err
		}
		for _, l := range layers(s) {
			for _, p := range l.policies {
				if seen[p] || p == s.policies.Resource {
					continue
				}
				seen[p] = true
				for _, r := range p.Rules() {
					shapes, variables := r.Resources()
					if len(variables) > 0 {
						return nil, errors.New("inquire: a policy of " + who + " has variables in Resource: ask about the keys one by one")
					}
					if r.Has(s.request.Action) && len(shapes) > 0 {
						out = append(out, r)
					}
				}
			}
		}
	}
	return out, nil
}
