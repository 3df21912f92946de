package wire

import (
	"context"
	"net/http/httptest"
	"net/url"

	"github.com/claviger/claviger/internal/iam"
)

// DecodeJSON is decodeJSON, for the tests outside.
var DecodeJSON = func(body []byte, in request) error { return decodeJSON(body, in) }

// Perform performs an operation that does f.
func Perform(f func()) error {
	x := &exchange{r: httptest.NewRequest("POST", "/", nil), operation: &operation{run: func(context.Context, *iam.Call, func(request) error) (any, error) {
		f()
		return nil, nil
	}}}
	_, err := x.perform(nil)
	return err
}

// DecodeQuery is readForm and decodeQuery, for the tests outside.
var DecodeQuery = func(body, query string, in request) (url.Values, error) {
	form, err := readForm(body, query)
	if err == nil {
		err = decodeQuery(form, in)
	}
	return form, err
}
