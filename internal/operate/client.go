package operate

import (
	"bytes"
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store"
)

// A Client is the Operator of a server in another process.
type Client struct {
	http *http.Client
	done func() error
}

// Dial finds the server that has a data directory open. ErrNotServed: none has.
func Dial(dir string) (*Client, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, fmt.Errorf("operate: %w", err)
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
	c, err := dial(context.Background(), "", "")
	if err != nil {
		return nil, errors.Join(ErrNotServed, done())
	}
	return &Client{&http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}, done}, c.Close()
}

// Close ends the use of the client.
func (c *Client) Close() error { return c.done() }

// send performs a command in the server.
func (c *Client) send(ctx context.Context, name string, in order) (r result, err error) {
	answer, err := c.post(ctx, name, in)
	if err != nil {
		return r, err
	}
	defer answer.Body.Close()
	if err := json.UnmarshalRead(answer.Body, &r); err != nil {
		return r, fmt.Errorf("operate: the server broke off: %w", err)
	}
	if r.Error != "" {
		err = errors.New(r.Error)
	}
	return r, err
}

func (c *Client) post(ctx context.Context, name string, in order) (*http.Response, error) {
	body, err := json.Marshal(in)
	if err != nil {
		return nil, err
	}
	defer clear(body)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://operator/"+name, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	answer, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("operate: %w", err)
	}
	return answer, nil
}

// Seals lists the seals of the store.
func (c *Client) Seals(ctx context.Context) ([]server.SealState, error) {
	r, err := c.send(ctx, "seals", order{})
	return r.Seals, err
}

// AddSeal lets a further seal open the store.
func (c *Client) AddSeal(ctx context.Context, name string, o seal.Options) ([]string, error) {
	r, err := c.send(ctx, "seals/add", order{Name: name, Options: o})
	return r.Shares, err
}

// RotateSeal puts a new root key in place of a seal's.
func (c *Client) RotateSeal(ctx context.Context, name string, o seal.Options) ([]string, error) {
	r, err := c.send(ctx, "seals/rotate", order{Name: name, Options: o})
	return r.Shares, err
}

// RemoveSeal ends that a seal opens the store.
func (c *Client) RemoveSeal(ctx context.Context, name string, force bool) error {
	_, err := c.send(ctx, "seals/remove", order{Name: name, Force: force})
	return err
}

// AuditState returns what the store knows of the audit log.
func (c *Client) AuditState(ctx context.Context) (server.AuditState, error) {
	r, err := c.send(ctx, "audit", order{})
	return r.Audit, err
}

// AuditStates returns what a shared store knows of the audit log of each node.
func (c *Client) AuditStates(ctx context.Context) (map[string]server.AuditState, error) {
	r, err := c.send(ctx, "audits", order{})
	return r.Audits, err
}

// ClusterState tells what the server knows of its cluster.
func (c *Client) ClusterState(ctx context.Context) (server.ClusterState, error) {
	r, err := c.send(ctx, "cluster", order{})
	return r.Cluster, err
}

// SetLease makes all nodes of the cluster agree on another lease.
func (c *Client) SetLease(ctx context.Context, lease time.Duration) error {
	_, err := c.send(ctx, "cluster/lease", order{Lease: int64(lease)})
	return err
}

// ForgetNode ends that the store knows of a node.
func (c *Client) ForgetNode(ctx context.Context, name string) error {
	_, err := c.send(ctx, "cluster/forget", order{Name: name})
	return err
}

// AcceptClock says that the time is right although the clock jumped.
func (c *Client) AcceptClock(ctx context.Context) (time.Time, error) {
	r, err := c.send(ctx, "clock/accept", order{})
	return r.Time, err
}

// Backup copies a backup that the server makes to w.
func (c *Client) Backup(ctx context.Context, w io.Writer, since *store.BackupInfo) error {
	return c.copy(ctx, "backup", order{Since: since}, w)
}

// Export copies an export that the server makes to w.
func (c *Client) Export(ctx context.Context, w io.Writer) error {
	return c.copy(ctx, "export", order{}, w)
}

func (c *Client) copy(ctx context.Context, name string, in order, w io.Writer) error {
	answer, err := c.post(ctx, name, in)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(w, answer.Body); err != nil {
		return fmt.Errorf("operate: the server broke off: %w", err)
	}
	if text := answer.Trailer.Get(failure); text != "" {
		return errors.New(text)
	}
	return nil
}

// Unseal gives a share to a sealed server.
func (c *Client) Unseal(ctx context.Context, share string) (Progress, error) {
	r, err := c.send(ctx, "unseal", order{Name: share})
	return r.Progress, err
}
