package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
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
	why := ""
	for _, o := range seals {
		if o.Kind != slot.Kind || o.Kind == "shamir" {
			continue
		}
		err := opens(o, slot)
		if err == nil {
			return "yes"
		}
		why = err.Error()
	}
	return why
}

// opens reports whether a seal opens a slot: nil, or why not.
func opens(o seal.Options, slot store.Slot) error {
	asked, err := o.Open()
	if err != nil {
		return err
	}
	defer seal.Forget(asked)
	key, err := asked.Unwrap(slot.Wrapped)
	clear(key)
	return err
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
	err = s.changed(ctx, event, map[string]string{"name": name, "kind": o.Kind}, func() error {
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

// started notes that a seal is asked from now on too.
func (s *Server) started(o seal.Options) {
	s.sealsMu.Lock()
	defer s.sealsMu.Unlock()
	if !slices.ContainsFunc(s.seals, func(old seal.Options) bool { return reflect.DeepEqual(old, o) }) {
		s.seals = append(slices.Clone(s.seals), o)
	}
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
	return opens(o, slot) == nil // what is wrong with it making it tells
}

// RemoveSeal ends that the seal of that name opens the store. The last one stays, and so
// does the last one that is known to open the store, unless force is set: that one has
// opened it in this run, or does when it is asked.
func (s *Server) RemoveSeal(ctx context.Context, name string, force bool) error {
	s.changeMu.Lock()
	defer s.changeMu.Unlock()
	slots, err := s.DB.Slots(ctx)
	if err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(slots), func(o store.Slot) bool { return o.Name == name })
	known := func(o store.Slot) bool { return s.DB.Opening().By(o) || s.asked(o) == "yes" }
	if !force && len(others) > 0 && len(others) < len(slots) && !slices.ContainsFunc(others, known) {
		return fmt.Errorf("server: no seal but %q is known to open the store: start the server with another one, to try it, or say --force", name)
	}
	return s.changed(ctx, "RemoveSeal", map[string]string{"name": name}, func() error { return s.DB.RemoveSlot(ctx, name) })
}

// changed changes seals. It is a state change in the audit log: an older copy of the store,
// which has the seals of its time, is known by it.
func (s *Server) changed(ctx context.Context, event string, parameters map[string]string, do func() error) error {
	e := s.Log.Begin(operatorRecord(event, parameters))
	if err := e.Intend(); err != nil {
		return err
	}
	err := do()
	if err == nil {
		err = iam.Change(context.WithoutCancel(ctx), s.DB, e, func(tx *store.Tx) error { return tx.Mark(e.RequestID) })
	} else {
		e.ErrorCode, e.ErrorMessage = "Failed", err.Error()
		if !errors.Is(err, store.ErrUnknown) {
			e.Claviger.Committed = new(false)
		}
	}
	return errors.Join(err, e.End())
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
