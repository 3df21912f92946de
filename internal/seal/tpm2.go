package seal

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A TPM2Config says which TPM holds the root key and what state of the machine
// it asks for.
type TPM2Config struct {
	// Device is a device file, or unix:PATH, the socket of an emulator. Empty
	// means /dev/tpmrm0.
	Device string

	// PCRs are the registers of the SHA-256 bank, 0 to 23, whose values must be
	// the same at Unwrap as at Wrap. At least one; 7 is the state of Secure Boot.
	PCRs []int
}

// A TPM2 is a seal whose root key is the storage root key of a TPM 2.0: what it
// wraps opens on the same machine alone, and only while that is in the same state.
//
// The secret crosses the bus encrypted to the storage root key, whose name is
// part of what is wrapped. Who sits on the bus and forges that key during Wrap
// learns the secret; later it is noticed.
type TPM2 struct {
	device string
	pcrs   []int
	mu     sync.Mutex // one operation at a time: a TPM has few slots
}

// maxSealed is the most that a TPM seals (MAX_SYM_DATA).
const maxSealed = 128

// NewTPM2 checks c. It does not touch the TPM.
func NewTPM2(c TPM2Config) (*TPM2, error) {
	if c.Device == "" {
		c.Device = "/dev/tpmrm0"
	}
	if len(c.PCRs) == 0 {
		return nil, errors.New("seal: name at least one PCR to seal to; 7 is the state of Secure Boot")
	}
	pcrs := slices.Clone(c.PCRs)
	slices.Sort(pcrs)
	pcrs = slices.Compact(pcrs)
	if pcrs[0] < 0 || pcrs[len(pcrs)-1] > 23 {
		return nil, errors.New("seal: the PCRs of a TPM are numbered 0 to 23")
	}
	return &TPM2{device: c.Device, pcrs: pcrs}, nil
}

// Kind names the seal in the store's header.
func (s *TPM2) Kind() string { return "tpm2" }

// Wrap seals secret to the present values of the PCRs.
func (s *TPM2) Wrap(secret []byte) ([]byte, error) {
	if len(secret) == 0 || len(secret) > maxSealed {
		return nil, fmt.Errorf("seal: a TPM seals 1 to %d bytes, not %d", maxSealed, len(secret))
	}
	var wrapped []byte
	err := s.use(func(t transport.TPM, root *rootKey) error {
		blob, err := sealTo(t, root, s.pcrs, secret)
		if err == nil {
			wrapped = blob.encode()
		}
		return err
	})
	return wrapped, err
}

// sealTo seals secret under root to the present values of pcrs.
func sealTo(t transport.TPM, root *rootKey, pcrs []int, secret []byte) (tpm2Blob, error) {
	if err := hasBank(t, pcrs); err != nil {
		return tpm2Blob{}, err
	}
	policy, err := pcrPolicy(t, pcrs)
	if err != nil {
		return tpm2Blob{}, err
	}
	created, err := tpm2.Create{
		ParentHandle: root.authorized(tpm2.HMAC(tpm2.TPMAlgSHA256, nonceSize, root.salted(), tpm2.AESEncryption(128, tpm2.EncryptIn))),
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			Data: tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret}),
		}},
		InPublic: tpm2.New2B(sealedTemplate(policy)),
	}.Execute(t)
	if err != nil {
		return tpm2Blob{}, tpmError("seal to the TPM", err)
	}
	return tpm2Blob{parent: root.name.Buffer, pcrs: pcrs, public: created.OutPublic.Bytes(), private: created.OutPrivate.Buffer}, nil
}

// Unwrap opens what Wrap made, under the PCRs that Wrap was given. ErrWrongKey:
// another TPM, or damage.
func (s *TPM2) Unwrap(wrapped []byte) ([]byte, error) {
	blob, err := decodeTPM2(wrapped)
	if err != nil {
		return nil, err
	}
	var secret []byte
	err = s.use(func(t transport.TPM, root *rootKey) error {
		if !bytes.Equal(root.name.Buffer, blob.parent) {
			return fmt.Errorf("seal: this was sealed by another TPM, or the TPM of this machine was cleared since; open the store with another seal: %w", ErrWrongKey)
		}
		secret, err = unseal(t, root, blob)
		return err
	})
	return secret, err
}

