package proxy

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/api"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// slowScanner reads a layer and keeps its result until release is closed. Each
// layer holds one package.
type slowScanner struct{ release <-chan struct{} }

func (s slowScanner) Scan(ctx context.Context, r io.Reader) (*analyzer.Layer, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	select {
	case <-s.release:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	d := godigest.FromBytes(b)
	return &analyzer.Layer{
		DiffID: d, Digest: d, Size: int64(len(b)), Uncompressed: int64(len(b)), Paths: []string{"p"},
		Packages: []analyzer.Package{{Type: "npm", Ecosystem: "npm", Name: "p", Version: "1", PURL: "pkg:npm/p@1", Path: "p"}},
	}, nil
}
func (slowScanner) Revision() string { return "slow" }

// verdictOn condemns every package, or none.
type verdictOn struct{ severity analyzer.Severity }

func (v verdictOn) Match(_ context.Context, pkgs []analyzer.Package) (m analyzer.Matches, err error) {
	if v.severity == analyzer.SeverityUnknown {
		return m, nil
	}
	for _, p := range pkgs {
		m.Findings = append(m.Findings, analyzer.Finding{Advisory: "CVE-2026-0001", Class: analyzer.ClassVulnerability, Severity: v.severity, Fixed: "2", Package: p})
	}
	return m, nil
}
func (verdictOn) Revision() string            { return "adv" }
func (verdictOn) Updated() time.Time          { return time.Now() }
func (v verdictOn) Current() analyzer.Matcher { return v }
func (verdictOn) Status() string              { return "" }
func (verdictOn) Summary() api.AdvisoryStatus { return api.AdvisoryStatus{Present: true} }

// testImage is an image on an upstream of its own: layers of the given sizes.
func testImage(t *testing.T, sizes ...int) (base string, manifest []byte, blobs map[godigest.Digest][]byte) {
	t.Helper()
	blobs = make(map[godigest.Digest][]byte)
	add := func(mediaType string, b []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(b), Size: int64(len(b))}
		blobs[d.Digest] = b
		return d
	}
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: ocispec.ImageConfig{User: "1000"}}
	config.RootFS.Type = "layers"
	for i, n := range sizes {
		var buf bytes.Buffer
		tw := tar.NewWriter(&buf)
		if err := tw.WriteHeader(&tar.Header{Name: fmt.Sprint(i), Typeflag: tar.TypeReg, Size: int64(n)}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(tw, rand.Reader, int64(n)); err != nil {
			t.Fatal(err)
		}
		if err := tw.Close(); err != nil {
			t.Fatal(err)
		}
		l := add(ocispec.MediaTypeImageLayer, buf.Bytes())
		m.Layers = append(m.Layers, l)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.Digest)
	}
	marshal := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	m.Config = add(ocispec.MediaTypeImageConfig, marshal(config))
	manifest = marshal(m)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ref := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
		switch {
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", m.MediaType)
			w.Header().Set("Docker-Content-Digest", godigest.FromBytes(manifest).String())
			_, _ = w.Write(manifest)
		case strings.Contains(r.URL.Path, "/blobs/"):
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blobs[godigest.Digest(ref)]))
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, manifest, blobs
}

// loot records which bytes of each blob any client ever got.
type loot struct {
	mu  sync.Mutex
	got map[godigest.Digest][]bool
}

