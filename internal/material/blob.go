package material

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
)

// The ciphertext blob, version 1. Opaque to clients; self-describing here.
//
//	 0      version, 1
//	 1      flags: bit 0, the key id begins with mrk-
//	 2…7    account id, a 48-bit number
//	 8…23   the key id's 16 bytes
//	24…55   key material id
//	56…79   nonce
//	80…     AES-256-GCM ciphertext and tag
//
// Everything before the nonce, then the encryption context, is associated data.
//
// Version 2 is of a key in an external key store, which encrypts what would be
// nonce, ciphertext and tag here once more:
//
//	56      length of the initialization vector, then it
//	        the authentication tag, 16 bytes
//	        length of the key store's metadata, then it
//	        the key store's ciphertext
const (
	blobVersion    = 1
	outsideVersion = 2
	flagMRK        = 1
	headerSize     = 56
	outsideTag     = 16
	maxOutside     = 4096 // bytes of plaintext
)

// ErrBlob reports a text that is no ciphertext blob of a symmetric key.
var ErrBlob = errors.New("material: not a ciphertext blob")

// An Owner is the KMS key a blob belongs to. The Region is not part of it, so
// that related multi-Region keys open each other's blobs.
type Owner struct {
	Account string // 12 digits
	KeyID   string
}

// A Blob is a ciphertext blob taken apart.
type Blob struct {
	Owner
	MaterialID string

	header, sealed []byte
	outer          *Outer
}

// An Outer is what an external key store made of the inner ciphertext.
type Outer struct {
	IV, Tag, Metadata, Ciphertext []byte
}

// Outside returns what an external key store has to decrypt first; nil for a
// blob of a key that is here.
func (b *Blob) Outside() *Outer { return b.outer }

func (o Owner) header(version byte, materialID string) (h [headerSize]byte, err error) {
	account, err := strconv.ParseUint(o.Account, 10, 48)
	if err != nil {
		return h, err
	}
	id, mrk := strings.CutPrefix(o.KeyID, "mrk-")
	h[0] = version
	if mrk {
		h[1] = flagMRK
	}
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], account)
	copy(h[2:8], number[2:])
	if _, err := hex.Decode(h[8:24], []byte(strings.ReplaceAll(id, "-", ""))); err != nil {
		return h, err
	}
	_, err = hex.Decode(h[24:56], []byte(materialID))
	return h, err
}

// ParseBlob reads a blob's header. It does not copy b.
func ParseBlob(b []byte) (*Blob, error) {
	if len(b) < headerSize+NonceSize+Overhead || b[0] != blobVersion && b[0] != outsideVersion || b[1]&^flagMRK != 0 {
		return nil, ErrBlob
	}
	account := binary.BigEndian.Uint64(append([]byte{0, 0}, b[2:8]...))
	if account >= 1e12 {
		return nil, ErrBlob
	}
	text := strconv.FormatUint(account+1e12, 10)[1:] // with leading zeros
	id := hex.EncodeToString(b[8:24])
	if b[1]&flagMRK != 0 {
		id = "mrk-" + id
	} else {
		id = id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
	}
	blob := &Blob{Owner: Owner{text, id}, MaterialID: hex.EncodeToString(b[24:56]), header: b[:headerSize], sealed: b[headerSize:]}
	if b[0] == outsideVersion {
		blob.outer = parseOuter(blob.sealed)
		if blob.outer == nil {
			return nil, ErrBlob
		}
	}
	return blob, nil
}

func parseOuter(b []byte) *Outer {
	var o Outer
	var ok bool
	if o.IV, b, ok = cutLengthed(b); !ok || len(b) < outsideTag {
		return nil
	}
	o.Tag, b = b[:outsideTag], b[outsideTag:]
	if o.Metadata, o.Ciphertext, ok = cutLengthed(b); !ok || !o.wellFormed() {
		return nil
	}
	return &o
}

// wellFormed holds the sizes that key stores may use (XKS Proxy API Specification,
// EncryptResponse).
func (o *Outer) wellFormed() bool {
	return (len(o.IV) == 12 || len(o.IV) == 16) && len(o.Tag) == outsideTag && len(o.Metadata) <= 20 &&
		len(o.Ciphertext) > NonceSize+Overhead && len(o.Ciphertext) <= NonceSize+maxOutside+Overhead
}

func cutLengthed(b []byte) (part, rest []byte, ok bool) {
	if len(b) == 0 || len(b) < 1+int(b[0]) {
		return nil, nil, false
	}
	n := 1 + int(b[0])
	return b[1:n], b[n:], true
}

// Wrap makes the blob of an inner ciphertext that an external key store has
// encrypted.
func (o Owner) Wrap(materialID string, outer *Outer) ([]byte, error) {
	header, err := o.header(outsideVersion, materialID)
	if err != nil || !outer.wellFormed() {
		return nil, errors.Join(ErrBlob, err)
	}
	b := append(header[:], byte(len(outer.IV)))
	b = append(append(b, outer.IV...), outer.Tag...)
	b = append(append(b, byte(len(outer.Metadata))), outer.Metadata...)
	return append(b, outer.Ciphertext...), nil
}
