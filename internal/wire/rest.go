package wire

import (
	"encoding/json/jsontext"
	"encoding/json/v2"
	"net/http"
	"net/url"
	"strings"

	"github.com/claviger/claviger/internal/model"
)

// routeREST finds the operation that a method and a path mean, and the members that the path
// has.
func (s *Server) routeREST(x *exchange) error {
	for _, svc := range s.services {
		for name, route := range svc.routes {
			if labels, ok := labelsOf(route.Path, x.r.URL.EscapedPath()); ok && route.Method == x.r.Method {
				x.service, x.labels, x.route = svc, labels, route
				return x.choose(name, "UnknownOperationException", "")
			}
		}
	}
	x.service = s.services[0] // whose protocol answers what names no service
	return model.NewFault("UnknownOperationException", 404, "")
}

// labelsOf reads the members that a path has in place of those of a template.
func labelsOf(template, path string) (labels map[string]string, ok bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	labels = map[string]string{}
	for i := range want {
		text, err := url.PathUnescape(got[i])
		if err != nil {
			return nil, false
		}
		if name, isLabel := strings.CutPrefix(want[i], "{"); isLabel && text != "" {
			labels[strings.TrimSuffix(name, "}")] = text
		} else if want[i] != text {
			return nil, false
		}
	}
	return labels, true
}

// decodeREST reads a request of a REST API: its body, its query and its path.
func (x *exchange) decodeREST(in request) error {
	members := map[string]jsontext.Value{}
	if len(x.body) > 0 {
		if err := json.Unmarshal(x.body, &members); err != nil {
			return model.NewFault("SerializationException", 400, "The body is not a JSON object.").Because(err)
		}
	}
	query, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return model.NewFault("SerializationException", 400, "").Because(err)
	}
	put := func(name, text, kind string) error {
		v := jsontext.Value(text)
		var err error
		if kind != "integer" && kind != "boolean" {
			v, err = jsontext.AppendQuote(nil, text)
		}
		if err != nil || !v.IsValid() {
			return model.NewFault("ValidationException", 400, "The value of "+name+" is not valid.")
		}
		members[name] = v
		return nil
	}
	for name, kind := range x.route.Query {
		delete(members, name)
		if values := query[name]; len(values) > 0 {
			if err := put(name, values[0], kind); err != nil {
				return err
			}
		}
	}
	for name, text := range x.labels {
		if err := put(name, text, "string"); err != nil {
			return err
		}
	}
	body, err := json.Marshal(members)
	if err != nil {
		return err
	}
	return decodeJSON(body, in)
}

// writeRESTFault answers with a fault as REST APIs do: its name is in a header.
func writeRESTFault(w http.ResponseWriter, requestID string, f *model.Fault) {
	body, err := json.Marshal(struct {
		Message string `json:"message"`
		Reason  string `json:"reason,omitzero"`
	}{f.Message, f.Reason})
	if err != nil { // a message that is not UTF-8
		body = []byte("{}")
	}
	header(w, restType, requestID)
	w.Header().Set("X-Amzn-Errortype", f.Code)
	w.WriteHeader(f.Status)
	_, _ = w.Write(body) // the client is gone if this fails
}
