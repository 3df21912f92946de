// Package peer lets the nodes that share a store ask each other. What they say is sealed
// under the key of the store, which they have and nobody else: it needs no certificates, and
// whoever is between them can read nothing and change nothing.
package peer

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/store"
)

// Path is where a node is asked.
const Path = "/peer"

const (
	maxAnswer = 8 << 20 // bytes
	timeout   = 3 * time.Second
	// fresh is how old a question may be: nodes' clocks may differ.
	fresh = 2 * time.Minute
)

// Names of what is sealed.
const questionTo, answerTo = "peer question to ", "peer answer to "

// A Question is what one node asks another.
type Question struct {
	At    time.Time
	Nonce []byte
	About string // which of those who answer is asked
	Body  []byte
}

// An Asker asks other nodes. It is safe for concurrent use.
type Asker struct {
	db   *store.DB
	http *http.Client
}

// New makes an Asker for the nodes that share db. certificate is what it shows to those that
// demand one of every client; nil: nothing.
func New(db *store.DB, certificate func() (tls.Certificate, error)) *Asker {
	// Those of others are not looked at: the seal is what counts.
	c := &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}
	if certificate != nil {
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			own, err := certificate()
			return &own, err
		}
	}
	transport := &http.Transport{TLSClientConfig: c, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	return &Asker{db, &http.Client{Transport: transport, Timeout: timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// Close ends connections that are kept.
func (a *Asker) Close() { a.http.CloseIdleConnections() }

// Ask asks the node of that name, at its URL, about something.
func (a *Asker) Ask(ctx context.Context, node, url, about string, body []byte) (answer []byte, err error) {
	q := Question{At: time.Now().UTC(), Nonce: make([]byte, 16), About: about, Body: body}
	_, _ = rand.Read(q.Nonce) // it never fails
	text, err := json.Marshal(q)
	if err != nil {
		return nil, err
	}
	sealed, err := a.db.Token(questionTo+node, text)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(url, "/")+Path, bytes.NewReader(sealed))
	if err != nil {
		return nil, fmt.Errorf("peer: the node %s: %w", node, err)
	}
	got, err := a.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("peer: the node %s: %w", node, err)
	}
	defer got.Body.Close()
	if sealed, err = io.ReadAll(http.MaxBytesReader(nil, got.Body, maxAnswer)); err != nil {
		return nil, fmt.Errorf("peer: the node %s: %w", node, err)
	}
	if got.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("peer: the node %s answers %s", node, got.Status)
	}
	answer, err = a.db.OpenToken(answerTo+string(q.Nonce), sealed)
	if err != nil {
		return nil, fmt.Errorf("peer: what answers for the node %s does not share this store: %w", node, err)
	}
	return answer, nil
}

// errStranger reports what no node has asked this one.
var errStranger = errors.New("peer: not a question to this node")

// An Answerer answers questions about one thing.
type Answerer func(ctx context.Context, body []byte) ([]byte, error)

// A Desk answers what other nodes ask. It is safe for concurrent use.
type Desk struct {
	db      *store.DB
	answers map[string]Answerer
}

// NewDesk makes a Desk that has answers answer, each what questions are about.
func NewDesk(db *store.DB, answers map[string]Answerer) *Desk { return &Desk{db, answers} }

// Open opens what a request has as its body: a question that another node has asked this one
// lately, or else an error.
func (d *Desk) Open(sealed []byte) (*Question, error) {
	text, err := d.db.OpenToken(questionTo+d.db.Node(), sealed)
	if err != nil {
		return nil, err
	}
	q := new(Question)
	if err := json.Unmarshal(text, q); err != nil {
		return nil, err
	}
	if age := time.Since(q.At); age > fresh || age < -fresh {
		return nil, errStranger
	}
	return q, nil
}

// Answer answers a question; what it returns is the body of the answer.
func (d *Desk) Answer(ctx context.Context, q *Question) ([]byte, error) {
	answer := d.answers[q.About]
	if answer == nil {
		return nil, fmt.Errorf("peer: a question about %q, of another release", q.About)
	}
	text, err := answer(ctx, q.Body)
	if err != nil {
		return nil, err
	}
	return d.db.Token(answerTo+string(q.Nonce), text)
}
