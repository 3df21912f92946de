package model

// A Route is where requests for an operation of a REST API go.
type Route struct {
	Method string
	Path   string            // with members in braces, as /analyzer/{analyzerName}
	Query  map[string]string // members that are in the query, and their types in the model
}
