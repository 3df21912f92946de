package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/arn"
	"github.com/claviger/claviger/internal/audit"
	"github.com/claviger/claviger/internal/front"
	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/org"
	"github.com/claviger/claviger/internal/peer"
	"github.com/claviger/claviger/internal/ship"
	"github.com/claviger/claviger/internal/sigv4"
	"github.com/claviger/claviger/internal/store"
	"github.com/claviger/claviger/internal/sts"
	"github.com/claviger/claviger/internal/trail"
)

// MaxBody is the longest request body, in bytes. A longer one is answered with
// 413 and not read to its end.
const MaxBody = 1 << 20

// smallBody is how much room a body gets before it has arrived, in bytes.
const smallBody = 8 << 10

// A Config says what a Server serves. All members but Copies, Regions and Logger
// must be set.
type Config struct {
	DB            *store.DB
	Directory     *iam.Directory
	KMS           *kms.Service
	IAM           *iam.Service
	STS           *sts.Service
	Organizations *org.Service
	Trail         *trail.Service
	Log           *audit.Log
	// Peer answers other nodes; nil: there are none.
	Peer   *peer.Desk
	Copies []*ship.Copier // of the audit log; may be nil
	// MetricsApart says that /metrics is shown by Metrics alone.
	MetricsApart bool
	// Connections are those that requests come by, for the metrics. Nil: not known.
	Connections *front.Connections
	// Regions are those of the services that have Regions. Empty: any.
	Regions arn.Regions
	// Logger is told of internal errors. Nil means slog.Default.
	Logger *slog.Logger
}

// A Server answers requests for every service. It is safe for concurrent use.
type Server struct {
	config   Config
	services []*service
	keys     sigv4.KeyCache
	metrics  *metricSet

	strangers *front.Strangers
	leaving   atomic.Bool
}

// NewServer makes a Server.
func NewServer(c Config) *Server {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	s := &Server{config: c, services: services(c), strangers: front.NewStrangers()}
	s.metrics = newMetricSet(c, s.services)
	return s
}

// Leave makes /readyz say from now on that no more should be asked here, and every answer of
// the API close its connection, so that whoever asks goes elsewhere. Requests are answered as
// before.
func (s *Server) Leave() { s.leaving.Store(true) }

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		writeText(w, http.StatusOK, "ok\n")
	case "/readyz":
		s.ready(w)
	case peer.Path:
		if s.config.Peer == nil {
			s.serveAPI(w, r, nil)
			return
		}
		s.peer(w, r)
	case "/metrics":
		if s.config.MetricsApart {
			http.NotFound(w, r)
			return
		}
		s.Metrics(w, r)
	default:
		s.serveAPI(w, r, nil)
	}
}

// Metrics shows the metrics, to strangers a few at a time.
func (s *Server) Metrics(w http.ResponseWriter, r *http.Request) {
	done, err := s.strangers.Check(r)
	if err != nil {
		writeText(w, http.StatusServiceUnavailable, "busy\n")
		return
	}
	var text bytes.Buffer
	s.metrics.render(&text)
	done() // before it is known how fast the other side reads
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write(text.Bytes()) // the other side is gone if this fails
}

// peer answers another node, which may be a stranger that says it is.
func (s *Server) peer(w http.ResponseWriter, r *http.Request) {
	upload, err := s.strangers.Body(w, r)
	defer upload.Done()
	var body []byte
	if err == nil {
		body, err = readBody(w, r)
	}
	var done func()
	if err == nil {
		upload.Arrived()
		done, err = s.strangers.Check(r)
	}
	if err != nil {
		writeText(w, http.StatusServiceUnavailable, "busy\n")
		return
	}
	q, err := s.config.Peer.Open(body)
	done() // before anything is read for it
	if err != nil {
		writeText(w, http.StatusForbidden, "not a question of another node to this one\n")
		return
	}
	answer, err := s.config.Peer.Answer(r.Context(), q)
	if err != nil {
		s.config.Logger.Error("answer another node", "err", err)
		writeText(w, http.StatusInternalServerError, "no answer\n")
		return
	}
	_, _ = w.Write(answer) // the other side is gone if this fails
}

// ready says whether requests can be served: the audit log and the store must
// be writable, and what other nodes have changed must be known.
func (s *Server) ready(w http.ResponseWriter) {
	switch {
	case s.leaving.Load():
		writeText(w, http.StatusServiceUnavailable, "this server is about to stop\n")
	case s.config.Log.Err() != nil:
		writeText(w, http.StatusServiceUnavailable, "the audit log cannot be written\n")
	case errors.Is(s.config.DB.Err(), store.ErrDoubt):
		writeText(w, http.StatusServiceUnavailable, "this node cannot know what the others have changed\n")
	case s.config.DB.Err() != nil:
		writeText(w, http.StatusServiceUnavailable, "the store cannot be written\n")
	default:
		writeText(w, http.StatusOK, "ok\n")
	}
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text) // the client is gone if this fails
}

