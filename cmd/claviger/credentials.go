package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/claviger/claviger/internal/server"
)

// printCredentials prints the root user's access key of a data directory, for whoever reaches it
// by this program alone, as in a container that has nothing else.
func printCredentials(_ context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("credentials", stderr)
	dir := f.String("data", "", "the data directory")
	remove := f.Bool("remove", false, "take them away from there")
	if err := parse(f, args); err != nil {
		return err
	}
	if *dir == "" {
		return errors.New("credentials needs --data DIR")
	}
	text, err := os.ReadFile(server.CredentialsFile(*dir))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there are no root credentials in %s: it did not make the store, or they were taken away", *dir)
	}
	if err == nil {
		_, err = stdout.Write(text)
	}
	if err == nil && *remove {
		err = os.Remove(server.CredentialsFile(*dir))
	}
	return err
}
