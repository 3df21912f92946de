package model

import (
	"encoding/json/jsontext"
	"errors"
	"math"
	"strconv"
	"time"
)

// A Time is a timestamp on the wire. AWS JSON writes seconds since 1970 with
// milliseconds as a number; the Query protocol writes ISO 8601.
type Time struct{ time.Time }

// At makes a Time for an optional member. The zero time is absent.
func At(t time.Time) *Time {
	if t.IsZero() {
		return nil
	}
	return &Time{t}
}

// ErrTime reports a timestamp outside the years 0 to 9999 or of the wrong form.
var ErrTime = errors.New("model: not a timestamp")

// MarshalJSONTo writes epoch seconds with a millisecond fraction.
func (t Time) MarshalJSONTo(e *jsontext.Encoder) error {
	ms := t.UnixMilli()
	return e.WriteValue(strconv.AppendFloat(nil, float64(ms)/1000, 'f', -1, 64))
}

// UnmarshalJSONFrom reads epoch seconds.
func (t *Time) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	v, err := d.ReadValue()
	if err != nil {
		return err
	}
	if v.Kind() != '0' {
		return ErrTime
	}
	s, err := strconv.ParseFloat(string(v), 64)
	if err != nil || s < -62167219200 || s > 253402300799 {
		return ErrTime
	}
	whole, frac := math.Modf(s)
	t.Time = time.Unix(int64(whole), int64(math.Round(frac*1000))*1e6).UTC()
	return nil
}

// An ISOTime is a timestamp in ISO 8601, as REST APIs write it.
type ISOTime struct{ time.Time }

// ISO makes an ISOTime for an optional member. The zero time is absent.
func ISO(t time.Time) *ISOTime {
	if t.IsZero() {
		return nil
	}
	return &ISOTime{t.UTC().Truncate(time.Millisecond)}
}

// MarshalText writes ISO 8601 in UTC with seconds, as the Query protocol does.
func (t Time) MarshalText() ([]byte, error) {
	return t.UTC().AppendFormat(nil, "2006-01-02T15:04:05Z"), nil
}

// UnmarshalText reads ISO 8601.
func (t *Time) UnmarshalText(b []byte) error {
	parsed, err := time.Parse(time.RFC3339, string(b))
	if err != nil {
		return ErrTime
	}
	t.Time = parsed
	return nil
}
