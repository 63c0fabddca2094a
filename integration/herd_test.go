package integration

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// TestHerd: 50 clients that pull one cold image at once cost one analysis and
// one download per blob.
func TestHerd(t *testing.T) {
	const clients = 50
	u := newUpstream(t)
	img := image(t, "amd64",
		layer(t, alpine(clean)),
		layer(t, files{{"usr/share/one", noise(400_000)}}),
		layer(t, files{{"usr/share/two", noise(900_000)}}),
	)
	digest := u.push(t, "herd", "1", img)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	blobs := contentOf(t, img)

	pull := func(ctx context.Context) error {
		want := map[string]godigest.Digest{"manifests/1": digest}
		for b := range blobs {
			want["blobs/"+b] = godigest.Digest(b)
		}
		// The manifest comes first, as with every client.
		for _, path := range append([]string{"manifests/1"}, keys(blobs, "blobs/")...) {
			a, err := try(ctx, http.MethodGet, "http://"+s.registry+"/v2/up/herd/"+path, nil)
			if err != nil {
				return err
			}
			if a.status != http.StatusOK || a.err != nil || godigest.FromBytes(a.body) != want[path] {
				return fmt.Errorf("%s: %d, %d bytes, %w", path, a.status, len(a.body), a.err)
			}
		}
		return nil
	}
	group, ctx := errgroup.WithContext(t.Context())
	for range clients {
		group.Go(func() error { return pull(ctx) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if n := s.metric(t, "sluice_analyses_total"); n != 1 {
		t.Errorf("%v analyses, want 1", n)
	}
	for b := range blobs {
		if n := u.count(http.MethodGet, "/v2/herd/blobs/"+b); n != 1 {
			t.Errorf("blob %s was downloaded %d times, want once", b, n)
		}
	}
	byTag := u.count(http.MethodGet, "/v2/herd/manifests/1")
	byDigest := u.count(http.MethodGet, "/v2/herd/manifests/"+digest.String())
	if byTag+byDigest != 1 {
		t.Errorf("the manifest was downloaded %d times by tag and %d times by digest, want once in all", byTag, byDigest)
	}
}

// keys returns the keys of m, each behind a prefix.
func keys[V any](m map[string]V, prefix string) []string {
	var out []string
	for k := range m {
		out = append(out, prefix+k)
	}
	return out
}
