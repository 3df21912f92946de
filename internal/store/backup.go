package store

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"
	"uuid"

	"github.com/claviger/claviger/internal/material"
)

// A backup is a line that says what it is, a line of JSON (BackupInfo), and all records
// in the order of their keys, in chunks sealed under the store key. The root key is not
// in it. A backup that adds to another one has the values of those records alone that
// were written since, and the keys of all.
const (
	backupMagic   = "claviger backup 1\n"
	backupChunk   = 64 << 10 // bytes of plaintext
	maxBackupInfo = 1 << 20
	maxBackupKey  = 4096
	maxBackupItem = MaxTxnBytes
)

// ErrBackup reports a backup that is not whole, was changed, or does not follow from
// the one before it.
var ErrBackup = errors.New("store: the backup is not whole, or was changed")

// BackupInfo says of what a backup is.
type BackupInfo struct {
	ID         string // random
	Created    time.Time
	Deployment string
	Epoch      string
	Head       Rev    // of the last commit that is in it
	Since      string `json:",omitzero"` // ID of the backup that it adds to; empty: it is whole
	SinceHead  Rev    `json:",omitzero"`
	Format     int    // of the records
	Slots      []Slot // how the store key is opened
	Tag        []byte `json:",omitzero"` // authenticates the rest under the store key
}

func (i BackupInfo) associated() ([]byte, error) {
	i.Tag = nil
	text, err := json.Marshal(i)
	return append([]byte("claviger backup info\x00"), text...), err
}

// genuine checks that the information is what a backup of the store said.
func (i BackupInfo) genuine(a *material.AEAD) error {
	ad, err := i.associated()
	if err == nil {
		_, err = a.Open(i.Tag, ad)
	}
	if err != nil {
		return fmt.Errorf("%w: what it says of itself was changed", ErrBackup)
	}
	return nil
}

// Backup writes a backup of one instant: of everything or, if since is not nil, of what
// has changed since that backup.
func (db *DB) Backup(ctx context.Context, w io.Writer, since *BackupInfo) (info BackupInfo, err error) {
	h, _, err := readHeader(ctx, db.engine)
	if err != nil {
		return info, err
	}
	info = BackupInfo{ID: uuid.New().String(), Created: time.Now().UTC().Truncate(time.Second), Deployment: h.Deployment, Epoch: h.Epoch, Format: h.Format, Slots: h.Slots}
	if since != nil {
		info.Since, info.SinceHead = since.ID, since.Head
		if since.Deployment != h.Deployment || since.Epoch != h.Epoch || since.Head > db.Head() {
			return info, fmt.Errorf("store: the backup %s is not one of this store, or of before it was restored: make a whole one", since.ID)
		}
		if err := since.genuine(db.aead); err != nil {
			return info, err
		}
	}
	if err := db.Verify(ctx); err != nil { // what is damaged must not look whole in a backup
		return info, err
	}
	err = db.engine.Snapshot(ctx, func(head Rev, items iter.Seq[Item]) error {
		info.Head = head
		ad, err := info.associated()
		if err == nil {
			info.Tag, err = db.aead.Seal(nil, nil, ad)
		}
		if err != nil {
			return err
		}
		return db.writeBackup(ctx, w, info, items)
	})
	return info, err
}

func (db *DB) writeBackup(ctx context.Context, w io.Writer, info BackupInfo, items iter.Seq[Item]) error {
	text, err := json.Marshal(info)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(append([]byte(backupMagic), text...), '\n')); err != nil {
		return err
	}
	chunks := &chunkWriter{w: w, aead: db.aead, name: chunkName(text)}
	for i := range items {
		if !Digested(i.Key) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := chunks.item(i, i.Rev > info.SinceHead); err != nil {
			return err
		}
	}
	return chunks.flush(true)
}

// chunkName binds a chunk to the backup it belongs to.
func chunkName(info []byte) []byte {
	sum := sha256.Sum256(info)
	return append([]byte("claviger backup\x00"), sum[:]...)
}

// chunkData is the associated data of a chunk: which one it is, and whether it is the
// last.
func chunkData(name []byte, index uint64, last bool) []byte {
	ad := binary.BigEndian.AppendUint64(bytes.Clone(name), index)
	if last {
		return append(ad, 1)
	}
	return append(ad, 0)
}

// A chunkWriter seals records, a chunk at a time.
type chunkWriter struct {
	w     io.Writer
	aead  *material.AEAD
	name  []byte
	index uint64
	plain []byte
}

func (c *chunkWriter) item(i Item, whole bool) error {
	c.plain = append(binary.AppendUvarint(c.plain, uint64(len(i.Key))), i.Key...)
	c.plain = binary.AppendUvarint(c.plain, uint64(i.Rev))
	if whole {
		c.plain = binary.AppendUvarint(c.plain, uint64(len(i.Val)+1))
		c.plain = append(c.plain, i.Val...)
	} else {
		c.plain = append(c.plain, 0)
	}
	for len(c.plain) > backupChunk {
		if err := c.flush(false); err != nil {
			return err
		}
	}
	return nil
}

func (c *chunkWriter) flush(last bool) error {
	n := min(len(c.plain), backupChunk)
	sealed, err := c.aead.Seal(make([]byte, 4, 4+n+64), c.plain[:n], chunkData(c.name, c.index, last))
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(sealed, uint32(len(sealed)-4))
	c.plain = append(c.plain[:0], c.plain[n:]...)
	c.index++
	_, err = c.w.Write(sealed)
	return err
}

