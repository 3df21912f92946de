package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/foreign"
	"github.com/claviger/claviger/internal/server"
)

// importAWS makes an export of what AWS's command line prints.
func importAWS(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f := newFlags("import aws", stderr)
	var authorizations, keyDirs, grantDirs fileList
	f.Var(&authorizations, "authorization-details", "what aws iam get-account-authorization-details printed; once for each account")
	f.Var(&keyDirs, "key-policies", "directory with what aws kms get-key-policy, describe-key, list-aliases, list-resource-tags printed; may be repeated")
	f.Var(&grantDirs, "grants", "directory with what aws kms list-grants printed; may be repeated")
	organization := f.String("organization", "", "file with an organization: see docs/policies.md")
	l := foreign.Loader{}
	f.StringVar(&l.Account, "account", "", "account of keys whose files do not tell, 12 digits")
	f.StringVar(&l.Region, "region", "", "their Region")
	output := f.String("output", "", "the export, a new file")
	partial := f.Bool("partial", false, "succeed, too, if something could not be taken in")
	if err := parse(f, args); err != nil {
		return err
	}
	switch {
	case *output == "":
		return errors.New("import aws needs --output FILE")
	case authorizations == nil && keyDirs == nil:
		return errors.New("import aws needs --authorization-details or --key-policies")
	case l.Account != "" && !arn.IsAccount(l.Account):
		return fmt.Errorf("--account: %q is not a 12-digit account id", l.Account)
	}
	_, db, err := server.NewWorld(ctx)
	if err != nil {
		return err
	}
	defer db.Close()
	problems := 0
	l.DB = db
	l.Problem = func(text string) {
		problems++
		fmt.Fprintln(stderr, "not taken in:", text)
	}
	for _, name := range authorizations {
		if err := l.Authorization(ctx, name); err != nil {
			return err
		}
	}
	if *organization != "" {
		if err := l.Organization(ctx, *organization); err != nil {
			return err
		}
	}
	for _, dir := range append(keyDirs, grantDirs...) {
		if err := l.Keys(dir); err != nil {
			return err
		}
	}
	l.Finish(ctx)
	if err := writeNew(*output, func(w io.Writer) error { return server.WriteWorld(ctx, db, w) }); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%d identities, %d managed policies, %d keys, %d grants, %d accounts of an organization: wrote %s\n", l.Identities, l.Policies, l.KMSKeys, l.Grants, l.Accounts, *output)
	if problems > 0 && !*partial {
		return fmt.Errorf("%d things could not be taken in: answers about what they bear on are not those of AWS", problems)
	}
	return nil
}
