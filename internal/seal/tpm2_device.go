package seal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
)

// tpmPatience is how long one Wrap or Unwrap may take on a socket.
const tpmPatience = 30 * time.Second

// openTPM opens a device file or unix:PATH.
func openTPM(device string) (transport.TPMCloser, error) {
	var (
		t   io.ReadWriteCloser
		err error
	)
	if path, ok := strings.CutPrefix(device, "unix:"); ok {
		t, err = dialTPM(path)
	} else {
		t, err = openDevice(device)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("seal: there is no TPM at %s; turn it on in the firmware's settings (also called fTPM or PTT), or use another seal: %w", device, err)
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("seal: this user may not use the TPM at %s; make the user a member of the group it belongs to (often tss): %w", device, err)
	case err != nil:
		return nil, fmt.Errorf("seal: the TPM at %s cannot be opened: %w", device, err)
	}
	return transport.FromReadWriteCloser(t), nil
}

func openDevice(path string) (*os.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeCharDevice == 0 {
		return nil, errors.New("it is not a character device")
	}
	return os.OpenFile(path, os.O_RDWR, 0)
}

// A tpmSocket reads one whole answer at a time, as a device does.
type tpmSocket struct{ net.Conn }

func dialTPM(path string) (tpmSocket, error) {
	conn, err := net.DialTimeout("unix", path, tpmPatience)
	if err != nil {
		return tpmSocket{}, err
	}
	return tpmSocket{conn}, conn.SetDeadline(time.Now().Add(tpmPatience))
}

// Read fills p with an answer: two bytes of tag, four of length, the rest.
func (s tpmSocket) Read(p []byte) (int, error) {
	const header = 10
	if len(p) < header {
		return 0, io.ErrShortBuffer
	}
	if _, err := io.ReadFull(s.Conn, p[:header]); err != nil {
		return 0, err
	}
	size := binary.BigEndian.Uint32(p[2:])
	if size < header || uint64(size) > uint64(len(p)) {
		return 0, fmt.Errorf("an answer of %d bytes", size)
	}
	_, err := io.ReadFull(s.Conn, p[header:size])
	return int(size), err
}

// tpmError says what the TPM was asked to do when it failed.
func tpmError(what string, err error) error {
	return fmt.Errorf("seal: %s: %w", what, err)
}
