package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/claviger/claviger/internal/durable"
	"github.com/claviger/claviger/internal/operate"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store"
)

// writeNew writes a file that must not be there, readable by its owner alone. It is
// there only once it is whole and on the disk.
func writeNew(path string, write func(io.Writer) error) error {
	if path == "" {
		return errors.New("the command needs --output FILE")
	}
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already", path)
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = durable.Name(f.Name(), path)
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(path))
	}
	return err
}

// backup writes a backup of a store, which may be served meanwhile.
func backup(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("backup", stderr)
	var d dataDir
	d.register(f)
	output := f.String("output", "", "the backup, a new file")
	since := f.String("since", "", "write only what has changed since this earlier backup")
	if err := parse(f, args); err != nil {
		return err
	}
	var earlier *store.BackupInfo
	if *since != "" {
		b, err := openBackup(*since)
		if err != nil {
			return err
		}
		defer b.file.Close()
		earlier = &b.Info
	}
	err := d.operator(ctx, stderr, func(o operate.Operator) error {
		return writeNew(*output, func(w io.Writer) error { return o.Backup(ctx, w, earlier) })
	})
	if err != nil {
		return err
	}
	b, err := openBackup(*output)
	if err != nil {
		return err
	}
	defer b.file.Close()
	fmt.Fprintf(stdout, "wrote %s: %s\n", *output, describe(b.Info))
	return nil
}

// A backupFile is a backup that is being read.
type backupFile struct {
	*store.Backup
	file *os.File
}

func openBackup(path string) (b backupFile, err error) {
	if b.file, err = os.Open(path); err != nil {
		return b, err
	}
	if b.Backup, err = store.ReadBackup(b.file); err != nil {
		return b, errors.Join(fmt.Errorf("%s: %w", path, err), b.file.Close())
	}
	return b, nil
}

func describe(i store.BackupInfo) string {
	text := fmt.Sprintf("backup %s of %s", i.ID, i.Created.Format(time.RFC3339))
	if i.Since != "" {
		text += ", which adds to " + i.Since
	}
	return text
}

// verifyBackup reads a backup to its end without restoring it.
func verifyBackup(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("verify", stderr)
	var seals sealFlags
	seals.register(f, "")
	input := f.String("input", "", "the backup")
	if err := parse(f, args); err != nil {
		return err
	}
	if *input == "" {
		return errors.New("verify needs --input FILE")
	}
	c := server.Config{Unseal: readShares(stderr)}
	var err error
	if c.Seals, err = seals.options(); err != nil {
		return err
	}
	file, err := os.Open(*input)
	if err != nil {
		return err
	}
	defer file.Close()
	info, records, values, err := server.VerifyBackup(file, c)
	if err != nil {
		return fmt.Errorf("%s: %w", *input, err)
	}
	fmt.Fprintf(stdout, "whole: %s; %d records, %d of them in it\n", describe(info), records, values)
	return nil
}

// restoreBackup puts backups into a new data directory.
func restoreBackup(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("restore", stderr)
	var seals, sealed sealFlags
	dir := f.String("data", "", "the data directory, which must not have a store")
	var cluster clusterFlags
	cluster.register(f)
	var inputs fileList
	f.Var(&inputs, "input", "a whole backup, then those that add to it, in their order; may be repeated")
	seals.register(f, "")
	sealed.register(f, "new-")
	sealed.registerShares(f, "new-")
	if err := parse(f, args); err != nil {
		return err
	}
	if *dir == "" || len(inputs) == 0 {
		return errors.New("restore needs --data DIR and --input FILE")
	}
	c := server.Config{Dir: *dir, Unseal: readShares(stderr)}
	var err error
	if c.Seals, err = seals.options(); err != nil {
		return err
	}
	if c.Cluster, err = cluster.config(); err != nil {
		return err
	}
	var anew *seal.Options
	if given(f, "new-seal") {
		one, err := sealed.one()
		if err != nil {
			return err
		}
		anew = &one
	}
	var readers []io.Reader
	for _, name := range inputs {
		file, err := os.Open(name)
		if err != nil {
			return err
		}
		defer file.Close()
		readers = append(readers, file)
	}
	shares, err := server.Restore(ctx, c, readers, anew)
	if err != nil {
		return err
	}
	if err := printShares(stdout, shares); err != nil {
		return err
	}
	if c.Cluster != nil {
		fmt.Fprintf(stdout, "restored into %s. Run claviger restore accept --data %s --store … with --log NODE=DIR for the audit log of every node, those that joined after the backup too.\n", cluster.store, *dir)
		return nil
	}
	fmt.Fprintf(stdout, "restored into %s. Put the audit log that the store had in %s, then run claviger restore accept --data %s.\n",
		*dir, server.AuditDir(*dir), *dir)
	return nil
}

