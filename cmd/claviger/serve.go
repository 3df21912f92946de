package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/harden"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/operate"
	"github.com/claviger/claviger/internal/seal"
	"github.com/claviger/claviger/internal/server"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/wire"
)

// serveOptions are the flags of serve.
type serveOptions struct {
	dev              bool
	data             string
	listen           string
	account          string
	devCredentials   credentialList
	tlsCert          string
	tlsKey           string
	tlsClientCA      string
	tlsMin           string
	maxConnections   int
	metricsListen    string
	insecure         bool
	auditDir         string
	auditSync        string
	acceptLoss       bool
	copies           copyFlags
	services         string
	consistency      string
	consistencyDelay time.Duration
	drainDelay       time.Duration
	endpoints        endpointList
	kmsOptions
	seals   sealFlags
	cluster clusterFlags

	advertise string
}

// A credentialList is the flag --dev-credentials.
type credentialList []server.Credentials

func (l *credentialList) String() string { return "" }

// Set adds ID:SECRET.
func (l *credentialList) Set(s string) error {
	id, secret, ok := strings.Cut(s, ":")
	if !ok || id == "" || secret == "" {
		return errors.New("must be ID:SECRET")
	}
	*l = append(*l, server.Credentials{ID: id, Secret: iam.Secret(secret)})
	return nil
}

func (o *serveOptions) register(f *flag.FlagSet) {
	f.BoolVar(&o.dev, "dev", false, "development mode: everything in memory, fixed credentials")
	f.StringVar(&o.data, "data", "", "keep everything in this directory, which is initialised if it is new")
	f.StringVar(&o.listen, "listen", "127.0.0.1:5670", "address to listen on")
	f.StringVar(&o.account, "account", "111122223333", "id of the first account, 12 digits")
	f.Var(&o.devCredentials, "dev-credentials", "ID:SECRET of the root user in development mode; may be repeated (default test:test)")
	f.StringVar(&o.tlsCert, "tls-cert", "", "certificate chain, PEM; serves HTTPS. Files that are replaced count within seconds")
	f.StringVar(&o.tlsKey, "tls-key", "", "private key of --tls-cert, PEM")
	f.StringVar(&o.tlsClientCA, "tls-client-ca", "", "who certifies clients, PEM: every client needs a certificate besides its signature")
	f.StringVar(&o.tlsMin, "tls-min", "1.3", "oldest version of TLS: 1.2 or 1.3")
	f.IntVar(&o.maxConnections, "max-connections", 4096, "how many connections there may be at once")
	f.StringVar(&o.metricsListen, "metrics-listen", "", "address on which /metrics is shown, and nowhere else (default on every request's address)")
	f.BoolVar(&o.insecure, "insecure-plain-http", false, "allow plain HTTP on an address that is not loopback")
	f.StringVar(&o.auditDir, "audit-dir", "", "directory of the audit log (default DIR/audit; with --dev in memory)")
	f.StringVar(&o.auditSync, "audit-sync", "interval", "when audit records reach the disk: interval (within 100 ms) or always (before the answer)")
	f.BoolVar(&o.acceptLoss, "audit-accept-loss", false, "start although the audit log lacks what the store knows of it")
	o.copies.register(f)
	f.StringVar(&o.services, "service-credentials", "", "file of access keys of AWS services that may call as themselves and forward requests: AWS shared-credentials format, a profile for each service principal")
	f.StringVar(&o.consistency, "consistency", "strong", "strong, or eventual: for a while a new grant serves only those who present its token, and a new replica of a key is being created")
	f.DurationVar(&o.consistencyDelay, "consistency-delay", 5*time.Second, "how long that while is")
	f.DurationVar(&o.drainDelay, "drain-delay", 0, "for how long, once it is told to stop, requests are answered while /readyz says 503, so that a load balancer sends no more")
	f.Var(&o.endpoints, "endpoint", "name=vpce-…,listen=HOST:PORT[,policy=FILE][,vpc=vpc-…][,account=ID]: a listener that stands for a VPC endpoint; may be repeated")
	o.kmsOptions.register(f)
	o.seals.register(f, "")
	o.cluster.register(f)
	f.StringVar(&o.advertise, "advertise", "", "URL where other nodes reach this one (default the first address that it listens on; the name of the machine, if it listens on all)")
}

