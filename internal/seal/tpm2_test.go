package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

var secret = []byte("a store key of thirty-two bytes!")

func wrapSecret(t *testing.T, s wrapper) []byte {
	t.Helper()
	wrapped, err := s.Wrap(secret)
	if err != nil {
		t.Fatal(err)
	}
	return wrapped
}

func TestTPM2(t *testing.T) {
	t.Parallel()
	a, b := newEmulator(t), newEmulator(t)
	testSeal(t, a.seal(t, 7), b.seal(t, 7))
	if got := a.seal(t, 7).Kind(); got != "tpm2" {
		t.Errorf("Kind = %q", got)
	}
	_, err := b.seal(t, 7).Unwrap(wrapSecret(t, a.seal(t, 7)))
	if err == nil || !strings.Contains(err.Error(), "another TPM") {
		t.Errorf("sealed by another TPM: %v", err)
	}
	for _, e := range []*emulator{a, b} {
		if left := e.loaded(t); len(left) > 0 {
			t.Errorf("left in the TPM: %x", left)
		}
	}
}

// The PCRs that count are those of Wrap.
func TestTPM2State(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	wrapped := wrapSecret(t, e.seal(t, 7, 4))
	e.extend(t, 9)
	if got, err := e.seal(t, 9).Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
		t.Fatalf("a PCR not sealed to changed: Unwrap = %q, %v", got, err)
	}
	e.extend(t, 7)
	_, err := e.seal(t, 9).Unwrap(wrapped)
	const want = "the machine's state (PCRs 4, 7) is not the one the root key was sealed to"
	if !errors.Is(err, tpm2.TPMRCPolicyFail) || errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), want) {
		t.Errorf("PCR 7 changed: Unwrap = %v", err)
	}
	if left := e.loaded(t); len(left) > 0 {
		t.Errorf("left in the TPM: %x", left)
	}
	// The new state may be sealed to.
	if got, err := e.seal(t, 7).Unwrap(wrapSecret(t, e.seal(t, 7))); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("sealed anew: Unwrap = %q, %v", got, err)
	}
}

func TestTPM2Restart(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	s := e.seal(t, 7)
	wrapped := wrapSecret(t, s)
	e.extend(t, 7)
	e.stop()
	if _, err := s.Unwrap(wrapped); err == nil || errors.Is(err, ErrWrongKey) {
		t.Errorf("switched off: Unwrap = %v", err)
	}
	e.start(t) // and PCR 7 is what it was at first
	if got, err := s.Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
		t.Errorf("after a restart: Unwrap = %q, %v", got, err)
	}
}

// A TPM that was cleared has another storage root key.
func TestTPM2Cleared(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	wrapped := wrapSecret(t, e.seal(t, 7))
	e.run(t, func(c transport.TPM) error {
		_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(c)
		return err
	})
	if _, err := e.seal(t, 7).Unwrap(wrapped); !errors.Is(err, ErrWrongKey) {
		t.Errorf("Unwrap = %v, want ErrWrongKey", err)
	}
}

func TestTPM2OwnerPassword(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	wrapped := wrapSecret(t, e.seal(t, 7))
	e.run(t, func(c transport.TPM) error {
		_, err := tpm2.HierarchyChangeAuth{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)},
			NewAuth: tpm2.TPM2BAuth{Buffer: []byte("owner")}}.Execute(c)
		return err
	})
	if _, err := e.seal(t, 7).Unwrap(wrapped); err == nil || errors.Is(err, ErrWrongKey) || !strings.Contains(err.Error(), "remove the owner password") {
		t.Errorf("Unwrap = %v", err)
	}
}

// allocateSHA1 is TPM2_PCR_Allocate, which the library lacks: from the next start
// on PCRs are kept with SHA-1 alone.
var allocateSHA1 = []byte("\x80\x02\x00\x00\x00\x2b\x00\x00\x01\x2b" + // command
	"\x40\x00\x00\x0c" + "\x00\x00\x00\x09\x40\x00\x00\x09\x00\x00\x00\x00\x00" + // platform, no password
	"\x00\x00\x00\x02\x00\x04\x03\xff\xff\xff\x00\x0b\x03\x00\x00\x00") // SHA-1 all, SHA-256 none

