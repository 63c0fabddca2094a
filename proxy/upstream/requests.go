package upstream

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifest is the largest manifest that is read, in bytes: the limit that
// registries are asked to accept at least (OCI distribution 1.1, "Pushing
// Manifests").
const MaxManifest = 4 << 20

// manifestTypes are asked for in the Accept header of manifest requests.
const manifestTypes = ocispec.MediaTypeImageIndex + ", " + ocispec.MediaTypeImageManifest +
	", application/vnd.docker.distribution.manifest.list.v2+json" +
	", application/vnd.docker.distribution.manifest.v2+json, */*;q=0.1"

// Manifest is a manifest's bytes with the type that the upstream gave them.
type Manifest struct {
	Digest    godigest.Digest
	MediaType string
	Bytes     []byte
}

// Resolve returns the descriptor that tag names now. It asks with HEAD, and
// with GET where the answer to HEAD lacks a digest. known is what the tag named
// when the caller asked before, or "". The upstream is told (If-None-Match), so
// that one which spares unchanged manifests in its quota can; its 304 gives a
// descriptor with the digest known and nothing else.
func (u *Upstream) Resolve(ctx context.Context, repo, tag string, known godigest.Digest) (desc ocispec.Descriptor, err error) {
	rq := request{
		method: http.MethodHead, repo: repo, kind: kindManifest, op: "manifest " + repo + ":" + tag, path: "/manifests/" + tag,
		header: map[string]string{"Accept": manifestTypes},
	}
	if known != "" {
		rq.header["If-None-Match"] = `"` + known.String() + `"`
		rq.want = []int{http.StatusOK, http.StatusNotModified}
	}
	err = u.do(ctx, rq, func(resp *http.Response) error {
		_ = resp.Body.Close()
		said := resp.Header.Get("Docker-Content-Digest")
		if resp.StatusCode == http.StatusNotModified {
			if said != "" && said != known.String() {
				return &ContentError{Upstream: u.name, Op: rq.op, Reason: fmt.Sprintf("answered that %s is not modified, and that it is %q", known, said)}
			}
			desc = ocispec.Descriptor{Digest: known}
			return nil
		}
		desc = ocispec.Descriptor{}
		if d, err := godigest.Parse(said); err == nil && d.Algorithm() == godigest.SHA256 {
			desc = ocispec.Descriptor{MediaType: mediaType(resp), Digest: d, Size: resp.ContentLength}
		}
		return nil
	})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if desc.Digest == "" {
		m, err := u.Manifest(ctx, repo, tag)
		if err != nil {
			return ocispec.Descriptor{}, err
		}
		desc = ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))}
	}
	return desc, nil
}

// Manifest returns the manifest that reference, a tag or a digest, names. The
// digest is computed over the bytes received. If they do not have the one that
// was asked for, or for a tag the one that the answer announces, that is a
// *ContentError.
func (u *Upstream) Manifest(ctx context.Context, repo, reference string) (Manifest, error) {
	sep, want := ":", godigest.Digest("")
	if d, err := godigest.Parse(reference); err == nil {
		sep, want = "@", d
	}
	var m Manifest
	op := "manifest " + repo + sep + reference
	err := u.do(ctx, request{
		method: http.MethodGet, repo: repo, kind: kindManifest, op: op, path: "/manifests/" + reference,
		header: map[string]string{"Accept": manifestTypes},
	}, func(resp *http.Response) error {
		defer func() { _ = resp.Body.Close() }()
		b, err := u.readAll(ctx, op, resp)
		if err != nil {
			return err
		}
		m = Manifest{Digest: godigest.FromBytes(b), MediaType: mediaType(resp), Bytes: b}
		said, err := godigest.Parse(resp.Header.Get("Docker-Content-Digest"))
		if want == "" && err == nil && said.Algorithm() == m.Digest.Algorithm() {
			want = said
		}
		if want != "" && want != m.Digest {
			return &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("the bytes sent have the digest %s, not %s", m.Digest, want)}
		}
		return nil
	})
	if err != nil {
		return Manifest{}, err
	}
	return m, nil
}