// unseal loads what was sealed, shows the TPM its PCRs and asks for the secret.
func unseal(t transport.TPM, root *rootKey, blob tpm2Blob) ([]byte, error) {
	loaded, err := tpm2.Load{
		ParentHandle: root.authorized(tpm2.PasswordAuth(nil)),
		InPrivate:    tpm2.TPM2BPrivate{Buffer: blob.private},
		InPublic:     tpm2.BytesAs2B[tpm2.TPMTPublic](blob.public),
	}.Execute(t)
	if refused := (tpm2.TPMFmt1Error{}); errors.As(err, &refused) {
		return nil, fmt.Errorf("seal: the TPM does not take back what it sealed, which was damaged (%v): %w", err, ErrWrongKey)
	}
	if err != nil {
		return nil, tpmError("load into the TPM", err)
	}
	defer flush(t, loaded.ObjectHandle)

	session, closeSession, err := tpm2.PolicySession(t, tpm2.TPMAlgSHA256, nonceSize, root.salted(), tpm2.AESEncryption(128, tpm2.EncryptOut))
	if err != nil {
		return nil, tpmError("start a session with the TPM", err)
	}
	defer func() { _ = closeSession() }() // the TPM keeps no secret in it
	if _, err := (tpm2.PolicyPCR{PolicySession: session.Handle(), Pcrs: selection(blob.pcrs)}).Execute(t); err != nil {
		return nil, tpmError("show the TPM its PCRs", err)
	}
	opened, err := tpm2.Unseal{ItemHandle: tpm2.AuthHandle{Handle: loaded.ObjectHandle, Name: loaded.Name, Auth: session}}.Execute(t)
	if errors.Is(err, tpm2.TPMRCPolicyFail) {
		return nil, fmt.Errorf("seal: the machine's state (PCRs %s) is not the one the root key was sealed to: firmware, boot loader or their configuration changed; open the store with another seal and run claviger seal rotate: %w", list(blob.pcrs), err)
	}
	if err != nil {
		return nil, tpmError("unseal", err)
	}
	return opened.OutData.Buffer, nil
}

// use opens the TPM, makes its storage root key, which it derives anew each
// time, and hands both to f.
func (s *TPM2) use(f func(transport.TPM, *rootKey) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := openTPM(s.device)
	if err != nil {
		return err
	}
	defer t.Close()
	root, err := newRootKey(t)
	if err != nil {
		return err
	}
	defer flush(t, root.handle)
	return f(t, root)
}

// A rootKey is a loaded storage root key.
type rootKey struct {
	handle tpm2.TPMHandle
	name   *tpm2.TPM2BName
	public tpm2.TPMTPublic
}

func newRootKey(t transport.TPM) (*rootKey, error) {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(t)
	if errors.Is(err, tpm2.TPMRCBadAuth) || errors.Is(err, tpm2.TPMRCAuthFail) {
		return nil, fmt.Errorf("seal: the owner of this TPM set a password, with which this seal cannot use it; remove the owner password or use another seal: %w", err)
	}
	if err != nil {
		return nil, tpmError("make the TPM's storage root key", err)
	}
	public, err := made.OutPublic.Contents()
	if err != nil {
		flush(t, made.ObjectHandle)
		return nil, tpmError("read the TPM's storage root key", err)
	}
	// The name is computed here, not taken from the TPM's answer: it is what
	// tells this key from one made up on the bus.
	name, err := tpm2.ObjectName(public)
	if err != nil {
		flush(t, made.ObjectHandle)
		return nil, tpmError("name the TPM's storage root key", err)
	}
	return &rootKey{handle: made.ObjectHandle, name: name, public: *public}, nil
}

const nonceSize = 16

// salted makes the key of a session depend on a salt that only the TPM can read.
func (r *rootKey) salted() tpm2.AuthOption { return tpm2.Salted(r.handle, r.public) }

// authorized is the key as the parent of a command.
func (r *rootKey) authorized(session tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: r.handle, Name: *r.name, Auth: session}
}

// flush removes an object or a session from the TPM. One that stays is in
// the way of others only until the TPM restarts.
func flush(t transport.TPM, handle tpm2.TPMHandle) {
	_, _ = tpm2.FlushContext{FlushHandle: handle}.Execute(t)
}
