package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// StatusError is an upstream's answer that is not a success.
type StatusError struct {
	Upstream   string        // name of the upstream
	Op         string        // what was asked: "manifest library/nginx:1.27"
	Status     int           // the upstream's own HTTP status
	Code       string        // its error code (OCI distribution 1.1, "Error Codes"), "" if it gave none
	Message    string        // its message, "" if it gave none
	RetryAfter time.Duration // of its Retry-After header, 0 if it gave none
}

// Error names the upstream, the question and the answer.
func (e *StatusError) Error() string {
	s := fmt.Sprintf("upstream %s: %s: %d %s", e.Upstream, e.Op, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		s += ": " + e.Message
	}
	return s
}

// UnreachableError says that an upstream gave no answer, or none to its end, or
// that it was not asked because it has failed too often just now.
type UnreachableError struct {
	Upstream string
	Op       string
	Err      error
}

// Error names the upstream and the cause.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("upstream %s: %s: %v", e.Upstream, e.Op, e.Err)
}

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// ContentError says that an upstream sent something other than was asked for:
// wrong bytes, too many of them, in a coding that cannot be verified, or the way
// to a place where Sluice does not go. Asking again is of no use.
type ContentError struct {
	Upstream string
	Op       string
	Reason   string
}

// Error names the upstream and what is wrong with its answer.
func (e *ContentError) Error() string {
	return fmt.Sprintf("upstream %s: %s: %s", e.Upstream, e.Op, e.Reason)
}

// wrap turns an error of the transport into one of this package's types. The
// caller's own cancellation stays what it is.
func (u *Upstream) wrap(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("upstream %s: %s: %w", u.name, op, context.Cause(ctx))
	}
	var (
		se *StatusError
		ce *ContentError
		ue *UnreachableError
		te *transport.Error
	)
	switch {
	case errors.As(err, &se): // of a handshake, which several calls may share
		s := *se
		s.Upstream, s.Op = u.name, op
		return &s
	case errors.As(err, &ce):
		return &ContentError{Upstream: u.name, Op: op, Reason: ce.Reason}
	case errors.As(err, &ue):
		return &UnreachableError{Upstream: u.name, Op: op, Err: ue.Err}
	case errors.As(err, &te):
		return u.status(op, te, 0)
	}
	return &UnreachableError{Upstream: u.name, Op: op, Err: err}
}

// status makes a StatusError of the registry library's error.
func (u *Upstream) status(op string, te *transport.Error, retryAfter time.Duration) *StatusError {
	se := &StatusError{Upstream: u.name, Op: op, Status: te.StatusCode, RetryAfter: retryAfter}
	if len(te.Errors) > 0 {
		se.Code, se.Message = string(te.Errors[0].Code), te.Errors[0].Message
	}
	return se
}

// check returns nil for the wanted statuses, 200 if none are named, and a
// *StatusError for others. It closes the body unless it returns nil.
func (u *Upstream) check(op string, resp *http.Response, want ...int) error {
	if len(want) == 0 {
		want = []int{http.StatusOK}
	}
	err := transport.CheckError(resp, want...)
	if err == nil {
		if ce := resp.Header.Get("Content-Encoding"); ce != "" && ce != "identity" {
			_ = resp.Body.Close()
			return &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("content encoding %q cannot be verified", ce)}
		}
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	te := &transport.Error{StatusCode: resp.StatusCode} // all that is known if the body cannot be read
	errors.As(err, &te)
	return u.status(op, te, retryAfter(resp.Header.Get("Retry-After")))
}

// retryAfter reads delay-seconds or an HTTP date (RFC 9110, section 10.2.3).
func retryAfter(h string) time.Duration {
	if d, err := time.ParseDuration(h + "s"); err == nil && d >= 0 {
		return d
	}
	if t, err := http.ParseTime(h); err == nil {
		return max(0, time.Until(t).Round(time.Second))
	}
	return 0
}
