package sigv4

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"slices"
	"strings"
	"sync"
	"time"
)

// Skew is how far a request's time may be from ours, either way.
const Skew = 5 * time.Minute

// MaxPresigned is how long a presigned request is good for at most, whatever it
// says: what a bearer can do with it grows with that.
const MaxPresigned = 15 * time.Minute

const mismatch = "The request signature we calculated does not match the signature you provided. " +
	"Check your AWS Secret Access Key and signing method. Consult the service documentation for details."

// A form is one of the ways in which clients write what they sign.
type form struct {
	rawPath      bool // dot segments and empty segments of the path are kept
	withoutToken bool // the session token was added to a presigned URL after signing
}

// Verify reports whether s is the signature of r under key, in any of the forms
// that clients use. It takes the same time wherever signatures differ. The
// request's time is not its business.
func (s *Signature) Verify(r *Request, key *Key) error {
	path, _, _ := strings.Cut(r.Target, "?")
	switch {
	case hmac.Equal(s.sign(r, key, form{}), s.signature),
		path != "/" && hmac.Equal(s.sign(r, key, form{rawPath: true}), s.signature),
		s.Presigned && s.Token != "" && hmac.Equal(s.sign(r, key, form{withoutToken: true}), s.signature):
		return nil
	default:
		return invalid(mismatch)
	}
}

// sign computes the signature of r in one form.
func (s *Signature) sign(r *Request, key *Key, f form) []byte {
	var request [1024]byte // on the stack, unless the request is long
	canonical := sha256.Sum256(s.appendCanonical(request[:0], r, f))
	var toSign [192]byte
	text := toSign[:0]
	text = append(text, algorithm+"\n"...)
	text = append(text, s.iso...)
	text = append(text, '\n')
	text = append(text, s.Date+"/"+s.Region+"/"+s.Service+"/"+terminator+"\n"...)
	text = hex.AppendEncode(text, canonical[:])
	return key.sum(text)
}

// CheckTime refuses a request that is too old or not yet current. Call it after
// Verify, so that a stranger learns nothing about our clock.
func (s *Signature) CheckTime(now time.Time) error {
	now = now.UTC().Truncate(time.Second)
	window := Skew
	if s.Presigned {
		window = min(s.Expires, MaxPresigned)
	}
	switch {
	case s.Time.Before(now.Add(-window)):
		return invalid("Signature expired: " + s.Time.Format(isoBasic) + " is now earlier than " +
			now.Add(-window).Format(isoBasic) + " (" + now.Format(isoBasic) + " - " + minutes(window) + ".)")
	case s.Time.After(now.Add(Skew)):
		return invalid("Signature not yet current: " + s.Time.Format(isoBasic) + " is still later than " +
			now.Add(Skew).Format(isoBasic) + " (" + now.Format(isoBasic) + " + 5 min.)")
	default:
		return nil
	}
}

func minutes(d time.Duration) string {
	if d == Skew {
		return "5 min"
	}
	return d.String()
}

