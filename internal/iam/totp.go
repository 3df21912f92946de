package iam

import (
	"crypto/fips140"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"time"
)

// One-time codes are those of RFC 6238 with SHA-1, six digits and 30 seconds, which
// every authenticator makes.
const stepSeconds = 30

// How many steps a code may be off: when it is used, and when a device is set up.
const (
	codeWindow   = 1
	enableWindow = 3
)

// totp is the code of one step (RFC 4226 §5.3).
func totp(seed []byte, step int64) string {
	var sum []byte
	fips140.WithoutEnforcement(func() { // devices know no other hash
		m := hmac.New(sha1.New, seed)
		m.Write(binary.BigEndian.AppendUint64(nil, uint64(step)))
		sum = m.Sum(nil)
	})
	at := sum[len(sum)-1] & 0xf
	return fmt.Sprintf("%06d", binary.BigEndian.Uint32(sum[at:])&0x7fffffff%1_000_000)
}

// totpStep returns the step of a code that is at most window steps off now.
func totpStep(seed []byte, code string, now time.Time, window int64) (step int64, ok bool) {
	at := now.Unix() / stepSeconds
	for s := at - window; s <= at+window; s++ {
		if subtle.ConstantTimeCompare([]byte(totp(seed, s)), []byte(code)) == 1 {
			step, ok = s, true
		}
	}
	return step, ok
}
