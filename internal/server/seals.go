package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
)

// A SealState is what there is to say of one of the seals of a store.
type SealState struct {
	Name    string
	Kind    string
	Created time.Time
	// Opens says whether the seal opens the store now: yes, or why not. Empty: the server
	// was not started with it, or it is shares.
	Opens string
}

// Seals lists the seals that open the store, and asks those that the server was
// started with whether they do now.
func (s *Server) Seals(ctx context.Context) (states []SealState, err error) {
	slots, err := s.DB.Slots(ctx)
	for _, slot := range slots {
		states = append(states, SealState{Name: slot.Name, Kind: slot.Kind, Created: slot.Created, Opens: s.asked(slot)})
	}
	return states, err
}

func (s *Server) asked(slot store.Slot) string {
	s.sealsMu.Lock()
	seals := s.seals
	s.sealsMu.Unlock()
	i := slices.IndexFunc(seals, func(o seal.Options) bool { return o.Kind == slot.Kind && o.Kind != "shamir" })
	if i < 0 {
		return ""
	}
	asked, err := seals[i].Open()
	if err != nil {
		return err.Error()
	}
	defer seal.Forget(asked)
	key, err := asked.Unwrap(slot.Wrapped)
	clear(key)
	if err != nil {
		return err.Error()
	}
	return "yes"
}

// AddSeal lets a further seal open the store. Shares are those of a shamir seal, which
// are nowhere else.
func (s *Server) AddSeal(ctx context.Context, name string, o seal.Options) (shares []string, err error) {
	s.changeMu.Lock()
	defer s.changeMu.Unlock()
	return s.newSeal(ctx, "AddSeal", name, o, func(n *seal.New) error {
		if err := n.Take(); err != nil { // before anything needs it
			return errors.Join(err, n.Drop())
		}
		err := s.DB.AddSlot(ctx, name, n)
		if err != nil && !errors.Is(err, store.ErrUnknown) {
			err = errors.Join(err, n.Drop())
		}
		return err
	}, false)
}

// RotateSeal puts a seal with a new root key in place of the one of that name. What
// was sealed with the old one, as older backups are, still needs that.
func (s *Server) RotateSeal(ctx context.Context, name string, o seal.Options) (shares []string, err error) {
	s.changeMu.Lock()
	defer s.changeMu.Unlock()
	if err := s.rotates(ctx, name, s.place(o)); err != nil {
		return nil, err
	}
	return s.newSeal(ctx, "RotateSeal", name, o, func(n *seal.New) error { return s.DB.ReplaceSlot(ctx, name, n, n.Take) }, true)
}

// newSeal makes a seal and has use put it in its place. changeMu is held: one seal is
// changed at a time.
func (s *Server) newSeal(ctx context.Context, event, name string, o seal.Options, use func(*seal.New) error, replace bool) (shares []string, err error) {
	if name == "" || strings.ContainsAny(name, "\x00\n\t ") || len(name) > 64 {
		return nil, errors.New("server: a seal's name has up to 64 characters and no blanks")
	}
	o = s.place(o)
	err = s.operated(event, map[string]string{"name": name, "kind": o.Kind}, func() error {
		n, err := o.Create(replace)
		if err != nil {
			return err
		}
		defer seal.Forget(n)
		if err := use(n); err != nil {
			return err
		}
		shares = n.Shares
		s.started(o)
		return nil
	})
	return shares, err
}

// started notes that a seal is asked from now on instead of those of its kind.
func (s *Server) started(o seal.Options) {
	s.sealsMu.Lock()
	defer s.sealsMu.Unlock()
	s.seals = append(slices.DeleteFunc(slices.Clone(s.seals), func(old seal.Options) bool { return old.Kind == o.Kind }), o)
}

// rotates checks that what is to be put in place of a seal is of its kind, and does not
// overwrite the key file of another one.
func (s *Server) rotates(ctx context.Context, name string, o seal.Options) error {
	slots, err := s.DB.Slots(ctx)
	if err != nil {
		return err
	}
	for _, slot := range slots {
		if slot.Name != name {
			continue
		}
		if slot.Kind == o.Kind && same(slot, o) {
			return fmt.Errorf("server: that is what the seal %q has already: its root key would stay what it is", name)
		}
		if slot.Kind == "shamir" {
			return fmt.Errorf("server: shares are not replaced while nobody has the new ones: add a seal of another name, try its shares, then remove %q", name)
		}
		if slot.Kind != o.Kind {
			return fmt.Errorf("server: the seal %q is of the kind %s: a seal is rotated to one of its kind; add one of another kind, then remove this one", name, slot.Kind)
		}
		if _, err := os.Lstat(o.KeyFile); o.Kind != "file" || err != nil {
			return nil
		}
		key, err := seal.NewFile(o.KeyFile).Unwrap(slot.Wrapped)
		clear(key)
		if err == nil {
			return nil
		}
	}
	if o.Kind == "file" && slices.ContainsFunc(slots, func(slot store.Slot) bool { return slot.Name == name }) {
		return fmt.Errorf("server: %s is not the key of the seal %q, and would be overwritten: name another file", o.KeyFile, name)
	}
	return nil // ReplaceSlot says that there is none
}

// same reports whether a new seal would have the root key of an old one.
func same(slot store.Slot, o seal.Options) bool {
	if o.Kind != "passphrase" && o.Kind != "pkcs11" {
		return false
	}
	next, err := o.Open()
	if err != nil {
		return false // which making it tells
	}
	defer seal.Forget(next)
	key, err := next.Unwrap(slot.Wrapped)
	clear(key)
	return err == nil
}

// RemoveSeal ends that the seal of that name opens the store. The last one stays, and so
// does the last one that is known to open the store, unless force is set: that one has
// opened it in this run, or does when it is asked.
func (s *Server) RemoveSeal(ctx context.Context, name string, force bool) error {
	s.changeMu.Lock()
	defer s.changeMu.Unlock()
	seals, err := s.Seals(ctx)
	if err != nil {
		return err
	}
	all, others := len(seals), slices.DeleteFunc(seals, func(o SealState) bool { return o.Name == name })
	opens := func(o SealState) bool { return o.Opens == "yes" || o.Name == s.DB.Opening().Slot }
	if !force && len(others) > 0 && len(others) < all && !slices.ContainsFunc(others, opens) {
		return fmt.Errorf("server: no seal but %q is known to open the store: start the server with another one, to try it, or say --force", name)
	}
	return s.operated("RemoveSeal", map[string]string{"name": name}, func() error { return s.DB.RemoveSlot(ctx, name) })
}

// operated does something that an operator has asked for. The audit log tells of it
// before it is done, and again if it fails.
func (s *Server) operated(event string, parameters map[string]string, do func() error) error {
	r := operatorRecord(event, parameters)
	if err := s.Log.Begin(r).End(); err != nil {
		return err
	}
	err := do()
	if err != nil {
		r.ErrorCode, r.ErrorMessage = "Failed", err.Error()
		err = errors.Join(fmt.Errorf("%w", err), s.Log.Begin(r).End())
	}
	return err
}

// operatorRecord is what the audit log tells of an operator's doing.
func operatorRecord(event string, parameters map[string]string) audit.Record {
	return audit.Record{EventType: "AwsServiceEvent", EventTime: time.Now().UTC().Truncate(time.Second), EventSource: "claviger", EventName: event,
		UserIdentity: &audit.Identity{Type: "Operator"}, RequestID: uuid.New().String(), RequestParameters: audit.Strings(parameters)}
}