// take asks for a range of a blob and reads until the answer ends or is cut.
func (l *loot) take(ctx context.Context, base string, d godigest.Digest, whole []byte, from, to int) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/blobs/"+d.String(), nil)
	if err != nil {
		return err
	}
	if to > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s", resp.Status)
	}
	buf := make([]byte, 4096)
	for pos := from; ; {
		n, err := resp.Body.Read(buf)
		l.mu.Lock()
		for i := range n {
			if whole[pos+i] != buf[i] {
				l.mu.Unlock()
				return fmt.Errorf("byte %d of %s is wrong", pos+i, d)
			}
			l.got[d][pos+i] = true
		}
		l.mu.Unlock()
		pos += n
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// TestNoCompleteBlobBeforeTheVerdict lets greedy clients loose on an image
// whose analysis takes long: whole blobs, every kind of range, again and again.
// Whatever they put together must lack the end of each blob if the verdict is a
// denial, and be the blob if it is not.
func TestNoCompleteBlobBeforeTheVerdict(t *testing.T) {
	for _, tt := range []struct {
		name     string
		severity analyzer.Severity
		denied   bool
	}{
		{"denied", analyzer.SeverityCritical, true},
		{"allowed", analyzer.SeverityUnknown, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up, manifest, blobs := testImage(t, 300_000, 70_000, 3_000, 10)
			release := make(chan struct{})
			s, _ := run(t, func(o *Options) {
				o.Hold, o.Stream, o.Trickle = 10*time.Millisecond, true, time.Millisecond
				o.Upstreams = []Upstream{{Config: upstream.Config{Name: "up", URL: up}}}
				o.Advisories = verdictOn{tt.severity}
				o.Analyzer = analyzer.New(analyzer.Options{Scanner: slowScanner{release}, Parallel: 8, Log: zaptest.NewLogger(t)})
			})
			base := "http://" + s.Addr().String() + "/v2/up/app"
			if status, body := get(t, http.DefaultClient, base+"/manifests/1", nil); status != http.StatusOK || body != string(manifest) {
				t.Fatalf("manifest past the hold: %d %s", status, body)
			}
			l := &loot{got: make(map[godigest.Digest][]bool)}
			for d, b := range blobs {
				l.got[d] = make([]bool, len(b))
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var clients sync.WaitGroup
			whole := make(chan error, 2*len(blobs))
			for d, b := range blobs {
				n := len(b)
				for range 2 {
					clients.Go(func() { whole <- l.take(ctx, base, d, b, 0, 0) })
				}
				for _, from := range []int{0, n / 2, n - 2048, n - 1024, n - 100, n - 1} {
					if from < 0 {
						continue
					}
					for _, to := range []int{n - 1, n} {
						if to > from {
							clients.Go(func() { _ = l.take(ctx, base, d, b, from, to) })
						}
					}
				}
				if status, _ := head(t, base+"/blobs/"+d.String()); status != http.StatusOK {
					t.Errorf("HEAD: %d", status)
				}
			}
			// Let the clients take all that trickles: until nothing more comes.
			for last := -1; ; {
				time.Sleep(150 * time.Millisecond)
				n := l.total()
				if n == last {
					break
				}
				last = n
			}
			l.check(t, "before the verdict", true)
			close(release)
			for range cap(whole) {
				if err := <-whole; (err != nil) != tt.denied {
					t.Errorf("whole blob, denied %v: %v", tt.denied, err)
				}
			}
			clients.Wait()
			l.check(t, "after the verdict", tt.denied)
			status, body := get(t, http.DefaultClient, base+"/manifests/1", nil)
			if tt.denied && (status != http.StatusForbidden || !strings.Contains(body, "CVE-2026-0001")) || !tt.denied && status != http.StatusOK {
				t.Errorf("the next pull: %d %s", status, body)
			}
			for d := range blobs {
				if status, _ := get(t, http.DefaultClient, base+"/blobs/"+d.String(), http.Header{"Range": {"bytes=0-0"}}); (status == http.StatusForbidden) != tt.denied {
					t.Errorf("one byte afterwards: %d", status)
				}
			}
		})
	}
}

// unjudged runs a server with streaming and an image whose analysis does not end.
// Its upstream answers requests for blobs, which it counts, with fault if that is
// a status.
func unjudged(t *testing.T, fault int) (base string, blobs map[godigest.Digest][]byte, asked *atomic.Int64) {
	t.Helper()
	up, _, blobs := testImage(t, 100_000)
	asked = new(atomic.Int64)
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault != 0 && strings.Contains(r.URL.Path, "/blobs/") {
			asked.Add(1)
			w.Header().Set("Retry-After", "60")
			w.WriteHeader(fault)
			return
		}
		http.Redirect(w, r, up+r.URL.Path, http.StatusTemporaryRedirect)
	}))
	t.Cleanup(front.Close)
	s, _ := run(t, func(o *Options) {
		o.Hold, o.Stream, o.Trickle = time.Millisecond, true, time.Hour
		o.Upstreams = []Upstream{{Config: upstream.Config{Name: "up", URL: front.URL}}}
		o.Advisories = verdictOn{analyzer.SeverityUnknown}
		o.Analyzer = analyzer.New(analyzer.Options{Scanner: slowScanner{nil}, Parallel: 8, Log: zaptest.NewLogger(t)})
	})
	base = "http://" + s.Addr().String() + "/v2/up/app"
	if status, body := get(t, http.DefaultClient, base+"/manifests/1", nil); status != http.StatusOK && status != fault {
		t.Fatalf("manifest: %d %s", status, body)
	}
	return base, blobs, asked
}

// TestRangesWhileJudged: what is asked of a blob whose end is withheld is answered
// as of any other.
func TestRangesWhileJudged(t *testing.T) {
	base, blobs, _ := unjudged(t, 0)
	for d, b := range blobs {
		whole := fmt.Sprintf("bytes 0-9/%d", len(b))
		for _, tt := range []struct {
			ranges, ifRange string
			status          int
			want            string
		}{
			{"bytes=0-9", "", http.StatusPartialContent, whole},
			{"bytes=0-9", `"` + d.String() + `"`, http.StatusPartialContent, whole},
			{"bytes=0-9", `"sha256:of-something-else"`, http.StatusOK, ""},
			{fmt.Sprintf("bytes=%d-", len(b)), "", http.StatusRequestedRangeNotSatisfiable, fmt.Sprintf("bytes */%d", len(b))},
		} {
			req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, base+"/blobs/"+d.String(), nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Range", tt.ranges)
			req.Header.Set("If-Range", tt.ifRange)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			if got := resp.Header.Get("Content-Range"); resp.StatusCode != tt.status || got != tt.want {
				t.Errorf("%s if %s: %d, Content-Range %q, want %d and %q", tt.ranges, tt.ifRange, resp.StatusCode, got, tt.status, tt.want)
			}
		}
	}
}

