package integration

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestUpstreamErrors: what the upstream answers reaches the client as itself.
func TestUpstreamErrors(t *testing.T) {
	u := newUpstream(t)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	for _, tt := range []struct {
		name   string
		status int
		word   string
	}{
		{"unauthorized", http.StatusUnauthorized, "UNAUTHORIZED"},
		{"forbidden", http.StatusForbidden, "DENIED"},
		{"missing", http.StatusNotFound, "MANIFEST_UNKNOWN"},
		{"throttled", http.StatusTooManyRequests, "TOOMANYREQUESTS"},
		{"broken", http.StatusInternalServerError, "UNKNOWN"},
		{"away", http.StatusServiceUnavailable, "UNAVAILABLE"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := alpineImage(t, clean)
			u.push(t, tt.name, "1", img)
			path := "/v2/" + tt.name + "/manifests/1"
			u.fail(path, status(tt.status, tt.word))
			a := s.get(t, "/v2/up/"+tt.name+"/manifests/1")
			if a.status != tt.status {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.status)
			}
			a.refused(t)
			u.fail(path, nil)
			reference := "1"
			if tt.status == http.StatusNotFound { // that a tag is missing is remembered for a minute
				reference = must(img.Digest())(t).String()
			}
			wantPull(t, s, "up/"+tt.name, reference, img) // and nothing else is
		})
	}
	t.Run("no upstream at all", func(t *testing.T) {
		gone := newUpstream(t)
		s := start(t, options{upstream: gone.URL, advisories: smallFeed(t)})
		gone.Close()
		a := s.get(t, "/v2/up/app/manifests/1")
		if a.status < 500 {
			t.Errorf("%d %s, want 5xx", a.status, a.body)
		}
	})
}

// TestBlobErrors: a layer that cannot be had gives no image.
func TestBlobErrors(t *testing.T) {
	u := newUpstream(t)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
	for _, tt := range []struct {
		name   string
		answer http.Handler
	}{
		{"unauthorized", status(http.StatusUnauthorized, "UNAUTHORIZED")},
		{"missing", status(http.StatusNotFound, "BLOB_UNKNOWN")},
		{"throttled", status(http.StatusTooManyRequests, "TOOMANYREQUESTS")},
		{"broken", status(http.StatusInternalServerError, "UNKNOWN")},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := image(t, "amd64", layer(t, append(alpine(clean), files{{"etc/name", tt.name}}...)))
			u.push(t, tt.name, "1", img)
			path := "/v2/" + tt.name + "/blobs/" + must(must(img.Layers())(t)[0].Digest())(t).String()
			u.fail(path, tt.answer)
			if a := s.get(t, "/v2/up/"+tt.name+"/manifests/1"); a.status == http.StatusOK {
				t.Errorf("an image without its layer was served")
			}
			u.fail(path, nil)
			until(t, "the image is served once its layer is there", func() error {
				return wantStatus(t, "http://"+s.registry+"/v2/up/"+tt.name+"/manifests/1", http.StatusOK)
			})
		})
	}
}

// TestWrongBytes: other bytes than the digest says reach no client as a whole,
// and once the upstream serves the right ones, those are served: the wrong ones
// were the upstream's fault and say nothing of the image.
func TestWrongBytes(t *testing.T) {
	filler := files{{"usr/share/filler", noise(8_000_000)}} // so that the analyser meets the wrong byte long before the digest is known
	good, evil := image(t, "amd64", layer(t, append(alpine(clean), filler...))), alpineImage(t, noisy)
	manifestOf, configOf := must(good.Digest())(t).String(), must(good.ConfigName())(t).String()
	layerOfGood := must(must(good.Layers())(t)[0].Digest())(t).String()
	blobs := contentOf(t, good)
	swap := func(b []byte, at int) []byte { // same length, other bytes
		b = bytes.Clone(b)
		b[at] ^= 0xff
		return b
	}
	garbage := bytes.Clone(blobs[layerOfGood])
	copy(garbage[1000:], bytes.Repeat([]byte{0xff}, 1000))
	for _, tt := range []struct {
		name, path, mediaType string
		body                  []byte
	}{
		{"manifest", "manifests/" + manifestOf, "application/vnd.oci.image.manifest.v1+json", must(evil.RawManifest())(t)},
		{"config", "blobs/" + configOf, "application/octet-stream", swap(blobs[configOf], 20)},
		{"layer, first byte", "blobs/" + layerOfGood, "application/octet-stream", swap(blobs[layerOfGood], 0)},
		{"layer, in the middle", "blobs/" + layerOfGood, "application/octet-stream", swap(blobs[layerOfGood], len(blobs[layerOfGood])/2)},
		{"layer, last byte", "blobs/" + layerOfGood, "application/octet-stream", swap(blobs[layerOfGood], len(blobs[layerOfGood])-1)},
		{"layer, no gzip from early on", "blobs/" + layerOfGood, "application/octet-stream", garbage},
		{"short layer", "blobs/" + layerOfGood, "application/octet-stream", blobs[layerOfGood][:100]},
		{"long layer", "blobs/" + layerOfGood, "application/octet-stream", append(bytes.Clone(blobs[layerOfGood]), 0)},
		{"empty layer", "blobs/" + layerOfGood, "application/octet-stream", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			u.push(t, "app", "1", good)
			u.fail("/v2/app/"+tt.path, haltingly(tt.mediaType, tt.body))
			s := start(t, options{upstream: u.URL, advisories: smallFeed(t)})
			if a := s.get(t, "/v2/up/app/manifests/"+manifestOf); a.status == http.StatusOK {
				t.Errorf("manifest: 200 %.100q", a.body)
			}
			// Its beginning may stream before the end shows that it is wrong.
			a := s.get(t, "/v2/up/app/"+tt.path)
			if a.status == http.StatusOK && (a.err == nil || len(a.body) >= len(tt.body) && len(tt.body) > 0) {
				t.Errorf("the wrong bytes were served: %d, %d bytes", a.status, len(a.body))
			}
			u.fail("/v2/app/"+tt.path, nil)
			until(t, "the right bytes are served", func() error {
				return wantStatus(t, "http://"+s.registry+"/v2/up/app/manifests/"+manifestOf, http.StatusOK)
			})
			wantPull(t, s, "up/app", manifestOf, good)
		})
	}
}

