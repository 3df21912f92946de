package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/store/etcd"
)

// migrated is what the store of a data directory is called, and what tells which node it
// was, after its store has gone somewhere else.
const migrated = ".migrated"

// MigrateToCluster brings the store of a data directory, which nobody serves, into an etcd
// cluster that has none, and compares record by record. The directory is that of a node
// then, which goes on with its audit log. The old store stays there under another name.
func MigrateToCluster(ctx context.Context, c Config, cluster etcd.Config) (records int, err error) {
	c.Existing, c.Cluster = true, nil
	o, err := openStore(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if err := servable(ctx, o.DB); err != nil {
		return 0, err
	}
	n, err := newNode(cluster.Node)
	if err != nil {
		return 0, err
	}
	cluster.Node, cluster.Instance, cluster.Logger = n.Name, n.Instance, c.logger()
	e, err := etcd.Open(ctx, cluster)
	if err != nil {
		return 0, err
	}
	records, err = o.Copy(ctx, e, renamedFor("", n.Name))
	if err = errors.Join(err, e.Close()); err != nil {
		return 0, err
	}
	if err := o.Close(); err != nil {
		return 0, err
	}
	if err := n.remember(c.Dir); err != nil { // first: from here on the store here is not opened any more
		return 0, err
	}
	if err := os.Rename(storePath(c.Dir), storePath(c.Dir)+migrated); err != nil {
		return 0, fmt.Errorf("server: %w", err)
	}
	return records, durable.SyncDir(c.Dir)
}

// MigrateFromCluster brings the store of an etcd cluster, which no node serves, into the
// data directory of a node, and compares record by record. The cluster keeps a copy that is
// not served any more; a node that did not run stops as soon as it does. A migration that broke
// off can be begun again, into the same directory.
func MigrateFromCluster(ctx context.Context, c Config) (records int, err error) {
	c.Existing = true
	_, statErr := os.Lstat(storePath(c.Dir))
	if statErr == nil && !SharesStore(c.Dir) {
		return 0, fmt.Errorf("server: there is a store in %s already", c.Dir)
	}
	to, err := filepath.Abs(c.Dir)
	if err != nil {
		return 0, err
	}
	o, err := openStore(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	marked, err := o.left(ctx)
	if err != nil {
		return 0, err
	}
	if statErr == nil && !marked {
		return 0, fmt.Errorf("server: there is a store in %s already", c.Dir)
	}
	if statErr != nil { // otherwise it broke off after it was copied
		if err := o.vacate(ctx, to, marked); err != nil {
			return 0, err
		}
		if records, err = o.copyTo(ctx, c.Dir); err != nil {
			if !marked {
				err = errors.Join(err, o.stay(ctx))
			}
			return 0, err
		}
	}
	if err := o.Close(); err != nil {
		return 0, err
	}
	if err := os.Rename(filepath.Join(c.Dir, nodeFile), filepath.Join(c.Dir, nodeFile+migrated)); err != nil {
		return 0, fmt.Errorf("server: %w", err)
	}
	return records, durable.SyncDir(c.Dir)
}

// left reports whether this node has begun to take the store somewhere else.
func (o *opened) left(ctx context.Context) (bool, error) {
	r, err := o.Restored(ctx)
	if err != nil || r == nil {
		return false, err
	}
	return r.Moved != "" && r.By == o.cluster.Instance(), nil
}

// vacate sees to it that no node serves the store from now on, since it goes somewhere else.
func (o *opened) vacate(ctx context.Context, to string, marked bool) error {
	if !marked {
		if err := servable(ctx, o.DB); err != nil {
			return err
		}
	}
	if err := o.onlyNode(ctx); err != nil {
		return err
	}
	if err := o.Update(ctx, func(tx *store.Tx) error {
		return store.MarkRestored(tx, store.Restored{Moved: to, By: o.cluster.Instance(), At: time.Now().UTC().Truncate(time.Second)})
	}); err != nil {
		return err
	}
	// No node starts any more. One may have, just before, and one may have stood still.
	if err := o.onlyNode(ctx); err != nil {
		if !marked {
			err = errors.Join(err, o.stay(ctx))
		}
		return err
	}
	if err := o.cluster.Depose(ctx); err != nil {
		return err
	}
	return o.Outlast(ctx)
}

// stay lets the store be served where it is, after all.
func (o *opened) stay(ctx context.Context) error {
	return o.Update(context.WithoutCancel(ctx), func(tx *store.Tx) error {
		store.AcceptRestored(tx)
		return nil
	})
}

// copyTo makes a data directory's store of the one that is open.
func (o *opened) copyTo(ctx context.Context, dir string) (records int, err error) {
	unfinished, err := os.CreateTemp(dir, "migrating.*")
	if err != nil {
		return 0, fmt.Errorf("server: %w", err)
	}
	defer os.Remove(unfinished.Name())
	if err := unfinished.Close(); err != nil {
		return 0, err
	}
	e, err := bolt.Open(unfinished.Name())
	if err != nil {
		return 0, err
	}
	rename := renamedFor(o.Node(), "")
	records, err = o.Copy(ctx, e, func(key string) string {
		if strings.HasPrefix(key, memberPrefix) || store.IsRestored(key) {
			return "" // there are no nodes any more, and what is left here is not what goes
		}
		return rename(key)
	})
	if err = errors.Join(err, e.Close()); err != nil {
		return 0, err
	}
	return records, durable.Name(unfinished.Name(), storePath(dir))
}

// renamedFor tells the keys, under which one node's records of its audit log are, from those
// under which another one has them; the empty name is that of a store that is not shared.
func renamedFor(from, to string) func(string) string {
	old, renamed := ownKeys(from), ownKeys(to)
	return func(key string) string {
		for i, o := range old {
			if key == o || strings.HasSuffix(o, "/") && strings.HasPrefix(key, o) {
				return renamed[i] + strings.TrimPrefix(key, o)
			}
		}
		return key
	}
}