// readAll reads a body of at most MaxManifest bytes, all that was announced.
func (u *Upstream) readAll(ctx context.Context, op string, resp *http.Response) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	switch {
	case err != nil:
		return nil, u.wrap(ctx, op, err)
	case len(b) > MaxManifest:
		return nil, &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("larger than %d bytes", MaxManifest)}
	case resp.ContentLength >= 0 && int64(len(b)) != resp.ContentLength:
		return nil, &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("%d bytes came of %d announced", len(b), resp.ContentLength)}
	}
	return b, nil
}

// Blob opens the bytes of a blob from offset on. total is the blob's whole
// size, -1 where the upstream did not say. size is what the caller knows
// of it already, or -1; registries that refuse open ranges need it.
func (u *Upstream) Blob(ctx context.Context, repo string, d godigest.Digest, offset, size int64) (body io.ReadCloser, total int64, err error) {
	op := "blob " + repo + "@" + d.String()
	header := map[string]string{"Accept-Encoding": "identity"}
	if offset > 0 {
		end := ""
		if size > 0 {
			end = strconv.FormatInt(size-1, 10)
		}
		header["Range"] = "bytes=" + strconv.FormatInt(offset, 10) + "-" + end
	}
	rq := request{method: http.MethodGet, repo: repo, kind: kindBlob, op: op, path: "/blobs/" + d.String(), header: header}
	if offset > 0 {
		rq.want = []int{http.StatusOK, http.StatusPartialContent}
	}
	var resp *http.Response
	if err := u.do(ctx, rq, func(r *http.Response) error {
		resp = r
		return nil
	}); err != nil {
		return nil, -1, err
	}
	if resp.StatusCode == http.StatusPartialContent {
		start, whole, ok := contentRange(resp.Header.Get("Content-Range"))
		if !ok || start != offset {
			_ = resp.Body.Close()
			return nil, -1, &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("answered the range from %d with %q", offset, resp.Header.Get("Content-Range"))}
		}
		if whole < 0 && resp.ContentLength >= 0 {
			whole = offset + resp.ContentLength
		}
		return resp.Body, whole, nil
	}
	if offset > 0 { // the registry ignored the range: skip what is there already
		if _, err := io.CopyN(io.Discard, resp.Body, offset); err != nil {
			_ = resp.Body.Close()
			return nil, -1, u.wrap(ctx, op, err)
		}
	}
	return resp.Body, resp.ContentLength, nil
}

// Tags returns one page of a repository's tags, after last, n at most (n ≤ 0:
// as many as the upstream gives at once). more says that there is another page.
func (u *Upstream) Tags(ctx context.Context, repo string, n int, last string) (tags []string, more bool, err error) {
	q := url.Values{}
	if n > 0 {
		q.Set("n", strconv.Itoa(n))
	}
	if last != "" {
		q.Set("last", last)
	}
	path, op := "/tags/list", "tags of "+repo
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	err = u.do(ctx, request{method: http.MethodGet, repo: repo, kind: kindTags, op: op, path: path}, func(resp *http.Response) error {
		defer func() { _ = resp.Body.Close() }()
		b, err := u.readAll(ctx, op, resp)
		if err != nil {
			return err
		}
		var list struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(b, &list); err != nil {
			return &ContentError{Upstream: u.name, Op: op, Reason: "not a tag list: " + err.Error()}
		}
		tags, more = list.Tags, nextLink(resp.Header.Values("Link")) != ""
		return nil
	})
	return tags, more, err
}

func mediaType(resp *http.Response) string {
	mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mt
}

// contentRange reads the first position and the whole length, -1 if it is not
// told, of a Content-Range (RFC 9110, 14.4). The part may be shorter than asked.
func contentRange(h string) (first, whole int64, ok bool) {
	from, rest, ok := strings.Cut(strings.TrimPrefix(h, "bytes "), "-")
	if !ok {
		return 0, 0, false
	}
	first, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return 0, 0, false
	}
	_, length, _ := strings.Cut(rest, "/")
	if whole, err = strconv.ParseInt(length, 10, 64); err != nil || whole < 0 {
		whole = -1
	}
	return first, whole, true
}
