package seal

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// An emulator is a TPM made of software, whose state is in dir.
type emulator struct {
	dir string
	cmd *exec.Cmd
}

// newEmulator makes a TPM, which no other is like.
func newEmulator(t *testing.T) *emulator {
	t.Helper()
	// Not t.TempDir, whose name may be too long for a socket.
	dir, err := os.MkdirTemp("", "tpm")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e := &emulator{dir: dir}
	e.start(t)
	t.Cleanup(e.stop)
	return e
}

func (e *emulator) device() string { return "unix:" + filepath.Join(e.dir, "s") }

// start powers the TPM on: PCRs have their first values.
func (e *emulator) start(t *testing.T) {
	t.Helper()
	socket := filepath.Join(e.dir, "s")
	os.Remove(socket)
	log := filepath.Join(e.dir, "log")
	e.cmd = exec.Command("swtpm", "socket", "--tpm2", "--tpmstate", "dir="+e.dir, "--server", "type=unixio,path="+socket,
		"--flags", "not-need-init,startup-clear", "--log", "file="+log)
	if err := e.cmd.Start(); err != nil {
		t.Fatalf("%v; make tools installs swtpm", err)
	}
	for range 1000 {
		if conn, err := net.Dial("unix", socket); err == nil {
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	text, _ := os.ReadFile(log)
	t.Fatalf("swtpm does not listen: %s", text)
}

func (e *emulator) stop() {
	e.cmd.Process.Kill()
	e.cmd.Wait()
}

func (e *emulator) seal(t *testing.T, pcrs ...int) *TPM2 {
	t.Helper()
	s, err := NewTPM2(TPM2Config{Device: e.device(), PCRs: pcrs})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// run hands f a connection to the TPM.
func (e *emulator) run(t *testing.T, f func(transport.TPM) error) {
	t.Helper()
	conn, err := openTPM(e.device())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := f(conn); err != nil {
		t.Fatal(err)
	}
}

// extend measures something into a PCR.
func (e *emulator) extend(t *testing.T, pcr int) {
	t.Helper()
	e.run(t, func(c transport.TPM) error {
		_, err := tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
		}.Execute(c)
		return err
	})
}

// loaded is what is in the TPM's slots: objects and sessions.
func (e *emulator) loaded(t *testing.T) (handles []tpm2.TPMHandle) {
	t.Helper()
	e.run(t, func(c transport.TPM) error {
		for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} { // transient objects, loaded and saved sessions
			answer, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 16}.Execute(c)
			if err != nil {
				return err
			}
			list, err := answer.CapabilityData.Data.Handles()
			if err != nil {
				return err
			}
			handles = append(handles, list.Handle...)
		}
		return nil
	})
	return handles
}

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
