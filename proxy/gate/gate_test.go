package gate

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/fetch"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// world is a gate between a fake upstream and the test. Its scanner takes a
// layer's file names for packages; its advisories condemn some of them.
type world struct {
	*Gate
	t        testing.TB
	dir      string
	up       *httptest.Server
	requests sync.Map // "GET /v2/…" → *atomic.Int64
	answer   atomic.Pointer[http.HandlerFunc]
	registry http.Handler // what up answers with unless answer is set
	scans    atomic.Int64
	hold     chan struct{} // when set, scans wait for it
	adv      *fakeAdvisories
	records  *records.DB
	stop     func()
	change   func(*Options) // of what the gate is made with; may be nil
}

type fakeAdvisories struct {
	mu      sync.Mutex
	rev     string // "" = missing
	finding map[string]analyzer.Severity
}

func (f *fakeAdvisories) Current() analyzer.Matcher {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.rev == "" {
		return nil
	}
	return fakeMatcher{f.rev, f.finding}
}
func (f *fakeAdvisories) Status() string { return "downloading 12 of 34" }

type fakeMatcher struct {
	rev     string
	finding map[string]analyzer.Severity
}

func (m fakeMatcher) Match(_ context.Context, pkgs []analyzer.Package) (analyzer.Matches, error) {
	var out analyzer.Matches
	for _, p := range pkgs {
		if s, ok := m.finding[p.Name]; ok {
			out.Findings = append(out.Findings, analyzer.Finding{Advisory: "CVE-2026-0001", Class: analyzer.ClassVulnerability, Severity: s, Fixed: "2", Package: p})
		}
	}
	return out, nil
}
func (m fakeMatcher) Revision() string   { return m.rev }
func (m fakeMatcher) Updated() time.Time { return time.Now() }

// Scan makes a package of each file.
func (w *world) Scan(ctx context.Context, r io.Reader) (*analyzer.Layer, error) {
	w.scans.Add(1)
	if w.hold != nil {
		select {
		case <-w.hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	l := &analyzer.Layer{DiffID: godigest.FromBytes(b), Digest: godigest.FromBytes(b), Size: int64(len(b)), Uncompressed: int64(len(b))}
	tr := tar.NewReader(bytes.NewReader(b))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return l, nil
		}
		if err != nil {
			return nil, err
		}
		l.Paths = append(l.Paths, h.Name)
		l.Packages = append(l.Packages, analyzer.Package{Type: "npm", Ecosystem: "npm", Name: h.Name, Version: "1", PURL: "pkg:npm/" + h.Name + "@1", Path: h.Name})
	}
}

func (w *world) Revision() string { return "test-1" }

const rules = `version: 1
policies:
  - name: test
    images: ["**"]
    rules:
      - {id: critical, for: finding, when: 'finding.severity >= CRITICAL', action: deny}
      - {id: high, for: finding, when: 'finding.severity >= HIGH', action: annotate}
`

func newWorld(t testing.TB, dir string) *world { return newWorldWith(t, dir, nil) }

func newWorldWith(t testing.TB, dir string, change func(*Options)) *world {
	t.Helper()
	w := &world{change: change, t: t, dir: dir, adv: &fakeAdvisories{rev: "adv-1", finding: map[string]analyzer.Severity{"bad": analyzer.SeverityCritical, "meh": analyzer.SeverityHigh}}}
	reg := registry.New(registry.Logger(log.New(io.Discard, "", 0)), registry.WithReferrersSupport(true))
	w.registry = reg
	w.up = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, _ := w.requests.LoadOrStore(r.Method+" "+r.URL.Path, new(atomic.Int64))
		n.(*atomic.Int64).Add(1) //nolint:errcheck,forcetypeassert // stored one line above
		if f := w.answer.Load(); f != nil && r.Method != http.MethodPut && r.Method != http.MethodPost && r.URL.Path != "/v2/" {
			(*f)(rw, r)
			return
		}
		reg.ServeHTTP(rw, r)
	}))
	t.Cleanup(w.up.Close)
	w.start(rules)
	return w
}