// TestFaultsWhileJudged: a client hears why a blob cannot be had, instead of the
// promise of one, and an upstream that wants to be left alone is not asked again
// and again for them.
func TestFaultsWhileJudged(t *testing.T) {
	for _, fault := range []int{http.StatusForbidden, http.StatusNotFound, http.StatusTooManyRequests} {
		base, blobs, asked := unjudged(t, fault)
		for d := range blobs {
			if status, body := get(t, http.DefaultClient, base+"/blobs/"+d.String(), nil); status != fault || !strings.Contains(body, `"errors"`) {
				t.Errorf("%d %s, want the upstream's %d", status, body, fault)
			}
			if status, _ := head(t, base+"/blobs/"+d.String()); status != fault {
				t.Errorf("HEAD: %d, want %d", status, fault)
			}
		}
		if n := asked.Load(); n > 14 { // for each of the requests once, and for each of the five analyses' two blobs
			t.Errorf("%d: the upstream was asked for blobs %d times", fault, n)
		}
	}
}

func (l *loot) total() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, got := range l.got {
		for _, g := range got {
			if g {
				n++
			}
		}
	}
	return n
}

// check wants the last KiB of each blob, or all of a smaller one, to be missing
// in full, or nothing to be missing.
func (l *loot) check(t *testing.T, when string, withheld bool) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for d, got := range l.got {
		for i, g := range got {
			last := i >= len(got)-1024
			if last && g == withheld || !last && !withheld && !g {
				t.Errorf("%s: byte %d of the %d of %s: got %v", when, i, len(got), d, g)
				break
			}
		}
	}
}

func head(t *testing.T, url string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode, resp.Header
}

// TestImageLargerThanTheCache: there is no room, and the client is told so
// before any byte.
func TestImageLargerThanTheCache(t *testing.T) {
	up, _, _ := testImage(t, 300_000)
	s, _ := run(t, func(o *Options) {
		o.CacheBytes = 100_000
		o.Upstreams = []Upstream{{Config: upstream.Config{Name: "up", URL: up}}}
		o.Advisories = verdictOn{analyzer.SeverityUnknown}
	})
	status, body := get(t, http.DefaultClient, "http://"+s.Addr().String()+"/v2/up/app/manifests/1", nil)
	if status != http.StatusServiceUnavailable || !strings.Contains(body, "UNAVAILABLE") {
		t.Errorf("%d %s, want 503", status, body)
	}
}

// TestEvictedImagesAreFetchedAgain: the cache holds two of three images at a time.
// What was evicted is a miss, not an empty answer, and is not analysed again.
func TestEvictedImagesAreFetchedAgain(t *testing.T) {
	done := make(chan struct{})
	close(done)
	scans := &countingScanner{slowScanner: slowScanner{done}}
	var ups []Upstream
	images := make(map[string]map[godigest.Digest][]byte)
	for _, name := range []string{"one", "two", "three"} {
		url, _, blobs := testImage(t, 300_000)
		ups = append(ups, Upstream{Config: upstream.Config{Name: name, URL: url}})
		images[name] = blobs
	}
	s, _ := run(t, func(o *Options) {
		o.CacheBytes, o.Upstreams, o.Advisories = 650_000, ups, verdictOn{analyzer.SeverityUnknown}
		o.Analyzer = analyzer.New(analyzer.Options{Scanner: scans, Log: zaptest.NewLogger(t)})
	})
	for range 3 {
		for name, blobs := range images {
			base := "http://" + s.Addr().String() + "/v2/" + name + "/app"
			eventually(t, base+"/manifests/1")
			for d, b := range blobs {
				if body := eventually(t, base+"/blobs/"+d.String()); body != string(b) {
					t.Errorf("%s: %d bytes of the blob's %d", name, len(body), len(b))
				}
			}
		}
	}
	if n := scans.n.Load(); n != 3 {
		t.Errorf("%d scans of three layers", n)
	}
}

// eventually gets url. A 503 is asked again: what another image holds until its
// download is stored cannot be evicted yet.
func eventually(t *testing.T, url string) string {
	t.Helper()
	for try := 0; ; try++ {
		status, body := get(t, http.DefaultClient, url, nil)
		if status == http.StatusOK {
			return body
		}
		if status != http.StatusServiceUnavailable || try == 100 {
			t.Fatalf("%s: %d %s", url, status, body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

type countingScanner struct {
	slowScanner
	n atomic.Int64
}

func (c *countingScanner) Scan(ctx context.Context, r io.Reader) (*analyzer.Layer, error) {
	c.n.Add(1)
	return c.slowScanner.Scan(ctx, r)
}

// TestSlowRequest: a client that never ends its header does not stay.
func TestSlowRequest(t *testing.T) {
	s, _ := run(t, func(o *Options) { o.HeaderTimeout = 50 * time.Millisecond })
	var d net.Dialer
	c, err := d.DialContext(t.Context(), "tcp", s.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Slow: "); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(c); err != nil || strings.Contains(string(b), "200 OK") {
		t.Errorf("after an unfinished header: %q, %v, want the connection closed", b, err)
	}
}
