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
	"github.com/claviger/claviger/internal/ship"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/sts"
	"github.com/claviger/claviger/internal/wire"
)

// Credentials are a root user's access key.
type Credentials struct {
	ID     string
	Secret iam.Secret
}

// A Config says what to serve and where to keep it.
type Config struct {
	// Dir holds the store, the audit log and, with the seal "file", the root key.
	// It is initialised if it is new. Empty keeps everything in memory.
	Dir string
	// Seals open the store: the first that can does. The first one seals a new store.
	// None is the file Dir/root.key, which is made for a new store.
	Seals []seal.Options
	// Unseal waits for shares and makes the seal of them, for a store whose slots it
	// is told. It is called if one of Seals is "shamir" and no other opens the store.
	Unseal func(context.Context, []store.Slot) (seal.Seal, error)
	// Account is the first account, 12 digits. It may be empty for a store there is.
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
	// AuditCopies are sent every line of the audit log.
	AuditCopies []*ship.Copier
	// Services may call as service principals and forward requests.
	Services []iam.ServiceCredential
	// KMS says how the KMS service runs. Its Log and Logger are set here.
	KMS kms.Config
	// Logger is told what operators need to know. Nil means slog.Default.
	Logger *slog.Logger

	existing bool // a store is not made
}

// A Server is a running Claviger without its listener. It is safe for
// concurrent use.
type Server struct {
	DB        *store.DB
	Log       *audit.Log
	Directory *iam.Directory
	KMS       *kms.Service
	// Shares are those of the new store's seal, which are nowhere else. Nil unless the
	// store is new and its seal is "shamir".
	Shares []string

	handler *wire.Server
	sealsMu sync.Mutex     // guards seals
	seals   []seal.Options // that it was started with, or that were made since
	place   func(seal.Options) seal.Options
	logger  *slog.Logger
	copies  []*ship.Copier
}