// start opens the gate on the world's folder, as a new process would.
func (w *world) start(rules string) {
	w.t.Helper()
	logger := zaptest.NewLogger(w.t)
	must := func(err error) {
		w.t.Helper()
		if err != nil {
			w.t.Fatal(err)
		}
	}
	db, err := records.Open(w.t.Context(), filepath.Join(w.dir, "records.db"), logger)
	must(err)
	st, err := store.Open(filepath.Join(w.dir, "cache"), store.Options{Metrics: prometheus.NewRegistry(), Log: logger})
	must(err)
	ups, err := upstream.New(upstream.Options{Upstreams: []upstream.Config{{Name: "up", URL: w.up.URL}}, Anonymous: true})
	must(err)
	pol, err := policy.Parse("test.yaml", []byte(rules))
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	fm := fetch.New(ctx, fetch.Options{
		NewSink: func(_ context.Context, _ godigest.Digest, size int64) (fetch.Sink, error) {
			return st.NewSpool(size)
		},
		Stored: st.Has, Grace: time.Minute, Log: logger,
	})
	w.records = db
	opts := Options{
		Hold: 10 * time.Second, AnalysisTimeout: time.Minute, TagTTL: time.Hour, StaleIfError: time.Hour, WhenMissing: policy.Pending,
		Advisories: w.adv, Analyzer: analyzer.New(analyzer.Options{Scanner: w, Cache: db, Parallel: 2, Log: logger}),
		Upstreams: ups, Store: st, Fetch: fm, Records: db, Metrics: prometheus.NewRegistry(), Log: logger,
	}
	if w.change != nil {
		w.change(&opts)
	}
	w.Gate = New(ctx, pol, opts)
	w.stop = sync.OnceFunc(func() {
		cancel()
		w.Wait()
		fm.Wait()
		must(db.Close())
	})
	w.t.Cleanup(w.stop)
}

func (w *world) count(prefix string) (n int64) {
	w.requests.Range(func(k, v any) bool {
		if strings.HasPrefix(k.(string), prefix) { //nolint:errcheck,forcetypeassert // the map's own types
			n += v.(*atomic.Int64).Load() //nolint:errcheck,forcetypeassert // the map's own types
		}
		return true
	})
	return n
}

// layer is a tar archive of empty files with these names.
func (w *world) layer(names []string) []byte {
	w.t.Helper()
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	for _, n := range names {
		if err := tw.WriteHeader(&tar.Header{Name: n, Typeflag: tar.TypeReg, Mode: 0o644}); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		w.t.Fatal(err)
	}
	return buf.Bytes()
}

// image pushes an image to the upstream, one layer for each set of file names.
func (w *world) image(ref string, layers ...[]string) ocispec.Manifest {
	w.t.Helper()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	repo, tag, _ := strings.Cut(ref, ":")
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, Config: ocispec.ImageConfig{User: "1000"}}
	config.RootFS.Type = "layers"
	for _, names := range layers {
		layer := w.layer(names)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, godigest.FromBytes(layer))
		m.Layers = append(m.Layers, w.blob(repo, ocispec.MediaTypeImageLayer, layer))
	}
	m.Config = w.blob(repo, ocispec.MediaTypeImageConfig, w.json(config))
	w.put(repo, tag, m.MediaType, w.json(m))
	return m
}

func (w *world) json(v any) []byte {
	w.t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

func (w *world) blob(repo, mediaType string, b []byte) ocispec.Descriptor {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(b), Size: int64(len(b))}
	w.send(http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.Digest.String(), "application/octet-stream", b)
	return d
}

func (w *world) put(repo, reference, mediaType string, b []byte) godigest.Digest {
	w.send(http.MethodPut, "/v2/"+repo+"/manifests/"+reference, mediaType, b)
	return godigest.FromBytes(b)
}

func (w *world) send(method, path, mediaType string, b []byte) {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.t.Context(), method, w.up.URL+path, bytes.NewReader(b))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", mediaType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusCreated {
		w.t.Fatalf("%s %s: %s", method, path, resp.Status)
	}
}

// pull asks the gate for a manifest by tag, or by digest.
func (w *world) pull(ref string) (Admission, error) {
	if repo, d, ok := strings.Cut(ref, "@"); ok {
		return w.Manifest(w.t.Context(), route.Route{Kind: route.Manifest, Upstream: "up", Repository: repo, Name: "up/" + repo, Digest: godigest.Digest(d)})
	}
	repo, tag, _ := strings.Cut(ref, ":")
	return w.Manifest(w.t.Context(), route.Route{Kind: route.Manifest, Upstream: "up", Repository: repo, Name: "up/" + repo, Tag: tag})
}

func (w *world) blobError(repo string, d godigest.Digest) error {
	b, err := w.Blob(w.t.Context(), route.Route{Kind: route.Blob, Upstream: "up", Repository: repo, Name: "up/" + repo, Digest: d})
	if err == nil {
		err = b.Close()
	}
	return err
}

func denied(err error) bool {
	var d *policy.DeniedError
	return errors.As(err, &d)
}

func pending(err error) bool {
	var p *PendingError
	return errors.As(err, &p)
}

