package store

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/material"
)

// Format is the version of the layout of keys and records. A store of an earlier
// format is brought to this one when it is opened, one of a later format is refused.
//
//	1: the header has one seal
//	2: the header has slots and a tag, what the seals wrap says that it is of format 2,
//	   so that nobody can pass it for format 1, and the engine keeps a digest of all records
const Format = 2

// headerKey is the only record that is not sealed.
const headerKey = "!header"

// A Seal wraps the store key and unwraps it; the seals are in package seal.
type Seal interface {
	Kind() string
	Wrap(key []byte) ([]byte, error)
	Unwrap(wrapped []byte) ([]byte, error)
}

// A Slot holds the store key as one seal wrapped it. Any slot opens the store.
type Slot struct {
	Name    string // what the operator calls it; the kind unless something else was said
	Kind    string // of the seal
	Created time.Time
	Wrapped []byte
}

// header says how to open the store.
type header struct {
	Format     int
	Deployment string // random; binds every record to this store
	Epoch      string `json:",omitzero"` // random; another one since the store was restored
	Slots      []Slot `json:",omitzero"`
	Tag        []byte `json:",omitzero"` // authenticates the rest under the store key

	// What format 1 had instead of slots.
	Seal     string `json:",omitzero"`
	StoreKey []byte `json:",omitzero"`
}

// ErrSeal reports that none of the seals given opens the store.
var ErrSeal = errors.New("store: no seal that was given opens it")

// readHeader reads the header, in today's form. ErrNotFound: the store is empty.
func readHeader(ctx context.Context, e Engine) (h header, rev Rev, err error) {
	items, _, err := e.Get(ctx, headerKey)
	if err != nil {
		return h, 0, err
	}
	if items[0].Val == nil {
		there, err := anything(ctx, e)
		if err == nil && there { // another node may have written it just now
			items, _, err = e.Get(ctx, headerKey)
			if err == nil && items[0].Val != nil {
				return parseHeader(items[0])
			}
			if err == nil {
				err = fmt.Errorf("there are records and no header: %w", ErrDamaged)
			}
		}
		if err == nil {
			err = ErrNotFound
		}
		return h, 0, err
	}
	return parseHeader(items[0])
}

func parseHeader(i Item) (h header, rev Rev, err error) {
	if err := json.Unmarshal(i.Val, &h); err != nil {
		return h, 0, fmt.Errorf("read header: %w", ErrDamaged)
	}
	if h.Format < 1 || h.Format > Format {
		return h, 0, fmt.Errorf("the store has format %d and this program reads up to %d; use the version that made it, or a later one: %w", h.Format, Format, ErrFormat)
	}
	return h, i.Rev, nil
}

// anything reports whether there is any record.
func anything(ctx context.Context, e Engine) (bool, error) {
	items, _, err := e.Scan(ctx, "", "", 1)
	return len(items) > 0, err
}

// slots are the header's, whatever its format.
func (h *header) slots() []Slot {
	if h.Format == 1 {
		return []Slot{{Name: h.Seal, Kind: h.Seal, Wrapped: h.StoreKey}}
	}
	return h.Slots
}

// unwrap opens the store key with the first of the seals that can, and says which, in
// which slot, and why those before it did not.
func (h *header) unwrap(seals []Seal) (key []byte, by Opening, err error) {
	var failed error
	for _, s := range seals {
		for _, slot := range h.slots() {
			if slot.Kind != s.Kind() {
				continue
			}
			key, err := s.Unwrap(slot.Wrapped)
			if err == nil {
				key, err = h.bare(key)
				return key, Opening{slot.Name, failed, s, slot.Wrapped}, err
			}
			failed = errors.Join(failed, fmt.Errorf("the seal %q: %w", slot.Name, err))
		}
	}
	if failed != nil {
		return nil, by, failed
	}
	return nil, by, fmt.Errorf("the store has the seals %s, and was to be opened with %s: %w", kinds(h.slots(), func(s Slot) string { return s.Kind }), kinds(seals, Seal.Kind), ErrSeal)
}

// An Opening is how a store was opened.
type Opening struct {
	Slot   string // its name
	Failed error  // why seals that were to be tried first did not; nil: there were none
	by     Seal
	with   []byte // what the seal unwrapped
}

// By reports whether it was a slot that opened the store, as it is now.
func (o Opening) By(s Slot) bool { return s.Name == o.Slot && bytes.Equal(s.Wrapped, o.with) }

// wrapVersion stands before the store key where a seal wraps it, since format 2.
const wrapVersion = 2

// bare takes the version from before a store key that was unwrapped.
func (h *header) bare(key []byte) ([]byte, error) {
	switch {
	case h.Format == 1 && len(key) == material.KeySize:
		return key, nil
	case h.Format > 1 && len(key) == material.KeySize+1 && key[0] == wrapVersion:
		return key[1:], nil
	default:
		clear(key)
		return nil, fmt.Errorf("the header passes for one of another format: %w", ErrDamaged)
	}
}

func kinds[T any](of []T, kind func(T) string) string {
	var out []string
	for _, x := range of {
		out = append(out, kind(x))
	}
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(out))), ", ")
}

// tagged sets the tag under the store key.
func (h *header) tagged(a *material.AEAD) error {
	ad, err := h.associated()
	if err == nil {
		h.Tag, err = a.Seal(nil, nil, ad)
	}
	return err
}

// genuine checks the tag. Format 1 had none.
func (h *header) genuine(a *material.AEAD) error {
	ad, err := h.associated()
	if err != nil || h.Format == 1 {
		return err
	}
	if _, err := a.Open(h.Tag, ad); err != nil {
		return fmt.Errorf("the header was changed: %w", ErrDamaged)
	}
	return nil
}

