package ship

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// A Webhook sends lines to a URL, as the body of a POST of type application/x-ndjson.
type Webhook struct {
	URL    string
	Token  string // of an Authorization header of the kind Bearer; empty: none
	Client *http.Client
}

const webhookTimeout = 30 * time.Second

// Send delivers lines; any status but 2xx is an error.
func (w *Webhook) Send(ctx context.Context, lines []byte) error {
	ctx, cancel := context.WithTimeout(ctx, webhookTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL, bytes.NewReader(lines))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	if w.Token != "" {
		r.Header.Set("Authorization", "Bearer "+w.Token)
	}
	answer, err := w.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10)) // so that the connection can be used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("it answers %s", answer.Status)
	}
	return nil
}
