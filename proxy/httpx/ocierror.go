package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// OCIError is an error as a registry answers it (OCI distribution 1.1, "Error
// Codes"). As an error value it is rendered as it stands.
type OCIError struct {
	Status     int
	Code       string
	Message    string
	Detail     any
	RetryAfter time.Duration // rounded up to seconds; 0 = no header

	challenge string // WWW-Authenticate; "" = no header
}

// Error returns the code and message.
func (e *OCIError) Error() string { return e.Code + ": " + e.Message }

// Error codes of the specification that more than one place uses.
const (
	codeUnsupported = "UNSUPPORTED"
	codeUnavailable = "UNAVAILABLE" // Docker's registry API; OCI has none for it
	codeDenied      = "DENIED"
	codeUnknown     = "UNKNOWN"
)

// statusGone is for the log, of a client that left before its answer: the status
// that nginx notes for it.
const statusGone = 499

// Unsupported answers a request that Sluice knows but does not serve.
func Unsupported(message string) *OCIError {
	return &OCIError{Status: http.StatusMethodNotAllowed, Code: codeUnsupported, Message: message}
}

// WriteOCIError answers a request to the registry listener with err. Every
// error of the data path comes through here.
func WriteOCIError(w http.ResponseWriter, r *http.Request, err error) {
	e := toOCI(err)
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		e = &OCIError{Status: statusGone, Code: codeUnavailable, Message: "the client did not wait"}
	}
	if e.Status >= http.StatusInternalServerError {
		Log(r.Context()).Warn("request failed", zap.Int("status", e.Status), zap.Error(err))
	}
	type entry struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  any    `json:"detail,omitempty"`
	}
	body, merr := json.Marshal(map[string][]entry{"errors": {{e.Code, e.Message, e.Detail}}})
	if merr != nil {
		Log(r.Context()).Error("error detail not encoded", zap.Error(merr))
		body, _ = json.Marshal(map[string][]entry{"errors": {{Code: e.Code, Message: e.Message}}})
	}
	h := w.Header()
	for _, k := range []string{"Docker-Content-Digest", "ETag", "Cache-Control"} {
		h.Del(k)
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.RetryAfter+time.Second-1)/time.Second)))
	}
	if e.challenge != "" {
		h.Set("WWW-Authenticate", e.challenge)
	}
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// toOCI is the table of errors.
func toOCI(err error) *OCIError {
	var (
		oci         *OCIError
		denied      *policy.DeniedError
		pending     *gate.PendingError
		status      *upstream.StatusError
		unreachable *upstream.UnreachableError
		content     *upstream.ContentError
		download    *fetch.Error
	)
	if e := fromAuth(err); e != nil {
		return e
	}
	switch {
	case errors.As(err, &oci):
		return oci
	case errors.As(err, &denied):
		return &OCIError{Status: http.StatusForbidden, Code: codeDenied, Message: denied.Error(), Detail: denialDetail(denied.Verdict)}
	case errors.As(err, &pending):
		return &OCIError{Status: http.StatusServiceUnavailable, Code: codeUnavailable, Message: pending.Error(), RetryAfter: pending.RetryAfter}
	case errors.Is(err, gate.ErrBlobUnknown):
		return &OCIError{Status: http.StatusNotFound, Code: "BLOB_UNKNOWN", Message: err.Error()}
	case errors.As(err, &status) && (status.Status < http.StatusBadRequest || status.Status > 599): // no refusal that a client would understand
		return &OCIError{Status: http.StatusBadGateway, Code: codeUnavailable, Message: status.Error()}
	case errors.As(err, &status):
		return &OCIError{Status: status.Status, Code: codeOf(status), Message: status.Error(), RetryAfter: status.RetryAfter}
	case errors.As(err, &content):
		return &OCIError{Status: http.StatusBadGateway, Code: codeUnavailable, Message: content.Error()}
	case errors.Is(err, fetch.ErrMismatch):
		return &OCIError{Status: http.StatusBadGateway, Code: codeUnavailable, Message: "the upstream sent something else: " + err.Error()}
	case errors.Is(err, context.DeadlineExceeded):
		return &OCIError{Status: http.StatusGatewayTimeout, Code: codeUnavailable, Message: "the upstream did not answer in time"}
	case errors.As(err, &unreachable):
		return &OCIError{Status: http.StatusBadGateway, Code: codeUnavailable, Message: unreachable.Error()}
	case errors.As(err, &download): // a full disk, a server that stops
		return &OCIError{Status: http.StatusServiceUnavailable, Code: codeUnavailable, Message: "the blob cannot be had now: " + download.Error(), RetryAfter: downloadRetry}
	case errors.Is(err, context.Canceled):
		return &OCIError{Status: http.StatusServiceUnavailable, Code: codeUnavailable, Message: "the server stops", RetryAfter: downloadRetry}
	case errors.Is(err, route.ErrNameUnknown):
		return &OCIError{Status: http.StatusNotFound, Code: "NAME_UNKNOWN", Message: err.Error()}
	case errors.Is(err, route.ErrNameInvalid), errors.Is(err, route.ErrTagInvalid):
		return &OCIError{Status: http.StatusBadRequest, Code: "NAME_INVALID", Message: err.Error()}
	case errors.Is(err, route.ErrDigestInvalid):
		return &OCIError{Status: http.StatusBadRequest, Code: "DIGEST_INVALID", Message: err.Error()}
	case errors.Is(err, route.ErrNotFound):
		return &OCIError{Status: http.StatusNotFound, Code: codeUnsupported, Message: "no such path in the registry API"}
	}
	if e := fromPush(err); e != nil {
		return e
	}
	return &OCIError{Status: http.StatusInternalServerError, Code: codeUnknown, Message: "internal error; the log has it under this request's X-Request-Id"}
}

// downloadRetry is what clients are told to wait when a download failed on
// Sluice's side.
const downloadRetry = 30 * time.Second

// codeOf is the upstream's own code, or the usual one for its status.
func codeOf(s *upstream.StatusError) string {
	if s.Code != "" {
		return s.Code
	}
	switch s.Status {
	case http.StatusUnauthorized:
		return "UNAUTHORIZED"
	case http.StatusForbidden:
		return codeDenied
	case http.StatusNotFound:
		if strings.HasPrefix(s.Op, "blob ") {
			return "BLOB_UNKNOWN"
		}
		return "MANIFEST_UNKNOWN"
	case http.StatusTooManyRequests:
		return "TOOMANYREQUESTS"
	}
	if s.Status >= http.StatusInternalServerError {
		return codeUnavailable
	}
	return codeUnknown
}

// denialDetail is the machine's part of a refusal.
func denialDetail(v policy.Verdict) any {
	const most = 20 // reasons in an error body; the API has them all
	reasons := make([]policy.Reason, 0, most)
	for _, r := range v.Reasons {
		if r.Waived == "" && r.Action == v.Decision && len(reasons) < most {
			reasons = append(reasons, r)
		}
	}
	return map[string]any{
		"verdict": v.ID, "decision": v.Decision, "image": v.Image, "digest": v.Digest,
		"reasons": reasons,
		"waiver":  "an operator can grant an exception with owner, reason and expiry: 'sluice waiver add' on the server, or waivers in the policy file",
	}
}
