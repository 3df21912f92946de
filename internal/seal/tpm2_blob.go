package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// A tpm2Blob is what a TPM gives to keep. All of it may be public; the TPM
// itself tells whether public and private are as it made them.
//
// On disk: a version byte; parent, PCRs (three bytes, a bit each), public and
// private, each after its length in two bytes; SHA-256 of all that, which
// tells damage from a state of the machine that is not the one wanted.
type tpm2Blob struct {
	parent  []byte // name of the storage root key
	pcrs    []int
	public  []byte // TPMT_PUBLIC
	private []byte // TPM2B_PRIVATE without its length
}

const (
	tpm2Version = 1
	// maxTPM2Field bounds what decodeTPM2 accepts; a sealed object has less than half.
	maxTPM2Field = 1024
)

func (b tpm2Blob) encode() []byte {
	out := []byte{tpm2Version}
	for _, field := range [][]byte{b.parent, mask(b.pcrs), b.public, b.private} {
		out = binary.BigEndian.AppendUint16(out, uint16(len(field)))
		out = append(out, field...)
	}
	sum := sha256.Sum256(out)
	return append(out, sum[:]...)
}

// decodeTPM2 reads what encode wrote. All its errors are ErrWrongKey.
func decodeTPM2(wrapped []byte) (tpm2Blob, error) {
	damaged := fmt.Errorf("seal: this was not sealed by a TPM, or it was damaged: %w", ErrWrongKey)
	end := len(wrapped) - sha256.Size
	if end < 1 || wrapped[0] != tpm2Version {
		return tpm2Blob{}, damaged
	}
	if sum := sha256.Sum256(wrapped[:end]); !bytes.Equal(sum[:], wrapped[end:]) {
		return tpm2Blob{}, damaged
	}
	rest := wrapped[1:end]
	var fields [4][]byte
	for i := range fields {
		if len(rest) < 2 {
			return tpm2Blob{}, damaged
		}
		n := int(binary.BigEndian.Uint16(rest))
		if n == 0 || n > maxTPM2Field || n > len(rest)-2 {
			return tpm2Blob{}, damaged
		}
		fields[i], rest = rest[2:2+n], rest[2+n:]
	}
	b := tpm2Blob{parent: fields[0], pcrs: unmask(fields[1]), public: fields[2], private: fields[3]}
	if len(rest) != 0 || len(fields[1]) != 3 || len(b.pcrs) == 0 {
		return tpm2Blob{}, damaged
	}
	return b, nil
}