// TestSlowReader: a client that asks for a layer and reads nothing of it holds
// up nobody else, from the first pull on.
func TestSlowReader(t *testing.T) {
	u := newUpstream(t)
	img, layer, _ := big(t, "slow-reader", clean)
	digest := u.push(t, "app", "1", img)
	s := start(t, options{upstream: u.URL, advisories: smallFeed(t), config: "release:\n  hold: 0s\n"})
	if a := s.get(t, "/v2/up/app/manifests/1"); a.status != http.StatusOK {
		t.Fatalf("manifest: %d %s", a.status, a.body)
	}
	var d net.Dialer
	for range 20 {
		c, err := d.DialContext(t.Context(), "tcp", s.registry)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil { //nolint:errcheck,forcetypeassert // dialled as tcp
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "GET /v2/up/app/blobs/"+layer+" HTTP/1.1\r\nHost: "+s.registry+"\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	wantPull(t, s, "up/app", digest.String(), img)
	if n := u.count(http.MethodGet, "/v2/app/blobs/"+layer); n != 1 {
		t.Errorf("the layer was downloaded %d times", n)
	}
}

// TestNoAdvisories: without an index nothing is judged; the client is told the
// way out, and taking it is enough.
func TestNoAdvisories(t *testing.T) {
	u := newUpstream(t)
	img := alpineImage(t, clean)
	u.push(t, "app", "1", img)
	s := start(t, options{upstream: u.URL})
	a := s.get(t, "/v2/up/app/manifests/1")
	code, message := a.refused(t)
	if a.status != http.StatusServiceUnavailable || code != "UNAVAILABLE" {
		t.Errorf("%d %s, want 503 UNAVAILABLE", a.status, code)
	}
	if a.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	for _, word := range []string{"advisor", "sluice db update"} {
		if !strings.Contains(message, word) {
			t.Errorf("the message does not say %q: %s", word, message)
		}
	}
	if got := readiness(t, s); got == http.StatusOK {
		t.Error("/readyz is 200 without advisories")
	}
	if out, code := sluice(t, "db", "update", "--data", s.data, "--from", smallFeed(t)); code != 0 {
		t.Fatalf("db update: exit %d\n%s", code, out)
	}
	until(t, "the pull works after the update", func() error {
		return wantStatus(t, "http://"+s.registry+"/v2/up/app/manifests/1", http.StatusOK)
	})
	wantPull(t, s, "up/app", "1", img)
	if got := readiness(t, s); got != http.StatusOK {
		t.Errorf("/readyz: %d", got)
	}
}

func readiness(t *testing.T, s *server) int {
	t.Helper()
	return ask(t, http.MethodGet, "http://"+s.ops+"/readyz", nil).status
}

// TestWhenMissing: an operator may choose what an image without advisories gets.
func TestWhenMissing(t *testing.T) {
	u := newUpstream(t)
	u.push(t, "app", "1", alpineImage(t, clean))
	for _, tt := range []struct {
		choice string
		want   int
	}{
		{"deny", http.StatusForbidden},
		{"annotate", http.StatusOK},
	} {
		t.Run(tt.choice, func(t *testing.T) {
			s := start(t, options{upstream: u.URL, config: "  whenMissing: " + tt.choice + "\n"})
			a := s.get(t, "/v2/up/app/manifests/1")
			if a.status != tt.want {
				t.Errorf("%d %s, want %d", a.status, a.body, tt.want)
			}
			if tt.choice == "annotate" && a.header.Get("Warning") == "" {
				t.Error("no Warning")
			}
		})
	}
}

// TestFirstUpdate: a server without an index fetches one by itself.
func TestFirstUpdate(t *testing.T) {
	u := newUpstream(t)
	img := alpineImage(t, vulnerable)
	u.push(t, "app", "1", img)
	s := start(t, options{upstream: u.URL, feed: smallFeed(t)})
	until(t, "the server judges by the feed that it fetched", func() error {
		return wantStatus(t, "http://"+s.registry+"/v2/up/app/manifests/1", http.StatusForbidden)
	})
}