// An exchange is one request and what has become of it.
type exchange struct {
	w         http.ResponseWriter
	r         *http.Request
	begin     time.Time
	requestID string
	body      []byte
	form      url.Values        // Query protocol
	labels    map[string]string // REST: members that are in the path
	route     model.Route       // REST
	service   *service
	operation *operation
	through   *iam.Endpoint // nil for the ordinary listener
}

// Through answers requests that come in by a VPC endpoint, which its policy
// limits. Like an interface endpoint of KMS it leads to KMS alone.
func (s *Server) Through(e *iam.Endpoint) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.serveAPI(w, r, e) })
}

const onlyKMS = "This is a VPC endpoint of KMS: other services are not reached through it."

// serveAPI walks a request through: read, route, authenticate, run, record,
// answer.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request, through *iam.Endpoint) {
	if s.leaving.Load() {
		w.Header().Set("Connection", "close")
	}
	x := &exchange{w: w, r: r, begin: time.Now(), requestID: uuid.New().String(), through: through}
	var upload *front.Upload
	var err error
	if r.ContentLength < 0 || r.ContentLength > smallBody {
		upload, err = s.strangers.Body(w, r)
	}
	defer upload.Done()
	if err == nil {
		x.body, err = readBody(w, r)
	}
	if err != nil {
		x.unreadable(err)
		return
	}
	upload.Arrived()
	credential, region, err := s.identify(x)
	if err == nil {
		err = s.run(x, credential, region)
	}
	if errors.Is(err, front.ErrBusy) {
		x.unreadable(err)
	} else if err != nil {
		s.refuse(x, err)
	}
}

// identify finds out what a request means and who sent it, for strangers a few at a
// time.
func (s *Server) identify(x *exchange) (*iam.Credential, string, error) {
	done, err := s.strangers.Check(x.r)
	if err != nil {
		return nil, "", err
	}
	defer done()
	if err := s.route(x); err != nil {
		return nil, "", err
	}
	return s.authenticated(x)
}

// readBody reads the whole body, up to MaxBody.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength >= 0 && r.ContentLength <= smallBody {
		b := make([]byte, r.ContentLength)
		_, err := io.ReadFull(r.Body, b)
		return b, err
	}
	var b bytes.Buffer // grows with what arrives: what is announced is not yet there
	_, err := b.ReadFrom(http.MaxBytesReader(w, r.Body, MaxBody))
	return b.Bytes(), err
}

func (x *exchange) unreadable(err error) {
	var tooLong *http.MaxBytesError
	switch {
	case errors.As(err, &tooLong):
		x.w.WriteHeader(http.StatusRequestEntityTooLarge)
	case errors.Is(err, front.ErrBusy):
		x.w.Header().Set("Retry-After", "1")
		x.w.WriteHeader(http.StatusServiceUnavailable)
	default:
		x.w.WriteHeader(http.StatusBadRequest)
	}
}

// route finds the service and operation a request means.
func (s *Server) route(x *exchange) error {
	target := x.r.Header.Get("X-Amz-Target")
	contentType := x.r.Header.Get("Content-Type")
	if contentType != jsonType {
		contentType, _, _ = mime.ParseMediaType(contentType)
	}
	if target == "" && (contentType == formType || x.r.URL.RawQuery != "" && x.r.URL.Path == "/") {
		if x.through != nil {
			x.service = s.named("sts") // whose protocol it is
			return model.NewFault("InvalidAction", 400, onlyKMS)
		}
		return s.routeQuery(x)
	}
	if target == "" && x.r.URL.Path != "/" && x.through == nil {
		return s.routeREST(x)
	}
	x.service = s.services[0] // whose protocol answers what names no service
	if x.r.Method != http.MethodPost || x.r.URL.Path != "/" {
		return model.NewFault("UnknownOperationException", 404, "")
	}
	dot := max(strings.LastIndexByte(target, '.'), 0) // some prefixes have dots of their own
	prefix, name := target[:dot], strings.TrimPrefix(target[dot:], ".")
	if i := slices.IndexFunc(s.services, func(svc *service) bool {
		return svc.protocol == jsonProtocol && svc.targetPrefix == prefix
	}); i > 0 && x.through != nil {
		return model.NewFault("UnknownOperationException", 400, onlyKMS)
	} else if i >= 0 {
		x.service = s.services[i]
	} else {
		return model.NewFault("UnknownOperationException", 400, "")
	}
	if contentType != jsonType && contentType != "application/x-amz-json-1.0" && contentType != "application/json" {
		return model.NewFault("UnknownOperationException", 404, "")
	}
	return x.choose(name, "UnknownOperationException", "")
}

// routeQuery routes by the Action parameter; the credential scope tells the
// services apart.
func (s *Server) routeQuery(x *exchange) error {
	x.service = s.named("sts")
	form, err := readForm(string(x.body), x.r.URL.RawQuery)
	if err != nil {
		return err
	}
	x.form = form
	if sig, err := sigv4.Parse(&sigv4.Request{Method: x.r.Method, Target: x.r.RequestURI, Host: x.r.Host, Header: x.r.Header}); err == nil {
		if svc := s.named(sig.Service); svc != nil && svc.protocol == queryProtocol {
			x.service = svc
		}
	}
	name := form.Get("Action")
	if name == "" {
		return model.NewFault("MissingAction", 400, "Missing Action")
	}
	if v := form.Get("Version"); v != "" && v != x.service.version {
		return model.NewFault("InvalidAction", 400, "Could not find operation "+name+" for version "+v)
	}
	return x.choose(name, "InvalidAction", "Could not find operation "+name+" for version "+x.service.version)
}

