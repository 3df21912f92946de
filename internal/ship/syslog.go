package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// A Syslog sends each line as a message (RFC 5424) of the facility authpriv and the
// severity info: over TCP and Unix streams with octet counting (RFC 6587), over UDP and Unix
// datagrams one a packet (RFC 5426).
type Syslog struct {
	network string
	address string
	host    string
	conn    net.Conn
}

const (
	syslogPriority = 10<<3 | 6 // authpriv, info
	syslogTimeout  = 10 * time.Second
	maxDatagram    = 60 << 10 // bytes; what is longer is cut
)

// NewSyslog reads udp://HOST:PORT, tcp://HOST:PORT or unix:PATH.
func NewSyslog(target string) (*Syslog, error) {
	s := &Syslog{host: "-"}
	if name, err := os.Hostname(); err == nil && name != "" && !strings.ContainsAny(name, " \n") {
		s.host = name
	}
	var ok bool
	if s.address, ok = strings.CutPrefix(target, "unix:"); ok && s.address != "" {
		s.network = "unixgram"
		return s, nil
	}
	s.network, s.address, ok = strings.Cut(target, "://")
	if _, _, err := net.SplitHostPort(s.address); !ok || err != nil || s.network != "udp" && s.network != "tcp" {
		return nil, errors.New("must be udp://HOST:PORT, tcp://HOST:PORT or unix:PATH")
	}
	return s, nil
}

// Send delivers lines. What TCP had taken when a connection broke is sent once more.
func (s *Syslog) Send(ctx context.Context, lines []byte) error {
	if s.conn == nil {
		dialer := net.Dialer{Timeout: syslogTimeout}
		conn, err := dialer.DialContext(ctx, s.network, s.address)
		if err != nil && s.network == "unixgram" {
			conn, err = dialer.DialContext(ctx, "unix", s.address)
		}
		if err != nil {
			return err
		}
		s.conn = conn
	}
	if err := s.write(lines); err != nil {
		err = errors.Join(err, s.conn.Close())
		s.conn = nil
		return err
	}
	return nil
}

func (s *Syslog) write(lines []byte) error {
	stream := s.conn.RemoteAddr().Network() == "tcp" || s.conn.RemoteAddr().Network() == "unix"
	if err := s.conn.SetWriteDeadline(time.Now().Add(syslogTimeout)); err != nil {
		return err
	}
	var out []byte
	for line := range bytes.Lines(lines) {
		message := fmt.Appendf(nil, "<%d>1 %s %s claviger %d audit - ", syslogPriority, time.Now().UTC().Format("2006-01-02T15:04:05.000000Z"), s.host, os.Getpid())
		message = append(message, bytes.TrimSuffix(line, []byte{'\n'})...)
		if stream {
			out = append(append(strconv.AppendInt(out, int64(len(message)), 10), ' '), message...)
			continue
		}
		if _, err := s.conn.Write(message[:min(len(message), maxDatagram)]); err != nil {
			return err
		}
	}
	if !stream {
		return nil
	}
	_, err := s.conn.Write(out)
	return err
}

// Close ends the connection, if there is one.
func (s *Syslog) Close() error {
	if s.conn == nil {
		return nil
	}
	return s.conn.Close()
}