// Open opens or initialises what c names. The Server must be closed.
func Open(ctx context.Context, c Config) (*Server, error) {
	if c.Account != "" && !arn.IsAccount(c.Account) {
		return nil, fmt.Errorf("server: %q is not a 12-digit account id", c.Account)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if err := c.checkServices(); err != nil {
		return nil, err
	}
	o, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	db := o.DB
	if r, err := db.Restored(ctx); err != nil || r != nil {
		if err == nil {
			err = fmt.Errorf("server: the store was restored from a backup of %s, and what was revoked since then is in force in it: run claviger restore accept",
				r.Created.Format(time.RFC3339))
		}
		return nil, errors.Join(err, db.Close())
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
	s := &Server{DB: db, Log: log, Directory: directory, KMS: kms.New(db, c.KMS), Shares: o.shares, seals: c.seals(), place: c.Place, logger: c.Logger, copies: c.AuditCopies}
	s.handler = wire.NewServer(wire.Config{
		DB: db, Directory: directory, KMS: s.KMS, IAM: iam.NewService(db), STS: sts.NewService(db, directory, c.Logger), Organizations: org.NewService(db),
		Log: log, Copies: c.AuditCopies, Regions: c.KMS.Regions, Logger: c.Logger})
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

// Opened is a store that was opened, with what opened it.
type opened struct {
	*store.DB
	shares []string // of a seal that was made
}

func openStore(ctx context.Context, c Config) (o opened, err error) {
	if c.Dir == "" {
		engine, err := bolt.OpenMemory()
		if err != nil {
			return o, err
		}
		o.DB, err = store.Open(ctx, engine, seal.NewEphemeral())
		return o, err
	}
	if err := durable.MakeDir(c.Dir); err != nil {
		return o, fmt.Errorf("server: %w", err)
	}
	engine, err := bolt.Open(storePath(c.Dir))
	if err != nil {
		return o, err
	}
	_, slots, err := store.Slots(ctx, engine)
	switch {
	case errors.Is(err, store.ErrNotFound) && c.existing:
		err = fmt.Errorf("server: the store in %s is empty", c.Dir)
	case errors.Is(err, store.ErrNotFound):
		err = o.create(ctx, engine, c.seals())
	case err == nil:
		err = o.open(ctx, engine, slots, c)
	}
	if err != nil && o.DB == nil {
		err = errors.Join(err, engine.Close())
	}
	return o, err
}

func storePath(dir string) string { return filepath.Join(dir, "store.db") }

// seals are those of the configuration, with the key file where it is.
func (c Config) seals() []seal.Options {
	if len(c.Seals) == 0 {
		c.Seals = []seal.Options{{Kind: "file"}}
	}
	out := slices.Clone(c.Seals)
	for i := range out {
		out[i] = c.Place(out[i])
	}
	return out
}

// Place fills in where a key file is when nothing is said: in the data directory.
func (c Config) Place(o seal.Options) seal.Options {
	if o.Kind == "file" && o.KeyFile == "" {
		o.KeyFile = filepath.Join(c.Dir, "root.key")
	}
	return o
}

// create seals a new store. A key file that is there already is used: it may have been
// put there, or an earlier attempt have failed.
func (o *opened) create(ctx context.Context, e store.Engine, options []seal.Options) error {
	first := options[0]
	if first.Kind == "shamir" && first.Shares == 0 {
		return errors.New("server: a new store that shares are to open is made by claviger init, which prints them")
	}
	if _, err := os.Stat(first.KeyFile); first.Kind == "file" && err == nil {
		s, err := first.Open()
		if err == nil {
			o.DB, err = store.Open(ctx, e, s)
		}
		return err
	}
	n, err := first.Create(false)
	if err != nil {
		return err
	}
	if err := n.Take(); err != nil { // before anything needs it
		return err
	}
	defer seal.Forget(n)
	o.DB, err = store.Open(ctx, e, n)
	o.shares = n.Shares
	return err
}

// open opens a store there is, with a seal that can, or with shares.
func (o *opened) open(ctx context.Context, e store.Engine, slots []store.Slot, c Config) error {
	var seals []store.Seal
	shares := false
	for _, option := range c.seals() {
		if option.Kind == "shamir" {
			shares = true
			continue
		}
		s, err := option.Open()
		if err != nil {
			return err
		}
		defer seal.Forget(s)
		seals = append(seals, s)
	}
	if shares && len(seals) == 0 {
		if c.Unseal == nil {
			return errors.New("server: the store is opened by shares: serve it, and give them with claviger unseal")
		}
		s, err := c.Unseal(ctx, slots)
		if err != nil {
			return err
		}
		defer seal.Forget(s)
		seals = append(seals, s)
	}
	var err error
	o.DB, err = store.Open(ctx, e, seals...)
	return err
}

// bootstrap creates the first account of a new store and its root user's access
// keys. The credentials are written to their file before they work, so that a
// crash in between leaves a store that is initialised again.
func bootstrap(ctx context.Context, db *store.DB, log *audit.Log, c Config) error {
	accounts, err := iam.Accounts(ctx, db)
	if err != nil {
		return err
	}
	if slices.Contains(accounts, c.Account) || c.Account == "" && len(accounts) > 0 {
		return nil
	}
	if c.Account == "" {
		return errors.New("server: a new store needs the id of its first account")
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
		text := fmt.Sprintf("[claviger]\naws_access_key_id = %s\naws_secret_access_key = %s\n", keys[0].ID, string(keys[0].Secret))
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

// logDir is where the audit log is; empty if it is in memory.
func (c Config) logDir() string {
	if c.AuditDir == "" && c.Dir != "" {
		return AuditDir(c.Dir)
	}
	return c.AuditDir
}

// openLog opens the audit log, insists that it is the one the store knows, and
// settles what a crash left open.
func openLog(ctx context.Context, db *store.DB, c Config) (*audit.Log, error) {
	dir := c.logDir()
	marks, err := db.Marks(ctx)
	if err != nil {
		return nil, err
	}
	anchor, err := iam.AuditAnchor(ctx, db)
	if err != nil {
		return nil, err
	}
	var public auditKey
	on := audit.Config{Dir: dir, SyncAlways: c.AuditSyncAlways, Anchor: anchor, Closed: db.Unmark}
	if dir != "" {
		key, err := findAuditKey(ctx, db, true)
		if err == nil {
			on.Signer, on.Verifier, err = key.parse()
		}
		if err != nil {
			return nil, err
		}
		public = key
	}
	if len(c.AuditCopies) > 0 {
		on.Copy = func(lines []byte) {
			for _, copier := range c.AuditCopies {
				copier.Write(lines)
			}
		}
	}
	if c.AcceptAuditLoss {
		on.Anchor, on.Verifier = audit.Head{}, nil
	}
	log, err := audit.Open(on)
	if err != nil {
		return nil, err
	}
	if dir != "" {
		err = public.publish(dir)
	}
	if err == nil {
		err = settle(ctx, db, log, dir, anchor, marks, c)
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return log, nil
}

// noteRemoved tells of what was removed from the end of the audit log, there too.
func noteRemoved(log *audit.Log, c Config) error {
	if log.Removed() == 0 {
		return nil
	}
	c.Logger.Warn("removed what a crash left half written at the end of the audit log", "bytes", log.Removed())
	e := log.Begin(audit.Record{EventType: "AwsServiceEvent", EventTime: time.Now().UTC().Truncate(time.Second), EventName: "RepairAuditLog",
		EventSource: "claviger", RequestID: uuid.New().String(), ErrorMessage: fmt.Sprintf("%d bytes that a crash left half written are removed", log.Removed())})
	return e.End()
}

func settle(ctx context.Context, db *store.DB, log *audit.Log, dir string, anchor audit.Head, marks map[string]bool, c Config) error {
	if err := noteRemoved(log, c); err != nil {
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

// Run does the background work until ctx ends: syncing the audit log, what is due to
// keys, and verifying the store.
func (s *Server) Run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { s.Log.Run(ctx) })
	wg.Go(func() { s.KMS.Run(ctx) })
	wg.Go(func() { s.DB.Run(ctx, s.logger) })
	for _, copier := range s.copies {
		wg.Go(func() { copier.Run(ctx) })
	}
	wg.Wait()
}

// Close closes the log and the store. Nothing may use them any more.
func (s *Server) Close() error { return errors.Join(s.Log.Close(), s.DB.Close()) }
