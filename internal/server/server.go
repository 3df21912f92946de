// Package server puts the parts of Claviger together: a store, an audit log and
// the services, behind one HTTP handler.
package server

import (
	"context"
	"crypto/tls"
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
	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/org"
	"github.com/claviger/claviger/internal/peer"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/ship"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/etcd"
	"github.com/claviger/claviger/internal/sts"
	"github.com/claviger/claviger/internal/trail"
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
	// It is initialised if it is new, unless Existing is set. Empty keeps everything in
	// memory.
	Dir string
	// Cluster is where the store is that this node shares with others; Dir has its audit
	// log and what else is its own. Nil: the store is in Dir.
	Cluster *etcd.Config
	// URL is where other nodes reach this one; empty: they do not.
	URL string
	// PeerCertificate is what this node shows other nodes that ask for one. It is asked for each
	// connection, since certificates are renewed. Nil: none.
	PeerCertificate func() (tls.Certificate, error)
	// Existing says that a store is opened and never made.
	Existing bool
	// Seals open the store: the first that can does. The first one seals a new store.
	// None is the file Dir/root.key, which is made for a new store.
	Seals []seal.Options
	// Unseal waits for shares and makes the seal of them, for a store whose slots it
	// is told. It is called if one of Seals is "shamir" and no other opens the store.
	Unseal func(context.Context, []store.Slot) (seal.Seal, error)
	// Account is the first account, 12 digits; a store there is must have it. Empty takes
	// whatever accounts the store has, and NewAccount for a store that has none.
	Account    string
	NewAccount string
	// RootKeys are access keys of its root user. Without any, a new store draws
	// one and writes it to Dir/root-credentials.
	RootKeys []Credentials
	// AuditDir overrides where the audit log is.
	AuditDir string
	// NodeLogs are the audit logs of the other nodes, for AcceptRestore.
	NodeLogs []NodeLog
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
	// MetricsApart says that /metrics is shown by Metrics alone, and not to everybody.
	MetricsApart bool
	// Connections are those that requests come by, for the metrics. Nil: not known.
	Connections *front.Connections
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
	// Shares are those of the new store's seal, which are nowhere else. Nil unless the
	// store is new and its seal is "shamir".
	Shares []string

	handler  *wire.Server
	cluster  *etcd.Engine   // nil: the store is not shared
	asker    *peer.Asker    // nil: there are no other nodes
	changeMu sync.Mutex     // held while a seal is changed
	sealsMu  sync.Mutex     // guards seals
	seals    []seal.Options // that it was started with, or that were made since
	place    func(seal.Options) seal.Options
	dir      string // empty: in memory
	onDisk   bool   // the store or its log
	logger   *slog.Logger
	copies   []*ship.Copier
}

