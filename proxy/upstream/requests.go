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
// with GET where the answer to HEAD lacks a digest.
func (u *Upstream) Resolve(ctx context.Context, repo, tag string) (ocispec.Descriptor, error) {
	op := "manifest " + repo + ":" + tag
	resp, err := u.do(ctx, http.MethodHead, repo, "manifest", op, "/manifests/"+tag, map[string]string{"Accept": manifestTypes})
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	_ = resp.Body.Close()
	d, err := godigest.Parse(resp.Header.Get("Docker-Content-Digest"))
	if err == nil && d.Algorithm() == godigest.SHA256 {
		return ocispec.Descriptor{MediaType: mediaType(resp), Digest: d, Size: resp.ContentLength}, nil
	}
	m, err := u.Manifest(ctx, repo, tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))}, nil
}

// Manifest returns the manifest that reference, a tag or a digest, names. The
// digest is computed over the bytes received; a digest reference that they do
// not have is a *ContentError.
func (u *Upstream) Manifest(ctx context.Context, repo, reference string) (Manifest, error) {
	sep, want := ":", godigest.Digest("")
	if d, err := godigest.Parse(reference); err == nil {
		sep, want = "@", d
	}
	op := "manifest " + repo + sep + reference
	resp, err := u.do(ctx, http.MethodGet, repo, "manifest", op, "/manifests/"+reference, map[string]string{"Accept": manifestTypes})
	if err != nil {
		return Manifest{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(io.LimitReader(resp.Body, MaxManifest+1))
	if err != nil {
		return Manifest{}, u.wrap(ctx, op, err)
	}
	if len(b) > MaxManifest {
		return Manifest{}, &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("larger than %d bytes", MaxManifest)}
	}
	got := godigest.FromBytes(b)
	if want != "" && got != want {
		return Manifest{}, &ContentError{Upstream: u.name, Op: op, Reason: "the bytes sent have the digest " + got.String()}
	}
	return Manifest{Digest: got, MediaType: mediaType(resp), Bytes: b}, nil
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
	resp, err := u.do(ctx, http.MethodGet, repo, "blob", op, "/blobs/"+d.String(), header)
	if err != nil {
		return nil, -1, err
	}
	if resp.StatusCode == http.StatusPartialContent {
		start, ok := rangeStart(resp.Header.Get("Content-Range"))
		if !ok || start != offset {
			_ = resp.Body.Close()
			return nil, -1, &ContentError{Upstream: u.name, Op: op, Reason: fmt.Sprintf("answered the range from %d with %q", offset, resp.Header.Get("Content-Range"))}
		}
		if resp.ContentLength < 0 {
			return resp.Body, -1, nil
		}
		return resp.Body, offset + resp.ContentLength, nil
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
	resp, err := u.do(ctx, http.MethodGet, repo, "tags", op, path, nil)
	if err != nil {
		return nil, false, err
	}
	defer func() { _ = resp.Body.Close() }()
	var list struct {
		Tags []string `json:"tags"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, MaxManifest)).Decode(&list); err != nil {
		return nil, false, &ContentError{Upstream: u.name, Op: op, Reason: "not a tag list: " + err.Error()}
	}
	return list.Tags, strings.Contains(resp.Header.Get("Link"), `rel="next"`), nil
}

// do sends one request and returns an answer of 200 or 206.
func (u *Upstream) do(ctx context.Context, method, repo, kind, op, path string, header map[string]string) (*http.Response, error) {
	c, err := u.client(ctx, repo)
	if err != nil {
		return nil, u.wrap(ctx, op, err)
	}
	req, err := http.NewRequestWithContext(ctx, method, u.base.Scheme+"://"+u.base.Host+"/v2/"+repo+path, nil)
	if err != nil {
		return nil, u.wrap(ctx, op, err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := c.Do(req)
	if err != nil {
		u.observe(u.name, kind, statusOf(err))
		return nil, u.wrap(ctx, op, err)
	}
	u.observe(u.name, kind, resp.StatusCode)
	want := []int{http.StatusOK}
	if req.Header.Get("Range") != "" {
		want = append(want, http.StatusPartialContent)
	}
	if err := u.check(op, resp, want...); err != nil {
		return nil, err
	}
	return resp, nil
}

func mediaType(resp *http.Response) string {
	mt, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return mt
}

// rangeStart reads the first position of a Content-Range (RFC 9110, 14.4).
func rangeStart(h string) (int64, bool) {
	first, _, ok := strings.Cut(strings.TrimPrefix(h, "bytes "), "-")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(first, 10, 64)
	return n, err == nil
}
