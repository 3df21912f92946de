package server

import (
	"context"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"uuid"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/store/etcd"
)

// nodeFile tells, in the data directory of a node, which one it is.
const nodeFile = "node"

// A node is what a data directory of one that shares its store remembers.
type node struct {
	Name     string
	Instance string // random: tells this directory from another one that claims the name
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// findNode reads which node the data directory is, or makes it one.
func (c Config) findNode() (n node, err error) {
	path := filepath.Join(c.Dir, nodeFile)
	text, err := os.ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(text, &n); err != nil || n.Name == "" || n.Instance == "" {
			return n, fmt.Errorf("server: %s does not tell which node the data directory is", path)
		}
		if c.Cluster.Node != "" && c.Cluster.Node != n.Name {
			return n, fmt.Errorf("server: %s is the data directory of the node %s, and has its audit log: it cannot be that of %s", c.Dir, n.Name, c.Cluster.Node)
		}
		return n, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return n, fmt.Errorf("server: %w", err)
	}
	n = node{c.Cluster.Node, uuid.New().String()}
	if n.Name == "" {
		if n.Name, err = os.Hostname(); err != nil {
			return n, fmt.Errorf("server: the name of this node: %w", err)
		}
	}
	if !nodeName.MatchString(n.Name) {
		return n, fmt.Errorf("server: %q cannot be the name of a node: letters, digits, dots, hyphens and underscores, up to 63", n.Name)
	}
	if _, err := os.Lstat(storePath(c.Dir)); err == nil {
		return n, fmt.Errorf("server: %s has a store of its own: bring it to the cluster with claviger migrate, or give the node another directory", c.Dir)
	}
	if text, err = json.Marshal(n); err != nil {
		return n, err
	}
	if err := durable.Create(path, append(text, '\n')); err != nil {
		return n, fmt.Errorf("server: %w", err)
	}
	return n, nil
}

// engine opens the engine of the store: the file in the data directory, or the cluster.
func (c Config) engine(ctx context.Context) (store.Engine, error) {
	if c.Cluster == nil {
		if _, err := os.Lstat(filepath.Join(c.Dir, nodeFile)); err == nil {
			return nil, fmt.Errorf("server: %s is the data directory of a node that shares its store: say where with --store", c.Dir)
		}
		return bolt.Open(storePath(c.Dir))
	}
	n, err := c.findNode()
	if err != nil {
		return nil, err
	}
	config := *c.Cluster
	config.Node, config.Instance, config.Logger = n.Name, n.Instance, c.logger()
	return etcd.Open(ctx, config)
}
