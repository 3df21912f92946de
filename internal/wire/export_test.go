package wire

// DecodeJSON is decodeJSON, for the tests outside.
var DecodeJSON = func(body []byte, in request) error { return decodeJSON(body, in) }
