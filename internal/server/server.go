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
	"slices"
	"sync"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/org"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/sts"
	"github.com/claviger/claviger/internal/wire"
)

// Credentials are a root user's access key.
type Credentials struct{ ID, Secret string }

// A Config says what to serve and where to keep it.
type Config struct {
	// Dir holds the store, the audit log and, unless Seal is set, the root key.
	// It is initialised if it is new. Empty keeps everything in memory.
	Dir string
	// Seal opens the store. Nil is KeyFile, made for a new store, or a key that
	// is forgotten when there is no Dir.
	Seal store.Seal
	// KeyFile holds the root key if there is no Seal. Empty is Dir/root.key.
	KeyFile string
	// Account is the first account, 12 digits.
	Account string
	// RootKeys are access keys of its root user. Without any, a new store draws
	// one and writes it to Dir/root-credentials.
	RootKeys []Credentials
	// AuditDir overrides where the audit log is.
	AuditDir string
	// AcceptAuditLoss opens a store although its audit log is not the one that the
	// store knows.
	AcceptAuditLoss bool
	// AuditSyncAlways syncs each audit record before its answer leaves.
	AuditSyncAlways bool
	// Services may call as service principals and forward requests.
	Services []iam.ServiceCredential
	// KMS says how the KMS service runs. Its Log and Logger are set here.
	KMS kms.Config
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
	if err := c.checkServices(); err != nil {
		return nil, err
	}
	db, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	log, err := openLog(ctx, db, c)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := bootstrap(ctx, db, log, c); err != nil {
		return nil, errors.Join(err, log.Close(), db.Close())
	}
	directory := iam.NewDirectory(db, c.Services...)
	c.KMS.Log, c.KMS.Logger = log, c.Logger
	s := &Server{DB: db, Log: log, Directory: directory, KMS: kms.New(db, c.KMS)}
	s.handler = wire.NewServer(wire.Config{
		DB: db, Directory: directory, KMS: s.KMS, IAM: iam.NewService(db), STS: sts.NewService(db, directory, c.Logger), Organizations: org.NewService(db),
		Log: log, Regions: c.KMS.Regions, Logger: c.Logger})
	return s, nil
}

// checkServices refuses access keys that would be two callers'.
func (c Config) checkServices() error {
	seen := map[string]bool{}
	for _, k := range c.RootKeys {
		seen[k.ID] = true
	}
	for _, s := range c.Services {
		if seen[s.ID] {
			return fmt.Errorf("server: the access key %s of %s is another caller's too", s.ID, s.Service)
		}
		seen[s.ID] = true
	}
	return nil
}