func TestVerdicts(t *testing.T) {
	w := newWorld(t, t.TempDir())
	for _, tt := range []struct {
		ref, file string
		want      policy.Decision
	}{
		{"good:1", "fine", policy.Allow},
		{"warn:1", "meh", policy.Annotate},
		{"evil:1", "bad", policy.Deny},
	} {
		t.Run(tt.ref, func(t *testing.T) {
			m := w.image(tt.ref, []string{"other"}, []string{tt.file})
			a, err := w.pull(tt.ref)
			repo, _, _ := strings.Cut(tt.ref, ":")
			if tt.want == policy.Deny {
				if !denied(err) || !strings.Contains(err.Error(), "CVE-2026-0001") {
					t.Fatalf("error = %v, want a denial that names the advisory", err)
				}
				for _, l := range append(m.Layers, m.Config) {
					if err := w.blobError(repo, l.Digest); !denied(err) {
						t.Errorf("blob of a denied image: %v", err)
					}
				}
				return
			}
			if err != nil || a.Verdict.Decision != tt.want {
				t.Fatalf("verdict %v, %v", a.Verdict.Decision, err)
			}
			for _, l := range append(m.Layers, m.Config) {
				if err := w.blobError(repo, l.Digest); err != nil {
					t.Errorf("blob: %v", err)
				}
			}
			if by, err := w.pull(repo + "@" + a.Manifest.Descriptor.Digest.String()); err != nil || !bytes.Equal(by.Bytes, a.Bytes) {
				t.Errorf("by digest: %v", err)
			}
		})
	}
	if err := w.blobError("good", godigest.FromString("unheard of")); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("unknown blob: %v", err)
	}
}

// TestBase pulls an image, then others on top of it: what was admitted proves
// what they are built on, to the policy that they are judged by.
func TestBase(t *testing.T) {
	w := newWorld(t, t.TempDir())
	pol, err := policy.Parse("test.yaml", []byte(`version: 1
policies:
  - name: test
    images: ["**"]
    rules:
      - {id: bad, for: finding, when: 'finding.severity >= CRITICAL', action: deny}
      - {id: proven, for: image, when: 'image.base.proven && image.base.provenName == "up/base:1" && image.base.provenLayers == 1', action: annotate}
`))
	if err != nil {
		t.Fatal(err)
	}
	w.SetPolicy(pol)
	for _, tt := range []struct {
		ref    string
		layers [][]string
		proven bool
	}{
		{"base:1", [][]string{{"a"}}, false},
		{"app:1", [][]string{{"a"}, {"b"}}, true},
		{"elsewhere:1", [][]string{{"b"}, {"a"}}, false},
		{"refused:1", [][]string{{"bad"}}, false},
		{"onrefused:1", [][]string{{"bad"}, {"a"}}, false},
	} {
		w.image(tt.ref, tt.layers...)
		a, err := w.pull(tt.ref)
		if err != nil && !denied(err) {
			t.Fatalf("%s: %v", tt.ref, err)
		}
		got := slices.ContainsFunc(a.Verdict.Reasons, func(r policy.Reason) bool { return r.Rule == "proven" })
		if got != tt.proven {
			t.Errorf("%s: proven = %v: %+v", tt.ref, got, a.Verdict.Reasons)
		}
	}
}

func TestCrowdCausesOneAnalysis(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.hold = make(chan struct{})
	w.image("app:1", []string{"a"}, []string{"b"}, []string{"c"})
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			if _, err := w.pull("app:1"); err != nil {
				t.Errorf("pull %d: %v", i, err)
			}
		})
	}
	close(w.hold)
	wg.Wait()
	if n := w.scans.Load(); n != 3 {
		t.Errorf("%d layers scanned, want 3", n)
	}
	if n := w.count("GET /v2/app/blobs/"); n != 4 {
		t.Errorf("%d blobs fetched, want 3 layers and 1 config", n)
	}
	if n := w.count("HEAD /v2/app/manifests/") + w.count("GET /v2/app/manifests/"); n != 1 {
		t.Errorf("%d manifest requests, want one GET by the new tag", n)
	}
}

func TestHoldEndsInPending(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.opts.Hold = 20 * time.Millisecond
	w.hold = make(chan struct{})
	m := w.image("app:1", []string{"a"})
	if _, err := w.pull("app:1"); !pending(err) {
		t.Fatalf("first pull: %v, want pending", err)
	}
	if err := w.blobError("app", m.Layers[0].Digest); !pending(err) {
		t.Errorf("blob while the analysis runs: %v, want pending", err)
	}
	close(w.hold)
	w.opts.Hold = 10 * time.Second
	if _, err := w.pull("app:1"); err != nil {
		t.Errorf("pull when it is done: %v", err)
	}
	if n := w.scans.Load(); n != 1 {
		t.Errorf("%d scans, want the first to have gone on", n)
	}
}

