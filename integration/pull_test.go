package integration

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	godigest "github.com/opencontainers/go-digest"
)

// content is an image's manifest and blobs by digest, as they were pushed.
type content map[string][]byte

// contentOf returns the bytes of all blobs of an image.
func contentOf(t *testing.T, img v1.Image) content {
	t.Helper()
	c := content{must(img.ConfigName())(t).String(): must(img.RawConfigFile())(t)}
	for _, l := range must(img.Layers())(t) {
		var b bytes.Buffer
		if _, err := b.ReadFrom(must(l.Compressed())(t)); err != nil {
			t.Fatal(err)
		}
		c[must(l.Digest())(t).String()] = b.Bytes()
	}
	return c
}

// wantPull pulls name:reference with plain HTTP and compares every byte.
func wantPull(t *testing.T, s *server, name, reference string, img v1.Image) {
	t.Helper()
	raw := must(img.RawManifest())(t)
	a := s.get(t, "/v2/"+name+"/manifests/"+reference)
	if a.status != http.StatusOK || !bytes.Equal(a.body, raw) {
		t.Fatalf("GET manifest %s:%s: %d, %d bytes %.300q, want 200 and the upstream's %d bytes", name, reference, a.status, len(a.body), a.body, len(raw))
	}
	for digest, want := range contentOf(t, img) {
		a := s.get(t, "/v2/"+name+"/blobs/"+digest)
		if a.status != http.StatusOK || !bytes.Equal(a.body, want) {
			t.Errorf("GET blob %s of %s: %d, %d bytes %.300q, want 200 and the upstream's %d bytes", digest, name, a.status, len(a.body), a.body, len(want))
		}
	}
}

func TestNames(t *testing.T) {
	u := newUpstream(t)
	img := alpineImage(t, clean)
	digest := u.push(t, "team/clean", "1.0", img)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	for _, tt := range []struct{ name, path, query string }{
		{"by prefix", "up/team/clean", ""},
		{"by default upstream", "team/clean", ""},
		{"by ns", "team/clean", "?ns=up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, reference := range []string{"1.0", digest.String()} {
				a := s.get(t, "/v2/"+tt.path+"/manifests/"+reference+tt.query)
				if a.status != http.StatusOK || godigest.FromBytes(a.body) != digest {
					t.Errorf("manifest %s: %d %s", reference, a.status, a.body)
				}
			}
			for blob, want := range contentOf(t, img) {
				a := s.get(t, "/v2/"+tt.path+"/blobs/"+blob+tt.query)
				if a.status != http.StatusOK || !bytes.Equal(a.body, want) {
					t.Errorf("blob %s: %d, %d bytes", blob, a.status, len(a.body))
				}
			}
		})
	}
	t.Run("one image under three names", func(t *testing.T) {
		if n := s.metric(t, "sluice_analyses_total"); n != 1 {
			t.Errorf("%v analyses of one image, want 1", n)
		}
	})
	before := u.total()
	for _, tt := range []struct{ name, path string }{
		{"a host that is not configured", "/v2/registry.example.com/team/clean/manifests/1.0"},
		{"a host with a port", "/v2/127.0.0.1:9/team/clean/manifests/1.0"},
		{"an unknown ns", "/v2/team/clean/manifests/1.0?ns=registry.example.com"},
		{"the upstream's address as ns", "/v2/team/clean/manifests/1.0?ns=" + strings.TrimPrefix(u.URL, "http://")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := s.get(t, tt.path)
			if code, _ := a.refused(t); a.status != http.StatusNotFound || code != "NAME_UNKNOWN" {
				t.Errorf("%d %s, want 404 NAME_UNKNOWN", a.status, a.body)
			}
		})
	}
	if n := u.total() - before; n != 0 {
		t.Errorf("%d requests went to the upstream for names that are not its own", n)
	}
}

func TestHeadEqualsGet(t *testing.T) {
	u := newUpstream(t)
	good, bad := alpineImage(t, noisy), alpineImage(t, vulnerable)
	u.push(t, "good", "1", good)
	u.push(t, "bad", "1", bad)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	for _, path := range []string{
		"/v2/up/good/manifests/1", "/v2/up/bad/manifests/1", "/v2/up/none/manifests/1",
		"/v2/up/good/manifests/" + must(good.Digest())(t).String(),
		"/v2/up/good/blobs/" + must(good.ConfigName())(t).String(),
		"/v2/up/bad/blobs/" + must(bad.ConfigName())(t).String(),
	} {
		t.Run(path, func(t *testing.T) {
			head, get := s.ask(t, http.MethodHead, path), s.get(t, path)
			if head.status != get.status {
				t.Fatalf("HEAD %d, GET %d", head.status, get.status)
			}
			if len(head.body) != 0 {
				t.Errorf("HEAD has a body: %q", head.body)
			}
			for _, h := range []string{"Content-Type", "Content-Length", "Docker-Content-Digest", "Sluice-Verdict", "Warning"} {
				if head.header.Get(h) != get.header.Get(h) {
					t.Errorf("%s: HEAD %q, GET %q", h, head.header.Get(h), get.header.Get(h))
				}
			}
			if get.status != http.StatusOK {
				return
			}
			if got, want := get.header.Get("Docker-Content-Digest"), godigest.FromBytes(get.body).String(); got != want {
				t.Errorf("Docker-Content-Digest %s, want %s", got, want)
			}
			if got := get.header.Get("Content-Length"); got != strconv.Itoa(len(get.body)) {
				t.Errorf("Content-Length %s of %d bytes", got, len(get.body))
			}
		})
	}
}

