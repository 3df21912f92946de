package wire

import (
	"net/http"
	"uuid"

	"github.com/claviger/claviger/internal/model"
)

// Sealed answers every request of a server whose store is not open yet: /healthz,
// since the server runs, and 503 to all others.
func Sealed(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		writeText(w, http.StatusOK, "ok\n")
	case "/readyz":
		writeText(w, http.StatusServiceUnavailable, "the store is not open\n")
	default:
		writeJSONFault(w, uuid.New().String(), model.NewFault("ServiceUnavailableException", http.StatusServiceUnavailable, "The store of this server is not open."))
	}
}
