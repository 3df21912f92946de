// Package kmsclient makes signed requests of KMS for the tools that measure, as the user whose
// access key and secret are "test".
package kmsclient

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/claviger/claviger/internal/sigv4"
)

// NewRequest makes a request that is signed for a moment.
func NewRequest(url, region, operation string, body []byte, at time.Time) (*http.Request, error) {
	r, err := http.NewRequest(http.MethodPost, url+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "TrentService."+operation)
	r.Header.Set("User-Agent", "claviger-tools")
	sigv4.Sign(r, body, "test", "test", "", region, "kms", at)
	return r, nil
}

// Call sends a request and returns the body of its answer, which must be a success.
func Call(client *http.Client, url, region, operation string, body []byte) ([]byte, error) {
	r, err := NewRequest(url, region, operation, body, time.Now())
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", operation, text)
	}
	return text, err
}
