package server

import (
	"context"
	"io"

	"github.com/claviger/claviger/internal/inquire"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/store"
)

// ReadWorld reads an export into a store in memory, for questions alone: its keys have no
// key material. The store must be closed.
func ReadWorld(ctx context.Context, r io.Reader) (*inquire.World, *store.DB, error) {
	w, db, err := NewWorld(ctx)
	if err != nil {
		return nil, nil, err
	}
	l := loader{db: db}
	if err = readExport(r, func(p store.Plain) error { return l.add(ctx, p) }); err == nil {
		err = l.flush(ctx)
	}
	if err != nil {
		_ = db.Close() // what went wrong is told already
		return nil, nil, err
	}
	return w, db, nil
}

// NewWorld makes a world without anybody in it. The store must be closed.
func NewWorld(ctx context.Context) (*inquire.World, *store.DB, error) {
	o, err := openStore(ctx, Config{})
	if err != nil {
		return nil, nil, err
	}
	return &inquire.World{DB: o.DB, KMS: kms.New(o.DB, kms.Config{})}, o.DB, nil
}

// WriteWorld writes an export of a store of NewWorld.
func WriteWorld(ctx context.Context, db *store.DB, w io.Writer) error { return dump(ctx, db, w) }

// World is what the server serves, for questions.
func (s *Server) World() *inquire.World { return &inquire.World{DB: s.DB, KMS: s.KMS} }

// A loader writes records some hundred at a time.
type loader struct {
	db    *store.DB
	batch []store.Plain
}

func (l *loader) add(ctx context.Context, p store.Plain) error {
	if l.batch = append(l.batch, p); len(l.batch) < l.db.Batch() {
		return nil
	}
	return l.flush(ctx)
}

func (l *loader) flush(ctx context.Context) error {
	err := l.db.Update(ctx, func(tx *store.Tx) error {
		for _, p := range l.batch {
			if err := tx.Load(p); err != nil {
				return err
			}
		}
		return nil
	})
	l.batch = l.batch[:0]
	return err
}