func (o *serveOptions) config() (server.Config, error) {
	c := server.Config{Dir: o.data, Account: o.account, AuditDir: o.auditDir, AuditSyncAlways: o.auditSync == "always",
		AcceptAuditLoss: o.acceptLoss}
	switch {
	case o.dev && o.data != "":
		return c, errors.New("--dev and --data exclude each other")
	case o.dev && o.cluster.store != "":
		return c, errors.New("--dev and --store exclude each other")
	case !o.dev && o.data == "":
		return c, errors.New("serve needs either --dev or --data DIR")
	case o.auditSync != "always" && o.auditSync != "interval":
		return c, errors.New("--audit-sync is interval or always")
	case !arn.IsAccount(o.account):
		return c, fmt.Errorf("%q is not a 12-digit account id", o.account)
	case o.consistency != "strong" && o.consistency != "eventual":
		return c, errors.New("--consistency is strong or eventual")
	case o.consistencyDelay <= 0:
		return c, errors.New("--consistency-delay must be positive")
	case o.drainDelay < 0:
		return c, errors.New("--drain-delay must not be negative")
	case o.maxConnections < 1:
		return c, errors.New("--max-connections must be positive")
	case !o.dev && len(o.devCredentials) > 0:
		return c, errors.New("--dev-credentials goes with --dev")
	}
	if o.consistency == "eventual" {
		c.KMS.GrantDelay, c.KMS.Settling = o.consistencyDelay, o.consistencyDelay
	}
	var err error
	if err = o.kmsOptions.configure(&c.KMS, o.dev); err != nil {
		return c, err
	}
	if o.services != "" {
		if c.Services, err = readServices(o.services); err != nil {
			return c, err
		}
	}
	if o.dev {
		c.RootKeys = o.devCredentials
		if len(c.RootKeys) == 0 {
			c.RootKeys = []server.Credentials{{ID: "test", Secret: "test"}}
		}
		return c, nil
	}
	if c.Cluster, err = o.cluster.config(); err != nil {
		return c, err
	}
	c.Seals, err = o.seals.options()
	return c, err
}

// memoryLimit is how much the program takes before it collects garbage as often as need be,
// in bytes.
const memoryLimit = 512 << 20

