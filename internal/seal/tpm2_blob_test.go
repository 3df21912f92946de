package seal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"testing"
)

// FuzzTPM2Blob: exactly one of value and error, and what is read is written the same.
func FuzzTPM2Blob(f *testing.F) {
	good := tpm2Blob{parent: bytes.Repeat([]byte{1}, 34), pcrs: []int{0, 7, 23}, public: []byte("public"), private: []byte("private")}.encode()
	f.Add(good[:len(good)-sha256.Size])
	f.Add([]byte{tpm2Version})
	f.Add([]byte{tpm2Version, 0, 1, 0, 0, 3, 1, 0, 0, 0, 1, 0, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, body []byte) {
		sum := sha256.Sum256(body) // which a fuzzer does not guess
		for _, wrapped := range [][]byte{body, append(bytes.Clone(body), sum[:]...)} {
			blob, err := decodeTPM2(wrapped)
			if err != nil {
				if !errors.Is(err, ErrWrongKey) || blob.public != nil {
					t.Fatalf("decodeTPM2 = %+v, %v", blob, err)
				}
			} else if !bytes.Equal(blob.encode(), wrapped) {
				t.Fatalf("%x is written as %x", wrapped, blob.encode())
			}
		}
	})
}
