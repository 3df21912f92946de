package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
)

// An auditKey signs the checkpoints of the audit log. It is as safe as the store.
type auditKey struct {
	Private string // as golang.org/x/mod/sumdb/note writes them
	Public  string
}

var auditKeyKind = store.Kind[auditKey]{Tag: 4, Name: "key of the audit log"}

// auditKeyKey is where the key of a node's log is: the log of no other node can pass for
// it. Without a name it is that of the only one.
func auditKeyKey(node string) string {
	if node != "" {
		return "sys/audit-key/" + node
	}
	return "sys/audit-key"
}

// auditLogName is what checkpoints call the log of this node.
func auditLogName(db *store.DB) string {
	return strings.TrimSuffix("claviger/"+db.Deployment()+"/"+db.Node(), "/")
}

// publicKeyFile is beside the log, for auditors to take away.
const publicKeyFile = "checkpoint.pub"

// findAuditKey returns the store's key for the log of a node, which it draws for a store that has none yet if
// make is set; otherwise such a store has the zero key.
func findAuditKey(ctx context.Context, db *store.DB, node string, draw bool) (k auditKey, err error) {
	err = db.Update(ctx, func(tx *store.Tx) error {
		found, err := store.Get(tx, auditKeyKind, auditKeyKey(node))
		switch {
		case err == nil:
			k = *found
			return nil
		case !errors.Is(err, store.ErrNotFound) || !draw:
			return ignoreNotFound(err)
		}
		if k.Private, k.Public, err = note.GenerateKey(rand.Reader, auditLogName(db)); err != nil {
			return err
		}
		tx.OnlyAdds()
		return store.Put(tx, auditKeyKind, auditKeyKey(node), &k)
	})
	return k, err
}

func ignoreNotFound(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// publish writes the public key beside the log.
func (k auditKey) publish(dir string) error {
	path := filepath.Join(dir, publicKeyFile)
	if text, err := os.ReadFile(path); err == nil && string(text) == k.Public+"\n" {
		return nil
	}
	if err := durable.Replace(path, []byte(k.Public+"\n")); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

func (k auditKey) parse() (note.Signer, note.Verifier, error) {
	s, err := note.NewSigner(k.Private)
	if err != nil {
		return nil, nil, fmt.Errorf("server: the key of the audit log: %w", err)
	}
	v, err := note.NewVerifier(k.Public)
	return s, v, err
}

// AuditState is what a store knows of its audit log.
type AuditState struct {
	Anchor audit.Head // a line that is in it
	Key    string     // that checks its checkpoints, as golang.org/x/mod/sumdb/note writes it; empty: there is none

	marks map[string]bool // of changes that are in the store
}

// Verify checks the log in dir against what the store knows.
func (s AuditState) Verify(dir string) (audit.Report, error) {
	keys, err := s.keys()
	if err != nil {
		return audit.Report{}, err
	}
	return audit.Verify(dir, s.Anchor, keys...)
}

// keys are what checks checkpoints, if there is one.
func (s AuditState) keys() ([]note.Verifier, error) {
	if s.Key == "" {
		return nil, nil
	}
	v, err := note.NewVerifier(s.Key)
	if err != nil {
		return nil, fmt.Errorf("server: the key that checks checkpoints: %w", err)
	}
	return []note.Verifier{v}, nil
}

// lacks are the changes in the log in dir that the store does not have, and the log's end.
func (s AuditState) lacks(dir string) (records []audit.Record, end audit.Head, err error) {
	keys, err := s.keys()
	if err != nil {
		return nil, end, err
	}
	return audit.CommittedSince(dir, s.Anchor, func(id string) bool { return s.marks[id] }, keys...)
}

// Since checks that the log in dir tells of no change that the store lacks. The store may
// not be in use.
func (s AuditState) Since(dir string) error {
	changes, err := audit.ReadChanges(dir, s.Anchor, func(id string) bool { return s.marks[id] })
	if err == nil {
		err = older(dir, changes)
	}
	return err
}

// Holds checks that the log in dir has the line that a signed checkpoint tells of: one that
// was kept elsewhere shows that the log was cut, or written anew, even by somebody who has
// the store.
func (s AuditState) Holds(dir, checkpoint string) error {
	v, err := note.NewVerifier(s.Key)
	if err != nil {
		return fmt.Errorf("server: the key that checks checkpoints: %w", err)
	}
	h, err := audit.OpenCheckpoint(checkpoint, v)
	if err != nil {
		return err
	}
	found, err := audit.Contains(dir, h)
	if err == nil && !found {
		err = fmt.Errorf("server: the audit log in %q lacks line %d as the checkpoint has it: it was cut, or written anew", dir, h.Sequence)
	}
	return err
}

// AuditState returns what the store knows of the audit log of this node now.
func (s *Server) AuditState(ctx context.Context) (AuditState, error) {
	return auditStateOf(ctx, s.DB, s.DB.Node())
}

func auditStateOf(ctx context.Context, db *store.DB, node string) (state AuditState, err error) {
	key, err := findAuditKey(ctx, db, node, false)
	if err == nil {
		state.Key = key.Public
		state.Anchor, err = iam.AuditAnchorOf(ctx, db, node)
	}
	if err == nil {
		state.marks, err = db.MarksOf(ctx, node)
	}
	return state, err
}

// ReadAuditState returns what the store of a data directory knows of its audit log. It
// creates nothing. store.ErrLocked: a server has the store open.
func ReadAuditState(ctx context.Context, c Config) (state AuditState, err error) {
	c.Existing = true
	o, err := openStore(ctx, c)
	if err != nil {
		return state, err
	}
	state, err = auditStateOf(ctx, o.DB, o.Node())
	return state, errors.Join(err, o.Close())
}
