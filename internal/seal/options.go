package seal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/claviger/claviger/internal/durable"
)

// A Seal wraps the store key and unwraps it. Kind names it in the store's header.
type Seal interface {
	Kind() string
	Wrap(key []byte) ([]byte, error)
	// Unwrap opens what Wrap made. ErrWrongKey: this seal did not wrap it, or it was
	// damaged.
	Unwrap(wrapped []byte) ([]byte, error)
}

// Kinds are the seals there are.
var Kinds = []string{"file", "passphrase", "pkcs11", "tpm2", "awskms", "shamir"}

// Options name a seal and say what it needs. Secrets are not in them, but the files that
// they are in.
type Options struct {
	Kind           string
	KeyFile        string // file
	PassphraseFile string // passphrase
	Module         string // pkcs11: see PKCS11Config
	Token          string
	Key            string
	PINFile        string
	TPM2           TPM2Config
	AWSKMS         AWSKMSConfig
	Shares         int // shamir, for a new one
	Threshold      int
}

// Open makes the seal of a store there is.
func (o Options) Open() (Seal, error) {
	switch o.Kind {
	case "file":
		return NewFile(o.KeyFile), nil
	case "passphrase":
		phrase, err := secretLine(o.PassphraseFile)
		if err != nil {
			return nil, err
		}
		return NewPassphrase(phrase)
	case "pkcs11":
		pin, err := secretLine(o.PINFile)
		if err != nil {
			return nil, err
		}
		return NewPKCS11(PKCS11Config{Module: o.Module, Token: o.Token, Key: o.Key, PIN: pin})
	case "tpm2":
		return NewTPM2(o.TPM2)
	case "awskms":
		return NewAWSKMS(o.AWSKMS)
	case "shamir":
		return nil, errors.New("seal: shares open a store with claviger unseal, once it is served")
	default:
		return nil, fmt.Errorf("seal: there is no seal %q", o.Kind)
	}
}

// secretLine reads a secret that is the only line of a file.
func secretLine(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("seal: %w", err)
	}
	return bytes.TrimRight(text, "\r\n"), nil
}

// A New is a seal that nothing was sealed with yet.
type New struct {
	Seal
	Shares []string // of a shamir seal; they are nowhere else
	// Take puts what the seal needs in its place. A key file that was there is kept
	// beside it, under a name with the time.
	Take func() error
	// Drop forgets a seal that nothing uses.
	Drop func() error
}

// Create makes a seal with a root key of its own. A key file must not be there, unless
// it is to be replaced.
func (o Options) Create(replace bool) (*New, error) {
	nothing := func() error { return nil }
	switch o.Kind {
	case "file":
		if _, err := os.Lstat(o.KeyFile); !replace && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("seal: %s is there already", o.KeyFile)
		}
		place, err := filepath.EvalSymlinks(o.KeyFile) // the key may be elsewhere
		if err != nil {
			place = o.KeyFile
		}
		next := place + ".next"
		if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a replacement that was not finished
			return nil, fmt.Errorf("seal: %w", err)
		}
		f, err := CreateFile(next)
		if err != nil {
			return nil, err
		}
		take := func() error {
			if _, err := os.Lstat(place); err == nil { // older backups need what is replaced
				if err := os.Link(place, place+"."+time.Now().UTC().Format("20060102T150405.000Z")); err != nil {
					return err
				}
			}
			if err := os.Rename(next, place); err != nil {
				return err
			}
			f.path = place
			return durable.SyncDir(filepath.Dir(next))
		}
		return &New{Seal: f, Take: take, Drop: func() error { return os.Remove(f.path) }}, nil
	case "shamir":
		s, shares, err := NewShamir(o.Shares, o.Threshold)
		return &New{s, shares, nothing, nothing}, err
	default:
		s, err := o.Open()
		return &New{s, nil, nothing, nothing}, err
	}
}

// Forget clears what a seal has of its root key, when it is not needed any more.
func Forget(s Seal) {
	switch s := s.(type) {
	case *Passphrase:
		clear(s.phrase)
	case *Shamir:
		clear(s.key)
	case *PKCS11:
		s.Forget()
	case *New:
		Forget(s.Seal)
	}
}
