package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/claviger/claviger/internal/operate"
)

// acceptClock says that the time is right although the clock jumped.
func acceptClock(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("clock accept", stderr)
	var d dataDir
	d.register(f)
	if err := parse(f, args); err != nil {
		return err
	}
	return d.operator(ctx, stderr, func(o operate.Operator) error {
		before, err := o.AcceptClock(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(stdout, "accepted %s; the clock was last seen to be right at %s. What is due is done now.\n",
			time.Now().UTC().Format(time.RFC3339), before.Format(time.RFC3339))
		return nil
	})
}
