package audit

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"
)

// Parameters turns a request into requestParameters: members in CloudTrail's
// spelling, without binary members and without those tagged secret. It returns
// nil for a request that has nothing to show.
func Parameters(in any) jsontext.Value {
	w := line{b: make([]byte, 0, 256)}
	v := reflect.ValueOf(in).Elem()
	writeStruct(&w, v)
	if w.err != nil || len(w.b) == len("{}") {
		return nil
	}
	return w.b
}

// Strings makes requestParameters of texts.
func Strings(texts map[string]string) jsontext.Value {
	v, _ := json.Marshal(texts, json.Deterministic(true)) // texts marshal
	return v
}

// A member is a field that may be shown.
type member struct {
	index int
	name  string
}

// members remembers what there is to show of each type.
var members sync.Map // reflect.Type to []member; filled once for each type, never changed

func membersOf(t reflect.Type) []member {
	if m, ok := members.Load(t); ok {
		return m.([]member)
	}
	var out []member
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Type == reflect.TypeFor[[]byte]() || f.Tag.Get("secret") != "" {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			name = f.Name
		}
		out = append(out, member{i, strings.ToLower(name[:1]) + name[1:]})
	}
	members.Store(t, out)
	return out
}

func writeStruct(w *line, v reflect.Value) {
	w.object(func() {
		for _, m := range membersOf(v.Type()) {
			f := v.Field(m.index)
			if f.IsZero() {
				continue
			}
			switch value := f.Interface().(type) {
			case *string:
				w.text(m.name, *value)
			case map[string]string:
				w.name(m.name)
				w.object(func() {
					var few [8]string // on the stack, for most maps
					keys := few[:0]
					for k := range value {
						keys = append(keys, k)
					}
					slices.Sort(keys)
					for _, k := range keys {
						w.pair(k, value[k])
					}
				})
			default:
				w.name(m.name)
				writeValue(w, f)
			}
		}
	})
}

func writeValue(w *line, v reflect.Value) {
	switch {
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct && !isTime(v.Type().Elem()):
		writeStruct(w, v.Elem())
	case v.Kind() == reflect.Struct && v.Type() != reflect.TypeFor[time.Time]():
		writeStruct(w, v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		w.b = append(w.b, '[')
		for i := range v.Len() {
			if i > 0 {
				w.b = append(w.b, ',')
			}
			writeStruct(w, v.Index(i))
		}
		w.b = append(w.b, ']')
	default:
		b, err := json.Marshal(v.Interface(), json.Deterministic(true))
		if err != nil {
			w.err = err
		}
		w.b = append(w.b, b...)
	}
}

// isTime recognises the wire's timestamp, which writes itself.
func isTime(t reflect.Type) bool { return t.NumField() > 0 && t.Field(0).Anonymous }
