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
const (
	blobVersion = 1
	flagMRK     = 1
	headerSize  = 56
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
}

func (o Owner) header(materialID string) (h [headerSize]byte, err error) {
	account, err := strconv.ParseUint(o.Account, 10, 48)
	if err != nil {
		return h, err
	}
	id, mrk := strings.CutPrefix(o.KeyID, "mrk-")
	h[0] = blobVersion
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
	if len(b) < headerSize+NonceSize+Overhead || b[0] != blobVersion || b[1]&^flagMRK != 0 {
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
	return &Blob{Owner{text, id}, hex.EncodeToString(b[24:56]), b[:headerSize], b[headerSize:]}, nil
}