func openStore(ctx context.Context, c Config) (*store.DB, error) {
	if c.Dir == "" {
		engine, err := bolt.OpenMemory()
		if err != nil {
			return nil, err
		}
		return store.Open(ctx, engine, seal.NewEphemeral())
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	engine, err := bolt.Open(storePath(c.Dir))
	if err != nil {
		return nil, err
	}
	s, err := chooseSeal(ctx, engine, c)
	if err != nil {
		return nil, errors.Join(err, engine.Close())
	}
	return store.Open(ctx, engine, s)
}

func storePath(dir string) string { return filepath.Join(dir, "store.db") }

// keyFile is where the root key is unless a Seal is given.
func (c Config) keyFile() string {
	if c.KeyFile != "" {
		return c.KeyFile
	}
	return filepath.Join(c.Dir, "root.key")
}

// chooseSeal is the configured seal, or the key file. A key file is made only
// for a store that is empty: another one could not open it.
func chooseSeal(ctx context.Context, e store.Engine, c Config) (store.Seal, error) {
	if c.Seal != nil {
		return c.Seal, nil
	}
	head, err := e.Head(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(c.keyFile()); head == 0 && errors.Is(err, os.ErrNotExist) {
		return seal.CreateFile(c.keyFile())
	}
	return seal.NewFile(c.keyFile()), nil
}

// ReadAnchor returns how far the store of a data directory says that the audit
// log reaches. It creates nothing. store.ErrLocked: a server has the store open.
func ReadAnchor(ctx context.Context, c Config) (audit.Head, error) {
	if _, err := os.Stat(storePath(c.Dir)); err != nil {
		return audit.Head{}, fmt.Errorf("server: %w", err)
	}
	engine, err := bolt.Open(storePath(c.Dir))
	if err != nil {
		return audit.Head{}, err
	}
	if c.Seal == nil {
		c.Seal = seal.NewFile(c.keyFile())
	}
	if head, err := engine.Head(ctx); err != nil || head == 0 {
		return audit.Head{}, errors.Join(errors.New("server: the store is empty"), err, engine.Close())
	}
	db, err := store.Open(ctx, engine, c.Seal)
	if err != nil {
		return audit.Head{}, err
	}
	anchor, err := iam.AuditAnchor(ctx, db)
	return anchor, errors.Join(err, db.Close())
}

// bootstrap creates the first account of a new store and its root user's access
// keys. The credentials are written to their file before they work, so that a
// crash in between leaves a store that is initialised again.
func bootstrap(ctx context.Context, db *store.DB, log *audit.Log, c Config) error {
	accounts, err := iam.Accounts(ctx, db)
	if err != nil {
		return err
	}
	if slices.Contains(accounts, c.Account) {
		return nil
	}
	if len(accounts) > 0 {
		return fmt.Errorf("server: the store has the accounts %v and not %s", accounts, c.Account)
	}
	keys := c.RootKeys
	if len(keys) == 0 {
		if c.Dir == "" {
			return errors.New("server: a store in memory needs root credentials")
		}
		keys = []Credentials{{iam.NewAccessKeyID(), iam.NewSecret()}}
		text := fmt.Sprintf("[claviger]\naws_access_key_id = %s\naws_secret_access_key = %s\n", keys[0].ID, keys[0].Secret)
		if err := durable.Replace(filepath.Join(c.Dir, "root-credentials"), []byte(text)); err != nil {
			return fmt.Errorf("server: %w", err)
		}
	}
	return addAccount(ctx, db, log, c.Account, keys)
}

// addAccount creates an account, and records it as the program's own doing.
func addAccount(ctx context.Context, db *store.DB, log *audit.Log, id string, keys []Credentials) error {
	now := time.Now().UTC()
	entry := log.Begin(audit.Record{
		EventType: "AwsServiceEvent", EventTime: now.Truncate(time.Second), EventSource: "organizations.amazonaws.com", EventName: "CreateAccount",
		UserIdentity: &audit.Identity{Type: "AWSService", AccountID: id}, RequestID: uuid.New().String(), RecipientAccountID: id})
	err := iam.Change(ctx, db, entry, func(tx *store.Tx) error {
		if err := iam.AddAccount(tx, iam.Account{ID: id, Created: now}); err != nil {
			return err
		}
		for _, k := range keys {
			if err := iam.AddRootKey(tx, id, k.ID, k.Secret, now); err != nil {
				return err
			}
		}
		return nil
	})
	return errors.Join(err, entry.End())
}

// openLog opens the audit log, insists that it is the one the store knows, and
// settles what a crash left open.
func openLog(ctx context.Context, db *store.DB, c Config) (*audit.Log, error) {
	dir := c.AuditDir
	if dir == "" && c.Dir != "" {
		dir = AuditDir(c.Dir)
	}
	marks, err := db.Marks(ctx)
	if err != nil {
		return nil, err
	}
	log, err := audit.Open(audit.Config{Dir: dir, SyncAlways: c.AuditSyncAlways, Closed: db.Unmark})
	if err != nil {
		return nil, err
	}
	if err := settle(ctx, db, log, dir, marks, c); err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return log, nil
}

func settle(ctx context.Context, db *store.DB, log *audit.Log, dir string, marks map[string]bool, c Config) error {
	anchor, err := iam.AuditAnchor(ctx, db)
	if err != nil {
		return err
	}
	whole, err := audit.Contains(dir, anchor)
	if dir == "" {
		whole, err = anchor.Sequence == 0, nil
	}
	switch {
	case err != nil:
		return err
	case !whole && !c.AcceptAuditLoss:
		return fmt.Errorf("server: the audit log in %q lacks line %d, which the store knows: it was cut or replaced", dir, anchor.Sequence)
	case !whole:
		c.Logger.Warn("the audit log was cut or replaced; going on as asked", "missing", anchor.Sequence)
		e := log.Begin(audit.Record{EventType: "AwsServiceEvent", EventTime: time.Now().UTC().Truncate(time.Second), EventName: "AcceptAuditLoss",
			EventSource: "claviger", RequestID: uuid.New().String(), ErrorMessage: fmt.Sprintf("the log lacks line %d, which the store knows", anchor.Sequence)})
		if err := e.End(); err != nil {
			return err
		}
	}
	changes, err := log.Changes()
	if err != nil {
		return err
	}
	if c.Dir != "" && changes.Committed > anchor.Sequence {
		return fmt.Errorf("server: the audit log in %q has a change in line %d that the store lacks: an older copy was put in its place, "+
			"which would bring back what has been revoked since", dir, changes.Committed)
	}
	if err := log.Settle(changes.Open, func(id string) bool { return marks[id] }); err != nil {
		return err
	}
	if len(changes.Open) > 0 {
		c.Logger.Warn("settled changes that an earlier run left without an outcome", "changes", len(changes.Open))
	}
	for id := range marks { // their outcomes are on disk: what was written before was synced at opening
		db.Unmark(id)
	}
	return nil
}

// AuditDir is where a data directory keeps its audit log.
func AuditDir(dir string) string { return filepath.Join(dir, "audit") }

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.handler }

// Through answers requests that come in by a VPC endpoint.
func (s *Server) Through(e *iam.Endpoint) http.Handler { return s.handler.Through(e) }

// AddAccount creates a further account with a root access key.
func (s *Server) AddAccount(ctx context.Context, id string, root Credentials) error {
	return addAccount(ctx, s.DB, s.Log, id, []Credentials{root})
}

// JoinOrganization makes an existing account a member of the organization of
// another one.
func (s *Server) JoinOrganization(ctx context.Context, account, management string) error {
	now := time.Now().UTC()
	entry := s.Log.Begin(audit.Record{
		EventType: "AwsServiceEvent", EventTime: now.Truncate(time.Second), EventSource: "organizations.amazonaws.com", EventName: "JoinOrganization",
		UserIdentity: &audit.Identity{Type: "AWSService", AccountID: account}, RequestID: uuid.New().String(), RecipientAccountID: management})
	err := iam.Change(ctx, s.DB, entry, func(tx *store.Tx) error { return org.Join(tx, account, management, now) })
	return errors.Join(err, entry.End())
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
