package gate

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"

	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// TestReleaseByTheFirstThatServes: a layer of two images leaves with the first
// verdict that serves one of them, whichever that is.
func TestReleaseByTheFirstThatServes(t *testing.T) {
	for _, slow := range []string{"a", "b"} {
		w := newWorld(t, t.TempDir())
		w.opts.Stream, w.opts.Hold = true, 0
		stuck := make(chan struct{})
		var stuckPath string
		layers := make(map[string]godigest.Digest)
		for _, name := range []string{"a", "b"} {
			m := w.image("app:"+name, []string{"shared"}, []string{name})
			layers[name] = m.Layers[1].Digest
			layers["shared"] = m.Layers[0].Digest
		}
		stuckPath = "/v2/app/blobs/" + layers[slow].String()
		answer := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.URL.Path == stuckPath {
				select {
				case <-stuck:
				case <-r.Context().Done():
					return
				}
			}
			w.registry.ServeHTTP(rw, r)
		})
		w.answer.Store(&answer)
		w.hold = make(chan struct{})
		for _, name := range []string{"a", "b"} {
			if _, err := w.pull("app:" + name); err != nil {
				t.Fatal(err)
			}
		}
		b, err := w.Blob(t.Context(), route.Route{Kind: route.Blob, Upstream: "up", Repository: "app", Name: "up/app", Digest: layers["shared"]})
		if err != nil {
			t.Fatal(err)
		}
		if b.Release == nil {
			t.Fatal("the layer of two images that are not judged may leave whole")
		}
		close(w.hold)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		if err := b.Release(ctx); err != nil {
			t.Errorf("%s is slow: %v", slow, err)
		}
		cancel()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		close(stuck)
	}
}

// TestGoneTagsAreNotStale: a tag that the upstream deleted stays so when the
// upstream fails next.
func TestGoneTagsAreNotStale(t *testing.T) {
	w := newWorld(t, t.TempDir())
	now := time.Now()
	w.now = func() time.Time { return now }
	w.opts.TagTTL, w.opts.StaleIfError = 5*time.Minute, time.Hour
	w.image("app:1", []string{"a"})
	if _, err := w.pull("app:1"); err != nil {
		t.Fatal(err)
	}
	for _, code := range []int{http.StatusNotFound, http.StatusServiceUnavailable} {
		now = now.Add(6 * time.Minute)
		answer := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) })
		w.answer.Store(&answer)
		var status *upstream.StatusError
		if a, err := w.pull("app:1"); !errors.As(err, &status) || status.Status != code {
			t.Errorf("the upstream answers %d: stale %v, %v", code, a.Stale, err)
		}
	}
}
