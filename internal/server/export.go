package server

import (
	"context"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/claviger/claviger/internal/iam"
	"github.com/claviger/claviger/internal/kms"
	"github.com/claviger/claviger/internal/org"
	"github.com/claviger/claviger/internal/store"
)

// exportFormat is the version of exports, and maxExport how long one may be, in bytes.
// Format 1 had no last line.
const (
	exportFormat = 2
	maxExport    = 4 << 30
)

// An exported is one line of an export; the first one says what it is, and the last one
// how many records there are.
type exported struct {
	Export  int            `json:"export,omitzero"`
	Created time.Time      `json:"created,omitzero"`
	Key     string         `json:"key,omitzero"`
	Kind    byte           `json:"kind,omitzero"`
	Value   jsontext.Value `json:"value,omitzero"`
	End     *int           `json:"end,omitzero"`
}

// Export writes everything but key material and credentials as lines of JSON: accounts,
// identities, policies, the organization, keys with their policies, tags and grants,
// aliases, key stores.
func (s *Server) Export(ctx context.Context, w io.Writer) error {
	return s.operated("Export", nil, func() error {
		return s.spooled(w, func(w io.Writer) error { return dump(ctx, s.DB, w) })
	})
}

func dump(ctx context.Context, db *store.DB, w io.Writer) error {
	if err := writeLine(w, exported{Export: exportFormat, Created: time.Now().UTC().Truncate(time.Second)}); err != nil {
		return err
	}
	tags := slices.Concat(iam.PortableTags, kms.PortableTags, org.PortableTags)
	n := 0
	err := db.Dump(ctx, tags, func(p store.Plain) error {
		p, keep, err := kms.Portable(p)
		if err == nil {
			p, err = iam.Portable(p)
		}
		if err != nil || !keep {
			return err
		}
		n++
		return writeLine(w, exported{Key: p.Key, Kind: p.Tag, Value: p.Value})
	})
	if err != nil {
		return err
	}
	return writeLine(w, exported{End: &n})
}

// CheckExport reads an export to its end: it is one, of this format, and whole.
func CheckExport(r io.Reader) error { return readExport(r, func(store.Plain) error { return nil }) }

// readExport calls fn with each record of an export, which must be whole.
func readExport(r io.Reader, fn func(store.Plain) error) error {
	d := jsontext.NewDecoder(io.LimitReader(r, maxExport))
	var first exported
	if err := json.UnmarshalDecode(d, &first); err != nil || first.Export != exportFormat {
		return errors.Join(fmt.Errorf("server: that is not an export of format %d", exportFormat), err)
	}
	tags := slices.Concat(iam.PortableTags, kms.PortableTags, org.PortableTags)
	for n := 0; ; n++ {
		var line exported
		switch err := json.UnmarshalDecode(d, &line); {
		case errors.Is(err, io.EOF):
			return fmt.Errorf("server: the export breaks off after %d records", n)
		case err != nil:
			return fmt.Errorf("server: record %d of the export: %w", n+1, err)
		case line.End != nil && *line.End != n:
			return fmt.Errorf("server: the export has %d records, and should have %d", n, *line.End)
		case line.End != nil:
			if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
				return errors.New("server: there is something behind the end of the export")
			}
			return nil
		case !slices.Contains(tags, line.Kind) || strings.HasPrefix(line.Key, "sys/") || strings.HasPrefix(line.Key, "!"):
			return fmt.Errorf("server: record %d of the export is of a kind that exports do not have", n+1)
		}
		if err := fn(store.Plain{Key: line.Key, Tag: line.Kind, Value: line.Value}); err != nil {
			return err
		}
	}
}

func writeLine(w io.Writer, v exported) error {
	text, err := json.Marshal(v)
	if err == nil {
		_, err = w.Write(append(text, '\n'))
	}
	return err
}

// Import fills a new store with an export. Keys have the ids and policies that they had and
// new key material. It reports how many keys and other records there were.
func (s *Server) Import(ctx context.Context, r io.Reader) (keys, others int, err error) {
	for _, prefix := range []string{"k/", "i/a/", "o/"} {
		if empty, err := s.DB.Empty(ctx, prefix); err != nil || !empty {
			return 0, 0, errors.Join(errors.New("server: there are keys, identities or an organization already: import into a new data directory"), err)
		}
	}
	err = s.operated("Import", nil, func() (err error) {
		keys, others, err = s.load(ctx, r)
		return err
	})
	return keys, others, err
}

func (s *Server) load(ctx context.Context, r io.Reader) (keys, others int, err error) {
	byID := map[string][]store.Plain{}
	l := loader{db: s.DB}
	err = readExport(r, func(p store.Plain) error {
		if id, ok := kms.IsKey(p); ok {
			byID[id] = append(byID[id], p)
			keys++
			return nil
		}
		others++
		return l.add(ctx, p)
	})
	if err == nil {
		err = l.flush(ctx)
	}
	if err != nil {
		return keys, others, err
	}
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		if err := s.KMS.Adopt(ctx, byID[id]); err != nil {
			return keys, others, fmt.Errorf("server: key %s: %w", id, err)
		}
	}
	return keys, others, nil
}