func TestMissingAdvisories(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.adv.rev = ""
	w.image("app:1", []string{"a"})
	_, err := w.pull("app:1")
	if !pending(err) || !strings.Contains(err.Error(), "downloading 12 of 34") {
		t.Fatalf("error = %v, want pending with the progress", err)
	}
	if _, err := w.records.AddBlock(t.Context(), policy.Block{Image: "up/app:1", Reason: "no", Owner: "ann"}, "ann"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.pull("app:1"); !denied(err) {
		t.Errorf("blocked, advisories missing: %v, want denied", err)
	}
	w.image("app:2", []string{"b"})
	w.adv.mu.Lock()
	w.adv.rev = "adv-1"
	w.adv.mu.Unlock()
	if _, err := w.pull("app:2"); err != nil {
		t.Errorf("with advisories: %v", err)
	}
}

func TestChangesTakeEffectAtOnce(t *testing.T) {
	w := newWorld(t, t.TempDir())
	m := w.image("app:1", []string{"a"})
	a, err := w.pull("app:1")
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, refused bool) {
		t.Helper()
		_, byTag := w.pull("app:1")
		_, byDigest := w.pull("app@" + a.Manifest.Descriptor.Digest.String())
		blob := w.blobError("app", m.Layers[0].Digest)
		for how, err := range map[string]error{"tag": byTag, "digest": byDigest, "blob": blob} {
			if denied(err) != refused || !refused && err != nil {
				t.Errorf("%s, by %s: %v", what, how, err)
			}
		}
	}
	for what, b := range map[string]policy.Block{
		"digest":   {Digest: a.Manifest.Descriptor.Digest},
		"tag glob": {Image: "up/app:1"},
		"glob":     {Image: "up/**"},
		"layer":    {Layer: m.Layers[0].Digest},
		"package":  {Package: "pkg:npm/a"},
	} {
		b.Reason, b.Owner = "test", "ann"
		added, err := w.records.AddBlock(t.Context(), b, "ann")
		if err != nil {
			t.Fatal(err)
		}
		check("blocked by "+what, true)
		if err := w.records.RemoveBlock(t.Context(), added.ID, "ann"); err != nil {
			t.Fatal(err)
		}
		check("unblocked by "+what, false)
	}
	w.adv.mu.Lock()
	w.adv.rev, w.adv.finding = "adv-2", map[string]analyzer.Severity{"a": analyzer.SeverityCritical}
	w.adv.mu.Unlock()
	check("new advisories", true)
	lax, err := policy.Parse("lax.yaml", []byte("version: 1\npolicies: [{name: lax, images: ['**'], rules: []}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	w.SetPolicy(lax)
	check("another policy", false)
	if n := w.scans.Load(); n != 1 {
		t.Errorf("%d scans, want the stored inventory to be matched again", n)
	}
}

// TestBlockedUnseen: what an operator blocks by digest or name is refused without
// being downloaded and analysed, and is when the block is gone.
func TestBlockedUnseen(t *testing.T) {
	w := newWorld(t, t.TempDir())
	m := w.image("app:1", []string{"a"})
	for what, b := range map[string]policy.Block{
		"digest": {Digest: godigest.FromBytes(w.json(m))},
		"name":   {Image: "up/app:1"},
	} {
		b.Reason, b.Owner = "test", "ann"
		added, err := w.records.AddBlock(t.Context(), b, "ann")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.pull("app:1"); !denied(err) || !strings.Contains(err.Error(), "blocked") {
			t.Errorf("%s: %v, want denied by the block", what, err)
		}
		if err := w.blobError("app", m.Layers[0].Digest); err == nil {
			t.Errorf("%s: its layer was served", what)
		}
		if scans, blobs := w.scans.Load(), w.count("GET /v2/app/blobs/"); scans != 0 || blobs != 0 {
			t.Errorf("%s: %d scans, %d blobs asked for, want none", what, scans, blobs)
		}
		if err := w.records.RemoveBlock(t.Context(), added.ID, "ann"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.pull("app:1"); err != nil || w.scans.Load() != 1 {
		t.Errorf("unblocked: %v, %d scans", err, w.scans.Load())
	}
}

func TestIndexPassesAndChildrenAreGated(t *testing.T) {
	w := newWorld(t, t.TempDir())
	good, bad := w.json(w.image("multi:amd64", []string{"fine"})), w.json(w.image("multi:arm64", []string{"bad"}))
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for arch, child := range map[string][]byte{"amd64": good, "arm64": bad} {
		index.Manifests = append(index.Manifests, ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.FromBytes(child), Size: int64(len(child)),
			Platform: &ocispec.Platform{OS: "linux", Architecture: arch},
		})
	}
	body := w.json(index)
	w.put("multi", "1", index.MediaType, body)
	a, err := w.pull("multi:1")
	if err != nil || !bytes.Equal(a.Bytes, body) {
		t.Fatalf("index: %v", err)
	}
	if n := w.scans.Load(); n != 0 {
		t.Errorf("%d scans for an index, want none", n)
	}
	if _, err := w.pull("multi@" + godigest.FromBytes(good).String()); err != nil {
		t.Errorf("good child: %v", err)
	}
	if n := w.scans.Load(); n != 1 {
		t.Errorf("%d scans, want that of the child that was pulled", n)
	}
	if _, err := w.pull("multi@" + godigest.FromBytes(bad).String()); !denied(err) {
		t.Errorf("bad child: %v", err)
	}
	if err := w.blobError("multi", godigest.FromBytes(bad)); err == nil {
		t.Error("a child manifest left through the blob path")
	}
}

// TestBlockedIndexBlocksItsChildren: a client that has the index already asks
// for the child only.
func TestBlockedIndexBlocksItsChildren(t *testing.T) {
	w := newWorld(t, t.TempDir())
	child := w.json(w.image("multi:amd64", []string{"fine"}))
	index := w.json(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: []ocispec.Descriptor{
		{MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.FromBytes(child), Size: int64(len(child))},
	}})
	w.put("multi", "1", ocispec.MediaTypeImageIndex, index)
	for _, ref := range []string{"multi:1", "multi@" + godigest.FromBytes(child).String()} {
		if _, err := w.pull(ref); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.records.AddBlock(t.Context(), policy.Block{Digest: godigest.FromBytes(index), Reason: "no", Owner: "ann"}, "ann"); err != nil {
		t.Fatal(err)
	}
	for _, ref := range []string{"multi:1", "multi@" + godigest.FromBytes(index).String(), "multi@" + godigest.FromBytes(child).String()} {
		if _, err := w.pull(ref); !denied(err) {
			t.Errorf("%s: %v, want denied", ref, err)
		}
	}
}

func TestTagsAreRemembered(t *testing.T) {
	w := newWorld(t, t.TempDir())
	now := time.Now()
	w.now = func() time.Time { return now }
	w.opts.TagTTL, w.opts.StaleIfError = 5*time.Minute, time.Hour
	first := godigest.FromBytes(w.json(w.image("app:1", []string{"a"})))
	heads := func() int64 { return w.count("HEAD /v2/app/manifests/") + w.count("GET /v2/app/manifests/1") }
	is := func(what string, want godigest.Digest, stale, asked bool) {
		t.Helper()
		before := heads()
		a, err := w.pull("app:1")
		if err != nil || a.Manifest.Descriptor.Digest != want || a.Stale != stale || (heads() > before) != asked {
			t.Errorf("%s: %s stale %v, %d requests, %v", what, a.Manifest.Descriptor.Digest, a.Stale, heads()-before, err)
		}
	}
	is("first", first, false, true)
	second := godigest.FromBytes(w.json(w.image("app:1", []string{"b"})))
	now = now.Add(4 * time.Minute)
	is("within the TTL", first, false, false)
	now = now.Add(2 * time.Minute)
	is("past it", second, false, true)
	for _, code := range []int{429, 500, 503} {
		down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) })
		w.answer.Store(&down)
		now = now.Add(6 * time.Minute)
		is("upstream fails", second, true, true)
	}
	gone := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusNotFound) })
	w.answer.Store(&gone)
	var status *upstream.StatusError
	for want := range int64(2) { // the second one is answered from memory
		before := heads()
		if _, err := w.pull("app:1"); !errors.As(err, &status) || status.Status != 404 || heads()-before != 1-want {
			t.Errorf("gone upstream: %v, %d requests", err, heads()-before)
		}
	}
	w.answer.Store(nil)
	now = now.Add(time.Minute)
	is("back again, past the negative TTL", second, false, true)
	w.opts.TagTTL = 0
	is("always ask", second, false, true)
	is("always ask", second, false, true)
}

