package analyzer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"
)

// scanFunc is a LayerScanner.
type scanFunc func(context.Context, io.Reader) (*Layer, error)

func (f scanFunc) Scan(ctx context.Context, r io.Reader) (*Layer, error) { return f(ctx, r) }
func (scanFunc) Revision() string                                        { return "test" }

// lineScanner is a scanner whose layers are lines of a path each; the diffID is
// that of the upper-cased text, so that it differs from the digest.
func lineScanner(_ context.Context, r io.Reader) (*Layer, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	return &Layer{
		Digest: godigest.FromBytes(b), Size: int64(len(b)), DiffID: diffID(string(b)),
		Packages: []Package{{Type: "npm", Name: string(b), Version: "1", Path: string(b)}}, Paths: []string{string(b)},
	}, nil
}

func diffID(layer string) godigest.Digest { return godigest.FromString(strings.ToUpper(layer)) }

// testImage builds an image of layers; opens counts how often each was opened.
type testImage struct {
	Image
	blobs map[godigest.Digest][]byte

	mu    sync.Mutex
	opens map[godigest.Digest]int
}

func newTestImage(t *testing.T, layers ...string) *testImage {
	t.Helper()
	created := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	config := ocispec.Image{Created: &created, Platform: ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}, Config: ocispec.ImageConfig{User: "app"}}
	config.RootFS.Type = "layers"
	ti := &testImage{blobs: map[godigest.Digest][]byte{}, opens: map[godigest.Digest]int{}}
	for _, l := range layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, diffID(l))
		ti.Layers = append(ti.Layers, ti.add(ocispec.MediaTypeImageLayerGzip, []byte(l)))
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	ti.Config = ti.add(ocispec.MediaTypeImageConfig, b)
	m, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, Config: ti.Config, Layers: ti.Layers})
	if err != nil {
		t.Fatal(err)
	}
	ti.Manifest = ti.add(ocispec.MediaTypeImageManifest, m)
	ti.Open = func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
		ti.mu.Lock()
		ti.opens[desc.Digest]++
		ti.mu.Unlock()
		b, ok := ti.blobs[desc.Digest]
		if !ok {
			return nil, fmt.Errorf("no blob %s", desc.Digest)
		}
		return io.NopCloser(bytes.NewReader(b)), ctx.Err()
	}
	return ti
}

func (ti *testImage) add(mediaType string, b []byte) ocispec.Descriptor {
	d := godigest.FromBytes(b)
	ti.blobs[d] = b
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
}

// setConfig replaces the config's bytes.
func (ti *testImage) setConfig(b []byte) { ti.Config = ti.add(ti.Config.MediaType, b) }

// newAnalyzer logs nothing: after an image has failed its other layers are still
// read, when the test may be over.
func newAnalyzer(t *testing.T, s LayerScanner, c LayerCache) *Analyzer {
	t.Helper()
	return New(Options{Scanner: s, Cache: c, Parallel: 2, Log: zap.NewNop()})
}

func TestInventory(t *testing.T) {
	img := newTestImage(t, "one", "two", "one")
	img.URLs = []string{"https://elsewhere.example/x"}
	inv, err := newAnalyzer(t, scanFunc(lineScanner), nil).Inventory(t.Context(), img.Image)
	if err != nil {
		t.Fatal(err)
	}
	want := &Inventory{
		Revision: "test+merge5", Manifest: img.Manifest.Digest, Config: img.Config.Digest, Platform: "linux/arm64/v8",
		Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), User: "app", URLs: img.URLs, Secrets: []Secret{}, Base: Base{Kind: BaseScratch},
		Overwrites: []Overwrites{{Layers: 1, Count: 1, Paths: []string{"one"}}, {Layers: 2, Count: 1, Paths: []string{"one"}}},
		Packages: []Package{
			{Type: "npm", Name: "one", Version: "1", Path: "one", Layer: diffID("one")},
			{Type: "npm", Name: "two", Version: "1", Path: "two", Layer: diffID("two")},
		},
	}
	for i, l := range []string{"one", "two", "one"} {
		want.Layers = append(want.Layers, LayerSummary{DiffID: diffID(l), Digest: img.Layers[i].Digest, MediaType: ocispec.MediaTypeImageLayerGzip, Size: 3})
	}
	if d := cmp.Diff(want, inv); d != "" {
		t.Errorf("inventory (-want +got):\n%s", d)
	}
}

