package registry

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/route"
)

func (h *Handler) blob(w http.ResponseWriter, r *http.Request, rt route.Route) error {
	b, err := h.gate.Blob(r.Context(), rt)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	head := w.Header()
	head.Set("Content-Type", "application/octet-stream")
	head.Set("Cache-Control", "private, max-age=31536000, immutable")
	setDigest(head, rt.Digest.String())
	if b.File != nil {
		http.ServeContent(w, r, "", time.Time{}, b.File)
		return nil
	}
	return serveTail(w, r, b)
}

// serveTail streams a blob that is still being downloaded. It returns an error
// only before the header is out; later it cuts the connection, so that a short
// body never looks whole.
func serveTail(w http.ResponseWriter, r *http.Request, b gate.Blob) error {
	size, err := b.Tail.Size(r.Context())
	if err != nil {
		return err
	}
	if size < 0 { // the length must be told before the bytes
		if err := b.Tail.Verified(r.Context()); err != nil {
			return err
		}
		if size, err = b.Tail.Size(r.Context()); err != nil {
			return err
		}
	}
	from, to, partial, err := byteRange(r.Header.Get("Range"), size)
	if err != nil {
		w.Header().Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		return err
	}
	head := w.Header()
	head.Set("Accept-Ranges", "bytes")
	head.Set("Content-Length", strconv.FormatInt(to-from, 10))
	status := http.StatusOK
	if partial {
		status = http.StatusPartialContent
		head.Set("Content-Range", "bytes "+strconv.FormatInt(from, 10)+"-"+strconv.FormatInt(to-1, 10)+"/"+strconv.FormatInt(size, 10))
	}
	w.WriteHeader(status)
	if r.Method == http.MethodHead {
		return nil
	}
	if err := http.NewResponseController(w).Flush(); err != nil {
		panic(http.ErrAbortHandler)
	}
	if _, err := b.Tail.CopyTo(r.Context(), w, from, to); err != nil {
		var fe *fetch.Error
		if errors.As(err, &fe) && !errors.Is(err, context.Canceled) {
			httpx.Log(r.Context()).Warn("blob cut", zap.Stringer("digest", b.Descriptor.Digest), zap.Error(err))
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// byteRange reads a Range header with one range (RFC 9110, section 14.1.2) and
// returns the bytes [from, to). Headers that it does not understand, or with
// several ranges, mean the whole blob, which the RFC allows.
func byteRange(h string, size int64) (from, to int64, partial bool, err error) {
	spec, ok := strings.CutPrefix(h, "bytes=")
	first, last, ok2 := strings.Cut(spec, "-")
	if !ok || !ok2 || strings.Contains(spec, ",") {
		return 0, size, false, nil
	}
	if first == "" { // the last n bytes
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < 0 {
			return 0, size, false, nil
		}
		if n == 0 {
			return 0, 0, false, unsatisfiable(size)
		}
		return max(0, size-n), size, true, nil
	}
	from, err = strconv.ParseInt(first, 10, 64)
	if err != nil || from < 0 {
		return 0, size, false, nil
	}
	if from >= size {
		return 0, 0, false, unsatisfiable(size)
	}
	to = size
	if last != "" {
		n, err := strconv.ParseInt(last, 10, 64)
		if err != nil || n < from {
			return 0, size, false, nil
		}
		to = min(n, size-1) + 1
	}
	return from, to, true, nil
}

func unsatisfiable(size int64) error {
	return &httpx.OCIError{
		Status: http.StatusRequestedRangeNotSatisfiable, Code: "SIZE_INVALID",
		Message: "the range is outside of the blob's " + strconv.FormatInt(size, 10) + " bytes",
	}
}
