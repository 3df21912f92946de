package wire

import (
	"context"
	"net/http/httptest"

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
