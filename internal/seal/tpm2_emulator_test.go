package seal

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
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
