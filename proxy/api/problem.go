package api

import (
	"encoding/json"
	"net/http"
	"strconv"
)

// Problem is an error answer (RFC 9457). Its type is always about:blank, so
// Title is the text of the status; Detail says what happened.
type Problem struct {
	Title     string       `json:"title"`
	Status    int          `json:"status"`
	Detail    string       `json:"detail"`
	RequestID string       `json:"requestId,omitempty"`
	Verdict   string       `json:"verdict,omitempty"` // id of the one that refuses
	Errors    []FieldError `json:"errors,omitempty"`  // each part of the request that is wrong
}

// FieldError is one thing wrong with a request.
type FieldError struct {
	Field  string `json:"field"` // of the body, or the name of a parameter
	Detail string `json:"detail"`
}

// Error returns the detail: a Problem is an error that is rendered as it stands.
func (p *Problem) Error() string { return p.Detail }

// WriteProblem answers with p and closes nothing. Every error of the
// operations listener comes through here.
func WriteProblem(w http.ResponseWriter, p Problem) {
	p.Title = http.StatusText(p.Status)
	p.RequestID = w.Header().Get("X-Request-Id")
	body, err := json.Marshal(p)
	if err != nil { // strings and numbers only: it cannot be
		http.Error(w, p.Detail, p.Status)
		return
	}
	write(w, p.Status, "application/problem+json", body)
}

// writeJSON answers with v.
func writeJSON(w http.ResponseWriter, status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	write(w, status, "application/json", append(body, '\n'))
	return nil
}

func write(w http.ResponseWriter, status int, mediaType string, body []byte) {
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client may have left
}
