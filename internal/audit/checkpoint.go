package audit

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
	"uuid"

	"golang.org/x/mod/sumdb/note"

	"github.com/claviger/claviger/internal/durable"
)

// CheckpointInterval is how often at least the end of a log that has grown is signed.
const CheckpointInterval = time.Minute

// checkpointFile has the last checkpoint, for those who collect them elsewhere.
const checkpointFile = "checkpoint"

// A checkpoint is the end of the chain in the form of C2SP tlog-checkpoint: the signer's
// name, how many lines there are, and the hash of the last one; signed as C2SP
// signed-note says, with Ed25519. It stands in the log as a line of its own, and so is
// part of the chain.
func checkpointText(name string, h Head) (string, error) {
	hash, err := hex.DecodeString(h.Hash)
	return fmt.Sprintf("%s\n%d\n%s\n", name, h.Sequence, base64.StdEncoding.EncodeToString(hash)), err
}

func signCheckpoint(s note.Signer, h Head) (string, error) {
	text, err := checkpointText(s.Name(), h)
	if err != nil {
		return "", err
	}
	signed, err := note.Sign(&note.Note{Text: text}, s)
	return string(signed), err
}

// OpenCheckpoint checks a checkpoint's signature and returns the end of the chain that
// it tells of.
func OpenCheckpoint(signed string, v note.Verifier) (h Head, err error) {
	n, err := note.Open([]byte(signed), note.VerifierList(v))
	if err != nil {
		return h, fmt.Errorf("audit: checkpoint: %w", err)
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) < 4 || lines[0] != v.Name() {
		return h, errors.New("audit: checkpoint: not of this log")
	}
	hash, err := base64.StdEncoding.DecodeString(lines[2])
	if err == nil {
		h.Sequence, err = strconv.ParseUint(lines[1], 10, 64)
	}
	h.Hash = hex.EncodeToString(hash)
	return h, err
}

// Checkpoint signs the end of the log, if it has grown since that was done last.
func (l *Log) Checkpoint() error {
	if l.config.Signer == nil || l.config.Dir == "" {
		return nil
	}
	l.mu.Lock()
	grown := l.sequence > l.signed
	l.mu.Unlock()
	if !grown {
		return nil
	}
	e := l.Begin(Record{EventType: "AwsServiceEvent", EventTime: time.Now().UTC().Truncate(time.Second), EventSource: "claviger", EventName: "Checkpoint",
		RequestID: uuid.New().String()})
	e.EventID = uuid.New().String()
	head, err := l.append(&e.Record, func(before Head) (err error) {
		e.Claviger.Checkpoint, err = signCheckpoint(l.config.Signer, before)
		return err
	})
	if err == nil {
		err = l.syncThrough(head.Sequence)
	}
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.signed = head.Sequence
	l.mu.Unlock()
	if l.config.Signed != nil {
		l.config.Signed()
	}
	return durable.Replace(filepath.Join(l.config.Dir, checkpointFile), []byte(e.Claviger.Checkpoint))
}

// signedBefore reads how far an earlier run has signed the log; the zero Head if
// it has not.
func (c *Config) signedBefore() (h Head, err error) {
	text, err := os.ReadFile(filepath.Join(c.Dir, checkpointFile))
	if errors.Is(err, fs.ErrNotExist) || err == nil && c.Verifier == nil {
		return h, nil
	}
	if err != nil {
		return h, fmt.Errorf("audit: %w", err)
	}
	return OpenCheckpoint(string(text), c.Verifier)
}
