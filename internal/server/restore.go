package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/store/bolt"
)

// Backup writes a backup of one instant while the server goes on: of everything or, if
// since is not nil, of what has changed since that one.
func (s *Server) Backup(ctx context.Context, w io.Writer, since *store.BackupInfo) error {
	what := map[string]string{}
	if since != nil {
		what["since"] = since.ID
	}
	return s.operated("Backup", what, func() error {
		return s.spooled(w, func(w io.Writer) error {
			_, err := s.DB.Backup(ctx, w, since)
			return err
		})
	})
}

// spooled has write write to a file without a name first: whoever takes it may be slow,
// and a long reading would make the store's writers wait.
func (s *Server) spooled(w io.Writer, write func(io.Writer) error) error {
	f, err := os.CreateTemp(s.dir, "spool.*") // mode 0600; in memory: in the system's place
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	defer f.Close()
	if err := os.Remove(f.Name()); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	buffered := bufio.NewWriterSize(f, 1<<20)
	if err := errors.Join(write(buffered), buffered.Flush()); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}

// VerifyBackup reads a backup to its end, and says what is in it.
func VerifyBackup(r io.Reader, c Config) (info store.BackupInfo, records, values int, err error) {
	b, err := store.ReadBackup(r)
	if err != nil {
		return info, 0, 0, err
	}
	seals, err := openSeals(c, b.Info.Slots)
	if err != nil {
		return info, 0, 0, err
	}
	defer forget(seals)
	records, values, err = b.Verify(asStoreSeals(seals)...)
	return b.Info, records, values, err
}

// openSeals makes the seals of a backup; some may be missing, as long as there is one.
func openSeals(c Config, slots []store.Slot) (seals []seal.Seal, err error) {
	for _, o := range c.seals() {
		open := o.Open
		if o.Kind == "shamir" && c.Unseal != nil {
			open = func() (seal.Seal, error) { return c.Unseal(context.Background(), slots) }
		}
		s, failed := open()
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("the seal %s: %w", o.Kind, failed))
			continue
		}
		seals = append(seals, s)
	}
	if len(seals) == 0 {
		return nil, err
	}
	return seals, nil
}

func forget(seals []seal.Seal) {
	for _, s := range seals {
		seal.Forget(s)
	}
}

func asStoreSeals(seals []seal.Seal) (out []store.Seal) {
	for _, s := range seals {
		out = append(out, s)
	}
	return out
}

// Restore puts a whole backup, and those that add to it in their order, into a data
// directory without a store. The seals of c open the backups. With a new seal the store
// has that one alone, and shares are its shares. Nothing is served from it until it is
// accepted: see AcceptRestore.
func Restore(ctx context.Context, c Config, backups []io.Reader, sealed *seal.Options) (shares []string, err error) {
	var read []*store.Backup
	for _, r := range backups {
		b, err := store.ReadBackup(r)
		if err != nil {
			return nil, err
		}
		read = append(read, b)
	}
	seals, err := openSeals(c, read[0].Info.Slots)
	if err != nil {
		return nil, err
	}
	defer forget(seals)
	if err := durable.MakeDir(c.Dir); err != nil {
		return nil, fmt.Errorf("server: %w", err)
	}
	if err := c.alone(); err != nil {
		return nil, err
	}
	if _, err := os.Lstat(storePath(c.Dir)); err == nil {
		return nil, fmt.Errorf("server: there is a store in %s already; restore into an empty directory", c.Dir)
	}
	var n *seal.New
	var slot store.Seal
	if sealed != nil {
		if n, err = c.Place(*sealed).Create(false); err != nil {
			return nil, err
		}
		defer seal.Forget(n)
		slot, shares = n, n.Shares
	}
	take := func() error {
		if n == nil {
			return nil
		}
		return n.Take()
	}
	restore := restoreFile
	if c.Cluster != nil {
		restore = restoreCluster
	}
	err = restore(ctx, c, take, func(e store.Engine) error {
		return errors.Join(store.Restore(ctx, e, read, asStoreSeals(seals), slot), e.Close())
	})
	if err != nil {
		if n != nil {
			_ = n.Drop()
		}
		return nil, err
	}
	return shares, durable.SyncDir(c.Dir) // from here on the store needs its key
}

// restoreFile has fill fill a file, which gets its name when it is whole and its key has
// been taken.
func restoreFile(_ context.Context, c Config, take func() error, fill func(store.Engine) error) error {
	unfinished, err := os.CreateTemp(c.Dir, "restoring.*") // each attempt its own
	if err != nil {
		return fmt.Errorf("server: %w", err)
	}
	defer os.Remove(unfinished.Name())
	if err := unfinished.Close(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	e, err := bolt.Open(unfinished.Name())
	if err != nil {
		return err
	}
	if err := fill(e); err != nil {
		return err
	}
	if err := take(); err != nil {
		return err
	}
	return durable.Name(unfinished.Name(), storePath(c.Dir))
}

// restoreCluster has fill fill a cluster that has no store. Its header comes last.
func restoreCluster(ctx context.Context, c Config, take func() error, fill func(store.Engine) error) error {
	e, made, err := c.engine(ctx)
	if err != nil {
		return err
	}
	if err := take(); err != nil {
		return errors.Join(err, e.Close())
	}
	if err := fill(e); err != nil || made == nil {
		return err
	}
	return made.remember(c.Dir)
}

// servable refuses a store that is an older copy, and has not been accepted.
func servable(ctx context.Context, db *store.DB) error {
	r, err := db.Restored(ctx)
	switch {
	case err != nil || r == nil:
		return err
	case r.Moved != "":
		return fmt.Errorf("server: the store went to %s on %s, and what is here is a copy of then: serve that one", r.Moved, r.At.Format(time.RFC3339))
	case r.Backup != "":
		return fmt.Errorf("server: the store was restored from a backup of %s, and what was revoked since then is in force in it: run claviger restore accept", r.Created.Format(time.RFC3339))
	default:
		return errors.New("server: the store was restored from an older copy of the file, and what was revoked since then is in force in it: run claviger restore accept")
	}
}
