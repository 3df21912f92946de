package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/claviger/claviger/internal/operate"
	"github.com/claviger/claviger/internal/server"
)

// clusterStatus tells how a cluster is doing, as one node knows it. It exits with 1 if
// there is anything that an operator has to look at.
func clusterStatus(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("cluster status", stderr)
	var d dataDir
	d.register(f)
	output := outputFlag(f)
	if err := parse(f, args); err != nil {
		return err
	}
	return d.node(func(o operate.Operator) error {
		c, err := o.ClusterState(ctx)
		if err != nil {
			return err
		}
		if *output == "json" {
			err = writeJSON(stdout, c)
		} else {
			err = printCluster(stdout, c)
		}
		if err == nil && (len(c.Alarms) > 0 || c.Doubt != "" || c.Problem != "") {
			err = exitStatus(1)
		}
		return err
	})
}

// node runs a command by the node that is running in the directory.
func (d *dataDir) node(command func(operate.Operator) error) error {
	if d.dir == "" {
		return errors.New("the command needs --data DIR")
	}
	client, err := operate.Dial(d.dir)
	if errors.Is(err, operate.ErrNotServed) {
		return fmt.Errorf("no node is running in %s: ask one that is", d.dir)
	}
	if err != nil {
		return err
	}
	return errors.Join(command(client), client.Close())
}

func printCluster(w io.Writer, c server.ClusterState) error {
	fmt.Fprintf(w, "asked node %s: lease %s, last change %d\n", c.Node, c.Lease, c.Head)
	if c.Doubt != "" {
		fmt.Fprintf(w, "it decides nothing: %s\n", c.Doubt)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\nNODE\tSTATE\tLAST CHANGE\tSURE OF\tHOST\tURL\tVERSION\tSINCE\tAUDIT LINES")
	for _, n := range c.Nodes {
		state, head, sure := "not running", "", ""
		if v := n.View; v != nil {
			head, sure = fmt.Sprint(v.Head), "nothing yet"
			if v.Age != "" {
				sure = v.Age + " ago"
			}
		}
		switch {
		case n.View != nil && n.View.Doubt != "":
			state = "decides nothing"
		case n.Running && n.View == nil:
			state = "running, silent"
		case n.Leads:
			state = "running, leads"
		case n.Running:
			state = "running"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\n", n.Name, state, head, sure, n.Host, n.URL, n.Version, n.Since.Format(time.RFC3339), n.Audit)
	}
	fmt.Fprintln(t, "\nETCD MEMBER\tSTATE\tVERSION\tBEHIND\tUSED\tFILE\tQUOTA\tFULL")
	for _, m := range c.Etcd.Members {
		state := "follows"
		switch {
		case m.Error != "":
			state = "does not answer"
		case m.Leads:
			state = "leads"
		}
		quota, full := "not told", "not known"
		if m.Quota > 0 {
			quota, full = fmt.Sprintf("%d MB", m.Quota>>20), fmt.Sprintf("%.0f%%", 100*m.Full())
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%d MB\t%d MB\t%s\t%s\n", m.Endpoint, state, m.Version, m.Behind, m.Used>>20, m.Bytes>>20, quota, full)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if c.Problem != "" {
		fmt.Fprintf(w, "\nnot complete: %s\n", c.Problem)
	}
	for _, a := range c.Alarms {
		fmt.Fprintf(w, "\nALARM: %s\n", a)
	}
	return nil
}

// clusterLease changes the lease of all nodes.
func clusterLease(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("cluster lease", stderr)
	var d dataDir
	d.register(f)
	to := f.Duration("to", -1, "the new lease, 0 to 1m: 0 proves every decision by asking the cluster")
	if err := parse(f, args); err != nil {
		return err
	}
	if *to < 0 {
		return errors.New("cluster lease needs --to DURATION")
	}
	return d.node(func(o operate.Operator) error {
		if err := o.SetLease(ctx, *to); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "the lease is %v\n", *to)
		return nil
	})
}

// clusterForget removes a node that is gone for good.
func clusterForget(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("cluster forget", stderr)
	var d dataDir
	d.register(f)
	node := f.String("node", "", "its name")
	if err := parse(f, args); err != nil {
		return err
	}
	if *node == "" {
		return errors.New("cluster forget needs --node NAME")
	}
	return d.node(func(o operate.Operator) error {
		if err := o.ForgetNode(ctx, *node); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "%s is forgotten\n", *node)
		return nil
	})
}
