package store

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/reference"
	godigest "github.com/opencontainers/go-digest"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, dir string) *Store { return openWith(t, dir, Options{}) }

func openWith(t testing.TB, dir string, opts Options) *Store {
	t.Helper()
	opts.Metrics, opts.Log = prometheus.NewRegistry(), zap.NewNop()
	s, err := Open(dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func TestSpoolToBlob(t *testing.T) {
	s := open(t, t.TempDir())
	want := "some layer"
	d := godigest.FromString(want)
	if ok, err := s.Has(t.Context(), d); ok || err != nil {
		t.Fatalf("Has before = %v, %v", ok, err)
	}
	if _, err := s.OpenBlob(d); !errors.Is(err, ErrNotFound) {
		t.Fatalf("OpenBlob before: %v", err)
	}
	p, err := s.NewSpool(-1)
	if err != nil {
		t.Fatal(err)
	}
	tail, err := p.Tail()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, want); err != nil {
		t.Fatal(err)
	}
	if err := p.Commit(t.Context(), d, int64(len(want))); err != nil {
		t.Fatal(err)
	}
	f, err := s.OpenBlob(d)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*os.File{"blob": f, "tail after the commit": tail} {
		if got, err := io.ReadAll(r); err != nil || string(got) != want {
			t.Errorf("%s = %q, %v", name, got, err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := s.Remove(t.Context(), d); err != nil {
		t.Error(err)
	}
	if ok, _ := s.Has(t.Context(), d); ok {
		t.Error("still there after Remove")
	}
	if err := s.Remove(t.Context(), d); err != nil {
		t.Errorf("Remove of a missing blob: %v", err)
	}
}

func TestAbortLeavesNothing(t *testing.T) {
	s := open(t, t.TempDir())
	p, err := s.NewSpool(-1)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.Abort(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := os.ReadDir(s.spool()); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestOpenClearsTheSpool(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	p, err := s.NewSpool(-1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(p, "half a layer"); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir) // as after a crash
	if left, _ := os.ReadDir(s.spool()); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPutGet(t *testing.T) {
	s := open(t, t.TempDir())
	b := []byte(`{"schemaVersion":2}`)
	d := godigest.FromBytes(b)
	if err := s.Put(t.Context(), d, []byte("other")); err == nil {
		t.Error("Put of other bytes: no error")
	}
	if err := s.Put(t.Context(), d, b); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Get(t.Context(), d); err != nil || string(got) != string(b) {
		t.Errorf("Get = %q, %v", got, err)
	}
	if err := os.WriteFile(filepath.Join(s.root, blobPath(d)), []byte(`{"schemaVersion":3}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Get(t.Context(), d); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of rotten bytes: %v, want ErrNotFound", err)
	}
	if ok, _ := s.Has(t.Context(), d); ok {
		t.Error("rotten bytes are still there")
	}
}

// TestLayout guards blobPath: what distribution writes, the fast path reads.
func TestLayout(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	ns, err := storage.NewRegistry(t.Context(), s.driver)
	if err != nil {
		t.Fatal(err)
	}
	name, err := reference.WithName("up/app")
	if err != nil {
		t.Fatal(err)
	}
	repo, err := ns.Repository(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	desc, err := repo.Blobs(t.Context()).Put(t.Context(), "application/octet-stream", []byte("by distribution"))
	if err != nil {
		t.Fatal(err)
	}
	if f, err := s.OpenBlob(desc.Digest); !errors.Is(err, ErrNotFound) { // who knows whether it is whole yet
		t.Errorf("what somebody else writes meanwhile: %v, %v", f, err)
	}
	s.Close()
	s = open(t, dir)
	f, err := s.OpenBlob(desc.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if got, err := io.ReadAll(f); err != nil || string(got) != "by distribution" {
		t.Errorf("read %q, %v", got, err)
	}
}
