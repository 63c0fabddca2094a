package local

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upload"
)

// bench is a Registry on real parts, with a clock.
type bench struct {
	*Registry
	t   *testing.T
	mu  sync.Mutex
	now time.Time
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) forward(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func newBench(t *testing.T, quotas map[string]int64) *bench {
	t.Helper()
	b := &bench{t: t, now: time.Now()}
	dir := t.TempDir()
	db, err := records.Open(t.Context(), filepath.Join(dir, "records.db"), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	st, err := store.Open(filepath.Join(dir, "registry"), store.Options{Keep: true, Name: "registry", Metrics: prometheus.NewRegistry(), Log: zap.NewNop(), Now: b.clock})
	if err != nil {
		t.Fatal(err)
	}
	ups := upload.New(upload.Options{NewSpool: func() (upload.Spool, error) { return st.NewSpool(-1) }, Log: zaptest.NewLogger(t), Now: b.clock})
	b.Registry = New(Options{Store: st, Records: db, Uploads: ups, Quotas: quotas, Grace: time.Hour, Log: zap.NewNop(), Now: b.clock})
	t.Cleanup(func() {
		ups.Close()
		st.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// push uploads text as a blob.
func (b *bench) push(name, text string) (godigest.Digest, error) {
	k, err := b.StartUpload(b.t.Context(), name, "user:alice")
	if err != nil {
		return "", err
	}
	d := godigest.FromString(text)
	return d, b.FinishUpload(b.t.Context(), k, upload.Chunk{Body: strings.NewReader(text), From: -1, Size: int64(len(text))}, d)
}

func (b *bench) mustPush(name, text string) godigest.Digest {
	b.t.Helper()
	d, err := b.push(name, text)
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

func (b *bench) put(name, text, tag string, blobs ...godigest.Digest) (godigest.Digest, error) {
	d := godigest.FromString(text)
	return d, b.Put(b.t.Context(), records.Push{
		Manifest: records.LocalManifest{Name: name, Digest: d, MediaType: "application/vnd.oci.image.manifest.v1+json", Size: int64(len(text))},
		Blobs:    blobs, Tags: []records.PushedTag{{Name: cmp.Or(tag, "latest")}},
	}, []byte(text))
}

func TestPushAndMount(t *testing.T) {
	b := newBench(t, nil)
	d := b.mustPush("local/a", "layer")
	if _, err := b.Stat(t.Context(), "local/b", d); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("another repository has it, too: %v", err)
	}
	var missing *records.MissingError
	if _, err := b.put("local/b", "manifest", "v1", d); !errors.As(err, &missing) {
		t.Errorf("a manifest over another repository's blob: %v", err)
	}
	if err := b.Mount(t.Context(), "local/none", "local/b", d); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("mount from a repository without it: %v", err)
	}
	if err := b.Mount(t.Context(), "local/a", "local/b", d); err != nil {
		t.Fatal(err)
	}
	if size, err := b.Stat(t.Context(), "local/b", d); size != 5 || err != nil {
		t.Errorf("Stat = %d, %v", size, err)
	}
	m, err := b.put("local/b", "manifest", "v1", d)
	if err != nil {
		t.Fatal(err)
	}
	got, body, err := b.Manifest(t.Context(), "local/b", m)
	if err != nil || string(body) != "manifest" || got.Digest != m {
		t.Errorf("Manifest = %+v, %q, %v", got, body, err)
	}
	if _, _, err := b.Manifest(t.Context(), "local/a", m); !errors.Is(err, records.ErrNotFound) {
		t.Errorf("in the other repository: %v", err)
	}
	k, err := b.StartUpload(t.Context(), "local/a", "user:alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.FinishUpload(t.Context(), k, upload.Chunk{Body: strings.NewReader("x"), From: -1, Size: 1}, d); !errors.Is(err, upload.ErrDigest) {
		t.Errorf("wrong digest: %v", err)
	}
}

func TestQuota(t *testing.T) {
	b := newBench(t, map[string]int64{"local/team/": 10})
	b.mustPush("local/team/a", "12345")
	var full *records.QuotaError
	if _, err := b.push("local/team/b", "123456"); !errors.As(err, &full) || full.Used != 5 || full.Most != 10 {
		t.Errorf("error %v", err)
	}
	d := b.mustPush("local/other", "123456")
	if err := b.Mount(t.Context(), "local/other", "local/team/b", d); !errors.As(err, &full) {
		t.Errorf("mount: %v", err)
	}
	m := records.Push{Manifest: records.LocalManifest{Name: "local/team/a", Digest: godigest.FromString("manifest"), Size: 6}}
	if err := b.Put(t.Context(), m, []byte("manifest")); !errors.As(err, &full) {
		t.Errorf("manifest: %v", err)
	}
	m.Manifest.Size = 5
	for range 2 { // the same again is no more
		if err := b.Put(t.Context(), m, []byte("manifest")); err != nil {
			t.Error(err)
		}
	}
	if err := b.opts.Records.DeleteLocalManifest(t.Context(), "local/team/a", m.Manifest.Digest, b.clock(), nil); err != nil {
		t.Fatal(err)
	}
	b.mustPush("local/team/b", "54321")
	if _, err := b.StartUpload(t.Context(), "local/team/c", "user:alice"); !errors.As(err, &full) {
		t.Errorf("start: %v", err)
	}
}

func TestCollect(t *testing.T) {
	b := newBench(t, nil)
	used := b.mustPush("local/a", "used")
	m, err := b.put("local/a", "manifest", "v1", used)
	if err != nil {
		t.Fatal(err)
	}
	stray, both := b.mustPush("local/a", "stray"), b.mustPush("local/a", "both")
	b.forward(2 * time.Hour)
	fresh := b.mustPush("local/a", "fresh")
	if err := b.Mount(t.Context(), "local/a", "local/b", both); err != nil { // both are fresh now
		t.Fatal(err)
	}
	want := Garbage{Images: []Expired{}, Links: []records.Link{{Name: "local/a", Digest: stray, Size: 5}}, Blobs: []godigest.Digest{stray}, Bytes: 5}
	for _, dry := range []bool{true, true, false} {
		got, err := b.Collect(t.Context(), nil, dry)
		if err != nil {
			t.Fatal(err)
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("dry %v (-want +got):\n%s", dry, diff)
		}
	}
	if _, err := b.Stat(t.Context(), "local/a", stray); !errors.Is(err, ErrBlobUnknown) {
		t.Errorf("stray: %v", err)
	}
	for _, d := range []godigest.Digest{used, fresh, both} {
		if _, err := b.Stat(t.Context(), "local/a", d); err != nil {
			t.Error(err)
		}
	}
	if err := b.opts.Records.DeleteLocalManifest(t.Context(), "local/a", m, b.clock(), nil); err != nil {
		t.Fatal(err)
	}
	b.forward(48 * time.Hour)
	if g, err := b.Collect(t.Context(), nil, false); err != nil || len(g.Blobs) != 4 {
		t.Errorf("collected %+v, %v", g, err)
	}
	if b.mustPush("local/a", "used") != used {
		t.Error("pushed again")
	}
}

// TestCollectRacesPushes: what was acknowledged is whole, however often the
// collector runs.
func TestCollectRacesPushes(t *testing.T) {
	b := newBench(t, nil)
	b.opts.Grace = time.Minute
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := b.Collect(t.Context(), nil, false); err != nil {
				t.Error(err)
				return
			}
			b.forward(20 * time.Second)
		}
	})
	type image struct {
		name        string
		manifest    godigest.Digest
		layer, text string
	}
	var (
		pushers sync.WaitGroup
		mu      sync.Mutex
		acked   []image
	)
	for p := range 4 {
		pushers.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(p)))
			for i := range 40 {
				im := image{name: fmt.Sprint("local/r", r.IntN(3)), layer: fmt.Sprint("layer", r.IntN(5)), text: fmt.Sprint("manifest", p, i)}
				d, err := b.push(im.name, im.layer)
				if err != nil {
					t.Error(err)
					return
				}
				var missing *records.MissingError
				im.manifest, err = b.put(im.name, im.text, "", d)
				if errors.As(err, &missing) {
					continue // the clock ran past the grace: refused, not acknowledged
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				acked = append(acked, im)
				mu.Unlock()
			}
		})
	}
	pushers.Wait()
	close(stop)
	collector.Wait()
	if len(acked) == 0 {
		t.Fatal("nothing was acknowledged")
	}
	for _, im := range acked {
		if _, body, err := b.Manifest(t.Context(), im.name, im.manifest); err != nil || string(body) != im.text {
			t.Errorf("%+v: %q, %v", im, body, err)
		}
		f, err := b.Open(godigest.FromString(im.layer))
		if err != nil {
			t.Errorf("%+v: %v", im, err)
			continue
		}
		_ = f.Close()
	}
}

// TestQuotaUnderManyPushers: however many push at once, no more is taken than
// the quota.
func TestQuotaUnderManyPushers(t *testing.T) {
	b := newBench(t, map[string]int64{"local/team/": 50})
	var (
		pushers sync.WaitGroup
		mu      sync.Mutex
		taken   int
	)
	for n := range 20 {
		pushers.Go(func() {
			_, err := b.push(fmt.Sprint("local/team/r", n), fmt.Sprintf("ten bytes%d", n%10))
			var full *records.QuotaError
			switch {
			case err == nil:
				mu.Lock()
				taken++
				mu.Unlock()
			case !errors.As(err, &full):
				t.Error(err)
			}
		})
	}
	pushers.Wait()
	used, err := b.opts.Records.LocalBytes(t.Context(), "local/team/")
	if err != nil || used != 50 || taken != 5 {
		t.Errorf("%d pushes of 10 bytes were taken, %d bytes are used, %v; want 5 and 50", taken, used, err)
	}
}