// TestSignatureTagsAreRememberedBriefly: whatever TagTTL says, as lists of
// referrers are; and one that cannot be asked for is no missing one.
func TestSignatureTagsAreRememberedBriefly(t *testing.T) {
	w := newWorld(t, t.TempDir())
	now := time.Now()
	w.now = func() time.Time { return now }
	w.opts.TagTTL = time.Hour
	image := "sha256-" + godigest.FromString("image").Encoded()
	for tag, brief := range map[string]bool{
		image + ".sig": true, image + ".att": true, image + ".sbom": true, image: true,
		image[:70] + ".sig": false, image + ".txt": false, "sig": false,
	} {
		first := godigest.FromBytes(w.json(w.image("app:"+tag, []string{"a"})))
		is := func(want godigest.Digest) {
			t.Helper()
			if a, err := w.pull("app:" + tag); err != nil || a.Manifest.Descriptor.Digest != want {
				t.Errorf("%s: %s, %v, want %s", tag, a.Manifest.Descriptor.Digest, err, want)
			}
		}
		is(first)
		second := godigest.FromBytes(w.json(w.image("app:"+tag, []string{"b"})))
		now = now.Add(59 * time.Second)
		is(first)
		now = now.Add(time.Second)
		if brief {
			is(second)
		} else {
			is(first)
		}
	}
	down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTooManyRequests) })
	w.answer.Store(&down)
	for range 2 { // the second time nothing is remembered either
		var status *upstream.StatusError
		if _, err := w.pull("app:" + image + ".new"); !errors.As(err, &status) || status.Status != http.StatusTooManyRequests {
			t.Errorf("a throttled upstream: %v, want its 429", err)
		}
	}
}

