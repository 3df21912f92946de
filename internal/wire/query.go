package wire

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"github.com/claviger/claviger/internal/model"
)

const (
	formType = "application/x-www-form-urlencoded"
	// maxElements bounds a list in a form.
	maxElements = 1000
)

// decodeQuery reads a form into a generated type: members by name, list
// elements as Name.member.N, structures with dots between.
func decodeQuery(form url.Values, in request) error {
	if err := fillStruct(form, "", reflect.ValueOf(in).Elem()); err != nil {
		return err
	}
	return check(in, "ValidationError")
}

func memberName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func fillStruct(form url.Values, prefix string, v reflect.Value) error {
	for i := range v.NumField() {
		if err := fill(form, prefix+memberName(v.Type().Field(i)), v.Field(i)); err != nil {
			return err
		}
	}
	return nil
}

// fill sets one member, if the form has it.
func fill(form url.Values, name string, v reflect.Value) error {
	text, ok := form[name]
	t := v.Type()
	switch {
	case t == reflect.TypeFor[[]byte]():
		if !ok {
			return nil
		}
		b, err := base64.StdEncoding.DecodeString(text[0])
		if err != nil {
			return malformedInput(name)
		}
		v.SetBytes(b)
		return nil
	case t.Kind() == reflect.Slice:
		return fillList(form, name+".member.", v)
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct && !isText(t):
		if !hasPrefix(form, name+".") {
			return nil
		}
		v.Set(reflect.New(t.Elem()))
		return fillStruct(form, name+".", v.Elem())
	case !ok || t.Kind() != reflect.Pointer:
		return nil
	}
	v.Set(reflect.New(t.Elem()))
	return fillScalar(name, text[0], v.Elem())
}

func isText(t reflect.Type) bool { return t.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) }

func hasPrefix(form url.Values, prefix string) bool {
	for k := range form {
		if strings.HasPrefix(k, prefix) {
			return true
		}
	}
	return false
}

func fillList(form url.Values, prefix string, v reflect.Value) error {
	for n := 1; ; n++ {
		name := prefix + strconv.Itoa(n)
		element := reflect.New(v.Type().Elem()).Elem()
		var err error
		if element.Kind() == reflect.Struct {
			if !hasPrefix(form, name+".") {
				return nil
			}
			err = fillStruct(form, name+".", element)
		} else {
			text, ok := form[name]
			if !ok {
				return nil
			}
			err = fillScalar(name, text[0], element)
		}
		if err != nil {
			return err
		}
		if n > maxElements {
			return malformedInput(prefix)
		}
		v.Set(reflect.Append(v, element))
	}
}

func fillScalar(name, text string, v reflect.Value) error {
	var err error
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Int32, reflect.Int64:
		var n int64
		n, err = strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
	case reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	default:
		if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
			err = u.UnmarshalText([]byte(text))
		}
	}
	if err != nil {
		return malformedInput(name)
	}
	return nil
}

func malformedInput(name string) error {
	return model.NewFault("MalformedInput", 400, "The value of "+name+" cannot be read.")
}

// encodeXML makes an answer in the Query protocol's envelope.
func encodeXML(requestID string, s *service, o *operation, out any) ([]byte, error) {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	response, result := o.name+"Response", o.name+"Result"
	b.WriteString(`<` + response + ` xmlns="` + s.namespace + `">`)
	if out != nil {
		if err := encodeElement(e, result, reflect.ValueOf(out).Elem()); err != nil {
			return nil, err
		}
		if err := e.Flush(); err != nil {
			return nil, err
		}
	}
	b.WriteString(`<ResponseMetadata><RequestId>` + requestID + `</RequestId></ResponseMetadata></` + response + `>`)
	return b.Bytes(), nil
}

func encodeElement(e *xml.Encoder, name string, v reflect.Value) error {
	start := xml.StartElement{Name: xml.Name{Local: name}}
	switch {
	case v.Kind() == reflect.Pointer:
		return encodeElement(e, name, v.Elem())
	case v.Kind() == reflect.Struct && !v.Type().Implements(reflect.TypeFor[encoding.TextMarshaler]()):
		return encodeInside(e, start, func() error {
			for i := range v.NumField() {
				if f := v.Field(i); !f.IsZero() {
					if err := encodeElement(e, memberName(v.Type().Field(i)), f); err != nil {
						return err
					}
				}
			}
			return nil
		})
	case v.Kind() == reflect.Slice && v.Type() != reflect.TypeFor[[]byte]():
		return encodeInside(e, start, func() error {
			for i := range v.Len() {
				if err := encodeElement(e, "member", v.Index(i)); err != nil {
					return err
				}
			}
			return nil
		})
	case v.Kind() == reflect.Slice:
		return e.EncodeElement(base64.StdEncoding.EncodeToString(v.Bytes()), start)
	default:
		return e.EncodeElement(v.Interface(), start)
	}
}

func encodeInside(e *xml.Encoder, start xml.StartElement, inside func() error) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if err := inside(); err != nil {
		return err
	}
	return e.EncodeToken(start.End())
}

func writeXMLFault(w http.ResponseWriter, requestID, namespace string, f *model.Fault) {
	type fault struct {
		Type    string
		Code    string
		Message string
	}
	kind := "Sender"
	if f.Status >= 500 {
		kind = "Receiver"
	}
	body, err := xml.Marshal(struct {
		XMLName   xml.Name `xml:"ErrorResponse"`
		Namespace string   `xml:"xmlns,attr"`
		Error     fault
		RequestID string `xml:"RequestId"`
	}{Namespace: namespace, Error: fault{kind, f.Code, f.Message}, RequestID: requestID})
	header(w, "text/xml", requestID)
	if err != nil {
		f.Status = 500
	}
	w.WriteHeader(f.Status)
	_, _ = w.Write(body) // the client is gone if this fails
}
