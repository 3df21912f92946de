package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/claviger/claviger/internal/server"
)

// migrate brings a store into a cluster, or back. Nobody may serve it meanwhile.
func migrate(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("migrate", stderr)
	var d dataDir
	d.register(f)
	from := f.String("from", "", "the data directory whose store is to go to --to, or the etcd cluster, as serve --store takes it")
	to := f.String("to", "", "the etcd cluster, or the data directory of one of its nodes, which has its audit log")
	if err := parse(f, args); err != nil {
		return err
	}
	if *from == "" || *to == "" || d.dir != "" || d.cluster.store != "" {
		return errors.New("migrate needs --from and --to, and neither --data nor --store")
	}
	into := strings.HasPrefix(*to, "etcd://")
	if into == strings.HasPrefix(*from, "etcd://") {
		return errors.New("migrate goes from a data directory to an etcd cluster, or back")
	}
	d.dir, d.cluster.store = *from, *to
	if !into {
		d.dir, d.cluster.store = *to, *from
	}
	c, err := d.config(stderr)
	if err != nil {
		return err
	}
	var records int
	if into {
		records, err = server.MigrateToCluster(ctx, c, *c.Cluster)
	} else {
		records, err = server.MigrateFromCluster(ctx, c)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d records copied and compared\n", records)
	if into {
		fmt.Fprintf(stdout, "serve %s with --store now; other nodes need its root key\n", *from)
	} else {
		fmt.Fprintf(stdout, "serve %s without --store now; the copy that the cluster has is not served any more: remove it\n", *to)
	}
	return nil
}