// TestConfirmedTagsSurviveARestart: serve-stale counts from when the upstream
// last said what the tag names, not from when the tag moved there.
func TestConfirmedTagsSurviveARestart(t *testing.T) {
	w := newWorld(t, t.TempDir())
	begin := time.Now()
	w.image("app:1", []string{"a"})
	pull := func(after time.Duration) (Admission, error) {
		w.now = func() time.Time { return begin.Add(after) }
		w.opts.TagTTL, w.opts.StaleIfError = 5*time.Minute, time.Hour
		return w.pull("app:1")
	}
	for _, after := range []time.Duration{0, 50 * time.Minute, 56 * time.Minute} { // the last one is not saved
		if _, err := pull(after); err != nil {
			t.Fatal(err)
		}
	}
	w.stop()
	w.start(rules)
	if _, at, ok, err := w.records.Tag(t.Context(), "up/app", "1"); err != nil || !ok || !at.Equal(begin.Add(50*time.Minute)) {
		t.Errorf("confirmed %s after the begin, %v, %v", at.Sub(begin), ok, err)
	}
	gets := w.count("GET /v2/app/manifests/")
	w.opts.TagTTL = 0
	if _, err := w.pull("app:1"); err != nil || w.count("GET /v2/app/manifests/") != gets {
		t.Errorf("a tag of the records costs a GET: %v", err)
	}
	down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.answer.Store(&down)
	if a, err := pull(100 * time.Minute); err != nil || !a.Stale {
		t.Errorf("50 minutes after the confirmation: stale %v, %v", a.Stale, err)
	}
	if _, err := pull(116 * time.Minute); err == nil {
		t.Error("66 minutes after the confirmation the tag was served")
	}
}

func TestReferrers(t *testing.T) {
	w := newWorld(t, t.TempDir())
	now := time.Now()
	w.now = func() time.Time { return now }
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.FromBytes(w.json(w.image("app:1", []string{"a"})))}
	ask := func(artifactType string) ([]ocispec.Descriptor, error) {
		return w.Referrers(t.Context(), route.Route{Kind: route.Referrers, Upstream: "up", Repository: "app", Name: "up/app", Digest: subject.Digest}, artifactType)
	}
	down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusTooManyRequests) })
	w.answer.Store(&down)
	if list, err := ask(""); err == nil {
		t.Errorf("a throttled upstream was read as %d referrers", len(list))
	}
	w.answer.Store(nil)
	if list, err := ask(""); err != nil || len(list) != 0 {
		t.Errorf("before any: %v, %v", list, err)
	}
	empty := w.blob("app", ocispec.MediaTypeEmptyJSON, []byte("{}"))
	for _, kind := range []string{"application/vnd.acme.one", "application/vnd.acme.two"} {
		empty.MediaType = kind // which the test's registry takes for the artifact type
		w.put("app", strings.TrimPrefix(kind, "application/vnd."), ocispec.MediaTypeImageManifest, w.json(ocispec.Manifest{
			Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, ArtifactType: kind, Config: empty, Subject: &subject,
		}))
	}
	now = now.Add(30 * time.Second)
	if list, err := ask(""); err != nil || len(list) != 0 {
		t.Errorf("the empty list is remembered for a minute: %v, %v", list, err)
	}
	now = now.Add(time.Minute)
	if list, err := ask(""); err != nil || len(list) != 2 {
		t.Errorf("all: %v, %v", list, err)
	}
	before := w.count("GET /v2/app/referrers/")
	if list, err := ask("application/vnd.acme.two"); err != nil || len(list) != 1 || list[0].ArtifactType != "application/vnd.acme.two" {
		t.Errorf("filtered: %v, %v", list, err)
	}
	if n := w.count("GET /v2/app/referrers/"); n != before {
		t.Errorf("a remembered list was asked for again")
	}
}

// TestReferrerListsAreBounded: lists of an upstream that writes long annotations
// do not fill the memory.
func TestReferrerListsAreBounded(t *testing.T) {
	c := referrerCache{m: make(map[key]referrerList)}
	now := time.Now()
	long := func(size int) []ocispec.Descriptor {
		return []ocispec.Descriptor{{Annotations: map[string]string{"a": strings.Repeat("x", size)}}}
	}
	for i := range 1000 {
		k := key{"up/app", godigest.FromString(strconv.Itoa(i))}
		for range 2 { // the second takes the place of the first
			c.put(k, referrerList{referrers: long(1 << 20), at: now})
		}
		if _, ok := c.get(k, now); !ok {
			t.Fatalf("list %d is not remembered", i)
		}
		if n := len(c.m); n > 16 || i >= 15 && c.bytes < 1<<20 {
			t.Fatalf("%d lists of 1 MiB are kept, counted as %d bytes", n, c.bytes)
		}
	}
	k := key{"up/app", "huge"}
	c.put(k, referrerList{referrers: long(maxReferrerBytes), at: now})
	if _, ok := c.get(k, now); ok || len(c.m) == 0 {
		t.Error("a list took the place of all others")
	}
}

