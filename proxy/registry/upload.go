package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/auth"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/httpx"
	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upload"
)

// upload answers requests to an upload session, or for a new one (OCI
// distribution 1.1, "Pushing Blobs").
func (h *Handler) upload(c call) error {
	k := upload.Key{Repository: c.rt.Name, Owner: c.id.String(), ID: c.rt.Session}
	switch {
	case c.r.Method == http.MethodPost && k.ID == "":
		return h.startUpload(c)
	case k.ID == "":
		return httpx.Unsupported("an upload begins with POST")
	}
	switch c.r.Method {
	case http.MethodGet, http.MethodHead:
		size, err := h.Uploads.Size(k)
		if err != nil {
			return err
		}
		c.session(k, size)
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		chunk, err := c.chunk()
		if err != nil {
			return err
		}
		size, err := h.Uploads.Append(c.r.Context(), k, chunk)
		if err != nil {
			if errors.Is(err, upload.ErrRange) {
				c.session(k, size)
			}
			return err
		}
		c.session(k, size)
		c.w.WriteHeader(http.StatusAccepted)
		return nil
	case http.MethodPut:
		return h.finishUpload(c, k)
	case http.MethodDelete:
		if err := h.Uploads.Cancel(k); err != nil {
			return err
		}
		c.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	return httpx.Unsupported(c.r.Method + " is not supported for an upload")
}

// startUpload mounts a blob of another repository if it may, takes a whole blob
// in one request, or opens a session.
func (h *Handler) startUpload(c call) error {
	q := c.r.URL.Query()
	if mount := q.Get("mount"); mount != "" {
		mounted, err := h.mount(c, mount, q.Get("from"))
		if err != nil || mounted {
			return err
		}
	}
	k, err := h.Local.StartUpload(c.r.Context(), c.rt.Name, c.id.String())
	if err != nil {
		return err
	}
	if q.Has("digest") {
		c.rt.Session = k.ID
		if err := h.finishUpload(c, k); err != nil {
			return errors.Join(err, ignoreEnded(h.Uploads.Cancel(k)))
		}
		return nil
	}
	c.session(k, 0)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// ignoreEnded drops the error of ending an upload that has ended.
func ignoreEnded(err error) error {
	if errors.Is(err, upload.ErrUnknown) {
		return nil
	}
	return err
}

// mount gives the repository a blob that the caller may read in another one,
// where it belongs to an image that serves (OCI distribution 1.1, "Mounting a
// blob from another repository"). In every other case the client is told to
// push it, and not why: the answer must not tell what others have.
func (h *Handler) mount(c call, digest, from string) (bool, error) {
	if from == "" {
		return false, nil
	}
	src, err := h.Table.Parse(&url.URL{Path: "/v2/" + from + "/blobs/" + digest})
	if errors.Is(err, route.ErrDigestInvalid) {
		return false, err
	}
	if err != nil || !src.Local || !h.may(c, auth.Pull, src) {
		return false, nil
	}
	b, err := h.Gate.Blob(c.r.Context(), src)
	if err != nil {
		return false, nil
	}
	if err := b.Close(); err != nil {
		return false, err
	}
	if b.Release != nil { // not judged yet
		return false, nil
	}
	if err := h.Local.Mount(c.r.Context(), src.Name, c.rt.Name, src.Digest); err != nil {
		if errors.Is(err, local.ErrBlobUnknown) {
			return false, nil
		}
		return false, err
	}
	c.created("blobs", src.Digest)
	return true, nil
}

func (h *Handler) finishUpload(c call, k upload.Key) error {
	d, err := parseDigest(c.r.URL.Query().Get("digest"))
	if err != nil {
		return err
	}
	chunk, err := c.chunk()
	if err != nil {
		return err
	}
	if err := h.Local.FinishUpload(c.r.Context(), k, chunk, d); err != nil {
		return err
	}
	c.created("blobs", d)
	return nil
}

// parseDigest takes canonical sha256 digests only, as route does.
func parseDigest(s string) (godigest.Digest, error) {
	d, err := godigest.Parse(s)
	if err == nil && d.Algorithm() != godigest.SHA256 {
		err = fmt.Errorf("algorithm %s is not supported, only sha256", d.Algorithm())
	}
	if err != nil {
		return "", fmt.Errorf("%w: %q: %w", route.ErrDigestInvalid, s, err)
	}
	return d, nil
}

// chunk reads where the request's body belongs.
func (c call) chunk() (upload.Chunk, error) {
	ch := upload.Chunk{Body: &bodyReader{c: http.NewResponseController(c.w), body: c.r.Body}, From: -1, Size: c.r.ContentLength}
	h := c.r.Header.Get("Content-Range")
	if h == "" {
		return ch, nil
	}
	first, last, ok := strings.Cut(strings.TrimPrefix(h, "bytes "), "-")
	last, _, _ = strings.Cut(last, "/")
	from, err := strconv.ParseInt(first, 10, 64)
	to, err2 := strconv.ParseInt(last, 10, 64)
	if !ok || err != nil || err2 != nil || from < 0 || to < from-1 || ch.Size >= 0 && to-from+1 != ch.Size {
		return ch, &httpx.OCIError{Status: http.StatusRequestedRangeNotSatisfiable, Code: "BLOB_UPLOAD_INVALID", Message: fmt.Sprintf("Content-Range %q does not fit a body of %d bytes; want <first>-<last>", h, ch.Size)}
	}
	ch.From = from
	return ch, nil
}

// bodyPatience is how long one read of a pushed body may take.
const bodyPatience = time.Minute

// bodyReader bounds how slowly a client may push: each read has its time.
type bodyReader struct {
	c    *http.ResponseController
	body io.Reader
	next time.Time
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if now := time.Now(); now.After(b.next) { // setting a deadline costs more than looking at the clock
		_ = b.c.SetReadDeadline(now.Add(bodyPatience)) // a connection without deadlines has no slow client
		b.next = now.Add(bodyPatience / 4)
	}
	n, err := b.body.Read(p)
	if errors.Is(err, io.EOF) {
		_ = b.c.SetReadDeadline(time.Time{})
	}
	return n, err
}

// session tells the client where an upload is and how far.
func (c call) session(k upload.Key, size int64) {
	head := c.w.Header()
	head.Set("Location", "/v2/"+c.rt.Asked+"/blobs/uploads/"+k.ID)
	head.Set("Docker-Upload-UUID", k.ID)
	head.Set("Range", "0-"+strconv.FormatInt(max(size-1, 0), 10))
	head.Set("Content-Length", "0")
}

// created answers a push that is stored.
func (c call) created(kind string, d godigest.Digest) {
	head := c.w.Header()
	head.Set("Location", "/v2/"+c.rt.Asked+"/"+kind+"/"+d.String())
	head.Set("Docker-Content-Digest", d.String())
	head.Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusCreated)
}

// maxManifest is the size of the largest manifest that is taken, in bytes (OCI
// distribution 1.1, "Pushing Manifests": at least 4 MiB).
const maxManifest = 4 << 20

// putManifest lets the gate judge a pushed manifest, inside the request.
func (h *Handler) putManifest(c call) error {
	body, err := io.ReadAll(io.LimitReader(&bodyReader{c: http.NewResponseController(c.w), body: c.r.Body}, maxManifest+1))
	if err != nil {
		return fmt.Errorf("manifest of %s: %w", c.rt.Name, err)
	}
	if len(body) > maxManifest {
		return &httpx.OCIError{Status: http.StatusRequestEntityTooLarge, Code: "MANIFEST_INVALID", Message: fmt.Sprintf("the manifest is larger than %d bytes", maxManifest)}
	}
	tags, err := h.pushedTags(c)
	if err != nil {
		return err
	}
	mediaType, _, _ := strings.Cut(c.r.Header.Get("Content-Type"), ";")
	pushed, err := h.Gate.Push(c.r.Context(), c.rt, gate.PushRequest{
		Bytes: body, MediaType: strings.TrimSpace(mediaType), Pusher: c.id.String(), Tags: tags,
	})
	if err != nil {
		return err
	}
	head := c.w.Header()
	for _, t := range c.r.URL.Query()["tag"] {
		head.Add("OCI-Tag", t)
	}
	if pushed.Subject != "" {
		head.Set("OCI-Subject", pushed.Subject.String())
	}
	if pushed.Warning != "" {
		head.Add("Warning", pushed.Warning)
		head.Set("Sluice-Verdict", pushed.Verdict.Decision.String()+"; id="+pushed.Verdict.ID)
	}
	c.created("manifests", pushed.Digest)
	return nil
}

// maxPushedTags bounds the tags of one push by digest.
const maxPushedTags = 64

// pushedTags are those that a manifest gets: the one of the path, or those of
// the tag parameters of a push by digest (OCI distribution, "Pushing Manifests
// with Tags", after 1.1).
func (h *Handler) pushedTags(c call) ([]records.PushedTag, error) {
	names := c.r.URL.Query()["tag"]
	switch {
	case c.rt.Tag != "" && len(names) > 0, len(names) > maxPushedTags:
		return nil, fmt.Errorf("%w: tag parameters belong to a push by digest, %d at most", route.ErrTagInvalid, maxPushedTags)
	case c.rt.Tag != "":
		names = []string{c.rt.Tag}
	}
	var tags []records.PushedTag
	for _, name := range names {
		if !route.ValidTag(name) {
			return nil, fmt.Errorf("%w: %q", route.ErrTagInvalid, name)
		}
		tags = append(tags, records.PushedTag{Name: name, Immutable: h.immutable(c.rt.Name, name)})
	}
	return tags, nil
}

// immutable reports whether the tag must not move.
func (h *Handler) immutable(name, tag string) bool {
	return tag != "" && h.Immutable != nil && h.Immutable(name, tag)
}

// delete removes a tag, or a manifest with its tags, or a blob that no manifest
// names (OCI distribution 1.1, "Content Management").
func (h *Handler) delete(c call) error {
	ctx := c.r.Context()
	switch {
	case c.rt.Kind == route.Blob:
		err := h.Local.Records().UnlinkBlob(ctx, c.rt.Name, c.rt.Digest)
		if errors.Is(err, records.ErrInUse) { // the specification knows 404, 400 and 405 ("Deleting Blobs")
			return httpx.Unsupported("a manifest of the repository names the blob; delete that one first")
		}
		if err != nil {
			return err
		}
	case c.rt.Tag != "":
		if h.immutable(c.rt.Name, c.rt.Tag) {
			return denied(fmt.Sprintf("the tag %s is immutable (registry.immutableTags); an operator can remove its manifest by digest", c.rt.Tag))
		}
		if err := h.Gate.DeleteTag(ctx, c.rt.Name, c.rt.Tag); err != nil {
			return err
		}
	default:
		var keeps func(tag string) bool
		if !h.operator(c) {
			keeps = func(tag string) bool { return h.immutable(c.rt.Name, tag) }
		}
		err := h.Gate.Delete(ctx, c.rt.Name, c.rt.Digest, keeps)
		if errors.Is(err, records.ErrImmutable) {
			return denied("the manifest has an immutable tag (registry.immutableTags); an operator can remove it")
		}
		if err != nil {
			return err
		}
	}
	c.w.Header().Set("Content-Length", "0")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func denied(why string) error {
	return &httpx.OCIError{Status: http.StatusForbidden, Code: "DENIED", Message: why}
}
