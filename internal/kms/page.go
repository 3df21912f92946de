package kms

import (
	"encoding/base64"
	"strings"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/kmsapi"
)

// A page is the part of a list that one answer shows.
type page struct {
	list  string // the operation; a marker of another one is refused
	after string // the name the part begins behind
	n     int
}

// newPage reads Marker and Limit; a limit above the operation's own is lowered
// to it, since an answer may always hold fewer (operations.md §1.2).
func newPage(list string, marker *string, limit *int32, normal, most int32) (page, error) {
	p := page{list: list, n: int(min(model.Or(limit, normal), most))}
	if marker == nil {
		return p, nil
	}
	text, err := base64.RawURLEncoding.DecodeString(*marker)
	name, after, ok := strings.Cut(string(text), "\n")
	if err != nil || !ok || name != list {
		return p, kmsapi.InvalidMarkerException("")
	}
	p.after = after
	return p, nil
}

// cut shows at most n of the items found, and the marker behind which the next
// page begins if there are more.
func cut[T any](p page, items []T, name func(T) string) (shown []T, truncated *bool, marker *string) {
	if len(items) <= p.n {
		return items, new(false), nil
	}
	shown = items[:p.n]
	last := p.list + "\n" + name(shown[p.n-1])
	return shown, new(true), new(base64.RawURLEncoding.EncodeToString([]byte(last)))
}