func sum(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

// DeriveKey makes the signing key of one day, Region and service.
func DeriveKey(secret, date, region, service string) *Key {
	key := []byte("AWS4" + secret)
	fips140.WithoutEnforcement(func() { key = sum(key, []byte(date)) }) // the secrets of development mode are short
	for _, text := range []string{region, service, terminator} {
		key = sum(key, []byte(text))
	}
	return &Key{hashes: sync.Pool{New: func() any { return hmac.New(sha256.New, key) }}}
}

// A Key is a signing key. It is safe for concurrent use.
type Key struct {
	hashes sync.Pool // of hash.Hash: HMAC with the key, which a second use finds half done
}

func (k *Key) sum(text []byte) []byte {
	h := k.hashes.Get().(hash.Hash)
	defer k.hashes.Put(h)
	h.Reset()
	h.Write(text)
	return h.Sum(nil)
}

// KeyCache remembers derived keys by all that they derive from, so it is never
// wrong. The zero KeyCache is ready; it is safe for concurrent use.
type KeyCache struct {
	mu   sync.RWMutex // guards keys
	keys map[derivation]*Key
}

type derivation struct{ secret, date, region, service string }

// maxKeys bounds a KeyCache; a full one starts again.
const maxKeys = 10_000

// Key is the key of a signature by a secret, remembered.
func (c *KeyCache) Key(secret string, s *Signature) *Key {
	d := derivation{secret, s.Date, s.Region, s.Service}
	c.mu.RLock()
	key, ok := c.keys[d]
	c.mu.RUnlock()
	if ok {
		return key
	}
	key = DeriveKey(secret, s.Date, s.Region, s.Service)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.keys == nil || len(c.keys) >= maxKeys {
		c.keys = map[derivation]*Key{}
	}
	c.keys[d] = key
	return key
}

// appendCanonical appends what the client hashed. The body is always hashed here:
// an x-amz-content-sha256 that says otherwise makes the signature fail.
func (s *Signature) appendCanonical(b []byte, r *Request, f form) []byte {
	path, query, _ := strings.Cut(r.Target, "?")
	b = append(b, r.Method...)
	b = append(b, '\n')
	if f.rawPath {
		b = append(b, rawPath(path)...)
	} else {
		b = append(b, canonicalPath(path)...)
	}
	b = append(b, '\n')
	b = append(b, canonicalQuery(query, s.Presigned, f.withoutToken)...)
	b = append(b, '\n')
	for _, name := range s.signedHeaders {
		b = append(b, name...)
		b = append(b, ':')
		b = appendHeader(b, r, name)
		b = append(b, '\n')
	}
	b = append(b, '\n')
	for i, name := range s.signedHeaders {
		if i > 0 {
			b = append(b, ';')
		}
		b = append(b, name...)
	}
	b = append(b, '\n')
	body := sha256.Sum256(r.Body)
	return hex.AppendEncode(b, body[:])
}

// appendHeader appends a header's values, trimmed, runs of spaces made one,
// joined by commas.
func appendHeader(b []byte, r *Request, name string) []byte {
	if name == "host" {
		return append(b, r.Host...)
	}
	var key [64]byte // on the stack, unless the name is long
	for i, v := range r.Header[string(canonicalKey(key[:0], name))] {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendFolded(b, v)
	}
	return b
}

// canonicalKey spells a lower-case header name as http.Header does.
func canonicalKey(b []byte, name string) []byte {
	upper := true
	for i := 0; i < len(name); i++ {
		c := name[i]
		if upper && c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		upper = c == '-'
		b = append(b, c)
	}
	return b
}

func appendFolded(b []byte, v string) []byte {
	v = strings.Trim(v, " \t")
	for i := 0; i < len(v); i++ {
		if v[i] != ' ' || v[i-1] != ' ' {
			b = append(b, v[i])
		}
	}
	return b
}

// canonicalPath resolves dot segments (RFC 3986 §5.2.4), drops empty ones and
// encodes what remains once more, as every service but S3 does.
func canonicalPath(path string) string {
	if path == "/" || path == "" {
		return "/"
	}
	var kept []string
	for segment := range strings.SplitSeq(path, "/") {
		switch segment {
		case "", ".":
		case "..":
			kept = kept[:max(0, len(kept)-1)]
		default:
			kept = append(kept, encode(segment))
		}
	}
	out := "/" + strings.Join(kept, "/")
	if len(kept) > 0 && strings.HasSuffix(path, "/") {
		out += "/"
	}
	return out
}

// rawPath encodes each segment once more and keeps them all.
func rawPath(path string) string {
	segments := strings.Split(path, "/")
	for i := range segments {
		segments[i] = encode(segments[i])
	}
	return strings.Join(segments, "/")
}

// canonicalQuery sorts the parameters by their encoded form.
func canonicalQuery(raw string, presigned, withoutToken bool) string {
	if raw == "" {
		return ""
	}
	var pairs [][2]string
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		name, value = unescape(name), unescape(value)
		if presigned && (name == "X-Amz-Signature" || name == "X-Amz-Security-Token" && withoutToken) {
			continue
		}
		pairs = append(pairs, [2]string{encode(name), encode(value)})
	}
	slices.SortFunc(pairs, func(a, b [2]string) int {
		if c := strings.Compare(a[0], b[0]); c != 0 {
			return c
		}
		return strings.Compare(a[1], b[1])
	})
	var out strings.Builder
	for i, p := range pairs {
		if i > 0 {
			out.WriteByte('&')
		}
		out.WriteString(p[0] + "=" + p[1])
	}
	return out.String()
}

// encode percent-encodes everything but RFC 3986's unreserved characters.
func encode(s string) string {
	const upper = "0123456789ABCDEF"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		b.Write([]byte{'%', upper[c>>4], upper[c&15]})
	}
	return b.String()
}
