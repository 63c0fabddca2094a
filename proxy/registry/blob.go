package registry

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/policy"
)

func (h *Handler) blob(c call) error {
	w, r, rt := c.w, c.r, c.rt
	b, err := h.admitBlob(c)
	if err != nil {
		return err
	}
	defer func() { _ = b.Close() }()
	head := w.Header()
	head.Set("Content-Type", "application/octet-stream")
	head.Set("Cache-Control", "private, max-age=31536000, immutable")
	setDigest(head, rt.Digest.String())
	if b.File != nil && b.Release == nil {
		http.ServeContent(w, r, "", time.Time{}, b.File)
		return nil
	}
	return h.stream(w, r, b)
}

// admitBlob asks the gate. Those who may push here also see what it does not let
// pass, unless an operator blocked it, and a HEAD of theirs is not judged: it is
// how a client knows what it need not push again.
func (h *Handler) admitBlob(c call) (gate.Blob, error) {
	insider := h.insider(c)
	if !insider || c.r.Method != http.MethodHead {
		b, err := h.Gate.Blob(c.r.Context(), c.rt)
		var denied *policy.DeniedError
		if err == nil || !insider || errors.As(err, &denied) && h.blocked(c, denied.Verdict) {
			return b, err
		}
	}
	size, err := h.Local.Stat(c.r.Context(), c.rt.Name, c.rt.Digest)
	if err != nil {
		return gate.Blob{}, err
	}
	f, err := h.Local.Open(c.rt.Digest)
	return gate.Blob{Descriptor: ocispec.Descriptor{Digest: c.rt.Digest, Size: size}, File: f}, err
}

// stream sends a blob that is not whole yet, or whose image is not judged yet.
// It returns an error only before the header is out; later it cuts the
// connection, so that a short body never looks whole.
func (h *Handler) stream(w http.ResponseWriter, r *http.Request, b gate.Blob) error {
	size, err := sizeOf(r.Context(), b)
	if err != nil {
		return err
	}
	head := w.Header()
	ranges := r.Header.Get("Range")
	if have := r.Header.Get("If-Range"); have != "" && have != head.Get("ETag") { // the client has a part of something else
		ranges = ""
	}
	from, to, partial, err := byteRange(ranges, size)
	if err != nil {
		head.Set("Content-Range", "bytes */"+strconv.FormatInt(size, 10))
		return err
	}
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
	s := &sender{w: w, flush: http.NewResponseController(w).Flush, b: b, pos: from, trickle: h.Trickle}
	err = s.flush()
	if err == nil && b.Release != nil {
		err = s.withhold(r.Context(), size, to)
	}
	if err == nil {
		err = s.sendTo(r.Context(), to)
	}
	if err != nil {
		if r.Context().Err() == nil {
			httpx.Log(r.Context()).Warn("blob cut", zap.Stringer("digest", b.Descriptor.Digest), zap.Int64("at", s.pos), zap.Error(err))
		}
		panic(http.ErrAbortHandler)
	}
	return nil
}

// sizeOf is the blob's size, which the client is told before the bytes.
func sizeOf(ctx context.Context, b gate.Blob) (int64, error) {
	if b.File != nil {
		info, err := b.File.Stat()
		if err != nil {
			return 0, err
		}
		return info.Size(), nil
	}
	if err := begun(ctx, b.Tail); err != nil {
		return 0, err
	}
	size, err := b.Tail.Size(ctx)
	if err != nil || size >= 0 {
		return size, err
	}
	if err := b.Tail.Verified(ctx); err != nil { // the upstream does not tell: wait for the end
		return 0, err
	}
	return b.Tail.Size(ctx)
}

// firstByte is how long the header of an answer waits for the first byte of a
// download, so that a client hears why there will be none.
const firstByte = 5 * time.Second

// begun returns why a download has no bytes, nil if it has some or takes its time.
func begun(ctx context.Context, t *fetch.Tail) error {
	wait, cancel := context.WithTimeout(ctx, firstByte)
	defer cancel()
	err := t.Begun(wait)
	if wait.Err() != nil {
		return ctx.Err()
	}
	return err
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