// Open opens or initialises what c names. The Server must be closed.
func Open(ctx context.Context, c Config) (*Server, error) {
	if c.Account != "" && !arn.IsAccount(c.Account) {
		return nil, fmt.Errorf("server: %q is not a 12-digit account id", c.Account)
	}
	c.Logger = c.logger()
	if err := c.checkServices(); err != nil {
		return nil, err
	}
	o, err := openStore(ctx, c)
	if err != nil {
		return nil, err
	}
	db := o.DB
	if err := servable(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := c.checkLog(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	log, err := openLog(ctx, db, c)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := bootstrap(ctx, db, log, c); err != nil {
		return nil, errors.Join(err, log.Close(), db.Close())
	}
	if err := c.join(ctx, db); err != nil {
		return nil, errors.Join(err, log.Close(), db.Close())
	}
	directory := iam.NewDirectory(db, c.Services...)
	c.KMS.Log, c.KMS.Logger = log, c.Logger
	s := &Server{DB: db, Log: log, Directory: directory, KMS: kms.New(db, c.KMS), Shares: o.shares, cluster: o.cluster, seals: c.seals(), place: c.Place, dir: c.Dir, onDisk: c.logDir() != "", logger: c.Logger, copies: c.AuditCopies}
	var others trail.Others
	if s.cluster != nil {
		s.asker = peer.New(db, c.PeerCertificate)
		others = s
	}
	events := trail.New(db, log, others, c.logger())
	var desk *peer.Desk
	if s.asker != nil {
		desk = peer.NewDesk(db, map[string]peer.Answerer{aboutEvents: events.Answer, aboutState: s.answerState})
	}
	s.handler = wire.NewServer(wire.Config{Trail: events, Peer: desk,
		DB: db, Directory: directory, KMS: s.KMS, IAM: iam.NewService(db), STS: sts.NewService(db, directory, c.Logger), Organizations: org.NewService(db),
		Log: log, Copies: c.AuditCopies, MetricsApart: c.MetricsApart, Connections: c.Connections, Regions: c.KMS.Regions, Logger: c.Logger})
	return s, nil
}

func (c Config) logger() *slog.Logger {
	if c.Logger == nil {
		return slog.Default()
	}
	return c.Logger
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

// credentialsFile is where a new store's root credentials are, in its data directory.
const credentialsFile = "root-credentials"

// CredentialsFile is where a data directory has the root user's access key, which it drew.
func CredentialsFile(dir string) string { return filepath.Join(dir, credentialsFile) }

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
		c.Account = c.NewAccount
	}
	if !arn.IsAccount(c.Account) {
		return errors.New("server: a new store needs the id of its first account, 12 digits")
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
		if err := durable.Replace(CredentialsFile(c.Dir), []byte(text)); err != nil {
			return fmt.Errorf("server: %w", err)
		}
	}
	err = addAccount(ctx, db, log, c.Account, keys, c.also()...)
	if errors.Is(err, errBootstrapped) && len(c.RootKeys) == 0 {
		return os.Remove(CredentialsFile(c.Dir)) // another node was quicker: these do not work
	}
	return err
}

// also is what the transaction of the first account does besides.
func (c Config) also() []func(*store.Tx, string) error {
	if c.Cluster == nil {
		return nil
	}
	return []func(*store.Tx, string) error{first}
}

// errBootstrapped reports that another node has made the first account.
var errBootstrapped = errors.New("server: another node has made the first account just now")

// A firstAccount says which account was the first, of a store that nodes share: they may be
// started at the same time.
type firstAccount struct{ ID string }

var firstAccountKind = store.Kind[firstAccount]{Tag: 7, Name: "first account"}

const firstAccountKey = "sys/first-account"

// first makes a transaction that of the first account, of which there is one.
func first(tx *store.Tx, id string) error {
	switch _, err := store.Get(tx, firstAccountKind, firstAccountKey); {
	case err == nil:
		return errBootstrapped
	case !errors.Is(err, store.ErrNotFound):
		return err
	}
	return store.Put(tx, firstAccountKind, firstAccountKey, &firstAccount{id})
}

// addAccount creates an account, and records it as the program's own doing. also is done in the
// same transaction.
func addAccount(ctx context.Context, db *store.DB, log *audit.Log, id string, keys []Credentials, also ...func(*store.Tx, string) error) error {
	now := time.Now().UTC()
	entry := log.Begin(audit.Record{
		EventType: "AwsServiceEvent", EventTime: now.Truncate(time.Second), EventSource: "organizations.amazonaws.com", EventName: "CreateAccount",
		UserIdentity: &audit.Identity{Type: "AWSService", AccountID: id}, RequestID: uuid.New().String(), RecipientAccountID: id})
	err := iam.Change(ctx, db, entry, func(tx *store.Tx) error {
		tx.OnlyAdds()
		for _, fn := range also {
			if err := fn(tx, id); err != nil {
				return err
			}
		}
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

// Handler answers requests.
func (s *Server) Handler() http.Handler { return s.handler }

// Leave tells whoever asks /readyz, or anything else, to go elsewhere from now on; what is
// asked is answered as before.
func (s *Server) Leave() { s.handler.Leave() }

// Metrics shows the metrics, whatever the path.
func (s *Server) Metrics() http.Handler { return http.HandlerFunc(s.handler.Metrics) }

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
	if s.onDisk {
		wg.Go(func() { s.watch(ctx, "the audit log", s.Log.Err) })
		wg.Go(func() { s.watch(ctx, "the store", s.DB.Err) })
	}
	for _, copier := range s.copies {
		wg.Go(func() { copier.Run(ctx) })
	}
	wg.Wait()
}

// watch logs when something cannot be written any more, and why, and when it can again.
func (s *Server) watch(ctx context.Context, what string, state func() error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	stopped := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		switch err := state(); {
		case err != nil && !stopped:
			s.logger.Error(what+" cannot be written: what would change something is refused", "err", err)
			stopped = true
		case err == nil && stopped:
			s.logger.Info(what + " can be written again")
			stopped = false
		}
	}
}

// Close closes the log and the store, and sends the last copies of the log. Nothing may use
// them any more.
func (s *Server) Close() error {
	err := s.Log.Close()
	if s.asker != nil {
		s.asker.Close()
	}
	for _, copier := range s.copies {
		if failed := copier.Close(); failed != nil { // the copies are not what was promised
			s.logger.Warn("close a destination of copies", "to", copier.Name(), "err", failed)
		}
	}
	return errors.Join(err, s.DB.Close())
}
