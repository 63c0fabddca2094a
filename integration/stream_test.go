package integration

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	godigest "github.com/opencontainers/go-digest"
)

// slowly answers with body, the second half only once the returned function was
// called; the test's end calls it too.
func slowly(t *testing.T, body []byte) (h http.Handler, release func()) {
	gate := make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body[:len(body)/2])
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-gate:
			_, _ = w.Write(body[len(body)/2:])
		case <-r.Context().Done():
		}
	}), release
}

// TestStream pulls images whose analysis outlasts the hold. With streaming the
// manifest is answered and the layer flows, but its end comes only with a
// verdict that serves. Without, the client is told to come back.
func TestStream(t *testing.T) {
	for _, tt := range []struct {
		name   string
		hold   string
		stream bool
		pkgs   []apk
		served bool
	}{
		{"streamed and allowed", "300ms", true, clean, true},
		{"streamed and denied", "300ms", true, vulnerable, false},
		{"streamed at once and allowed", "0s", true, clean, true},
		{"streamed at once and denied", "0s", true, vulnerable, false},
		{"held and allowed", "300ms", false, clean, true},
		{"held and denied", "300ms", false, vulnerable, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			u := newUpstream(t)
			img := image(t, "amd64", layer(t, append(alpine(tt.pkgs), files{{"usr/share/filler", noise(2_000_000)}}...)))
			u.push(t, "slow", "1", img)
			digest := must(must(img.Layers())(t)[0].Digest())(t).String()
			whole := contentOf(t, img)[digest]
			h, release := slowly(t, whole)
			u.fail("/v2/slow/blobs/"+digest, h)
			s := start(t, options{
				upstream: u.URL, advisories: smallFeed(t),
				config: "release:\n  hold: " + tt.hold + "\n  stream: " + strconv.FormatBool(tt.stream) + "\n",
			})

			a := s.get(t, "/v2/up/slow/manifests/1")
			if tt.stream {
				if a.status != http.StatusOK || !bytes.Equal(a.body, must(img.RawManifest())(t)) {
					t.Fatalf("manifest while the layer is on its way: %d %.300q", a.status, a.body)
				}
				got := readAround(t, "http://"+s.registry+"/v2/up/slow/blobs/"+digest, len(whole)/4, release)
				if tt.served != (godigest.FromBytes(got).String() == digest) {
					t.Errorf("%d of %d bytes of the layer came, served = %v", len(got), len(whole), tt.served)
				}
				if !tt.served && len(got) >= len(whole) {
					t.Error("a whole layer of a denied image left")
				}
			} else {
				if code, _ := a.refused(t); a.status != http.StatusServiceUnavailable || code != "UNAVAILABLE" || a.header.Get("Retry-After") == "" {
					t.Errorf("%d %s, Retry-After %q, want 503 UNAVAILABLE with one", a.status, code, a.header.Get("Retry-After"))
				}
				release()
			}
			if !tt.served {
				until(t, "the next try is refused with the reason", func() error {
					return wantStatus(t, "http://"+s.registry+"/v2/up/slow/manifests/1", http.StatusForbidden)
				})
				if _, message := s.get(t, "/v2/up/slow/manifests/1").refused(t); !strings.Contains(message, victimCVE) {
					t.Errorf("the reason is not told: %s", message)
				}
				return
			}
			until(t, "the next try is served", func() error {
				return wantStatus(t, "http://"+s.registry+"/v2/up/slow/manifests/1", http.StatusOK)
			})
			wantPull(t, s, "up/slow", "1", img)
			if n := u.count(http.MethodGet, "/v2/slow/blobs/"+digest); n != 1 {
				t.Errorf("the layer was downloaded %d times, want once", n)
			}
		})
	}
}

// readAround reads n bytes of an answer, calls between, and returns all that
// comes until the end or the cut.
func readAround(t *testing.T, url string, n int, between func()) []byte {
	t.Helper()
	req := must(http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil))(t)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s", url, resp.Status)
	}
	first := make([]byte, n)
	if _, err := io.ReadFull(resp.Body, first); err != nil {
		t.Fatalf("%s: the layer does not flow: %v", url, err)
	}
	between()
	rest, _ := io.ReadAll(resp.Body) // a cut is what the caller looks for
	return append(first, rest...)
}