func (h *header) associated() ([]byte, error) {
	untagged := *h
	untagged.Tag = nil
	text, err := json.Marshal(untagged)
	return append([]byte("claviger header\x00"), text...), err
}

// newHeader makes the header of a new store and its key.
func newHeader(s Seal) (header, []byte, error) {
	key, err := material.Generate()
	if err != nil {
		return header{}, nil, err
	}
	slot, err := newSlot(s.Kind(), s, key)
	if err != nil {
		clear(key)
		return header{}, nil, err
	}
	return header{Format: Format, Deployment: uuid.New().String(), Epoch: uuid.New().String(), Slots: []Slot{slot}}, key, nil
}

// newSlot wraps the store key, and tries whether the seal unwraps it again: one that may
// do only the one would open nothing.
func newSlot(name string, s Seal, key []byte) (Slot, error) {
	versioned := append([]byte{wrapVersion}, key...)
	defer clear(versioned)
	wrapped, err := s.Wrap(versioned)
	if err != nil {
		return Slot{}, err
	}
	again, err := s.Unwrap(wrapped)
	defer clear(again)
	if err != nil || !bytes.Equal(again, versioned) {
		return Slot{}, errors.Join(fmt.Errorf("store: the seal %s does not open what it has sealed", s.Kind()), err)
	}
	return Slot{Name: name, Kind: s.Kind(), Created: time.Now().UTC().Truncate(time.Second), Wrapped: wrapped}, nil
}

// write commits the header, on the condition that it is at rev still.
func (h *header) write(ctx context.Context, e Engine, a *material.AEAD, rev Rev) error {
	if err := h.tagged(a); err != nil {
		return err
	}
	text, err := json.Marshal(h)
	if err != nil {
		return err
	}
	_, err = e.Commit(ctx, Txn{If: []Item{{Key: headerKey, Rev: rev}}, Do: []Item{{Key: headerKey, Val: text}}})
	return err
}

// Slots lists how the store in e can be opened, without opening it. ErrNotFound: it
// is empty.
func Slots(ctx context.Context, e Engine) (deployment string, slots []Slot, err error) {
	h, _, err := readHeader(ctx, e)
	return h.Deployment, h.slots(), err
}

// Opens reports whether one of the seals opens the store in e: nil, or why not.
func Opens(ctx context.Context, e Engine, seals ...Seal) error {
	h, _, err := readHeader(ctx, e)
	if err != nil {
		return err
	}
	key, _, err := h.unwrap(seals)
	clear(key)
	return err
}

// Slots lists how the store can be opened.
func (db *DB) Slots(ctx context.Context) ([]Slot, error) {
	_, slots, err := Slots(ctx, db.engine)
	return slots, err
}

// Deployment is the store's random name, which every record is bound to.
func (db *DB) Deployment() string { return db.deployment }

// AddSlot lets s open the store too. A name may be given only once.
func (db *DB) AddSlot(ctx context.Context, name string, s Seal) error {
	return db.editSlots(ctx, func(slots []Slot) ([]Slot, error) {
		if slices.ContainsFunc(slots, func(o Slot) bool { return o.Name == name }) {
			return nil, fmt.Errorf("there is a seal %q already", name)
		}
		return db.withSlot(slots, name, s)
	})
}

// RemoveSlot ends that the seal of that name opens the store. The last one stays.
func (db *DB) RemoveSlot(ctx context.Context, name string) error {
	return db.editSlots(ctx, func(slots []Slot) ([]Slot, error) {
		left := slices.DeleteFunc(slices.Clone(slots), func(o Slot) bool { return o.Name == name })
		switch {
		case len(left) == len(slots):
			return nil, fmt.Errorf("there is no seal %q; there are %s", name, kinds(slots, func(s Slot) string { return s.Name }))
		case len(left) == 0:
			return nil, fmt.Errorf("%q is the last seal: without it nothing opens the store; add another one first", name)
		}
		return left, nil
	})
}

// ReplaceSlot puts s in place of the seal of that name. While taken runs, which is
// to make s the one that is used from now on, both open the store, and also if it fails:
// nobody knows which one is in place then.
func (db *DB) ReplaceSlot(ctx context.Context, name string, s Seal, taken func() error) error {
	var old []Slot
	err := db.editSlots(ctx, func(slots []Slot) ([]Slot, error) {
		old = slices.DeleteFunc(slices.Clone(slots), func(o Slot) bool { return o.Name != name })
		if len(old) == 0 {
			return nil, fmt.Errorf("there is no seal %q; there are %s", name, kinds(slots, func(s Slot) string { return s.Name }))
		}
		return db.withSlot(slots, name, s)
	})
	if err != nil {
		return err
	}
	if err := taken(); err != nil {
		return err
	}
	return db.editSlots(ctx, func(slots []Slot) ([]Slot, error) {
		return slices.DeleteFunc(slots, func(o Slot) bool { return slices.ContainsFunc(old, o.equal) }), nil
	})
}

func (s Slot) equal(o Slot) bool { return s.Name == o.Name && bytes.Equal(s.Wrapped, o.Wrapped) }

func (db *DB) withSlot(slots []Slot, name string, s Seal) (out []Slot, err error) {
	err = db.key.Use(func(key []byte) error {
		slot, err := newSlot(name, s, key)
		out = append(slices.Clone(slots), slot)
		return err
	})
	return out, err
}

func (db *DB) editSlots(ctx context.Context, edit func([]Slot) ([]Slot, error)) error {
	h, rev, err := readHeader(ctx, db.engine)
	if err != nil {
		return err
	}
	if h.Slots, err = edit(h.Slots); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	return h.write(ctx, db.engine, db.aead, rev)
}