// readForm reads the parameters of body and query. What could be read in two
// ways is refused: a signature covers the query's pairs whatever their order and
// reads a plus sign as one, and nothing may depend on which reading counts.
func readForm(body, query string) (url.Values, error) {
	form, err := url.ParseQuery(body)
	if err != nil || strings.Contains(query, "+") {
		return nil, model.NewFault("MalformedInput", 400, "")
	}
	more, err := url.ParseQuery(query)
	if err != nil {
		return nil, model.NewFault("MalformedInput", 400, "")
	}
	for name, values := range more {
		if len(values) > 1 || form.Has(name) {
			return nil, model.NewFault("MalformedInput", 400, "The parameter "+name+" is given twice.")
		}
		form[name] = values
	}
	return form, nil
}

func (s *Server) named(name string) *service {
	i := slices.IndexFunc(s.services, func(svc *service) bool { return svc.name == name })
	if i < 0 {
		return nil
	}
	return s.services[i]
}

// choose finds the operation. One that the model has and we do not is run by
// refusing it, after authentication like any other.
func (x *exchange) choose(name, code, message string) error {
	if x.operation = x.service.operations[name]; x.operation != nil {
		return nil
	}
	if !slices.Contains(x.service.known, name) {
		return model.NewFault(code, 400, message)
	}
	x.operation = unsupported(name)
	return nil
}

func unsupported(name string) *operation {
	return &operation{name: name, readOnly: true, run: func(context.Context, *iam.Call, func(request) error) (any, error) {
		return nil, model.NewFault("UnsupportedOperationException", 400, name+" is not supported.")
	}}
}

// run performs the operation, and answers once the audit log has its record.
func (s *Server) run(x *exchange, credential *iam.Credential, region string) error {
	from, err := s.origin(x, credential)
	host, _, _ := net.SplitHostPort(x.r.RemoteAddr)
	call := &iam.Call{
		Credential: from.credential, RequestID: x.requestID, Region: region, Now: x.begin.UTC(), SourceIP: host,
		UserAgent: x.r.UserAgent(), Referer: x.r.Referer(), Secure: x.r.TLS != nil, Observe: s.metrics.decision,
		Through: x.through, Via: from.via, SourceArn: from.sourceARN, SourceAccount: from.sourceAccount,
	}
	call.Entry = s.config.Log.Begin(record(x, call))
	var out any
	if err == nil && x.service.admit != nil {
		err = x.service.admit(call, x.operation.name)
	}
	if err == nil && x.operation.unsigned {
		done, busy := s.strangers.Prove(x.r)
		if busy != nil {
			return busy
		}
		defer done()
	}
	if err == nil {
		out, err = x.perform(call)
	}
	var body []byte
	if err == nil {
		body, err = x.encode(out)
	}
	defer clear(body) // it may hold a plaintext, also when it is not sent
	if err := x.record(call, err); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	s.metrics.done(x, "")
	header(x.w, x.service.protocol.contentType(), x.requestID)
	_, err = x.w.Write(body)
	if err != nil { // too late for another answer
		s.config.Logger.Debug("answer not sent", "err", err)
	}
	return nil
}

// perform runs the operation. A panic is this program's mistake and fails the
// request alone, which is recorded like any other.
func (x *exchange) perform(call *iam.Call) (out any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("wire: %v\n%s", p, debug.Stack())
		}
	}()
	return x.operation.run(x.r.Context(), call, x.decode)
}

// encode makes the body of an answer.
func (x *exchange) encode(out any) ([]byte, error) {
	if x.service.protocol == queryProtocol {
		return encodeXML(x.requestID, x.service, x.operation, out)
	}
	return encodeJSON(out)
}

func (x *exchange) decode(in request) error {
	if x.service.protocol == queryProtocol {
		return decodeQuery(x.form, in)
	}
	if x.service.protocol == restProtocol {
		return x.decodeREST(in)
	}
	err := decodeJSON(x.body, in)
	if x.service.name == "organizations" {
		err = asInput(err)
	}
	return err
}

// refuse answers with a fault.
func (s *Server) refuse(x *exchange, err error) {
	f := x.service.fault(err)
	switch {
	case f.Status < 500:
	case errors.Is(err, context.Canceled): // who asked has gone
		s.config.Logger.Debug("request given up", "requestId", x.requestID, "err", err)
	default:
		s.config.Logger.Error("request failed", "requestId", x.requestID, "err", err)
	}
	s.metrics.done(x, f.Code)
	if x.service.protocol == queryProtocol {
		writeXMLFault(x.w, x.requestID, x.service.namespace, f)
		return
	}
	if x.service.protocol == restProtocol {
		writeRESTFault(x.w, x.requestID, f)
		return
	}
	writeJSONFault(x.w, x.requestID, f)
}