// TestRepositoriesAreApart: what one repository served says nothing about
// another that the caller may not be allowed to read.
func TestRepositoriesAreApart(t *testing.T) {
	w := newWorld(t, t.TempDir())
	m := w.image("private:1", []string{"a"})
	a, err := w.pull("private:1")
	if err != nil {
		t.Fatal(err)
	}
	var status *upstream.StatusError
	if _, err := w.pull("public@" + a.Manifest.Descriptor.Digest.String()); !errors.As(err, &status) || status.Status != http.StatusNotFound {
		t.Errorf("the digest in another repository: %v, want the upstream's 404", err)
	}
	if err := w.blobError("public", m.Layers[0].Digest); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("the layer in another repository: %v, want unknown", err)
	}
}

// TestEveryJoinersRepository: two repositories that wait for the same download
// both serve its blob, each for its own manifest.
func TestEveryJoinersRepository(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.image("one:1", []string{"shared"}, []string{"a"})
	m := w.image("two:1", []string{"shared"}, []string{"b"})
	shared := m.Layers[0].Digest
	w.hold = make(chan struct{})
	pulls := make(chan error)
	for _, ref := range []string{"one:1", "two:1"} {
		go func() {
			_, err := w.pull(ref)
			pulls <- err
		}()
	}
	close(w.hold)
	for range 2 {
		if err := <-pulls; err != nil {
			t.Error(err)
		}
	}
	for _, repo := range []string{"one", "two"} {
		if err := w.blobError(repo, shared); err != nil {
			t.Errorf("the blob from %s: %v", repo, err)
		}
	}
	if err := w.blobError("three", shared); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("the blob from a repository that nobody pulled from: %v, want unknown", err)
	}
	if n := w.count("GET /v2/one/blobs/"+shared.String()) + w.count("GET /v2/two/blobs/"+shared.String()); n != 1 {
		t.Errorf("the blob was downloaded %d times", n)
	}
}

// TestOldManifestsAreNotWaitedFor: a layer of an image that is warm leaves without
// a word of the upstream's, though evicted images have it too.
func TestOldManifestsAreNotWaitedFor(t *testing.T) {
	w := newWorld(t, t.TempDir())
	var digests []godigest.Digest
	var shared godigest.Digest
	for i := range 5 {
		m := w.image("app:"+strconv.Itoa(i), []string{"shared"}, []string{strconv.Itoa(i)})
		shared = m.Layers[0].Digest
		a, err := w.pull("app:" + strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		digests = append(digests, a.Manifest.Descriptor.Digest)
	}
	slices.Sort(digests) // as the records list them
	for _, d := range digests[:4] {
		w.entries.remove(key{"up/app", d})
		if err := w.opts.Store.Remove(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.answer.Store(&down)
	before := w.count("GET ")
	if err := w.blobError("app", shared); err != nil {
		t.Error(err)
	}
	if n := w.count("GET ") - before; n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// TestHostileDigests: a digest in a descriptor that two readers could take for
// two things, or a path, makes the image denied, and nothing is asked for by it.
func TestHostileDigests(t *testing.T) {
	sum := godigest.FromString("x").Encoded()
	for name, digest := range map[string]string{
		"sha512":            godigest.SHA512.FromString("x").String(),
		"unknown algorithm": "md5:" + sum[:32],
		"upper case":        "sha256:" + strings.ToUpper(sum),
		"upper algorithm":   "SHA256:" + sum,
		"short":             "sha256:" + sum[:63],
		"long":              "sha256:" + sum + "0",
		"no algorithm":      sum,
		"path":              "sha256:" + strings.Repeat("../", 21) + "x",
		"blank":             "sha256:" + sum + " ",
		"none":              "",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, t.TempDir())
			config := w.blob("odd", ocispec.MediaTypeImageConfig, w.json(ocispec.Image{}))
			layer := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: godigest.Digest(digest), Size: 1}
			for where, m := range map[string]ocispec.Manifest{"layer": {Config: config, Layers: []ocispec.Descriptor{layer}}, "config": {Config: layer}} {
				m.SchemaVersion, m.MediaType = 2, ocispec.MediaTypeImageManifest
				w.put("odd", where, m.MediaType, w.json(m))
				if _, err := w.pull("odd:" + where); !denied(err) {
					t.Errorf("%s: %v, want denied", where, err)
				}
			}
			if n := w.count("GET /v2/odd/blobs/"); n != 0 {
				t.Errorf("%d blobs were asked for", n)
			}
		})
	}
}

