package httpx

import (
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upload"
)

// fromAuth is the part of the table of errors for those who may not. It is nil
// for other errors.
func fromAuth(err error) *OCIError {
	var (
		challenge *auth.ChallengeError
		forbidden *auth.ForbiddenError
		limited   *auth.LimitedError
	)
	switch {
	case errors.As(err, &challenge):
		return &OCIError{Status: http.StatusUnauthorized, Code: "UNAUTHORIZED", Message: challenge.Error(), challenge: challenge.Header}
	case errors.As(err, &forbidden):
		return &OCIError{Status: http.StatusForbidden, Code: codeDenied, Message: forbidden.Error()}
	case errors.As(err, &limited):
		return &OCIError{Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS", Message: limited.Error(), RetryAfter: limited.RetryAfter}
	}
	return nil
}

// fromPush is the part of the table of errors for the gated registry. It is nil
// for other errors.
func fromPush(err error) *OCIError {
	var (
		quota    *records.QuotaError
		missing  *records.MissingError
		manifest *gate.ManifestError
	)
	switch {
	case errors.As(err, &manifest):
		return &OCIError{Status: http.StatusBadRequest, Code: "MANIFEST_INVALID", Message: manifest.Error()}
	case errors.As(err, &missing):
		return &OCIError{Status: http.StatusNotFound, Code: "MANIFEST_BLOB_UNKNOWN", Message: missing.Error(), Detail: map[string]any{"digest": missing.Digest}}
	case errors.As(err, &quota):
		return &OCIError{Status: http.StatusForbidden, Code: codeDenied, Message: quota.Error()}
	case errors.Is(err, records.ErrImmutable):
		return &OCIError{Status: http.StatusForbidden, Code: codeDenied, Message: records.ErrImmutable.Error() + " (registry.immutableTags); push under another tag"}
	case errors.Is(err, gate.ErrManifestUnknown), errors.Is(err, records.ErrNotFound):
		return &OCIError{Status: http.StatusNotFound, Code: "MANIFEST_UNKNOWN", Message: "the registry does not have it"}
	case errors.Is(err, records.ErrInUse):
		return &OCIError{Status: http.StatusConflict, Code: codeDenied, Message: "another manifest of the repository names it; delete that one first"}
	case errors.Is(err, local.ErrBlobUnknown):
		return &OCIError{Status: http.StatusNotFound, Code: "BLOB_UNKNOWN", Message: local.ErrBlobUnknown.Error()}
	case errors.Is(err, upload.ErrUnknown):
		return &OCIError{Status: http.StatusNotFound, Code: "BLOB_UPLOAD_UNKNOWN", Message: upload.ErrUnknown.Error()}
	case errors.Is(err, upload.ErrRange):
		return &OCIError{Status: http.StatusRequestedRangeNotSatisfiable, Code: "BLOB_UPLOAD_INVALID", Message: err.Error()}
	case errors.Is(err, upload.ErrBusy):
		return &OCIError{Status: http.StatusConflict, Code: "BLOB_UPLOAD_INVALID", Message: upload.ErrBusy.Error()}
	case errors.Is(err, upload.ErrDigest):
		return &OCIError{Status: http.StatusBadRequest, Code: "DIGEST_INVALID", Message: err.Error()}
	case errors.Is(err, upload.ErrSize):
		return &OCIError{Status: http.StatusBadRequest, Code: "SIZE_INVALID", Message: err.Error()}
	case errors.Is(err, upload.ErrLarge):
		return &OCIError{Status: http.StatusRequestEntityTooLarge, Code: "SIZE_INVALID", Message: err.Error() + " (registry.maxBlob)"}
	case errors.Is(err, upload.ErrTooMany):
		return &OCIError{Status: http.StatusTooManyRequests, Code: "TOOMANYREQUESTS", Message: err.Error(), RetryAfter: uploadRetry}
	case errors.Is(err, store.ErrFull):
		return &OCIError{Status: http.StatusInsufficientStorage, Code: codeUnavailable, Message: "the registry's disk is full; nothing was stored. Its operator has to make room"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &OCIError{Status: http.StatusRequestTimeout, Code: "BLOB_UPLOAD_INVALID", Message: "no byte of the body came for a while; ask for the upload's status and go on"}
	}
	return nil
}

// uploadRetry is what clients are told to wait when too many uploads are under way.
const uploadRetry = 10 * time.Second