// A policy of PCRs that the TPM does not keep would be no policy.
func TestTPM2NoBank(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	e.run(t, func(c transport.TPM) error {
		_, err := c.Send(allocateSHA1)
		if err == nil {
			_, err = tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}.Execute(c)
		}
		return err
	})
	e.stop()
	e.start(t)
	if _, err := e.seal(t, 7).Wrap(secret); err == nil || !strings.Contains(err.Error(), "no SHA-256 values of PCRs 7") {
		t.Errorf("Wrap = %v", err)
	}
}

// The checksum finds every flipped byte. Without it, the TPM does.
func TestTPM2Damaged(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	s := e.seal(t, 7)
	wrapped := wrapSecret(t, s)
	mask := 1 + 2 + 34 + 2 // place of the PCRs
	for i := range wrapped {
		damaged := bytes.Clone(wrapped)
		damaged[i] ^= 0x40
		if got, err := s.Unwrap(damaged); !errors.Is(err, ErrWrongKey) || got != nil {
			t.Fatalf("byte %d: Unwrap = %q, %v", i, got, err)
		}
		end := len(damaged) - sha256.Size
		if i >= end {
			continue
		}
		sum := sha256.Sum256(damaged[:end])
		copy(damaged[end:], sum[:])
		got, err := s.Unwrap(damaged)
		asked := i >= mask && i < mask+3 && errors.Is(err, tpm2.TPMRCPolicyFail)
		if got != nil || !asked && !errors.Is(err, ErrWrongKey) {
			t.Errorf("byte %d, right checksum: Unwrap = %q, %v", i, got, err)
		}
	}
	if left := e.loaded(t); len(left) > 0 {
		t.Errorf("left in the TPM: %x", left)
	}
}

// listener is a bus with someone on it.
type listener struct {
	transport.TPM
	heard [][]byte
}

func (l *listener) Send(command []byte) ([]byte, error) {
	answer, err := l.TPM.Send(command)
	l.heard = append(l.heard, bytes.Clone(command), bytes.Clone(answer))
	return answer, err
}

func TestTPM2Bus(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	wrapped := wrapSecret(t, e.seal(t, 7))
	blob, err := decodeTPM2(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	e.run(t, func(c transport.TPM) error {
		bus := &listener{TPM: c}
		root, err := newRootKey(bus)
		if err != nil {
			return err
		}
		defer flush(c, root.handle)
		if _, err := sealTo(bus, root, []int{7}, secret); err != nil {
			return err
		}
		got, err := unseal(bus, root, blob)
		if !bytes.Equal(got, secret) {
			t.Errorf("unseal = %q, %v", got, err)
		}
		for _, message := range bus.heard {
			if bytes.Contains(message, secret[:8]) {
				t.Errorf("the secret crosses the bus: %x", message)
			}
		}
		return err
	})
}

func TestTPM2Concurrent(t *testing.T) {
	t.Parallel()
	s := newEmulator(t).seal(t, 7)
	wrapped := wrapSecret(t, s)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if got, err := s.Unwrap(wrapped); err != nil || !bytes.Equal(got, secret) {
				t.Errorf("Unwrap = %q, %v", got, err)
			}
		})
	}
	wg.Wait()
}

