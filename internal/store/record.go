package store

import (
	"encoding/binary"
	"encoding/json/v2"
	"fmt"
)

// A Kind is a type of record: how it is told apart and made ready. T is plain
// data with exported fields, stored as JSON; unexported fields are what Prepare
// derives from them, and are not stored.
type Kind[T any] struct {
	Tag  byte   // in every sealed record; never reused for another type
	Name string // for errors
	// Prepare completes a decoded record. Nil does nothing. Its result is
	// shared by all readers, so it must not change afterwards.
	Prepare func(*T) error
}

// A sealed record is version, tag and what XAES-256-GCM makes of the JSON; the
// associated data binds it to this deployment, its key and its tag.
const recordVersion = 1

func (db *DB) associated(key string, tag byte) []byte {
	ad := append(make([]byte, 0, 128), "claviger record\x00"...)
	ad = append(ad, recordVersion, tag)
	ad = binary.BigEndian.AppendUint32(ad, uint32(len(db.deployment)))
	ad = append(ad, db.deployment...)
	return append(ad, key...)
}

func encode[T any](db *DB, k Kind[T], key string, v *T) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", k.Name, key, err)
	}
	defer clear(text)
	return db.aead.Seal([]byte{recordVersion, k.Tag}, text, db.associated(key, k.Tag))
}

// unsealed opens a record. ErrDamaged: it is of another kind, belongs elsewhere
// or was changed.
func (db *DB) unsealed(tag byte, name, key string, sealed []byte) ([]byte, error) {
	if len(sealed) < 2 || sealed[0] != recordVersion || sealed[1] != tag {
		return nil, fmt.Errorf("%s %s: %w", name, key, ErrDamaged)
	}
	text, err := db.aead.Open(sealed[2:], db.associated(key, tag))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", name, key, ErrDamaged)
	}
	return text, nil
}

func decode[T any](db *DB, k Kind[T], key string, sealed []byte) (*T, error) {
	text, err := db.unsealed(k.Tag, k.Name, key, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		return nil, fmt.Errorf("decode %s %s: %w", k.Name, key, ErrDamaged)
	}
	if k.Prepare != nil {
		if err := k.Prepare(v); err != nil {
			return nil, fmt.Errorf("prepare %s %s: %w", k.Name, key, err)
		}
	}
	return v, nil
}
