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
// not served any more; a node that did not run stops as soon as it does.
func MigrateFromCluster(ctx context.Context, c Config) (records int, err error) {
	c.Existing = true
	if _, err := os.Lstat(storePath(c.Dir)); err == nil {
		return 0, fmt.Errorf("server: there is a store in %s already", c.Dir)
	}
	o, err := openStore(ctx, c)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	if err := o.onlyNode(ctx); err != nil {
		return 0, err
	}
	switch r, err := o.Restored(ctx); {
	case err != nil:
		return 0, err
	case r == nil || r.Moved == "": // otherwise a migration broke off at its end
		if err := servable(ctx, o.DB); err != nil {
			return 0, err
		}
	}
	if err := o.cluster.Depose(ctx); err != nil {
		return 0, err
	}
	unfinished, err := os.CreateTemp(c.Dir, "migrating.*")
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
	if err == nil {
		err = o.Update(ctx, func(tx *store.Tx) error {
			tx.Unserved()
			return store.MarkRestored(tx, store.Restored{Moved: c.Dir, At: time.Now().UTC().Truncate(time.Second)})
		})
	}
	if err = errors.Join(err, e.Close(), o.Close()); err != nil {
		return 0, err
	}
	if err := durable.Name(unfinished.Name(), storePath(c.Dir)); err != nil {
		return 0, err
	}
	if err := os.Rename(filepath.Join(c.Dir, nodeFile), filepath.Join(c.Dir, nodeFile+migrated)); err != nil {
		return 0, fmt.Errorf("server: %w", err)
	}
	return records, durable.SyncDir(c.Dir)
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
