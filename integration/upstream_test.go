package integration

import (
	"bytes"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	godigest "github.com/opencontainers/go-digest"
)

// upstream is a registry in the test's process. It counts requests and can be
// told to answer a path in another way.
type upstream struct {
	*httptest.Server
	content http.Handler // the registry without counters and faults
	front   http.Handler // what answers where no fault is set: content, or what guards it

	mu     sync.Mutex
	counts map[string]int          // "GET /v2/…" → requests
	faults map[string]http.Handler // path → what answers instead
}

func newUpstream(t *testing.T) *upstream {
	content := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	u := &upstream{content: content, front: content, counts: map[string]int{}, faults: map[string]http.Handler{}}
	u.Server = httptest.NewServer(u)
	t.Cleanup(u.Close)
	return u
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.counts[r.Method+" "+r.URL.Path]++
	h := u.faults[r.URL.Path]
	if h == nil {
		h = u.front
	}
	u.mu.Unlock()
	h.ServeHTTP(w, r)
}

// count returns how many requests had this method and path.
func (u *upstream) count(method, path string) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.counts[method+" "+path]
}

// total returns how many requests there were in all.
func (u *upstream) total() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	n := 0
	for _, c := range u.counts {
		n += c
	}
	return n
}

// fail makes path answer with h, or again as it should where h is nil.
func (u *upstream) fail(path string, h http.Handler) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.faults[path] = h
}

// guard puts h in front of all paths; it may pass requests on to u.content.
func (u *upstream) guard(h http.Handler) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.front = h
}

// status answers every request with a status and an error in OCI's format.
func status(code int, word string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = io.WriteString(w, `{"errors":[{"code":"`+word+`","message":"the upstream says so"}]}`)
	})
}

// haltingly answers every request with these bytes, as if they were right, and
// takes a breath before the last one.
func haltingly(mediaType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method == http.MethodHead || len(body) == 0 {
			return
		}
		_, _ = w.Write(body[:len(body)-1])
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-time.After(300 * time.Millisecond):
			_, _ = w.Write(body[len(body)-1:])
		case <-r.Context().Done():
		}
	})
}

// manifest is a v1.Image or a v1.ImageIndex.
type manifest interface {
	MediaType() (types.MediaType, error)
	RawManifest() ([]byte, error)
}

// push stores an image or an index under repository:tag, and by its digest. It
// goes past the counters.
func (u *upstream) push(t *testing.T, repository, tag string, m manifest) godigest.Digest {
	t.Helper()
	switch m := m.(type) {
	case v1.ImageIndex:
		for _, d := range must(m.IndexManifest())(t).Manifests {
			u.push(t, repository, d.Digest.String(), must(m.Image(d.Digest))(t))
		}
	case v1.Image:
		config := must(m.RawConfigFile())(t)
		u.pushBlob(t, repository, config)
		for _, l := range must(m.Layers())(t) {
			u.pushBlob(t, repository, must(io.ReadAll(must(l.Compressed())(t)))(t))
		}
	}
	raw := must(m.RawManifest())(t)
	mediaType := must(m.MediaType())(t)
	for _, reference := range []string{tag, godigest.FromBytes(raw).String()} {
		u.put(t, http.MethodPut, "/v2/"+repository+"/manifests/"+reference, string(mediaType), raw)
	}
	return godigest.FromBytes(raw)
}

func (u *upstream) pushBlob(t *testing.T, repository string, body []byte) {
	t.Helper()
	u.put(t, http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+godigest.FromBytes(body).String(),
		"application/octet-stream", body)
}

func (u *upstream) put(t *testing.T, method, path, mediaType string, body []byte) {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	u.content.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		t.Fatalf("push %s: %d %s", path, w.Code, strings.TrimSpace(w.Body.String()))
	}
}

// must returns v of a call's (v, err), and fails the test on err.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}