// TestDescriptors has every way in which bytes and descriptors disagree.
func TestDescriptors(t *testing.T) {
	for _, tt := range []struct {
		name     string
		change   func(*testImage)
		err      string // part of the error
		broken   string // part of DiffIDBroken
		miss     string // part of an Incomplete reason
		artifact string
	}{
		{name: "sound", change: func(*testImage) {}},
		{name: "no layers", change: func(ti *testImage) {
			ti.Layers = nil
			ti.setConfig([]byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`))
		}},
		{name: "layer's size", change: func(ti *testImage) { ti.Layers[0].Size = 4 }, err: "descriptor says 4 bytes, there are 3"},
		{name: "layer's bytes", change: func(ti *testImage) { ti.blobs[ti.Layers[1].Digest] = []byte("TWO") }, err: "its bytes have the digest"},
		{name: "layer missing", change: func(ti *testImage) { delete(ti.blobs, ti.Layers[1].Digest) }, err: "no blob"},
		{name: "layer's digest invalid", change: func(ti *testImage) { ti.blobs["x"] = []byte("two"); ti.Layers[1].Digest = "x" }, err: "invalid checksum digest format"},
		{name: "config's size", change: func(ti *testImage) { ti.Config.Size++ }, err: "config sha256:"},
		{name: "config's bytes", change: func(ti *testImage) { ti.blobs[ti.Config.Digest][0] = ' ' }, err: "its bytes have the digest"},
		{name: "config too large", change: func(ti *testImage) { ti.setConfig(bytes.Repeat([]byte(" "), maxConfig+1)) }, err: "larger than"},
		{name: "config larger than it says", change: func(ti *testImage) {
			ti.blobs[ti.Config.Digest] = bytes.Repeat([]byte(" "), maxConfig+1)
		}, err: "descriptor says"},
		{name: "config is no JSON", change: func(ti *testImage) { ti.setConfig([]byte("{")) }, err: "unexpected end of JSON"},
		{name: "config is null", change: func(ti *testImage) { ti.setConfig([]byte("null")) }, err: "not a JSON object"},
		{name: "config with a tail", change: func(ti *testImage) { ti.setConfig([]byte("{} {}")) }, err: "invalid character"},
		{name: "config of another type", change: func(ti *testImage) { ti.setConfig([]byte(`{"os":7}`)) }, err: "cannot unmarshal"},
		{name: "diffIDs fewer", change: func(ti *testImage) { ti.setConfig([]byte(`{"rootfs":{"diff_ids":["` + string(diffID("one")) + `"]}}`)) }, broken: "2 layers, the config lists 1"},
		{name: "diffIDs swapped", change: func(ti *testImage) { ti.Layers[0], ti.Layers[1] = ti.Layers[1], ti.Layers[0] }, broken: "layer 0 ("},
		{name: "layer of an unknown type", change: func(ti *testImage) { ti.Layers[1].MediaType = "application/vnd.acme.model" }, miss: `layer of media type "application/vnd.acme.model" is not supported`},
		{name: "layer of an unknown type with other bytes", change: func(ti *testImage) {
			ti.Layers[1].MediaType = "application/vnd.acme.model"
			ti.blobs[ti.Layers[1].Digest] = []byte("TWO")
		}, err: "its bytes have the digest"},
		{name: "encrypted layer", change: func(ti *testImage) { ti.Layers[1].MediaType = ocispec.MediaTypeImageLayerGzip + "+encrypted" }, miss: "not supported"},
		{name: "artifact", change: func(ti *testImage) {
			ti.Config.MediaType = "application/vnd.oci.empty.v1+json"
			for i := range ti.Layers {
				ti.Layers[i].MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
			}
		}, artifact: "unknown"},
		{name: "chart", change: func(ti *testImage) {
			ti.Config.MediaType = "application/vnd.cncf.helm.config.v1+json"
			for i := range ti.Layers {
				ti.Layers[i].MediaType = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
			}
		}, artifact: "application/vnd.cncf.helm.config.v1+json"},
		{name: "a document that is an archive", change: func(ti *testImage) {
			ti.Config.MediaType = ocispec.MediaTypeEmptyJSON
			ti.Layers = []ocispec.Descriptor{ti.add("application/vnd.dev.cosign.simplesigning.v1+json", []byte("\x1f\x8b\x08\x00 packed"))}
		}, artifact: "application/vnd.dev.cosign.simplesigning.v1+json", miss: "an archive under the media type"},
		{name: "a config that is an archive", change: func(ti *testImage) {
			ti.Config, ti.Layers = ti.add(ocispec.MediaTypeEmptyJSON, []byte("\x28\xb5\x2f\xfd packed")), nil
		}, err: "an archive under the media type"},
		{name: "artifact with its type", change: func(ti *testImage) {
			ti.ArtifactType = "application/vnd.acme.thing"
			ti.Config.MediaType = ocispec.MediaTypeEmptyJSON
			ti.Layers = ti.Layers[:0]
		}, artifact: "application/vnd.acme.thing"},
		{name: "signature under an image config", change: func(ti *testImage) {
			ti.setConfig([]byte(`{"rootfs":{"type":"layers","diff_ids":[]}}`))
			for i := range ti.Layers {
				ti.Layers[i].MediaType = "application/vnd.dev.cosign.simplesigning.v1+json"
			}
		}, artifact: "application/vnd.dev.cosign.simplesigning.v1+json"},
		{name: "an artifact's type does not hide a file system", change: func(ti *testImage) {
			ti.ArtifactType = "application/vnd.acme.thing"
			ti.Config.MediaType = "application/vnd.acme+json"
		}, broken: "not an image config"},
		{name: "an artifact's type does not hide unknown layers of an image", change: func(ti *testImage) {
			ti.ArtifactType = "application/vnd.acme.thing"
			for i := range ti.Layers {
				ti.Layers[i].MediaType = ocispec.MediaTypeImageLayerGzip + "+encrypted"
			}
		}, miss: "not supported"},
		{name: "file systems under an unknown config", change: func(ti *testImage) { ti.Config.MediaType = "application/vnd.acme+json" }, broken: "not an image config"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			img := newTestImage(t, "one", "two")
			tt.change(img)
			inv, err := newAnalyzer(t, scanFunc(lineScanner), nil).Inventory(t.Context(), img.Image)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error = %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if inv.ArtifactType != tt.artifact {
				t.Errorf("artifact type %q, want %q", inv.ArtifactType, tt.artifact)
			}
			if (tt.broken == "") != (inv.DiffIDBroken == "") || !strings.Contains(inv.DiffIDBroken, tt.broken) {
				t.Errorf("DiffIDBroken = %q, want %q", inv.DiffIDBroken, tt.broken)
			}
			got := ""
			for _, i := range inv.Incomplete {
				got += i.Reason + "\n"
			}
			if (tt.miss == "") != (got == "") || !strings.Contains(got, tt.miss) {
				t.Errorf("incomplete = %q, want %q", got, tt.miss)
			}
		})
	}
}

// TestArtifactArchives: what an artifact has packed as a layer is read as one,
// once, and what is in it counts as in an image. Other content says nothing.
func TestArtifactArchives(t *testing.T) {
	tar := append(bytes.Repeat([]byte("x"), 257), "ustar\x0000"...)
	for name, tt := range map[string]struct {
		blob string
		read bool
	}{
		"gzip": {"\x1f\x8b\x08\x00 package", true},
		"zstd": {"\x28\xb5\x2f\xfd package", true},
		"tar":  {string(tar), true},
		"text": {"package", false},
		"none": {"", false},
	} {
		t.Run(name, func(t *testing.T) {
			img := newTestImage(t)
			img.Config = img.add(ocispec.MediaTypeEmptyJSON, []byte("{}"))
			img.Layers = []ocispec.Descriptor{img.add("application/vnd.acme.thing", []byte(tt.blob))}
			cache := &memoryCache{m: map[string]*Layer{}}
			a := newAnalyzer(t, scanFunc(func(ctx context.Context, r io.Reader) (*Layer, error) {
				l, err := lineScanner(ctx, r)
				l.Incomplete = []Incomplete{{Layer: l.Digest, Reason: "no tar archive"}}
				return l, err
			}), cache)
			for range 2 {
				inv, err := a.Inventory(t.Context(), img.Image)
				if err != nil {
					t.Fatal(err)
				}
				if (len(inv.Packages) == 1) != tt.read || (inv.Layers[0].DiffID != "") != tt.read || len(inv.Incomplete) != 0 || inv.ArtifactType != "unknown" {
					t.Errorf("packages %v, layers %v, incomplete %v, artifact type %q", inv.Packages, inv.Layers, inv.Incomplete, inv.ArtifactType)
				}
			}
			if (len(cache.m) == 1) != tt.read {
				t.Errorf("%d layers are kept", len(cache.m))
			}
			img.blobs[img.Layers[0].Digest] = []byte("other bytes")
			if _, err := newAnalyzer(t, scanFunc(lineScanner), nil).Inventory(t.Context(), img.Image); err == nil {
				t.Error("bytes of another digest pass")
			}
		})
	}
}

func TestMediaTypes(t *testing.T) {
	for mediaType, want := range map[string]bool{
		"application/vnd.oci.image.layer.v1.tar":                       true,
		"application/vnd.oci.image.layer.v1.tar+gzip":                  true,
		"application/vnd.oci.image.layer.v1.tar+zstd":                  true,
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip": true,
		"application/vnd.docker.image.rootfs.diff.tar.gzip":            true,
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":    true,
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted":        false,
		"application/vnd.oci.image.layer.v1.tar+xz":                    false,
		"application/vnd.oci.image.layer.v1.erofs":                     false,
		"": false,
	} {
		if got := isLayer(mediaType); got != want {
			t.Errorf("isLayer(%q) = %v", mediaType, got)
		}
	}
}

// TestUnreadLayer checks that a layer without a diffID breaks the chain.
func TestUnreadLayer(t *testing.T) {
	s := scanFunc(func(ctx context.Context, r io.Reader) (*Layer, error) {
		l, err := lineScanner(ctx, r)
		l.DiffID = ""
		return l, err
	})
	inv, err := newAnalyzer(t, s, nil).Inventory(t.Context(), newTestImage(t, "one").Image)
	if err != nil || !strings.Contains(inv.DiffIDBroken, "not read to its end") {
		t.Errorf("DiffIDBroken = %q, %v", inv.DiffIDBroken, err)
	}
}

// memoryCache is a LayerCache.
type memoryCache struct {
	mu   sync.Mutex
	m    map[string]*Layer
	fail error
}

func (c *memoryCache) Layer(_ context.Context, blob godigest.Digest, revision string) (*Layer, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	l, ok := c.m[revision+"/"+blob.String()]
	return l, ok, c.fail
}

func (c *memoryCache) PutLayer(_ context.Context, revision string, l *Layer) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m[revision+"/"+l.Digest.String()] = l
	return c.fail
}

func TestCache(t *testing.T) {
	cache := &memoryCache{m: map[string]*Layer{}}
	a := newAnalyzer(t, scanFunc(lineScanner), cache)
	img := newTestImage(t, "one", "two")
	first, err := a.Inventory(t.Context(), img.Image)
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.Inventory(t.Context(), img.Image)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(first, second); d != "" {
		t.Errorf("from the cache (-first +second):\n%s", d)
	}
	if n := img.opens[img.Layers[0].Digest]; n != 1 {
		t.Errorf("opened %d times", n)
	}

	t.Run("size is compared", func(t *testing.T) {
		img := newTestImage(t, "one", "two")
		img.Layers[0].Size = 9
		if _, err := a.Inventory(t.Context(), img.Image); err == nil {
			t.Error("a cached layer hides a wrong descriptor")
		}
	})
	t.Run("broken cache", func(t *testing.T) {
		img := newTestImage(t, "one")
		a := newAnalyzer(t, scanFunc(lineScanner), &memoryCache{m: map[string]*Layer{}, fail: errors.New("disk")})
		if _, err := a.Inventory(t.Context(), img.Image); err != nil {
			t.Error(err)
		}
	})
	t.Run("errors are not kept", func(t *testing.T) {
		cache := &memoryCache{m: map[string]*Layer{}}
		img := newTestImage(t, "one")
		img.blobs[img.Layers[0].Digest] = []byte("ONE")
		if _, err := newAnalyzer(t, scanFunc(lineScanner), cache).Inventory(t.Context(), img.Image); err == nil || len(cache.m) > 0 {
			t.Errorf("error %v, kept %v", err, cache.m)
		}
	})
	t.Run("another blob's layer", func(t *testing.T) {
		img := newTestImage(t, "one")
		cache := &memoryCache{m: map[string]*Layer{"test/" + img.Layers[0].Digest.String(): {Digest: godigest.FromString("x"), Size: 3}}}
		inv, err := newAnalyzer(t, scanFunc(lineScanner), cache).Inventory(t.Context(), img.Image)
		if err != nil || len(inv.Packages) != 1 {
			t.Errorf("inventory %+v, %v", inv, err)
		}
	})
}

// TestShared has 50 callers of one image: one scan per layer, and a caller that
// leaves, even the one that began, does not stop it for the others.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var scans atomic.Int64
		s := scanFunc(func(ctx context.Context, r io.Reader) (*Layer, error) {
			scans.Add(1)
			select {
			case <-time.After(time.Minute):
				return lineScanner(ctx, r)
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		})
		a := New(Options{Scanner: s, Parallel: 2, Log: zap.NewNop()})
		img := newTestImage(t, "one", "two")
		first, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		var left atomic.Int64
		for i := range 50 {
			ctx := t.Context()
			if i == 0 {
				ctx = first
			}
			wg.Go(func() {
				_, err := a.Inventory(ctx, img.Image)
				switch {
				case ctx == first && errors.Is(err, context.Canceled):
					left.Add(1)
				case err != nil:
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		leave()
		wg.Wait()
		if scans.Load() != 2 || left.Load() != 1 {
			t.Errorf("%d scans of two layers, %d callers left", scans.Load(), left.Load())
		}
	})
}

// TestAbandoned checks that a scan that nobody waits for ends, and that the
// next caller gets one of its own.
func TestAbandoned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cause error
		hang := true
		s := scanFunc(func(ctx context.Context, r io.Reader) (*Layer, error) {
			if !hang {
				return lineScanner(ctx, r)
			}
			<-ctx.Done()
			cause = context.Cause(ctx)
			return nil, cause
		})
		a := New(Options{Scanner: s, Parallel: 1, Log: zap.NewNop()})
		img := newTestImage(t, "one")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := a.Inventory(ctx, img.Image); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error = %v", err)
		}
		synctest.Wait()
		if !errors.Is(cause, errAbandoned) {
			t.Errorf("the scan goes on: %v", cause)
		}
		hang = false
		if _, err := a.Inventory(t.Context(), img.Image); err != nil {
			t.Errorf("the next caller: %v", err)
		}
	})
}

// TestParallel checks the bound on scans at a time, over images.
func TestParallel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var now, most atomic.Int64
		s := scanFunc(func(ctx context.Context, r io.Reader) (*Layer, error) {
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Second) // of the fake clock
			return lineScanner(ctx, r)
		})
		a := New(Options{Scanner: s, Parallel: 3, Log: zap.NewNop()})
		var wg sync.WaitGroup
		for i := range 4 {
			img := newTestImage(t, fmt.Sprint(i, "a"), fmt.Sprint(i, "b"), fmt.Sprint(i, "c"))
			wg.Go(func() {
				if _, err := a.Inventory(t.Context(), img.Image); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if most.Load() != 3 {
			t.Errorf("%d scans at a time", most.Load())
		}
	})
}

// TestLayersOnTheirWay: layers that wait for the network do not hold up others,
// on any number of processors.
func TestLayersOnTheirWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arrived := make(chan struct{})
		var begun atomic.Int64
		s := scanFunc(func(ctx context.Context, r io.Reader) (*Layer, error) {
			begun.Add(1)
			<-arrived
			return lineScanner(ctx, r)
		})
		a := New(Options{Scanner: s, Log: zap.NewNop()})
		img := newTestImage(t, "a", "b", "c", "d", "e", "f", "g")
		done := make(chan error)
		go func() {
			_, err := a.Inventory(t.Context(), img.Image)
			done <- err
		}()
		synctest.Wait()
		if n := begun.Load(); n != 7 {
			t.Errorf("%d of 7 layers are being scanned while all are on their way", n)
		}
		close(arrived)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// fakeMatcher says what it was told.
type fakeMatcher struct {
	m   Matches
	err error
}

func (f fakeMatcher) Match(context.Context, []Package) (Matches, error) { return f.m, f.err }
func (fakeMatcher) Revision() string                                    { return "r1" }
func (fakeMatcher) Updated() time.Time                                  { return time.Unix(7, 0) }

func TestJudge(t *testing.T) {
	inv := &Inventory{Manifest: godigest.FromString("m")}
	r, err := Judge(t.Context(), inv, nil)
	if err != nil || r.Advisories != "" || r.Findings == nil {
		t.Errorf("without advisories: %+v, %v", r, err)
	}
	r, err = Judge(t.Context(), inv, fakeMatcher{m: Matches{Findings: []Finding{{Advisory: "A"}}, Undecided: []Undecided{{Advisory: "B"}}}})
	if err != nil || r.Advisories != "r1" || !r.Updated.Equal(time.Unix(7, 0)) || len(r.Findings) != 1 || len(r.Undecided) != 1 || r.Manifest != inv.Manifest {
		t.Errorf("with advisories: %+v, %v", r, err)
	}
	broken := errors.New("index gone")
	if r, err := Judge(t.Context(), inv, fakeMatcher{err: broken}); !errors.Is(err, broken) || r != nil {
		t.Errorf("failed match: %+v, %v", r, err)
	}
}
