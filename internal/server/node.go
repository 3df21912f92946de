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
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/store/etcd"
)

// nodeFile tells, in the data directory of a node, which one it is.
const nodeFile = "node"

// lockFile is in the data directory of a node, and locked while a process has it open.
const lockFile = "node.lock"

// A node is what a data directory of one that shares its store remembers.
type node struct {
	Name     string
	Instance string // random: tells this directory from another one that claims the name
}

var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// findNode reads which node the data directory is. made: it was none, and is to be one.
func (c Config) findNode() (n node, made bool, err error) {
	path := filepath.Join(c.Dir, nodeFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(storePath(c.Dir)); err == nil {
			return n, false, fmt.Errorf("server: %s has a store of its own: bring it to the cluster with claviger migrate, or give the node another directory", c.Dir)
		}
		n, err = newNode(c.Cluster.Node)
		return n, true, err
	}
	if err != nil {
		return n, false, fmt.Errorf("server: %w", err)
	}
	if err := json.Unmarshal(text, &n); err != nil || n.Name == "" || n.Instance == "" {
		return n, false, fmt.Errorf("server: %s does not tell which node the data directory is", path)
	}
	if c.Cluster.Node != "" && c.Cluster.Node != n.Name {
		return n, false, fmt.Errorf("server: %s is the data directory of the node %s, and has its audit log: it cannot be that of %s", c.Dir, n.Name, c.Cluster.Node)
	}
	return n, false, nil
}

// remember writes down which node the data directory is.
func (n node) remember(dir string) error {
	text, err := json.Marshal(n)
	if err == nil {
		err = durable.Create(filepath.Join(dir, nodeFile), append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	return nil
}

// newNode makes a node of the name, or of the machine's.
func newNode(name string) (n node, err error) {
	n = node{name, uuid.New().String()}
	if n.Name == "" {
		if n.Name, err = os.Hostname(); err != nil {
			return n, fmt.Errorf("server: the name of this node: %w", err)
		}
	}
	if !nodeName.MatchString(n.Name) {
		return n, fmt.Errorf("server: %q cannot be the name of a node: letters, digits, dots, hyphens and underscores, up to 63", n.Name)
	}
	return n, nil
}

// ownKeys are where a store keeps what it knows of the audit log of one node.
func ownKeys(node string) []string {
	return []string{iam.AuditAnchorKey(node), auditKeyKey(node), store.MarksOf(node)}
}

// SharesStore reports whether a data directory is that of a node that shares its store: its
// audit log is one of several.
func SharesStore(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, nodeFile))
	return err == nil
}

// alone refuses the data directory of a node without its cluster.
func (c Config) alone() error {
	if c.Cluster == nil && SharesStore(c.Dir) {
		return fmt.Errorf("server: %s is the data directory of a node that shares its store: say where with --store", c.Dir)
	}
	return nil
}

// engine opens the engine of the store: the file in the data directory, or the cluster. made is
// the node that the directory is to be, if it was none.
func (c Config) engine(ctx context.Context) (e store.Engine, made *node, err error) {
	if c.Cluster == nil {
		e, err = bolt.Open(storePath(c.Dir))
		return e, nil, err
	}
	n, isNew, err := c.findNode()
	if err != nil {
		return nil, nil, err
	}
	hold, err := durable.Lock(filepath.Join(c.Dir, lockFile)) // a node that is running must not lose its name to a command
	if err != nil {
		return nil, nil, fmt.Errorf("server: the data directory %s: %w", c.Dir, err)
	}
	config := *c.Cluster
	config.Node, config.Instance, config.Logger, config.Hold = n.Name, n.Instance, c.logger(), hold
	if isNew {
		made = &n
	}
	cluster, err := etcd.Open(ctx, config)
	if err != nil {
		return nil, nil, err
	}
	return cluster, made, nil
}
