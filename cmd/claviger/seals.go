package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/claviger/claviger/internal/operate"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store"
)

// A dataDir is the flags of a command about a data directory: which, and how its
// store is opened if no server has it open.
type dataDir struct {
	dir      string
	auditDir string
	account  string
	seals    sealFlags
	cluster  clusterFlags
}

func (d *dataDir) register(f *flag.FlagSet) {
	f.StringVar(&d.dir, "data", "", "the data directory")
	f.StringVar(&d.auditDir, "audit-dir", "", "directory of the audit log, if no server is running (default DIR/audit)")
	d.seals.register(f, "")
	d.cluster.register(f)
}

// registerNew adds the flags of a command that makes the directory.
func (d *dataDir) registerNew(f *flag.FlagSet) {
	d.register(f)
	f.StringVar(&d.account, "account", "111122223333", "id of the first account, 12 digits")
}

func (d *dataDir) config(stderr io.Writer) (c server.Config, err error) {
	if d.dir == "" {
		return c, errors.New("the command needs --data DIR")
	}
	c = server.Config{Dir: d.dir, AuditDir: d.auditDir, NewAccount: d.account, Logger: slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), Unseal: readShares(stderr)}
	if c.Cluster, err = d.cluster.config(); err != nil {
		return c, err
	}
	c.Seals, err = d.seals.options()
	return c, err
}

// operator runs a command by the server that has the directory open, or else in this
// process.
func (d *dataDir) operator(ctx context.Context, stderr io.Writer, command func(operate.Operator) error) error {
	if d.dir == "" {
		return errors.New("the command needs --data DIR")
	}
	client, err := operate.Dial(d.dir)
	if err == nil {
		return errors.Join(command(client), client.Close())
	}
	if !errors.Is(err, operate.ErrNotServed) {
		return err
	}
	c, err := d.config(stderr)
	if err != nil {
		return err
	}
	c.Existing = true
	s, err := server.Open(ctx, c)
	if err != nil {
		return err
	}
	return errors.Join(command(s), s.Close())
}

// initialise makes a data directory without serving it.
func initialise(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("init", stderr)
	var d dataDir
	d.registerNew(f)
	d.seals.registerShares(f, "")
	if err := parse(f, args); err != nil {
		return err
	}
	c, err := d.config(stderr)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(d.dir, "store.db")); err == nil {
		return fmt.Errorf("%s is a data directory already", d.dir)
	}
	s, err := server.Open(ctx, c)
	if err != nil {
		return err
	}
	if err := errors.Join(printShares(stdout, s.Shares), s.Close()); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "made %s; the root user's credentials are in %s\n", d.dir, filepath.Join(d.dir, "root-credentials"))
	return nil
}

// printShares prints shares, which nobody can see again.
func printShares(w io.Writer, shares []string) error {
	if len(shares) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "%s\nGive each share to another person. They are not shown again.\n", strings.Join(shares, "\n"))
	if err != nil {
		err = fmt.Errorf("the shares could not be shown: remove the seal, and make it again: %w", err)
	}
	return err
}

// sealStatus lists the seals of a store.
func sealStatus(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("seal status", stderr)
	var d dataDir
	d.register(f)
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	return d.operator(ctx, stderr, func(o operate.Operator) error {
		seals, err := o.Seals(ctx)
		if err != nil {
			return err
		}
		if *output == "json" {
			return writeJSON(stdout, seals)
		}
		for _, s := range seals {
			fmt.Fprintf(stdout, "%s\t%s\tsince %s\t%s\n", s.Name, s.Kind, s.Created.Format("2006-01-02 15:04:05Z"), opens(s))
		}
		return nil
	})
}

func opens(s server.SealState) string {
	switch s.Opens {
	case "":
		return "not asked"
	case "yes":
		return "opens the store"
	default:
		return "does not open the store now: " + s.Opens
	}
}

