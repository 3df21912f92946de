package audit

import (
	"bytes"
	"encoding/json/jsontext"
	"encoding/json/v2"
	"reflect"
	"strings"
)

// Parameters turns a request into requestParameters: members in CloudTrail's
// spelling, without binary members and without those tagged secret. It returns
// nil for a request that has nothing to show.
func Parameters(in any) jsontext.Value {
	var b bytes.Buffer
	e := jsontext.NewEncoder(&b)
	if !shows(reflect.ValueOf(in).Elem()) || write(e, reflect.ValueOf(in).Elem()) != nil {
		return nil
	}
	return bytes.TrimSpace(b.Bytes())
}

var binary = reflect.TypeFor[[]byte]()

func hidden(f reflect.StructField) bool { return f.Type == binary || f.Tag.Get("secret") != "" }

// shows reports whether any member is present and not hidden.
func shows(v reflect.Value) bool {
	for i := range v.NumField() {
		if !hidden(v.Type().Field(i)) && !v.Field(i).IsZero() {
			return true
		}
	}
	return false
}

func write(e *jsontext.Encoder, v reflect.Value) error {
	switch {
	case v.Kind() == reflect.Pointer && v.Type().Elem().Kind() == reflect.Struct && v.Elem().NumField() > 0 && v.Type().Elem().Field(0).Anonymous:
		return json.MarshalEncode(e, v.Interface()) // a timestamp
	case v.Kind() == reflect.Pointer:
		return write(e, v.Elem())
	case v.Kind() == reflect.Struct:
		return writeStruct(e, v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Struct:
		return writeStructs(e, v)
	default:
		return json.MarshalEncode(e, v.Interface())
	}
}

func writeStruct(e *jsontext.Encoder, v reflect.Value) error {
	if err := e.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if hidden(f) || v.Field(i).IsZero() {
			continue
		}
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if err := e.WriteToken(jsontext.String(strings.ToLower(name[:1]) + name[1:])); err != nil {
			return err
		}
		if err := write(e, v.Field(i)); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndObject)
}

func writeStructs(e *jsontext.Encoder, v reflect.Value) error {
	if err := e.WriteToken(jsontext.BeginArray); err != nil {
		return err
	}
	for i := range v.Len() {
		if err := write(e, v.Index(i)); err != nil {
			return err
		}
	}
	return e.WriteToken(jsontext.EndArray)
}