// A Backup is being read. It belongs to one goroutine.
type Backup struct {
	Info BackupInfo

	r     *bufio.Reader
	name  []byte
	index uint64
	last  bool
	plain []byte
	aead  *material.AEAD
}

// ReadBackup reads what a backup is of.
func ReadBackup(r io.Reader) (*Backup, error) {
	b := &Backup{r: bufio.NewReader(r)}
	magic := make([]byte, len(backupMagic))
	if _, err := io.ReadFull(b.r, magic); err != nil || string(magic) != backupMagic {
		return nil, fmt.Errorf("%w: it does not begin like one", ErrBackup)
	}
	var text []byte
	for {
		c, err := b.r.ReadByte()
		if err != nil || len(text) > maxBackupInfo {
			return nil, fmt.Errorf("%w: it ends in its first lines", ErrBackup)
		}
		if c == '\n' {
			break
		}
		text = append(text, c)
	}
	if err := json.Unmarshal(text, &b.Info); err != nil {
		return nil, fmt.Errorf("%w: its second line is not what it should be", ErrBackup)
	}
	if b.Info.Format != Format {
		return nil, fmt.Errorf("store: the backup is of format %d and this program reads %d; restore it with the version that made it: %w", b.Info.Format, Format, ErrFormat)
	}
	b.name = chunkName(text)
	return b, nil
}

// unwrap opens the store key with one of the seals.
func (b *Backup) unwrap(seals []Seal) (key []byte, err error) {
	h := header{Format: Format, Slots: b.Info.Slots}
	if key, _, err = h.unwrap(seals); err == nil {
		b.aead, err = material.NewAEAD(key)
	}
	if err == nil {
		err = b.Info.genuine(b.aead)
	}
	return key, err
}

// Read fills p with what the chunks hold, and is io.EOF only after the last one.
func (b *Backup) Read(p []byte) (int, error) {
	for len(b.plain) == 0 {
		if b.last {
			if _, err := b.r.ReadByte(); err != io.EOF {
				return 0, fmt.Errorf("%w: something follows its end", ErrBackup)
			}
			return 0, io.EOF
		}
		if err := b.chunk(); err != nil {
			return 0, err
		}
	}
	n := copy(p, b.plain)
	b.plain = b.plain[n:]
	return n, nil
}

func (b *Backup) chunk() error {
	var head [4]byte
	if _, err := io.ReadFull(b.r, head[:]); err != nil {
		return fmt.Errorf("%w: it was cut off in its chunk %d", ErrBackup, b.index)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > backupChunk+material.NonceSize+material.Overhead {
		return fmt.Errorf("%w: its chunk %d is too long", ErrBackup, b.index)
	}
	sealed := make([]byte, n)
	if _, err := io.ReadFull(b.r, sealed); err != nil {
		return fmt.Errorf("%w: it was cut off in its chunk %d", ErrBackup, b.index)
	}
	plain, err := b.aead.Open(sealed, chunkData(b.name, b.index, false))
	if err != nil {
		b.last = true
		if plain, err = b.aead.Open(sealed, chunkData(b.name, b.index, true)); err != nil {
			return fmt.Errorf("%w: its chunk %d does not open", ErrBackup, b.index)
		}
	}
	b.plain = plain
	b.index++
	return nil
}

// each calls fn with every record. A record without a value was not changed since the
// backup that this one adds to.
func (b *Backup) each(fn func(Item) error) error {
	r := bufio.NewReader(b)
	previous := ""
	for {
		i, err := readItem(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && i.Key <= previous {
			err = fmt.Errorf("%w: its records are not in order", ErrBackup)
		}
		if err != nil {
			return err
		}
		previous = i.Key
		if err := fn(i); err != nil {
			return err
		}
	}
}

// readItem reads one record; io.EOF is the end.
func readItem(r *bufio.Reader) (i Item, err error) {
	if _, err := r.Peek(1); err != nil {
		return i, err
	}
	key, err := readPart(r, maxBackupKey)
	if err != nil {
		return i, err
	}
	rev, err := binary.ReadUvarint(r)
	if err != nil {
		return i, partial(err)
	}
	i.Key, i.Rev = string(key), Rev(rev)
	n, err := binary.ReadUvarint(r)
	if err != nil || n == 0 {
		return i, partial(err)
	}
	i.Val, err = readBytes(r, n-1, maxBackupItem)
	return i, err
}

func readPart(r *bufio.Reader, most uint64) ([]byte, error) {
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return nil, partial(err)
	}
	return readBytes(r, n, most)
}

func readBytes(r *bufio.Reader, n, most uint64) ([]byte, error) {
	if n > most {
		return nil, fmt.Errorf("%w: a record is too long", ErrBackup)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(r, b)
	return b, partial(err)
}

// partial is the error of a record that ends too early.
func partial(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: a record is not whole", ErrBackup)
	}
	return err
}

// Verify reads a backup to its end: every chunk, and every record in it, opens. It
// returns how many records there are, and how many of them have a value.
func (b *Backup) Verify(seals ...Seal) (records, values int, err error) {
	key, err := b.unwrap(seals)
	if err != nil {
		return 0, 0, err
	}
	defer clear(key)
	db := &DB{deployment: b.Info.Deployment, aead: b.aead}
	err = b.each(func(i Item) error {
		records++
		if i.Val == nil {
			return nil
		}
		values++
		if len(i.Val) < 2 {
			return fmt.Errorf("%w: the record %s", ErrBackup, i.Key)
		}
		text, err := db.unsealed(i.Val[1], "record", i.Key, i.Val)
		clear(text)
		return err
	})
	return records, values, err
}
