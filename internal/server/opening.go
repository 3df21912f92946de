package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
	"github.com/claviger/claviger/internal/store/etcd"
)

// Opened is a store that was opened, with what opened it.
type opened struct {
	*store.DB
	cluster *etcd.Engine // that it is in; nil: it is not shared
	shares  []string     // of a seal that was made
	failed  error        // why seals could not be tried
}

// onlyNode refuses a shared store that other nodes are serving.
func (o *opened) onlyNode(ctx context.Context) error {
	if o.cluster == nil {
		return nil
	}
	h, err := o.cluster.Health(ctx)
	if err != nil {
		return err
	}
	for _, r := range h.Nodes {
		if r.Name != o.Node() {
			return fmt.Errorf("server: the node %s is running: stop all of them first", r.Name)
		}
	}
	return nil
}

// tell logs which seal has opened the store, and which ones have not, although they were
// to be tried first: they would not open it alone.
func (o *opened) tell(logger *slog.Logger) {
	by := o.Opening()
	logger.Info("the store is open", "seal", by.Slot)
	if failed := errors.Join(o.failed, by.Failed); failed != nil {
		logger.Warn("a seal did not open the store; another one did", "err", failed)
	}
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
	if err := c.alone(); err != nil {
		return o, err
	}
	_, statErr := os.Lstat(storePath(c.Dir))
	if c.Cluster != nil {
		statErr = nil // it is somewhere else
	}
	if c.Existing && statErr != nil {
		return o, fmt.Errorf("server: %s has no store, or is not a data directory: %w", c.Dir, statErr)
	}
	if statErr != nil {
		if err := c.creatable(); err != nil {
			return o, err
		}
	}
	if err := durable.MakeDir(c.Dir); err != nil {
		return o, fmt.Errorf("server: %w", err)
	}
	if info, err := os.Stat(c.Dir); err == nil {
		if durable.Foreign(info) {
			return o, fmt.Errorf("server: %s belongs to another user, who could not read what root leaves there: do this as its owner", c.Dir)
		}
		if info.Mode().Perm()&0o022 != 0 {
			c.logger().Warn("others may write to the data directory", "mode", info.Mode().Perm().String())
		}
	}
	engine, made, err := c.engine(ctx)
	if err != nil {
		return o, err
	}
	o.cluster, _ = engine.(*etcd.Engine)
	_, slots, err := store.Slots(ctx, engine)
	switch {
	case errors.Is(err, store.ErrNotFound) && c.Existing:
		err = fmt.Errorf("server: the store of %s is empty", c.Dir)
	case errors.Is(err, store.ErrNotFound):
		if err = c.creatable(); err == nil {
			err = o.create(ctx, engine, c.seals())
		}
	case err == nil:
		err = o.open(ctx, engine, slots, c)
	}
	if err == nil {
		o.tell(c.logger())
	}
	if err == nil && made != nil {
		if err = made.remember(c.Dir); err != nil {
			return o, errors.Join(err, o.Close())
		}
	}
	if err != nil && o.DB == nil {
		err = errors.Join(err, engine.Close())
		if statErr != nil { // it was made just now
			err = errors.Join(err, os.Remove(storePath(c.Dir)))
		}
	}
	return o, err
}

// creatable refuses to make a store with more than one seal, or with shares that nobody
// would see, or beside what is left of another one.
func (c Config) creatable() error {
	switch {
	case len(c.Seals) > 1:
		return errors.New("server: a new store is made with one seal: name one, then add the others with claviger seal add")
	case len(c.Seals) == 1 && c.Seals[0].Kind == "shamir" && c.Seals[0].Shares == 0:
		return errors.New("server: a new store that shares are to open is made by claviger init, which prints them")
	}
	for _, left := range []string{CredentialsFile(c.Dir), c.logDir()} {
		info, err := os.Stat(left)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("server: %w", err)
		}
		if entries, err := os.ReadDir(left); info.IsDir() && err == nil && len(entries) == 0 {
			continue
		}
		return fmt.Errorf("server: there is %s of another store, and no store in %s: put the store back, restore a backup into it, or use a new directory", left, c.Dir)
	}
	return nil
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

// open opens a store there is, with the first seal that can, or else with shares.
func (o *opened) open(ctx context.Context, e store.Engine, slots []store.Slot, c Config) (err error) {
	var seals []store.Seal
	shares := false
	for _, option := range c.seals() {
		if option.Kind == "shamir" {
			shares = true
			continue
		}
		s, err := option.Open()
		if err != nil {
			o.failed = errors.Join(o.failed, fmt.Errorf("the seal %s: %w", option.Kind, err))
			continue
		}
		defer seal.Forget(s)
		seals = append(seals, s)
	}
	if shares && (len(seals) == 0 || store.Opens(ctx, e, seals...) != nil) {
		if c.Unseal == nil {
			return errors.Join(o.failed, errors.New("server: the store is opened by shares: serve it, and give them with claviger unseal"))
		}
		s, err := c.Unseal(ctx, slots)
		if err != nil {
			return err
		}
		defer seal.Forget(s)
		seals = []store.Seal{s}
	}
	if len(seals) == 0 {
		return o.failed
	}
	if o.DB, err = store.Open(ctx, e, seals...); err != nil {
		return errors.Join(o.failed, err)
	}
	return nil
}
