// Package operate lets an operator's commands reach a running server: over a socket
// in its data directory, which only the owner of the directory can open. Nothing of
// it is reached from the network.
package operate

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store"
)

// An Operator does what operators ask of a server: a *server.Server, or a Client of one
// in another process.
type Operator interface {
	// Seals lists the seals of the store.
	Seals(ctx context.Context) ([]server.SealState, error)
	// AddSeal lets a further seal open the store; shares are a shamir seal's.
	AddSeal(ctx context.Context, name string, o seal.Options) (shares []string, err error)
	// RotateSeal puts a new root key in place of the one of the seal of that name.
	RotateSeal(ctx context.Context, name string, o seal.Options) (shares []string, err error)
	// RemoveSeal ends that a seal opens the store; force even if no other is known to.
	RemoveSeal(ctx context.Context, name string, force bool) error
	// AuditState returns what the store knows of the audit log.
	AuditState(ctx context.Context) (server.AuditState, error)
	// AcceptClock says that the time is right although the clock jumped, and returns when
	// it was last seen to be right before.
	AcceptClock(ctx context.Context) (before time.Time, err error)
	// AuditStates returns what a shared store knows of the audit log of each node.
	AuditStates(ctx context.Context) (map[string]server.AuditState, error)
	// ClusterState tells what the server knows of the cluster that its store is in.
	ClusterState(ctx context.Context) (server.ClusterState, error)
	// SetLease makes all nodes of the cluster agree on another lease.
	SetLease(ctx context.Context, lease time.Duration) error
	// ForgetNode ends that the store knows of a node that is gone for good.
	ForgetNode(ctx context.Context, name string) error
	// Backup writes a backup: of everything or, if since is not nil, of what has
	// changed since that one.
	Backup(ctx context.Context, w io.Writer, since *store.BackupInfo) error
	// Export writes everything but key material and credentials.
	Export(ctx context.Context, w io.Writer) error
}

// ErrNotServed reports that no server has the data directory open.
var ErrNotServed = errors.New("operate: no server has the data directory open")

// ErrSealed reports that a server waits for shares.
var ErrSealed = errors.New("operate: the server is sealed; give shares with claviger unseal")

var errOpening = errors.New("operate: the server is opening its store; try again")

// socketName is the socket's name in a data directory.
const socketName = "operator.sock"

// maxRequest bounds what a command can send, in bytes.
const maxRequest = 64 << 10

// An order is what a command has to say: which seal and, for a new one, what it is; what
// a backup adds to.
type order struct {
	Name    string            `json:",omitzero"`
	Options seal.Options      `json:",omitzero"`
	Since   *store.BackupInfo `json:",omitzero"`
	Force   bool              `json:",omitzero"`
	Lease   int64             `json:",omitzero"` // nanoseconds
}

// A result is the answer to everything but a stream.
type result struct {
	Error    string             `json:",omitzero"`
	Seals    []server.SealState `json:",omitzero"`
	Shares   []string           `json:",omitzero"`
	Progress Progress           `json:",omitzero"`
	Audit    server.AuditState  `json:",omitzero"`
	Time     time.Time          `json:",omitzero"`

	Audits  map[string]server.AuditState `json:",omitzero"`
	Cluster server.ClusterState          `json:",omitzero"`
}

// perform does one of the things that have no stream.
func perform(ctx context.Context, o Operator, name string, in order) (r result, err error) {
	switch name {
	case "seals":
		r.Seals, err = o.Seals(ctx)
	case "seals/add":
		r.Shares, err = o.AddSeal(ctx, in.Name, in.Options)
	case "seals/rotate":
		r.Shares, err = o.RotateSeal(ctx, in.Name, in.Options)
	case "seals/remove":
		err = o.RemoveSeal(ctx, in.Name, in.Force)
	case "clock/accept":
		r.Time, err = o.AcceptClock(ctx)
	case "audit":
		r.Audit, err = o.AuditState(ctx)
	case "audits":
		r.Audits, err = o.AuditStates(ctx)
	case "cluster":
		r.Cluster, err = o.ClusterState(ctx)
	case "cluster/lease":
		err = o.SetLease(ctx, time.Duration(in.Lease))
	case "cluster/forget":
		err = o.ForgetNode(ctx, in.Name)
	default:
		err = errors.New("operate: the server does not know this command: it is of another version")
	}
	return r, err
}

// streams are the things whose answer may be longer than fits into memory.
var streams = map[string]func(context.Context, Operator, order, io.Writer) error{
	"backup": func(ctx context.Context, o Operator, in order, w io.Writer) error { return o.Backup(ctx, w, in.Since) },
	"export": func(ctx context.Context, o Operator, _ order, w io.Writer) error { return o.Export(ctx, w) },
}