// acceptRestore lets a restored store be served.
func acceptRestore(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("restore accept", stderr)
	var d dataDir
	d.register(f)
	confirm := f.Int("confirm", -1, "how many changes were listed that are not made again: lost keys, seals, and those to be looked at")
	var logs nodeLogs
	f.Var(&logs, "log", "NODE=DIR: the audit log of another node of the cluster; repeated, for all of them")
	withoutLog := f.Bool("without-audit-log", false, "the audit log is lost: accept without knowing what was revoked since the backup")
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	c, err := d.config(stderr)
	if err != nil {
		return err
	}
	c.NodeLogs = logs
	r, err := server.AcceptRestore(ctx, c, *confirm, *withoutLog)
	if err != nil && !errors.Is(err, server.ErrNotAccepted) {
		return err
	}
	if *output == "json" {
		return errors.Join(writeJSON(stdout, r), err)
	}
	again := "Made again"
	if err != nil {
		again = "Would be made again"
	}
	printChanges(stdout, again, r.Replayed)
	printChanges(stdout, "Lost: what was encrypted with these keys since cannot be decrypted", r.Lost)
	printChanges(stdout, "To be looked at, and perhaps made again", r.Open)
	printChanges(stdout, "Seals changed since, which this store does not have: keep what was removed from opening it, and remove or add again what you want", r.Seals)
	if err != nil {
		n := len(r.Open) + len(r.Lost) + len(r.Seals)
		return fmt.Errorf("not accepted: look at the %d changes that are not made again, and say --confirm %d", n, n)
	}
	fmt.Fprintln(stdout, "accepted: the store can be served")
	return nil
}

func printChanges(w io.Writer, title string, changes []server.Change) {
	if len(changes) == 0 {
		return
	}
	fmt.Fprintf(w, "%s:\n", title)
	for _, c := range changes {
		fmt.Fprintf(w, "  %s  %s  %v  by %s  %s\n", c.Time.Format(time.RFC3339), c.Event, c.Resources, c.By, c.Parameters)
	}
}

// export writes everything but secrets.
func export(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("export", stderr)
	var d dataDir
	d.register(f)
	output := f.String("output", "", "the export, a new file")
	if err := parse(f, args); err != nil {
		return err
	}
	err := d.operator(ctx, stderr, func(o operate.Operator) error {
		return writeNew(*output, func(w io.Writer) error { return o.Export(ctx, w) })
	})
	if err == nil {
		fmt.Fprintln(stdout, "wrote", *output)
	}
	return err
}

// importExport fills a new data directory with an export.
func importExport(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("import", stderr)
	var d dataDir
	d.registerNew(f)
	input := f.String("input", "", "the export")
	if err := parse(f, args); err != nil {
		return err
	}
	file, err := os.Open(*input)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := server.CheckExport(file); err != nil { // before anything is made
		return fmt.Errorf("%s: %w", *input, err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	c, err := d.config(stderr)
	if err != nil {
		return err
	}
	s, err := server.Open(ctx, c)
	if err != nil {
		return err
	}
	keys, others, err := s.Import(ctx, file)
	if err == nil {
		fmt.Fprintf(stdout, "imported %d keys, with new key material, and %d other records\n", keys, others)
	}
	return errors.Join(err, s.Close())
}
