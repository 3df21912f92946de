// Package server puts the parts of Claviger together: a store, an audit log and
// the services, behind one HTTP handler.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/sts"
	"github.com/claviger/claviger/internal/wire"
)

// A Seal opens the store. The seals are in package seal.
type Seal interface {
	Kind() string
	Wrap(key []byte) ([]byte, error)
	Unwrap(wrapped []byte) ([]byte, error)
}

// Credentials are a root user's access key.
type Credentials struct{ ID, Secret string }

// A Config says what to serve and where to keep it.
type Config struct {
	// Dir holds the store, the audit log and, unless Seal is set, the root key.
	// It is initialised if it is new. Empty keeps everything in memory.
	Dir string
	// Seal opens the store. Nil is the key file Dir/root.key, made for a new
	// store, or a key that is forgotten when there is no Dir.
	Seal Seal
	// Account is the first account, 12 digits.
	Account string
	// RootKeys are access keys of its root user. Without any, a new store draws
	// one and writes it to Dir/root-credentials.
	RootKeys []Credentials
	// AuditDir overrides where the audit log is.
	AuditDir string
	// AuditSyncAlways syncs each audit record before its answer leaves.
	AuditSyncAlways bool
	// Logger is told what operators need to know. Nil means slog.Default.
	Logger *slog.Logger
}

// A Server is a running Claviger without its listener. It is safe for
// concurrent use.
type Server struct {
	DB        *store.DB
	Log       *audit.Log
	Directory *iam.Directory
	KMS       *kms.Service

	handler *wire.Server
}

// Open opens or initialises what c names. The Server must be closed.
func Open(ctx context.Context, c Config) (*Server, error) {
	if !arn.IsAccount(c.Account) {
		return nil, fmt.Errorf("server: %q is not a 12-digit account id", c.Account)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	db, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := bootstrap(ctx, db, c); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	log, err := openLog(ctx, db, c)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	directory := iam.NewDirectory(db)
	s := &Server{DB: db, Log: log, Directory: directory, KMS: kms.New(db, kms.Config{Logger: c.Logger})}
	s.handler = wire.NewServer(wire.Config{
		DB: db, Directory: directory, KMS: s.KMS, IAM: iam.NewService(db), STS: sts.NewService(db, directory), Log: log, Logger: c.Logger})
	return s, nil
}

// OpenStore opens the store in dir alone, for tools that read it.
func OpenStore(ctx context.Context, dir string, s Seal) (*store.DB, error) {
	return openStore(ctx, Config{Dir: dir, Seal: s})
}

func openStore(ctx context.Context, c Config) (*store.DB, error) {
	if c.Dir == "" {
		return openMemory(ctx)
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	engine, err := bolt.Open(filepath.Join(c.Dir, "store.db"))
	if err != nil {
		return nil, err
	}
	s, err := chooseSeal(ctx, engine, c)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return store.Open(ctx, engine, s)
}

// chooseSeal is the configured seal, or the key file. A key file is made only
// for a store that is empty: another one could not open it.
func chooseSeal(ctx context.Context, e store.Engine, c Config) (Seal, error) {
	if c.Seal != nil {
		return c.Seal, nil
	}
	path := filepath.Join(c.Dir, "root.key")
	head, err := e.Head(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(path); head == 0 && errors.Is(err, os.ErrNotExist) {
		return seal.CreateFile(path)
	}
	return seal.NewFile(path), nil
}

func openMemory(ctx context.Context) (*store.DB, error) {
	engine, err := bolt.OpenMemory()
	if err != nil {
		return nil, err
	}
	return store.Open(ctx, engine, seal.NewEphemeral())
}

// bootstrap creates the first account, and its root user's access keys. The
// credentials are written to their file before they work, so that a crash in
// between leaves a store that is initialised again.
func bootstrap(ctx context.Context, db *store.DB, c Config) error {
	known := false
	err := db.View(ctx, func(tx *store.Tx) error {
		_, err := iam.FindAccount(tx, c.Account)
		known = err == nil
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		return err
	})
	if err != nil {
		return err
	}
	keys := c.RootKeys
	if !known && len(keys) == 0 {
		keys = []Credentials{{iam.NewAccessKeyID(), iam.NewSecret()}}
		if err := writeCredentials(c.Dir, keys[0]); err != nil {
			return err
		}
	}
	now := time.Now().UTC()
	return db.Update(ctx, func(tx *store.Tx) error {
		if err := iam.AddAccount(tx, iam.Account{ID: c.Account, Created: now}); err != nil {
			return err
		}
		for _, k := range keys {
			if err := iam.AddRootKey(tx, c.Account, k.ID, k.Secret, now); err != nil {
				return err
			}
		}
		return nil
	})
}

// writeCredentials writes the AWS shared-credentials file for the root user.
func writeCredentials(dir string, k Credentials) error {
	if dir == "" {
		return errors.New("server: a store in memory needs root credentials")
	}
	path := filepath.Join(dir, "root-credentials")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	_, err = fmt.Fprintf(f, "[claviger]\naws_access_key_id = %s\naws_secret_access_key = %s\n", k.ID, k.Secret)
	return errors.Join(err, f.Sync(), f.Close())
}

// openLog opens the audit log and settles what a crash left open.
func openLog(ctx context.Context, db *store.DB, c Config) (*audit.Log, error) {
	dir := c.AuditDir
	if dir == "" && c.Dir != "" {
		dir = AuditDir(c.Dir)
	}
	log, err := audit.Open(audit.Config{Dir: dir, SyncAlways: c.AuditSyncAlways})
	if err != nil {
		return nil, err
	}
	marks, err := db.Marks(ctx)
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	settled, err := log.Settle(func(id string) bool { return marks[id] })
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	if settled > 0 {
		c.Logger.Warn("settled changes that an earlier run left without an outcome", "changes", settled)
	}
	for id := range marks {
		db.Unmark(id)
	}
	return log, nil
}

// AuditDir is where a data directory keeps its audit log.
func AuditDir(dir string) string { return filepath.Join(dir, "audit") }

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.handler }

// AddAccount creates a further account with a root access key.
func (s *Server) AddAccount(ctx context.Context, id string, root Credentials) error {
	now := time.Now().UTC()
	return s.DB.Update(ctx, func(tx *store.Tx) error {
		if err := iam.AddAccount(tx, iam.Account{ID: id, Created: now}); err != nil {
			return err
		}
		return iam.AddRootKey(tx, id, root.ID, root.Secret, now)
	})
}

// Run does the background work until ctx ends: syncing the audit log and
// removing keys whose waiting period is over.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.Log.Run(ctx) })
	wg.Go(func() { s.KMS.Run(ctx) })
	wg.Wait()
}

// Close closes the log and the store. Nothing may use them any more.
func (s *Server) Close() error { return errors.Join(s.Log.Close(), s.DB.Close()) }