func TestTPM2NoDevice(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, device, want string
		is                 error
	}{
		{"no device", filepath.Join(t.TempDir(), "none"), "there is no TPM at", fs.ErrNotExist},
		{"no socket", "unix:" + filepath.Join(t.TempDir(), "none"), "there is no TPM at", fs.ErrNotExist},
		{"a file", file, "not a character device", nil},
		{"not a TPM", os.DevNull, "storage root key", nil},
	}
	for _, test := range tests {
		s, err := NewTPM2(TPM2Config{Device: test.device, PCRs: []int{7}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Wrap(secret)
		if err == nil || !strings.Contains(err.Error(), test.want) || test.is != nil && !errors.Is(err, test.is) {
			t.Errorf("%s: Wrap = %v", test.name, err)
		}
	}
}

// What answers on the socket need not be a TPM.
func TestTPM2Answers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"nothing":    "",
		"cut":        "\x80\x01\x00\x00",
		"cut later":  "\x80\x01\x00\x00\x00\x20\x00\x00\x00\x00short",
		"too short":  "\x80\x01\x00\x00\x00\x05\x00\x00\x00\x00",
		"too long":   "\x80\x01\xff\xff\xff\xff\x00\x00\x00\x00",
		"no success": "\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x01",
		"empty":      "\x80\x01\x00\x00\x00\x0a\x00\x00\x00\x00",
	} {
		ours, theirs := net.Pipe()
		go func() {
			defer theirs.Close()
			theirs.Read(make([]byte, 4096))
			theirs.Write([]byte(answer))
		}()
		if _, err := newRootKey(transport.FromReadWriteCloser(tpmSocket{ours})); err == nil {
			t.Errorf("%s: accepted", name)
		}
		ours.Close()
	}
}

func TestTPM2Config(t *testing.T) {
	t.Parallel()
	for _, pcrs := range [][]int{nil, {-1}, {24}, {7, 1000}} {
		if _, err := NewTPM2(TPM2Config{PCRs: pcrs}); err == nil {
			t.Errorf("PCRs %v were accepted", pcrs)
		}
	}
	s, err := NewTPM2(TPM2Config{PCRs: []int{7, 0, 7}})
	if err != nil || s.device != "/dev/tpmrm0" || !slices.Equal(s.pcrs, []int{0, 7}) {
		t.Errorf("NewTPM2 = %+v, %v", s, err)
	}
	for _, size := range []int{0, maxSealed + 1} {
		if _, err := s.Wrap(make([]byte, size)); err == nil || !strings.Contains(err.Error(), "1 to 128 bytes") {
			t.Errorf("Wrap of %d bytes = %v", size, err)
		}
	}
}

// broken is a TPM that fails at one command.
type broken struct {
	transport.TPM
	left    int // commands before that
	command uint32
}

func (b *broken) Send(command []byte) ([]byte, error) {
	b.left--
	if b.left != 0 {
		return b.TPM.Send(command)
	}
	b.command = binary.BigEndian.Uint32(command[6:])
	return []byte("\x80\x01\x00\x00\x00\x0a\x00\x00\x01\x01"), nil // TPM_RC_FAILURE
}

// Whatever command fails, it is not the key's fault, and nothing stays in the TPM.
func TestTPM2Fails(t *testing.T) {
	t.Parallel()
	e := newEmulator(t)
	blob, err := decodeTPM2(wrapSecret(t, e.seal(t, 7)))
	if err != nil {
		t.Fatal(err)
	}
	const flushContext = 0x165
	failed := map[uint32]bool{}
	for at := 1; ; at++ {
		bad := &broken{left: at}
		e.run(t, func(c transport.TPM) error {
			bad.TPM = c
			root, err := newRootKey(bad)
			if err == nil {
				if _, err = sealTo(bad, root, []int{7}, secret); err == nil {
					_, err = unseal(bad, root, blob)
				}
				flush(c, root.handle)
			}
			if bad.command != 0 && bad.command != flushContext && (!errors.Is(err, tpm2.TPMRCFailure) || errors.Is(err, ErrWrongKey)) {
				t.Errorf("command %#x failed: %v", bad.command, err)
			}
			return nil
		})
		if bad.command == 0 {
			break
		}
		failed[bad.command] = true
		if left := e.loaded(t); bad.command != flushContext && len(left) > 0 {
			t.Errorf("command %#x failed: left in the TPM: %x", bad.command, left)
		}
		e.stop() // what a failed FlushContext left
		e.start(t)
	}
	if len(failed) != 9 {
		t.Errorf("%d kinds of commands failed, want 9", len(failed))
	}
}