// newSeal makes the command that adds a seal, or puts one in the place of another.
func newSeal(command string, act func(context.Context, operate.Operator, string, *sealFlags) ([]string, error)) func(context.Context, []string, io.Writer, io.Writer) error {
	return func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
		f := newFlags(command, stderr)
		var d dataDir
		var added sealFlags
		d.register(f)
		added.register(f, "new-")
		added.registerShares(f, "new-")
		name := f.String("name", "", "what the seal is called (default its kind)")
		if err := parse(f, args); err != nil {
			return err
		}
		if *name == "" {
			*name = added.kinds
		}
		return d.operator(ctx, stderr, func(o operate.Operator) error {
			shares, err := act(ctx, o, *name, &added)
			if err != nil {
				return err
			}
			if err := printShares(stdout, shares); err != nil {
				return err
			}
			fmt.Fprintf(stdout, "the seal %s opens the store; from now on, name it and what it needs with the flags --seal… of claviger serve\n", *name)
			return nil
		})
	}
}

func addSeal(ctx context.Context, o operate.Operator, name string, f *sealFlags) ([]string, error) {
	options, err := f.one()
	if err != nil {
		return nil, err
	}
	return o.AddSeal(ctx, name, options)
}

func rotateSeal(ctx context.Context, o operate.Operator, name string, f *sealFlags) ([]string, error) {
	options, err := f.one()
	if err != nil {
		return nil, err
	}
	return o.RotateSeal(ctx, name, options)
}

// removeSeal ends that a seal opens the store.
func removeSeal(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("seal remove", stderr)
	var d dataDir
	d.register(f)
	name := f.String("name", "", "which seal")
	force := f.Bool("force", false, "remove it even if no other seal is known to open the store")
	if err := parse(f, args); err != nil {
		return err
	}
	return d.operator(ctx, stderr, func(o operate.Operator) error {
		if err := o.RemoveSeal(ctx, *name, *force); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "the seal %s opens the store no more; backups from before still open with it: keep what it needs as long as they are\n", *name)
		return nil
	})
}

// readShares reads shares from standard input, for a command that opens a store or a
// backup itself.
func readShares(stderr io.Writer) func(context.Context, []store.Slot) (seal.Seal, error) {
	return func(_ context.Context, slots []store.Slot) (seal.Seal, error) {
		fmt.Fprintln(stderr, "Shares, one a line:")
		given := map[string][]seal.Share{} // by the slot that they are of
		for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
			if strings.TrimSpace(lines.Text()) == "" {
				continue
			}
			share, err := seal.ParseShare(lines.Text())
			if err != nil {
				return nil, err
			}
			i := slices.IndexFunc(slots, func(s store.Slot) bool { return share.Opens(s.Wrapped) })
			if i < 0 {
				return nil, errors.New("the share is of another set: it does not open this store")
			}
			slot := slots[i]
			given[slot.Name] = append(given[slot.Name], share)
			if len(given[slot.Name]) == seal.Needs(slot.Wrapped) {
				return seal.Combine(given[slot.Name])
			}
		}
		return nil, errors.New("there are too few shares to open the store")
	}
}

// unseal gives shares, one on each line of standard input, to a sealed server.
func unseal(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("unseal", stderr)
	dir := f.String("data", "", "the data directory")
	if err := parse(f, args); err != nil {
		return err
	}
	client, err := operate.Dial(*dir)
	if err != nil {
		return err
	}
	defer client.Close()
	fmt.Fprintln(stderr, "Shares, one a line, then the end of the input:")
	var refused error
	taken := false
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		p, err := client.Unseal(ctx, lines.Text())
		if err != nil { // one share is bad, perhaps not the next
			refused = errors.Join(refused, err)
			continue
		}
		taken = true
		fmt.Fprintf(stdout, "%d of %d shares\n", p.Given, p.Needed)
		if p.Given == p.Needed {
			fmt.Fprintln(stdout, "the store is open")
			return nil
		}
	}
	if !taken && refused == nil {
		return errors.New("no share was given; the server stays sealed")
	}
	return refused
}
