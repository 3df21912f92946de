package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"
)

// errTLS reports certificates that do not fit, which waiting does not mend.
var errTLS = errors.New("TLS fails")

// refusalTime is how long a member may take to refuse a certificate, once it has the
// connection: with TLS 1.3 it does so after the handshake.
const refusalTime = 300 * time.Millisecond

// handshake looks whether it is for TLS that a member does not answer, which the client of etcd
// does not tell. Nil: it is not, as far as can be seen.
func (e *Engine) handshake(ctx context.Context, endpoint string) error {
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	plain, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil // there is nobody
	}
	defer plain.Close()
	if e.config.TLS == nil {
		err := tls.Client(plain, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx) // nothing is said to it
		if err == nil || alerted(err) {
			return fmt.Errorf("%w: the member speaks it, and this node has no --etcd-ca", errTLS)
		}
		return nil
	}
	c := e.config.TLS.Clone()
	c.ServerName, c.NextProtos = u.Hostname(), []string{"h2"}
	conn := tls.Client(plain, c)
	err = conn.HandshakeContext(ctx)
	_, stranger := errors.AsType[*tls.CertificateVerificationError](err)
	_, garbled := errors.AsType[tls.RecordHeaderError](err)
	switch {
	case errors.Is(err, io.EOF), garbled:
		return errors.New("the member does not speak TLS") // or is starting just now
	case err == nil:
		_ = conn.SetReadDeadline(time.Now().Add(refusalTime))
		_, err = conn.Read(make([]byte, 1))
	}
	if stranger || alerted(err) {
		return fmt.Errorf("%w: %w", errTLS, err)
	}
	return nil
}

// alerted reports whether the other side has said that something about TLS does not fit.
func alerted(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error"
}
