package kms

import (
	"context"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/material"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
	"github.com/claviger/claviger/internal/store"
)

// A Material is the record of one key material.
type Material struct {
	ID    string
	Spec  string `json:",omitzero"` // key spec; empty: SYMMETRIC_DEFAULT
	Bytes []byte // what the key spec's material is in package material

	secret    material.Secret // what Bytes was
	symmetric *material.Symmetric
	mac       *material.MAC
	pair      *material.Pair
}

func (m *Material) prepare() (err error) {
	m.secret, m.Bytes = material.NewSecret(m.Bytes), nil // from here on it does not print
	switch {
	case m.Spec == "" || m.Spec == symmetricDefault:
		m.symmetric, err = material.NewSymmetric(m.ID, m.secret)
	case strings.HasPrefix(m.Spec, "HMAC_"):
		m.mac, err = material.NewMAC(m.Spec, m.secret)
	default:
		m.pair, err = material.NewPair(m.Spec, m.secret)
	}
	return err
}

var materialKind = store.Kind[Material]{Tag: 31, Name: "key material", Prepare: (*Material).prepare}

func materialKey(k *Key, id string) string {
	return "k/" + k.Region + "/" + k.Account + "/material/" + k.ID + "/" + id
}

// putMaterial stores key material of k; bytes stays the caller's.
func putMaterial(tx *store.Tx, k *Key, id string, bytes []byte) error {
	return store.Put(tx, materialKind, materialKey(k, id), &Material{ID: id, Spec: k.Spec, Bytes: append([]byte(nil), bytes...)})
}

// material returns the key's material with the given id, ready for use.
func (k *Key) material(tx *store.Tx, id string) (*Material, error) {
	return store.Get(tx, materialKind, materialKey(k, id))
}

// turn waits until work with the key material of a spec may begin. Slow kinds take
// turns, so that they leave processors to everything else.
func (s *Service) turn(ctx context.Context, spec string) (done func(), err error) {
	if !strings.HasPrefix(spec, "RSA_") {
		return func() {}, nil
	}
	select {
	case s.slow <- struct{}{}:
		return func() { <-s.slow }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// generateMaterial draws key material of a spec.
func (s *Service) generateMaterial(ctx context.Context, spec string) ([]byte, error) {
	done, err := s.turn(ctx, spec)
	if err != nil {
		return nil, err
	}
	defer done()
	if spec == symmetricDefault {
		return material.Generate()
	}
	if n := material.MACSize(spec); n > 0 {
		return material.Random(n)
	}
	return material.GeneratePair(spec)
}

// States of a key material, short.
const (
	current       = kmsapi.KeyMaterialStateCurrent
	nonCurrent    = kmsapi.KeyMaterialStateNonCurrent
	pending       = kmsapi.KeyMaterialStatePendingRotation
	pendingImport = kmsapi.KeyMaterialStatePendingMultiRegionImportAndRotation
)

// A MaterialInfo is what a key's record says about one of its materials.
type MaterialInfo struct {
	ID       string
	State    string    // kmsapi.KeyMaterialState…
	Rotated  time.Time `json:",omitzero"` // when it became current by a rotation
	Rotation string    `json:",omitzero"` // kmsapi.RotationType…

	// For imported material:
	Imported    bool      `json:",omitzero"`
	ValidTo     time.Time `json:",omitzero"` // zero: it does not expire
	Description string    `json:",omitzero"`
}

// present reports whether imported material is there.
func (m *MaterialInfo) present(now time.Time) bool {
	return m.Imported && (m.ValidTo.IsZero() || now.Before(m.ValidTo))
}

// permanent reports whether the key cannot be used without the material.
func (m *MaterialInfo) permanent() bool { return m.State == current || m.State == nonCurrent }

// complete reports whether all imported materials that the key needs are there.
func (k *Key) complete(now time.Time) bool {
	for i := range k.Materials {
		if k.Materials[i].permanent() && !k.Materials[i].present(now) {
			return false
		}
	}
	return k.MaterialID != ""
}

// info finds a material of the key; nil if it has none of that id.
func (k *Key) info(id string) *MaterialInfo {
	for i := range k.Materials {
		if k.Materials[i].ID == id {
			return &k.Materials[i]
		}
	}
	return nil
}

// awaiting finds the material that is to become current; nil without one.
func (k *Key) awaiting() *MaterialInfo {
	for i := range k.Materials {
		if !k.Materials[i].permanent() {
			return &k.Materials[i]
		}
	}
	return nil
}

// describeImport adds to the metadata what is known of imported material.
func (k *Key) describeImport(m *kmsapi.KeyMetadata, now time.Time) {
	if k.Origin != kmsapi.OriginTypeExternal {
		return
	}
	var first time.Time
	for _, i := range k.Materials {
		if !i.present(now) || !i.permanent() {
			continue
		}
		if m.ExpirationModel == nil {
			m.ExpirationModel = new(kmsapi.ExpirationModelTypeKeyMaterialDoesNotExpire)
		}
		if !i.ValidTo.IsZero() && (first.IsZero() || i.ValidTo.Before(first)) {
			first = i.ValidTo
			m.ExpirationModel = new(kmsapi.ExpirationModelTypeKeyMaterialExpires)
		}
	}
	m.ValidTo = model.At(first)
}
