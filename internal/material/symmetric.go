package material

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
)

// A Symmetric is the material of a symmetric encryption key, ready for use. It
// is immutable and safe for concurrent use.
type Symmetric struct {
	ID   string // 64 hexadecimal digits
	aead *AEAD
}

// Generate draws fresh material for a symmetric encryption key.
func Generate() ([]byte, error) { return Random(KeySize) }

// Random draws n random bytes.
func Random(n int) ([]byte, error) {
	b := make([]byte, n)
	_, err := rand.Read(b)
	return b, err
}

// MaterialID derives a key material id from the KMS key's id and the material,
// so that the same material imported again has the same id (crypto.md §5). It
// tells nothing about material that cannot be guessed.
func MaterialID(keyID string, material []byte) string {
	mac := hmac.New(sha256.New, material)
	mac.Write([]byte("claviger key material id\x00" + keyID))
	return hex.EncodeToString(mac.Sum(nil))
}

// MACMaterialID is MaterialID for the material of HMAC keys. HMAC reads different
// keys as the same (RFC 2104, 2: shorter ones are padded, longer ones hashed), so
// that the material must not be its key; nor must the id be a code that the key
// makes.
func MACMaterialID(keyID string, material []byte) string {
	h := sha256.New()
	h.Write([]byte("claviger hmac key material\x00"))
	return MaterialID(keyID, sum(h, material))
}

// NewSymmetric prepares the material of KeySize bytes with the given id.
func NewSymmetric(id string, s Secret) (*Symmetric, error) {
	m := &Symmetric{ID: id}
	err := s.Use(func(key []byte) (err error) {
		m.aead, err = NewAEAD(key)
		return err
	})
	return m, err
}

// Encrypt makes the ciphertext blob of a plaintext for the key that owner
// names. The encryption context is authenticated and not part of the blob.
func (m *Symmetric) Encrypt(owner Owner, plaintext []byte, context map[string]string) ([]byte, error) {
	header, err := owner.header(blobVersion, m.ID)
	if err != nil {
		return nil, err
	}
	blob := make([]byte, headerSize, headerSize+NonceSize+len(plaintext)+Overhead)
	copy(blob, header[:])
	return m.aead.Seal(blob, plaintext, associated(header[:], context))
}

// Decrypt opens a blob. Another key, material or encryption context and every
// damage are ErrOpen alike.
func (m *Symmetric) Decrypt(b *Blob, context map[string]string) ([]byte, error) {
	if b.MaterialID != m.ID || b.outer != nil {
		return nil, ErrOpen
	}
	return m.aead.Open(b.sealed, associated(b.header, context))
}

// EncryptInner makes the inner ciphertext of a key in an external key store,
// which has to be encrypted there and then wrapped.
func (m *Symmetric) EncryptInner(owner Owner, plaintext []byte, context map[string]string) ([]byte, error) {
	header, err := owner.header(outsideVersion, m.ID)
	if err != nil {
		return nil, err
	}
	return m.aead.Seal(nil, plaintext, associated(header[:], context))
}

// DecryptInner opens the inner ciphertext that an external key store decrypted.
func (m *Symmetric) DecryptInner(b *Blob, inner []byte, context map[string]string) ([]byte, error) {
	if b.MaterialID != m.ID {
		return nil, ErrOpen
	}
	return m.aead.Open(inner, associated(b.header, context))
}

// associated encodes header and encryption context injectively: the pairs
// sorted by the bytes of their keys, each text after its length.
func associated(header []byte, context map[string]string) []byte {
	ad := append(make([]byte, 0, 256), header...)
	var few [8]string // on the stack, for most contexts
	keys := few[:0]
	for k := range context {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		for _, s := range [...]string{k, context[k]} {
			ad = binary.BigEndian.AppendUint32(ad, uint32(len(s)))
			ad = append(ad, s...)
		}
	}
	return ad
}