func TestRange(t *testing.T) {
	u := newUpstream(t)
	img := image(t, "amd64", layer(t, append(alpine(clean), files{{"usr/share/filler", noise(200_000)}}...)))
	u.push(t, "ranged", "1", img)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	if a := s.get(t, "/v2/up/ranged/manifests/1"); a.status != http.StatusOK {
		t.Fatalf("manifest: %d %s", a.status, a.body)
	}
	for digest, whole := range contentOf(t, img) {
		size := len(whole)
		for _, tt := range []struct {
			header     string
			status     int
			from, upTo int // of the body
		}{
			{"bytes=0-", http.StatusPartialContent, 0, size},
			{"bytes=10-19", http.StatusPartialContent, 10, 20},
			{"bytes=-7", http.StatusPartialContent, size - 7, size},
			{fmt.Sprintf("bytes=%d-", size-1), http.StatusPartialContent, size - 1, size},
			{fmt.Sprintf("bytes=%d-", size), http.StatusRequestedRangeNotSatisfiable, 0, 0},
		} {
			a := s.get(t, "/v2/up/ranged/blobs/"+digest, "Range: "+tt.header)
			if a.status != tt.status {
				t.Errorf("%s of %s: %d, want %d", tt.header, digest, a.status, tt.status)
			} else if tt.status == http.StatusPartialContent && !bytes.Equal(a.body, whole[tt.from:tt.upTo]) {
				t.Errorf("%s of %s: wrong bytes", tt.header, digest)
			}
		}
	}
}

// noise returns n bytes that do not compress well and are the same each time.
func noise(n int) string {
	var b strings.Builder
	for d := godigest.FromString("noise"); b.Len() < n; d = godigest.FromString(d.String()) {
		b.WriteString(d.Encoded())
	}
	return b.String()[:n]
}

func TestIndex(t *testing.T) {
	u := newUpstream(t)
	amd64, arm64 := alpineImage(t, clean), image(t, "arm64", layer(t, alpine(vulnerable)))
	idx := index(amd64, arm64)
	digest := u.push(t, "multi", "1", idx)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})

	a := s.get(t, "/v2/up/multi/manifests/1")
	if a.status != http.StatusOK || !bytes.Equal(a.body, must(idx.RawManifest())(t)) {
		t.Fatalf("index: %d %s", a.status, a.body)
	}
	if got := a.header.Get("Content-Type"); got != string(types.OCIImageIndex) {
		t.Errorf("Content-Type %q", got)
	}
	if n := s.metric(t, "sluice_analyses_total"); n != 0 {
		t.Errorf("%v analyses for an index alone, want 0", n)
	}
	wantPull(t, s, "up/multi", must(amd64.Digest())(t).String(), amd64)
	if n := s.metric(t, "sluice_analyses_total"); n != 1 {
		t.Errorf("%v analyses after one platform, want 1", n)
	}
	other := must(arm64.Digest())(t).String()
	if n := u.count(http.MethodGet, "/v2/multi/manifests/"+other); n != 0 {
		t.Errorf("the other platform's manifest was fetched %d times", n)
	}
	if a := s.get(t, "/v2/up/multi/manifests/"+other); a.status != http.StatusForbidden {
		t.Errorf("the vulnerable child of an allowed index: %d, want 403", a.status)
	}
	if a := s.get(t, "/v2/up/multi/manifests/"+digest.String()); a.status != http.StatusOK {
		t.Errorf("the index after its child was denied: %d %s", a.status, a.body)
	}
}

func TestMediaTypes(t *testing.T) {
	u := newUpstream(t)
	u.push(t, "docker/clean", "1", docker(t, clean))
	u.push(t, "docker/bad", "1", docker(t, vulnerable))
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	wantPull(t, s, "up/docker/clean", "1", docker(t, clean))
	if a := s.get(t, "/v2/up/docker/clean/manifests/1"); a.header.Get("Content-Type") != string(types.DockerManifestSchema2) {
		t.Errorf("Content-Type %q", a.header.Get("Content-Type"))
	}
	if a := s.get(t, "/v2/up/docker/bad/manifests/1"); a.status != http.StatusForbidden {
		t.Errorf("vulnerable image in Docker's media types: %d, want 403", a.status)
	}
}

// TestMembership: a blob is served only as a member of an admitted manifest of
// its own repository.
func TestMembership(t *testing.T) {
	u := newUpstream(t)
	good, bad := alpineImage(t, clean), alpineImage(t, vulnerable)
	u.push(t, "good", "1", good)
	u.push(t, "bad", "1", bad)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	blobs := func(img v1.Image) []string {
		return []string{must(img.ConfigName())(t).String(), must(must(img.Layers())(t)[0].Digest())(t).String()}
	}
	closed := func(t *testing.T, repository string, img v1.Image) {
		t.Helper()
		for _, b := range blobs(img) {
			for _, header := range []string{"Accept: */*", "Range: bytes=0-9"} {
				a := s.get(t, "/v2/up/"+repository+"/blobs/"+b, header)
				if !slices.Contains([]int{http.StatusForbidden, http.StatusNotFound}, a.status) {
					t.Errorf("blob %s from %s (%s): %d, want 403 or 404", b, repository, header, a.status)
				}
			}
		}
	}
	closed(t, "good", good) // no manifest was asked for yet
	if a := s.get(t, "/v2/up/bad/manifests/1"); a.status != http.StatusForbidden {
		t.Fatalf("vulnerable image: %d, want 403", a.status)
	}
	closed(t, "bad", bad)
	wantPull(t, s, "up/good", "1", good)
	closed(t, "bad", bad)
	closed(t, "good", bad)
	closed(t, "bad", good)
}