// serve runs the server until ctx ends, then drains and returns nil.
func serve(ctx context.Context, args []string, _, stderr io.Writer) error {
	var o serveOptions
	f := newFlags("serve", stderr)
	o.register(f)
	if err := parse(f, args); err != nil {
		return err
	}
	c, err := o.config()
	if err != nil {
		return err
	}
	if !given(f, "account") {
		c.Account, c.NewAccount = "", c.Account
	}
	// What lives long is small and what a request leaves is garbage: collecting
	// less often costs some tens of megabytes and saves a tenth of a request.
	debug.SetGCPercent(800)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit) // when much is kept, more often again
	}
	metrics.ExposeMetadata(true)
	c.Logger = slog.New(slog.NewJSONHandler(stderr, nil))
	o.harden(c.Logger)
	if !o.dev {
		signal.Ignore(syscall.SIGHUP) // certificates are read again by themselves
	}
	if c.AuditCopies, err = o.copies.copiers(c.Logger); err != nil {
		return err
	}
	c.Connections, c.MetricsApart = front.NewConnections(o.maxConnections), o.metricsListen != ""
	listeners, scheme, err := o.open(c.Logger, c.Connections)
	if err != nil {
		return err
	}
	doors := make([]*door, len(listeners))
	handlers := make([]http.Handler, len(listeners))
	for i := range listeners {
		doors[i] = &door{}
		handlers[i] = doors[i]
	}
	var desk *operate.Desk
	if c.Dir != "" {
		if desk, err = operate.Open(c.Dir); err != nil {
			return errors.Join(err, closeAll(listeners))
		}
		defer desk.Close() // once more does no harm
		c.Unseal = func(ctx context.Context, slots []store.Slot) (seal.Seal, error) {
			fmt.Fprintln(stderr, "claviger: sealed; give shares with claviger unseal --data", c.Dir)
			return desk.Unseal(ctx, slots)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	serving, closeDoors := context.WithCancel(context.WithoutCancel(ctx)) // for a while longer
	defer closeDoors()
	var served error
	var wg sync.WaitGroup
	wg.Go(func() {
		served = front.Serve(serving, listeners, handlers)
		closeDoors()
		stop()
	})
	o.introduce(&c, scheme, listeners[0].Addr())
	s, err := server.Open(ctx, c)
	if err != nil {
		stopped := ctx.Err() != nil // while it was sealed
		closeDoors()
		wg.Wait()
		if stopped {
			err = nil
		}
		return errors.Join(err, served)
	}
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	work.Go(func() { s.Run(background) })
	doors[0].open(s.Handler())
	for i, e := range o.endpoints {
		doors[i+1].open(s.Through(&o.endpoints[i].Endpoint))
		c.Logger.Info("VPC endpoint", "name", e.ID, "url", scheme+"://"+listeners[i+1].Addr().String())
	}
	if c.MetricsApart {
		doors[len(doors)-1].open(s.Metrics())
	}
	if desk != nil {
		desk.Serve(s)
	}
	fmt.Fprintf(stderr, "claviger: ready on %s://%s\n", scheme, listeners[0].Addr())
	<-ctx.Done()
	o.linger(serving, s)
	closeDoors()
	wg.Wait()
	end()
	work.Wait()
	if desk != nil { // a command may be reading still
		served = errors.Join(served, desk.Close())
	}
	return errors.Join(served, s.Close())
}

// linger sends callers elsewhere for as long as they are to be answered still, or until
// nothing is served any more.
func (o *serveOptions) linger(serving context.Context, s *server.Server) {
	s.Leave()
	select {
	case <-time.After(o.drainDelay):
	case <-serving.Done():
	}
}

// harden keeps keys from getting out of the process's memory, and tells when it cannot.
func (o *serveOptions) harden(logger *slog.Logger) {
	if err := harden.NoCoreDumps(); err != nil {
		logger.Warn("a core dump of this process would show keys", "err", err)
	}
	if o.dev {
		return
	}
	if err := harden.LockMemory(); err != nil {
		logger.Warn("memory may be swapped out, keys and all", "err", err)
	} else {
		logger.Info("memory is locked and leaves no core dumps")
	}
}

// A door is the handler of a listener: closed, until there is a server behind it.
type door struct{ behind atomic.Pointer[http.Handler] }

func (d *door) open(h http.Handler) { d.behind.Store(&h) }

// ServeHTTP refuses every request of a sealed server.
func (d *door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if h := d.behind.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	wire.Sealed(w, r)
}

// open listens: on the ordinary address, on that of each endpoint, and on that of the metrics.
func (o *serveOptions) open(logger *slog.Logger, connections *front.Connections) (listeners []net.Listener, scheme string, err error) {
	scheme, wrap, err := o.transport(logger)
	if err != nil {
		return nil, "", err
	}
	addresses := []string{o.listen}
	for _, e := range o.endpoints {
		addresses = append(addresses, e.listen)
	}
	if o.metricsListen != "" {
		addresses = append(addresses, o.metricsListen)
	}
	for _, address := range addresses {
		l, err := o.listenOn(address)
		if err != nil {
			return nil, "", errors.Join(err, closeAll(listeners))
		}
		listeners = append(listeners, wrap(connections.Listen(l)))
	}
	return listeners, scheme, nil
}

func closeAll(listeners []net.Listener) (err error) {
	for _, l := range listeners {
		err = errors.Join(err, l.Close())
	}
	return err
}

// transport is TLS if there is a certificate.
func (o *serveOptions) transport(logger *slog.Logger) (scheme string, wrap func(net.Listener) net.Listener, err error) {
	switch {
	case (o.tlsCert == "") != (o.tlsKey == ""):
		return "", nil, errors.New("--tls-cert and --tls-key go together")
	case o.tlsMin != "1.2" && o.tlsMin != "1.3":
		return "", nil, errors.New("--tls-min is 1.2 or 1.3")
	case o.tlsCert == "" && (o.tlsClientCA != "" || o.tlsMin != "1.3"):
		return "", nil, errors.New("--tls-client-ca and --tls-min go with --tls-cert")
	case o.tlsCert == "":
		return "http", func(l net.Listener) net.Listener { return l }, nil
	}
	c, err := front.NewTLS(front.TLSConfig{Cert: o.tlsCert, Key: o.tlsKey, ClientCA: o.tlsClientCA, Min12: o.tlsMin == "1.2", Logger: logger})
	return "https", func(l net.Listener) net.Listener { return tls.NewListener(l, c) }, err
}

// listenOn listens. Plain HTTP is for loopback: signatures protect requests, but
// not the plaintext in answers.
func (o *serveOptions) listenOn(address string) (net.Listener, error) {
	if o.tlsCert == "" && !o.insecure && !loopback(address) {
		return nil, fmt.Errorf("plain HTTP on %s would show plaintexts to the network: give --tls-cert and --tls-key, or --insecure-plain-http", address)
	}
	return net.Listen("tcp", address)
}

// introduce says where other nodes reach this one, and what it shows them.
func (o *serveOptions) introduce(c *server.Config, scheme string, listens net.Addr) {
	if c.URL = o.advertise; c.URL == "" {
		c.URL = scheme + "://" + reachable(listens)
	}
	if o.tlsCert != "" {
		c.PeerCertificate = func() (tls.Certificate, error) { return tls.LoadX509KeyPair(o.tlsCert, o.tlsKey) }
	}
}

// reachable is where others reach what listens on an address: by the name of the machine, if
// that is any of its addresses.
func reachable(listens net.Addr) string {
	host, port, err := net.SplitHostPort(listens.String())
	if ip := net.ParseIP(host); err == nil && ip != nil && ip.IsUnspecified() {
		if name, err := os.Hostname(); err == nil {
			return net.JoinHostPort(name, port)
		}
	}
	return listens.String()
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && (host == "localhost" || ip != nil && ip.IsLoopback())
}
