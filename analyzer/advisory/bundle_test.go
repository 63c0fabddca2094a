package advisory

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// exported compiles one source of each kind and exports it.
func exported(t *testing.T) (dir string, e *Export, stats Stats) {
	t.Helper()
	dir = t.TempDir()
	base := export(t, map[string][]string{
		"npm":    {osv("GHSA-1", "npm", "a", "introduced 0", `"aliases": ["CVE-2024-1"]`)},
		"Debian": {osv("DSA-1", "Debian:12", "a", "introduced 0", `"upstream": ["CVE-2024-3"]`)},
	})
	src := Source{
		Base: base, KEV: writeFile(t, `{"vulnerabilities":[{"cveID":"CVE-2024-1"}]}`), EPSS: writeFile(t, zipped(t, goodEPSS)),
		NVD: []string{writeFile(t, goodNVD), writeFile(t, `{"vulnerabilities":[]}`)}, Private: []string{writeFile(t, osv("ACME-1", "npm", "a", "introduced 0", ""))},
	}
	if _, err := ImportPrivate(t.Context(), dir, writeFile(t, osv("ACME-2", "npm", "a", "introduced 0", "")), Limits{}); err != nil {
		t.Fatal(err)
	}
	stats, err := Compile(t.Context(), src, CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if e, err = NewExport(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	return dir, e, stats
}

// TestBundle: an index that is made of an artifact, from a tar file or a
// registry, is that of the sources.
func TestBundle(t *testing.T) {
	dir, e, want := exported(t)
	if again, err := NewExport(t.Context(), dir); err != nil || again.Manifest.Digest != e.Manifest.Digest {
		t.Errorf("the same files give another digest: %v", err)
	}
	file := filepath.Join(t.TempDir(), "advisories.tar")
	var b bytes.Buffer
	if err := e.WriteTar(&b); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	asked := 0
	registry := func(_ context.Context, ref string) (*Artifact, error) {
		if ref != "registry.example.com/advisories:latest" {
			return nil, errors.New("unknown " + ref)
		}
		return artifactOf(e, func(ocispec.Descriptor) { asked++ }), nil
	}
	for _, from := range []string{"oci://registry.example.com/advisories:latest", file} {
		into := t.TempDir()
		opts := CompileOptions{Dir: into, Artifact: registry, Limits: fastRetry}
		got, err := Compile(t.Context(), Source{Base: from, KEV: "/nowhere"}, opts)
		if err != nil {
			t.Fatalf("%s: %v", from, err)
		}
		if got.Revision != want.Revision || got.KEVMatched != 1 || got.EPSSMatched != want.EPSSMatched || got.NVDRated != 2 || got.Advisories != 4 {
			t.Errorf("%s: %+v, want %+v", from, got, want)
		}
		before := asked
		if got, err = Compile(t.Context(), Source{Base: from, KEV: "/nowhere"}, opts); err != nil || !got.Unchanged || asked != before {
			t.Errorf("%s: again: unchanged %v, %d files asked for, %v", from, got.Unchanged, asked-before, err)
		}
		// It can be handed on, and made anew without the registry.
		if next, err := NewExport(t.Context(), into); err != nil || next.Manifest.Digest == "" || len(next.Blobs) != len(e.Blobs) {
			t.Errorf("%s: handed on: %v", from, err)
		}
		if from == file {
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
		}
		if got, err = Recompile(t.Context(), into, CompileOptions{}); err != nil || !got.Unchanged {
			t.Errorf("%s: offline: %+v, %v", from, got, err)
		}
	}
	if err := os.WriteFile(e.Blobs[len(e.Blobs)-2].path, []byte("changed"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := NewExport(t.Context(), dir); !errors.Is(err, errChanged) {
		t.Errorf("a source that changed: %v", err)
	}
}

// artifactOf serves an export as a registry does.
func artifactOf(e *Export, asked func(ocispec.Descriptor)) *Artifact {
	return &Artifact{Manifest: e.ManifestBytes(), Blob: func(_ context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
		asked(d)
		for i := range e.Blobs {
			if e.Blobs[i].Digest != d.Digest {
				continue
			}
			r, err := e.Blobs[i].Open()
			if err == nil {
				_, err = io.CopyN(io.Discard, r, offset)
			}
			return r, err
		}
		return nil, errors.New("no such blob")
	}}
}

// breaking ends after half of what is left.
type breaking struct {
	io.ReadCloser
	left int64
}

func (b *breaking) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("connection reset")
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// TestBundleResumes: blobs that break off go on where they were.
func TestBundleResumes(t *testing.T) {
	_, e, want := exported(t)
	var offsets []int64
	a := artifactOf(e, func(ocispec.Descriptor) {})
	inner := a.Blob
	a.Blob = func(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
		offsets = append(offsets, offset)
		r, err := inner(ctx, d, offset)
		return &breaking{r, max(1, (d.Size+1)/2)}, err
	}
	got, err := Compile(t.Context(), Source{Base: "oci://x/y"}, CompileOptions{Dir: t.TempDir(), Limits: fastRetry, Artifact: func(context.Context, string) (*Artifact, error) { return a, nil }})
	if err != nil || got.Revision != want.Revision {
		t.Fatalf("%+v, %v", got, err)
	}
	if len(offsets) < 2*(len(e.Blobs)-1) || offsets[1] == 0 {
		t.Errorf("offsets %v", offsets)
	}
}

// TestHostileBundles: what is not the artifact that it says leaves the index in
// force.
func TestHostileBundles(t *testing.T) {
	_, e, _ := exported(t)
	dir := t.TempDir()
	before, err := Compile(t.Context(), Source{Base: export(t, map[string][]string{"npm": {goodRecord("OLD-1")}})}, CompileOptions{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	manifest := func(change func(m *ocispec.Manifest)) []byte {
		var m ocispec.Manifest
		if err := json.Unmarshal(e.ManifestBytes(), &m); err != nil {
			t.Fatal(err)
		}
		change(&m)
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	title := func(name string) []byte {
		return manifest(func(m *ocispec.Manifest) { m.Layers[0].Annotations[ocispec.AnnotationTitle] = name })
	}
	for name, tt := range map[string]struct {
		manifest []byte
		want     string
	}{
		"an image":        {manifest(func(m *ocispec.Manifest) { m.ArtifactType, m.Config.MediaType = "", ocispec.MediaTypeImageConfig }), "it holds no advisories"},
		"no JSON":         {[]byte("<html>"), "manifest: "},
		"traversal":       {title("osv/../../x/all.zip"), "is not a name of such an artifact"},
		"absolute":        {title("/etc/passwd"), "is not a name of such an artifact"},
		"another file":    {title("osv/npm/all.tar"), "is not a name of such an artifact"},
		"a name twice":    {title("kev.json"), "there twice"},
		"another digest":  {manifest(func(m *ocispec.Manifest) { m.Layers[0].Digest = "sha512:" + godigest.Digest(strings.Repeat("0", 128)) }), "digest"},
		"wrong digest":    {manifest(func(m *ocispec.Manifest) { m.Layers[1].Digest = godigest.FromString("x") }), "no such blob"},
		"wrong size":      {manifest(func(m *ocispec.Manifest) { m.Layers[1].Size-- }), errDigest.Error()},
		"too large":       {manifest(func(m *ocispec.Manifest) { m.Layers[1].Size = 1 << 50 }), "more than the limit"},
		"without layers":  {manifest(func(m *ocispec.Manifest) { m.Layers = nil }), "0 layers"},
		"longer than all": {bytes.Repeat([]byte(" "), maxManifest+1), "larger than the limit"},
	} {
		a := artifactOf(e, func(ocispec.Descriptor) {})
		a.Manifest = tt.manifest
		_, err := Compile(t.Context(), Source{Base: "oci://x/y"}, CompileOptions{Dir: dir, Limits: fastRetry, Artifact: func(context.Context, string) (*Artifact, error) { return a, nil }})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "oci://x/y") {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
		unchangedIndex(t, dir, before.Revision)
	}
	var whole bytes.Buffer
	if err := e.WriteTar(&whole); err != nil {
		t.Fatal(err)
	}
	tampered := bytes.Replace(whole.Bytes(), []byte(`"cveID":"CVE-2024-1"`), []byte(`"cveID":"CVE-2024-2"`), 1)
	for name, tt := range map[string]struct {
		data []byte
		want string
	}{
		"half a tar":     {whole.Bytes()[:whole.Len()/2], "EOF"},
		"a changed file": {tampered, errDigest.Error()},
		"another tar": {func() []byte {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return b.Bytes()
		}(), "index.json is not in it"},
		"text": {[]byte(strings.Repeat("x", 2048)), "neither a directory nor an artifact"},
	} {
		dir := t.TempDir() // without what earlier ones brought
		before, err := Compile(t.Context(), Source{Base: export(t, map[string][]string{"npm": {goodRecord("OLD-1")}})}, CompileOptions{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		_, err = Compile(t.Context(), Source{Base: writeFile(t, string(tt.data))}, CompileOptions{Dir: dir, Limits: fastRetry})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want %q", name, err, tt.want)
		}
		unchangedIndex(t, dir, before.Revision)
	}
}

func TestBundleNames(t *testing.T) {
	got := map[string]bool{}
	for _, name := range []string{
		"kev.json", "epss.csv.gz", "osv/ecosystems.txt", "osv/Rocky Linux/all.zip", "nvd/nvdcve-2.0-2024.json.gz", "private/a.json",
		"", ".", "x", "osv/all.zip", "osv//all.zip", "osv/a/b/all.zip", "nvd/../kev.json", "nvd/", "private/a/b.json", "/kev.json", "osv/.hidden/all.zip",
	} {
		if bundleName(name) {
			got[name] = true
		}
	}
	want := map[string]bool{
		"kev.json": true, "epss.csv.gz": true, "osv/ecosystems.txt": true, "osv/Rocky Linux/all.zip": true, "nvd/nvdcve-2.0-2024.json.gz": true, "private/a.json": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func FuzzLayout(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	text := `{"manifests":[{"artifactType":"` + ArtifactType + `","digest":"` + godigest.FromString("{}").String() + `","size":2}]}`
	for name, data := range map[string]string{"index.json": text, "blobs/sha256/" + godigest.FromString("{}").Encoded(): "{}"} {
		if err := errors.Join(w.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Typeflag: tar.TypeReg}), second(io.WriteString(w, data))); err != nil {
			f.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte("index.json"))
	path := filepath.Join(f.TempDir(), "x.tar")
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		a, err := readLayout(file)
		if err != nil {
			return
		}
		if _, err := readBundle(&feed{limits: Limits{}.orDefault()}, a.Manifest); err == nil && len(a.Manifest) < 100 {
			t.Fatalf("%q is a manifest", a.Manifest)
		}
	})
}

func second(_ int, err error) error { return err }
