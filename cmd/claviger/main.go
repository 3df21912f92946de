// Claviger is a key management service that speaks the AWS KMS protocol and in
// which the key policy is the law.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// A command is one word after claviger.
type command struct {
	name    string
	summary string
	run     func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

func commands() []command {
	return []command{
		{"serve", "serve the API: --dev in memory, --data DIR durably", serve},
		{"init", "make a data directory without serving it", initialise},
		{"credentials", "print the root user's access key, while it is in its data directory", printCredentials},
		{"seal status", "list the seals that open the store of a data directory", sealStatus},
		{"seal add", "let a further seal open the store", newSeal("seal add", addSeal)},
		{"seal rotate", "put a new root key in place of a seal's", newSeal("seal rotate", rotateSeal)},
		{"seal remove", "end that a seal opens the store", removeSeal},
		{"unseal", "give shares to a sealed server", unseal},
		{"backup", "write a backup of a store, which may be served meanwhile", backup},
		{"verify", "read a backup to its end without restoring it", verifyBackup},
		{"restore accept", "let a restored store be served", acceptRestore},
		{"restore", "put backups into a new data directory", restoreBackup},
		{"export", "write everything but key material and credentials", export},
		{"import aws", "make an export, to ask about, of what AWS's command line prints", importAWS},
		{"import", "fill a new data directory with an export", importExport},
		{"clock accept", "say that the time is right although the clock jumped by more than a day", acceptClock},
		{"migrate", "bring a store from a data directory into an etcd cluster, or back", migrate},
		{"cluster status", "tell how the nodes that share a store, and their etcd, are doing", clusterStatus},
		{"cluster lease", "change for how long nodes decide by what they were last sure of", clusterLease},
		{"cluster forget", "end that the store knows of a node that is gone for good", clusterForget},
		{"tour", "play the story of one key policy against a server in this process", tour},
		{"operations", "list the API operations that exist and those that do not yet", operations},
		{"audit verify", "check the audit log of a data directory", auditVerify},
		{"audit query", "find records in an audit log", auditQuery},
		{"audit tail", "print the newest records of an audit log, and those that come", auditTail},
		{"explain", "tell why a request is decided as it is, and what would decide it otherwise", explain},
		{"who", "list who may do an action with a key", who},
		{"what", "list what a principal may do with keys", what},
		{"policy validate", "check policies, with the codes of IAM Access Analyzer", policyValidate},
		{"policy diff", "prove that NEW allows nothing that OLD does not, or show requests", policyCommandOf("policy diff", 2, diffFlags, policyDiff)},
		{"policy public", "prove that a key policy lets no stranger in, or show requests", policyCommandOf("policy public", 1, nil, policyPublic)},
		{"policy never", "prove that nobody may do some actions, or show requests", policyNever()},
		{"policy who", "list who may do an action by a key policy, and on what conditions", policyWho()},
		{"policy lockout", "list who could still change a key policy", policyCommandOf("policy lockout", 1, nil, policyLockout)},
		{"policy lint", "list statements of a key policy that could be left out, proved", policyCommandOf("policy lint", 1, nil, policyLint)},
		{"policy test", "decide the claims of a directory about policies, and tell what they leave open", policyTest},
		{"policy preview", "tell what a proposed key policy and grants would let in from outside", policyPreview},
		{"policy replay", "tell which requests on record a key policy would decide otherwise", policyReplay},
		{"policy suggest", "write the key policy that allows what a key was used for", policySuggest},
		{"version", "print the version", version},
		{"help", "print this, or what a command takes", help},
	}
}

// errUsage makes claviger exit with 2 after a message that has been printed.
var errUsage = errors.New("usage")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	var status exitStatus
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case errors.As(err, &status):
		os.Exit(int(status))
	case err != nil:
		fmt.Fprintln(os.Stderr, "claviger:", err)
		os.Exit(1)
	}
}

// dispatch runs the command whose words args begin with.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
		return help(ctx, nil, stdout, stderr)
	}
	if args[0] == "--version" {
		args = []string{"version"}
	}
	for _, c := range commands() {
		words := strings.Fields(c.name)
		if len(args) >= len(words) && strings.Join(args[:len(words)], " ") == c.name {
			return c.run(ctx, args[len(words):], stdout, stderr)
		}
	}
	if list(stderr, args[0]+" ") > 0 {
		return errUsage
	}
	fmt.Fprintf(stderr, "claviger: no command %q; see claviger help\n", args[0])
	return errUsage
}

// list prints the commands whose names begin with a prefix, and returns how many.
func list(w io.Writer, prefix string) (n int) {
	for _, c := range commands() {
		if strings.HasPrefix(c.name, prefix) {
			n++
			fmt.Fprintf(w, "  claviger %-14s %s\n", c.name, c.summary)
		}
	}
	return n
}

// help lists the commands, or explains one.
func help(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		return dispatch(ctx, append(args, "--help"), stdout, stderr)
	}
	fmt.Fprintln(stdout, "claviger: a key management service in which the key policy is the law")
	list(stdout, "")
	fmt.Fprintln(stdout, "Each command explains its flags with --help.")
	return nil
}

// newFlags makes a flag set that prints to stderr and reports its errors.
func newFlags(name string, stderr io.Writer) *flag.FlagSet {
	f := flag.NewFlagSet("claviger "+name, flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {} // parse says it
	return f
}

// given reports whether a flag was given.
func given(f *flag.FlagSet, name string) (yes bool) {
	f.Visit(func(set *flag.Flag) { yes = yes || set.Name == name })
	return yes
}

// parse reads flags; anything left over is an error.
func parse(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(f.Output(), "Usage of %s:\n", f.Name())
		f.PrintDefaults()
		return err
	} else if err != nil {
		fmt.Fprintf(f.Output(), "see %s --help\n", f.Name())
		return errUsage
	}
	if f.NArg() > 0 {
		fmt.Fprintf(f.Output(), "%s: unexpected %q\n", f.Name(), f.Arg(0))
		return errUsage
	}
	return nil
}
