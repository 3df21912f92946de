package wire

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"errors"
	"net/http"
	"reflect"
	"strings"

	"github.com/claviger/claviger/internal/model"
	"github.com/claviger/claviger/internal/model/orgapi"
)

// A protocol is how requests and answers look.
type protocol uint8

const (
	jsonProtocol  protocol = iota // AWS JSON 1.1
	queryProtocol                 // form in, XML out
	restProtocol                  // JSON, the operation in method and path
)

const (
	jsonType = "application/x-amz-json-1.1"
	restType = "application/json"
)

// decodeJSON reads a body strictly: duplicate members and invalid UTF-8 are
// refused, members the model does not know are ignored.
func decodeJSON(body []byte, in request) error {
	if err := json.Unmarshal(body, in); err != nil {
		return model.NewFault("SerializationException", 400, conversion(err)).Because(err)
	}
	return check(in, "ValidationException")
}

// asInput words broken constraints as Organizations does, which tells less.
func asInput(err error) error {
	var f *model.Fault
	switch {
	case !errors.As(err, &f) || f.Code != "ValidationException":
		return err
	case strings.Contains(f.Message, "enum value set"):
		return orgapi.InvalidInputException("You specified an invalid value.").For(orgapi.InvalidInputExceptionReasonInvalidEnum)
	case strings.Contains(f.Message, "must not be null"):
		return orgapi.InvalidInputException("You must specify a value.").For(orgapi.InvalidInputExceptionReasonInputRequired)
	default:
		return orgapi.InvalidInputException("You provided a value that does not match the required pattern.").For(orgapi.InvalidInputExceptionReasonInvalidPattern)
	}
}

// check reports every broken constraint in one fault.
func check(in request, code string) error {
	var v model.Violations
	in.Check(&v, "")
	if msg := v.Message(); msg != "" {
		return model.NewFault(code, 400, msg)
	}
	return nil
}

// conversion words a value of the wrong JSON type; anything else has no text.
func conversion(err error) string {
	var semantic *json.SemanticError
	if !errors.As(err, &semantic) || semantic.GoType == nil || semantic.Err != nil {
		return ""
	}
	from, to := jsonKinds[semantic.JSONKind], goKinds[elem(semantic.GoType).Kind()]
	if from == "" || to == "" {
		return ""
	}
	return from + " can not be converted to " + to
}

func elem(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

var jsonKinds = map[jsontext.Kind]string{
	'0': "NUMBER_VALUE", '"': "STRING_VALUE", 't': "TRUE_VALUE", 'f': "FALSE_VALUE", '{': "START_OBJECT", '[': "START_ARRAY",
}

var goKinds = map[reflect.Kind]string{
	reflect.String: "a String", reflect.Int32: "an Integer", reflect.Int64: "a Long", reflect.Bool: "a Boolean",
}

func (p protocol) contentType() string {
	switch p {
	case queryProtocol:
		return "text/xml"
	case restProtocol:
		return restType
	default:
		return jsonType
	}
}

// encodeJSON makes the body of an answer; one without output has no body at all.
func encodeJSON(out any) ([]byte, error) {
	if out == nil {
		return nil, nil
	}
	return json.Marshal(out)
}

func writeJSONFault(w http.ResponseWriter, requestID string, f *model.Fault) {
	body, err := json.Marshal(struct {
		Type    string `json:"__type"`
		Message string `json:"message,omitzero"`
		Reason  string `json:"Reason,omitzero"`
	}{f.Code, f.Message, f.Reason})
	if err != nil { // a message that is not UTF-8
		body = []byte(`{"__type":"` + f.Code + `"}`)
	}
	header(w, jsonType, requestID)
	w.WriteHeader(f.Status)
	_, _ = w.Write(body) // the client is gone if this fails
}

// notCached is never changed.
var notCached = []string{"no-cache, no-store, must-revalidate, private"}

func header(w http.ResponseWriter, contentType, requestID string) {
	h, values := w.Header(), []string{contentType, requestID}
	h["Content-Type"], h["X-Amzn-Requestid"], h["Cache-Control"] = values[:1:1], values[1:2:2], notCached
}