func TestUpstreamFaults(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.opts.TagTTL = 0 // or the 404 would be remembered
	m := w.image("app:1", []string{"a"})
	fault := func(f http.HandlerFunc) { w.answer.Store(&f) }
	for _, code := range []int{401, 404, 429, 500, 503} {
		fault(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(code) })
		var status *upstream.StatusError
		if _, err := w.pull("app:1"); !errors.As(err, &status) || status.Status != code {
			t.Errorf("upstream answers %d: %v", code, err)
		}
	}
	// The manifest is right, every blob is wrong.
	manifest := w.json(m)
	fault(func(rw http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			rw.Header().Set("Content-Type", m.MediaType)
			rw.Header().Set("Docker-Content-Digest", godigest.FromBytes(manifest).String())
			_, _ = rw.Write(manifest)
			return
		}
		_, _ = io.WriteString(rw, strings.Repeat("x", int(m.Config.Size)))
	})
	_, err := w.pull("app:1")
	if err == nil || denied(err) || pending(err) {
		t.Fatalf("wrong blobs: %v, want an error that is no verdict", err)
	}
	if vs, err := w.records.VerdictsOf(t.Context(), godigest.FromBytes(manifest)); err != nil || len(vs) != 0 {
		t.Errorf("an upstream's fault was recorded as a verdict: %v, %v", vs, err)
	}
	w.answer.Store(nil)
	// A pull may still join a download of wrong bytes that is about to fail.
	for try := 1; ; try++ {
		if _, err = w.pull("app:1"); err == nil {
			break
		}
		if denied(err) || try == 100 {
			t.Fatalf("pull when the upstream is well again, %d: %v", try, err)
		}
	}
}

func TestBrokenImagesAreDenied(t *testing.T) {
	w := newWorld(t, t.TempDir())
	w.put("odd", "schema1", "application/vnd.docker.distribution.manifest.v1+json", []byte(`{"schemaVersion":1,"fsLayers":[]}`))
	both := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"digest":"` + godigest.FromString("c").String() + `"},"layers":[],"manifests":[]}`)
	w.put("odd", "both", ocispec.MediaTypeImageManifest, both)
	notTar := w.blob("odd", ocispec.MediaTypeImageLayer, []byte(strings.Repeat("not a tar file ", 100)))
	config := w.blob("odd", ocispec.MediaTypeImageConfig, w.json(ocispec.Image{}))
	w.put("odd", "layer", ocispec.MediaTypeImageManifest, w.json(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{notTar},
	}))
	lying := config
	lying.Size++
	w.put("odd", "size", ocispec.MediaTypeImageManifest, w.json(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: lying,
	}))
	for _, tag := range []string{"schema1", "both", "layer"} {
		if _, err := w.pull("odd:" + tag); !denied(err) {
			t.Errorf("%s: %v, want denied", tag, err)
		}
	}
	if _, err := w.pull("odd:size"); err == nil {
		t.Error("size: a config with another size than the manifest says was served")
	}
}

// TestForeignLayer: a layer that the upstream does not have, only an address
// elsewhere, is the image's fault and not the upstream's.
func TestForeignLayer(t *testing.T) {
	w := newWorld(t, t.TempDir())
	m := w.image("app:1", []string{"a"})
	m.Layers = append(m.Layers, ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Digest: godigest.FromString("elsewhere"), Size: 9, URLs: []string{"https://evil.example/layer"},
	})
	w.put("app", "2", m.MediaType, w.json(m))
	w.SetPolicy(policy.Default())
	_, err := w.pull("app:2")
	if !denied(err) {
		t.Fatalf("%v, want denied", err)
	}
	var d *policy.DeniedError
	if errors.As(err, &d) && !slices.ContainsFunc(d.Verdict.Reasons, func(r policy.Reason) bool { return r.Rule == "external-urls" }) {
		t.Errorf("reasons %+v, want external-urls", d.Verdict.Reasons)
	}
}

func TestRestartServesWithoutTheUpstream(t *testing.T) {
	w := newWorld(t, t.TempDir())
	m := w.image("app:1", []string{"a"})
	w.image("evil:1", []string{"bad"})
	a, err := w.pull("app:1")
	if err != nil {
		t.Fatal(err)
	}
	_, evil := w.pull("evil:1")
	var before *policy.DeniedError
	if !errors.As(evil, &before) {
		t.Fatal(evil)
	}
	w.stop()
	w.start(rules)
	down := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusServiceUnavailable) })
	w.answer.Store(&down)
	if _, err := w.pull("app@" + a.Manifest.Descriptor.Digest.String()); err != nil {
		t.Errorf("by digest: %v", err)
	}
	if a, err := w.pull("app:1"); err != nil || !a.Stale {
		t.Errorf("by tag, within staleIfError: stale %v, %v", a.Stale, err)
	}
	if err := w.blobError("app", m.Layers[0].Digest); err != nil {
		t.Errorf("blob: %v", err)
	}
	_, evil = w.pull("evil@" + before.Verdict.Digest.String())
	var after *policy.DeniedError
	if !errors.As(evil, &after) || after.Verdict.ID != before.Verdict.ID {
		t.Errorf("denied image: %v, want the same verdict %s", evil, before.Verdict.ID)
	}
	if n := w.scans.Load(); n != 2 {
		t.Errorf("%d scans, want none after the restart", n)
	}
}
