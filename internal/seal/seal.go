// Package seal holds the root key, which opens the store: in a key file, behind
// a passphrase, in an HSM or in a machine's TPM. A seal wraps and unwraps one small secret, the store
// key, and knows nothing of what that protects.
package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/claviger/claviger/internal/durable"
)

// ErrWrongKey reports that this seal did not wrap what it was given, or that it
// was damaged.
var ErrWrongKey = errors.New("seal: the root key does not open this store: it is another one's, or the passphrase or share is not the right one")

const rootKeySize = 32

// A File is a seal whose root key is in a file, readable by its owner alone.
type File struct{ path string }

// NewFile uses the root key in path, 32 bytes in base64, mode 0600.
func NewFile(path string) *File { return &File{path} }

// CreateFile draws a root key and writes it to path, which must not exist.
func CreateFile(path string) (*File, error) {
	key := make([]byte, rootKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, err
	}
	defer clear(key)
	if err := durable.Create(path, []byte(base64.StdEncoding.EncodeToString(key)+"\n")); err != nil {
		return nil, fmt.Errorf("seal: create root key: %w", err)
	}
	return &File{path}, nil
}

// Kind names the seal in the store's header.
func (f *File) Kind() string { return "file" }

// Wrap seals secret under the root key.
func (f *File) Wrap(secret []byte) ([]byte, error) {
	key, err := f.key()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return wrap(key, secret)
}

// Unwrap opens what Wrap made. ErrWrongKey: another root key, or damage.
func (f *File) Unwrap(wrapped []byte) ([]byte, error) {
	key, err := f.key()
	if err != nil {
		return nil, err
	}
	defer clear(key)
	return unwrap(key, wrapped)
}

func (f *File) key() ([]byte, error) {
	info, err := os.Stat(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("seal: there is no root key at %s, without which the store stays closed; give the place where it is kept: %w", f.path, err)
	}
	if err != nil {
		return nil, fmt.Errorf("seal: root key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("seal: others may read the root key in %s: its mode is %#o, and must be 0600 or 0400", f.path, info.Mode().Perm())
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("seal: root key: %w", err)
	}
	defer clear(text)
	key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(string(text)))
	if err != nil || len(key) != rootKeySize {
		return nil, fmt.Errorf("seal: %s does not hold 32 bytes in base64", f.path)
	}
	return key, nil
}

func aead(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// wrap uses AES-256-GCM with a random 96-bit nonce: a root key wraps a handful
// of store keys in its life.
func wrap(key, secret []byte) ([]byte, error) {
	a, err := aead(key)
	if err != nil {
		return nil, err
	}
	return a.Seal(nil, nil, secret, associated), nil
}

func unwrap(key, wrapped []byte) ([]byte, error) {
	a, err := aead(key)
	if err != nil {
		return nil, err
	}
	secret, err := a.Open(nil, nil, wrapped, associated)
	if err != nil {
		return nil, ErrWrongKey
	}
	return secret, nil
}

var associated = []byte("claviger store key")
