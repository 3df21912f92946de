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
	maxQuestion = 64 << 10 // bytes
	maxAnswer   = 8 << 20  // bytes
	timeout     = 3 * time.Second
	// fresh is how old a question may be: nodes' clocks may differ.
	fresh = 2 * time.Minute
)

// Names of what is sealed.
const questionTo, answerTo = "peer question to ", "peer answer to "

// A question is what one node asks another.
type question struct {
	At    time.Time
	Nonce []byte
	Body  []byte
}

// An Asker asks other nodes. It is safe for concurrent use.
type Asker struct {
	db   *store.DB
	http *http.Client
}

// New makes an Asker for the nodes that share db.
func New(db *store.DB) *Asker {
	// The certificates are not looked at: the seal is what counts.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: 4, IdleConnTimeout: time.Minute}
	return &Asker{db, &http.Client{Transport: transport, Timeout: timeout}}
}

// Close ends connections that are kept.
func (a *Asker) Close() { a.http.CloseIdleConnections() }

// Ask asks the node of that name, at its URL.
func (a *Asker) Ask(ctx context.Context, node, url string, body []byte) (answer []byte, err error) {
	q := question{At: time.Now().UTC(), Nonce: make([]byte, 16), Body: body}
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

// errStranger reports a question that no node has asked this one.
var errStranger = errors.New("peer: not a question to this node")

// Handler answers questions of other nodes.
func (a *Asker) Handler(answer func(ctx context.Context, body []byte) ([]byte, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q, err := a.open(w, r)
		if err != nil {
			http.Error(w, "not a question to this node", http.StatusForbidden)
			return
		}
		text, err := answer(r.Context(), q.Body)
		if err == nil {
			text, err = a.db.Token(answerTo+string(q.Nonce), text)
		}
		if err != nil {
			http.Error(w, "no answer", http.StatusInternalServerError)
			return
		}
		_, _ = w.Write(text) // the other side is gone if this fails
	})
}

func (a *Asker) open(w http.ResponseWriter, r *http.Request) (q question, err error) {
	if r.Method != http.MethodPost {
		return q, errStranger
	}
	sealed, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		return q, err
	}
	text, err := a.db.OpenToken(questionTo+a.db.Node(), sealed)
	if err != nil {
		return q, err
	}
	if err := json.Unmarshal(text, &q); err != nil {
		return q, err
	}
	if age := time.Since(q.At); age > fresh || age < -fresh {
		return q, errStranger
	}
	return q, nil
}
