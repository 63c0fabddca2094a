package target_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/klauspost/compress/zstd"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap/zaptest"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
	"github.com/sluiceproxy/sluice/cmd/sluice/target"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// blobs are an image's bytes by digest.
type blobs map[godigest.Digest][]byte

func (b blobs) add(mediaType string, content []byte) ocispec.Descriptor {
	d := godigest.FromBytes(content)
	b[d] = content
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(content))}
}

func (b blobs) json(t *testing.T, mediaType string, v any) ocispec.Descriptor {
	t.Helper()
	content, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b.add(mediaType, content)
}

// image adds an image for arch that holds one npm package.
func (b blobs) image(t *testing.T, arch, version string) ocispec.Descriptor {
	t.Helper()
	content := tarOf(t, map[string]string{
		"app/node_modules/lodash/package.json": fmt.Sprintf(`{"name":"lodash","version":%q}`, version),
	})
	l := b.add(ocispec.MediaTypeImageLayer, content)
	platform := ocispec.Platform{OS: "linux", Architecture: arch}
	config := b.json(t, ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []godigest.Digest{l.Digest}},
	})
	m := b.json(t, ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: []ocispec.Descriptor{l},
	})
	m.Platform = &platform
	return m
}

func (b blobs) index(t *testing.T, children ...ocispec.Descriptor) ocispec.Descriptor {
	return b.json(t, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children,
	})
}

func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var names []string
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		h := &tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}
		if link, ok := strings.CutPrefix(files[name], "-> "); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, link, 0
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			if _, err := io.WriteString(w, files[name]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// layout returns the files of an OCI image layout with entries in its index.
func (b blobs) layout(t *testing.T, entries ...ocispec.Descriptor) map[string]string {
	t.Helper()
	index, err := json.Marshal(ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: entries})
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`, "index.json": string(index)}
	for d, content := range b {
		files["blobs/sha256/"+d.Encoded()] = string(content)
	}
	return files
}

func writeFiles(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func writeFile(t *testing.T, content []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.tar")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func tagged(d ocispec.Descriptor, annotations ...string) ocispec.Descriptor {
	d.Annotations = map[string]string{}
	for i := 0; i < len(annotations); i += 2 {
		d.Annotations[annotations[i]] = annotations[i+1]
	}
	return d
}

func scanner(t *testing.T) analyzer.LayerScanner {
	t.Helper()
	s, err := layer.New(layer.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// layers serves the layers that a target has read already.
type layers map[godigest.Digest]*analyzer.Layer

func (l layers) Layer(_ context.Context, d godigest.Digest, _ string) (*analyzer.Layer, bool, error) {
	return l[d], l[d] != nil, nil
}

func (layers) PutLayer(context.Context, string, *analyzer.Layer) error { return nil }

// inventory opens spec and analyses it.
func inventory(t *testing.T, spec string, opts target.Options) (*target.Target, *analyzer.Inventory, error) {
	t.Helper()
	opts.Scanner, opts.Keychain, opts.TempDir = scanner(t), authn.NewMultiKeychain(), t.TempDir()
	tg, err := target.Open(t.Context(), spec, opts)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() {
		if err := tg.Close(); err != nil {
			t.Error(err)
		}
		if left, _ := filepath.Glob(opts.TempDir + "/*"); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
	})
	inv, err := analyzer.New(analyzer.Options{Scanner: opts.Scanner, Cache: layers(tg.Layers), Log: zaptest.NewLogger(t)}).Inventory(t.Context(), tg.Image)
	return tg, inv, err
}

// check fails unless the image holds lodash in version only.
func check(t *testing.T, inv *analyzer.Inventory, version string) {
	t.Helper()
	if len(inv.Packages) != 1 || inv.Packages[0].Name != "lodash" || inv.Packages[0].Version != version {
		t.Errorf("packages %+v, want lodash %s", inv.Packages, version)
	}
	if inv.DiffIDBroken != "" || len(inv.Incomplete) > 0 {
		t.Errorf("broken %q, incomplete %v", inv.DiffIDBroken, inv.Incomplete)
	}
}

func TestLayout(t *testing.T) {
	b := blobs{}
	amd, arm := b.image(t, "amd64", "4.17.20"), b.image(t, "arm64", "4.17.21")
	statement := amd
	statement.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	multi := b.index(t, amd, arm, statement)
	armOnly := b.index(t, arm, statement)
	files := b.layout(t,
		tagged(amd, ocispec.AnnotationRefName, "one"),
		tagged(multi, "io.containerd.image.name", "ghcr.io/acme/shop:1.2"),
		tagged(armOnly, ocispec.AnnotationRefName, "arm"))
	single := writeFiles(t, b.layout(t, ocispec.Descriptor{MediaType: multi.MediaType, Digest: multi.Digest, Size: multi.Size}))
	dir := writeFiles(t, files)
	plain := tarOf(t, files)
	var zipped, zstded bytes.Buffer
	zw := gzip.NewWriter(&zipped)
	_, _ = zw.Write(plain)
	_ = zw.Close()
	zs, err := zstd.NewWriter(&zstded)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = zs.Write(plain)
	_ = zs.Close()
	archive := writeFile(t, plain)
	for _, tt := range []struct {
		spec, platform, version, name string
		digest                        godigest.Digest
		parents                       int
		err                           string
	}{
		{spec: "oci-layout:" + dir + ":one", version: "4.17.20", digest: amd.Digest},
		{spec: "oci-layout:" + dir + ":1.2", platform: "linux/amd64", version: "4.17.20", digest: amd.Digest, name: "ghcr.io/acme/shop", parents: 1},
		{spec: "oci-layout:" + dir + ":1.2", platform: "linux/arm64", version: "4.17.21", digest: arm.Digest, name: "ghcr.io/acme/shop", parents: 1},
		{spec: "oci-layout:" + dir + "@" + arm.Digest.String(), err: "no image is called"}, // not in the index itself
		{spec: "oci-layout:" + dir + "@" + multi.Digest.String(), platform: "linux/arm64", version: "4.17.21", digest: arm.Digest, name: "ghcr.io/acme/shop", parents: 1},
		{spec: "oci-layout:" + dir + ":arm", version: "4.17.21", digest: arm.Digest, parents: 1},
		{spec: "oci-layout:" + dir + ":arm", platform: "linux/s390x", err: "no image for linux/s390x; there is linux/arm64"},
		{spec: "oci-layout:" + dir + ":none", err: `no image is called "none"; there is one`},
		{spec: "oci-layout:" + dir, platform: "linux/s390x", err: "no image for linux/s390x"},
		{spec: "oci-layout:" + single, platform: "linux/arm64", version: "4.17.21", digest: arm.Digest, parents: 1},
		{spec: "oci-layout:" + dir, platform: "linux", err: "not os/arch"},
		{spec: "oci-archive:" + archive + ":one", version: "4.17.20", digest: amd.Digest},
		{spec: "oci-archive:" + writeFile(t, zipped.Bytes()) + ":one", version: "4.17.20", digest: amd.Digest},
		{spec: "oci-archive:" + writeFile(t, zstded.Bytes()) + ":one", version: "4.17.20", digest: amd.Digest},
		{spec: "oci-archive:" + writeFile(t, zipped.Bytes()[:zipped.Len()-20]), err: "unexpected EOF"},
		{spec: "oci-archive:" + writeFile(t, []byte("no tar")), err: "not a tar file"},
		{spec: "oci-archive:" + writeFile(t, nil), err: "not an OCI image layout"},
		{spec: "oci-layout:" + t.TempDir(), err: "not an OCI image layout"},
		{spec: "oci-layout:" + dir + "/none", err: "no such file"},
		{spec: "oci-layout:", err: "a path is wanted"},
	} {
		t.Run(tt.spec[strings.LastIndexByte(tt.spec, '/')+1:]+" "+tt.platform, func(t *testing.T) {
			tg, inv, err := inventory(t, tt.spec, target.Options{Platform: tt.platform})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, inv, tt.version)
			if tg.Digest != tt.digest || tg.Name != tt.name || len(tg.Parents) != tt.parents {
				t.Errorf("target %q %s with %d parents", tg.Name, tg.Digest, len(tg.Parents))
			}
		})
	}
}

func TestTamperedLayout(t *testing.T) {
	b := blobs{}
	m := b.image(t, "amd64", "4.17.20")
	for _, tt := range []struct {
		name   string
		change func(files map[string]string)
	}{
		{"manifest", func(files map[string]string) { files["blobs/sha256/"+m.Digest.Encoded()] += " " }},
		{"every blob", func(files map[string]string) {
			for name := range files {
				if strings.HasPrefix(name, "blobs/") && !strings.Contains(name, m.Digest.Encoded()) {
					files[name] = strings.Replace(files[name], "4.17.20", "4.17.21", 1) + " "
				}
			}
		}},
		{"blob is missing", func(files map[string]string) {
			for name := range files {
				if strings.HasPrefix(name, "blobs/") && !strings.Contains(name, m.Digest.Encoded()) {
					delete(files, name)
				}
			}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			files := b.layout(t, m)
			tt.change(files)
			if _, inv, err := inventory(t, "oci-layout:"+writeFiles(t, files), target.Options{}); err == nil {
				t.Errorf("it was analysed: %+v", inv)
			}
		})
	}
}

func TestLinksStayInside(t *testing.T) {
	outside := writeFiles(t, map[string]string{"oci-layout": `{"imageLayoutVersion":"1.0.0"}`})
	dir := t.TempDir()
	if err := os.Symlink(filepath.Join(outside, "oci-layout"), filepath.Join(dir, "oci-layout")); err != nil {
		t.Fatal(err)
	}
	if _, err := target.Open(t.Context(), "oci-layout:"+dir, target.Options{}); err == nil || !strings.Contains(err.Error(), "not an OCI image layout") {
		t.Errorf("error %v", err)
	}
}

func TestDocker(t *testing.T) {
	l := tarOf(t, map[string]string{"app/node_modules/lodash/package.json": `{"name":"lodash","version":"4.17.20"}`})
	config := func(diffID godigest.Digest) string {
		return fmt.Sprintf(`{"os":"linux","architecture":"amd64","config":{"User":"app"},"rootfs":{"type":"layers","diff_ids":[%q]}}`, diffID)
	}
	good := map[string]string{
		"manifest.json":    `[{"Config":"c.json","RepoTags":["shop:1.2","shop:latest"],"Layers":["x/layer.tar"]}]`,
		"c.json":           config(godigest.FromBytes(l)),
		"x/layer.tar":      "-> ../y/layer.tar", // as old versions of Docker write a layer that two images share
		"y/layer.tar":      string(l),
		"../../etc/passwd": "nothing reads this",
	}
	with := func(name, content string) map[string]string {
		files := map[string]string{}
		for n, c := range good {
			files[n] = c
		}
		files[name] = content
		return files
	}
	for _, tt := range []struct {
		name  string
		files map[string]string
		err   string
		check func(*target.Target, *analyzer.Inventory) bool
	}{
		{"good", good, "", func(tg *target.Target, inv *analyzer.Inventory) bool {
			return tg.Name == "docker.io/library/shop" && slices.Equal(tg.Tags, []string{"1.2"}) && tg.Digest == "" &&
				inv.User == "app" && inv.DiffIDBroken == "" && len(inv.Packages) == 1
		}},
		{"layer of another image", with("c.json", config(godigest.FromString("other"))), "", func(_ *target.Target, inv *analyzer.Inventory) bool {
			return inv.DiffIDBroken != ""
		}},
		{"two images", with("manifest.json", `[{"RepoTags":["a:1"]},{"RepoTags":["b:1"]}]`), "2 images (a:1, b:1)", nil},
		{"no image", with("manifest.json", `[]`), "0 images", nil},
		{"no manifest", map[string]string{"a": "b"}, "not a docker-archive", nil},
		{"no layer", with("manifest.json", `[{"Config":"c.json","Layers":["none.tar"]}]`), "none.tar: file does not exist", nil},
		{"link loop", with("y/layer.tar", "-> ../x/layer.tar"), "more than 8 links", nil},
		{"link out", with("y/layer.tar", "-> ../../../../etc/hostname"), "file does not exist", nil},
		{"broken manifest", with("manifest.json", `{`), "manifest.json", nil},
		{"broken config", with("c.json", `[]`), "config", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tg, inv, err := inventory(t, "docker-archive:"+writeFile(t, tarOf(t, tt.files)), target.Options{})
			switch {
			case tt.err != "":
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
			case err != nil:
				t.Error(err)
			case !tt.check(tg, inv):
				t.Errorf("target %+v\ninventory %+v", tg, inv)
			}
		})
	}
	twice := append(slices.Clip(tarOf(t, good)[:1024]), tarOf(t, good)...) // the first entry again
	if _, err := target.Open(t.Context(), "docker-archive:"+writeFile(t, twice), target.Options{}); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("an entry that stands twice: %v", err)
	}
}

func TestDir(t *testing.T) {
	dir := writeFiles(t, map[string]string{
		"app/node_modules/lodash/package.json": `{"name":"lodash","version":"4.17.20"}`,
		"etc/os-release":                       "ID=alpine\nVERSION_ID=3.18.9\n",
		"proc/note":                            "a plain file in the root's own file system",
	})
	for link, to := range map[string]string{"lib": "usr/lib", "outside": "/", "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	tg, inv, err := inventory(t, "dir:"+dir, target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	check(t, inv, "4.17.20")
	if inv.OS.ID != "alpine" || tg.Digest != "" {
		t.Errorf("os %+v, digest %q", inv.OS, tg.Digest)
	}
	if _, _, err := inventory(t, "dir:"+dir+"/none", target.Options{}); err == nil {
		t.Error("a directory that is not there was analysed")
	}
	if _, _, err := inventory(t, "dir:"+filepath.Join(dir, "etc/os-release"), target.Options{}); err == nil {
		t.Error("a file was taken for a directory")
	}
}

func TestUnreadableFileIsIncomplete(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root can read everything")
	}
	dir := writeFiles(t, map[string]string{"a": "b"})
	if err := os.Chmod(filepath.Join(dir, "a"), 0); err != nil {
		t.Fatal(err)
	}
	_, inv, err := inventory(t, "dir:"+dir, target.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if len(inv.Incomplete) != 1 || inv.Incomplete[0].Path != "a" {
		t.Errorf("incomplete %v", inv.Incomplete)
	}
}

func TestLimitOfADirectory(t *testing.T) {
	dir := writeFiles(t, map[string]string{"a": strings.Repeat("x", 5<<20), "z": strings.Repeat("y", 5<<20)})
	s, err := layer.New(layer.Options{MaxUncompressed: 1 << 20, TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	tg, err := target.Open(t.Context(), "dir:"+dir, target.Options{Scanner: s})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range tg.Layers {
		if len(l.Incomplete) == 0 {
			t.Errorf("layer %+v is complete beyond its limit", l)
		}
	}
}

// serve pushes b to a registry in this process and returns its address.
func serve(t *testing.T, b blobs, repo string, manifests map[string]ocispec.Descriptor) string {
	t.Helper()
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	send := func(method, url, mediaType string, body []byte) {
		req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", mediaType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusCreated {
			t.Fatalf("%s %s: %s", method, url, resp.Status)
		}
	}
	for d, content := range b {
		send("POST", srv.URL+"/v2/"+repo+"/blobs/uploads/?digest="+d.String(), "application/octet-stream", content)
	}
	var m []string
	for ref := range manifests {
		m = append(m, ref)
	}
	slices.Sort(m) // children have names before their indexes
	for _, ref := range m {
		d := manifests[ref]
		send("PUT", srv.URL+"/v2/"+repo+"/manifests/"+ref, d.MediaType, b[d.Digest])
	}
	return srv.URL
}

func TestReference(t *testing.T) {
	b := blobs{}
	amd, arm := b.image(t, "amd64", "4.17.20"), b.image(t, "arm64", "4.17.21")
	multi := b.index(t, amd, arm)
	addr := serve(t, b, "library/shop", map[string]ocispec.Descriptor{"0amd": amd, "0arm": arm, "1.2": multi, "latest": amd})
	host := strings.TrimPrefix(addr, "http://")
	opts := target.Options{
		Upstreams: []proxy.Upstream{{Config: upstream.Config{Name: "docker.io", URL: addr}, Aliases: []string{"index.docker.io"}, Library: true}},
		Default:   "docker.io",
	}
	for _, tt := range []struct {
		spec, platform, version, name string
		tags                          []string
		err                           string
	}{
		{spec: "shop:1.2", platform: "linux/arm64", version: "4.17.21", name: "docker.io/library/shop", tags: []string{"1.2"}},
		{spec: "shop", version: "4.17.20", name: "docker.io/library/shop", tags: []string{"latest"}},
		{spec: "index.docker.io/library/shop:1.2", platform: "linux/amd64", version: "4.17.20", name: "docker.io/library/shop", tags: []string{"1.2"}},
		{spec: "shop@" + arm.Digest.String(), version: "4.17.21", name: "docker.io/library/shop"},
		{spec: "shop:1.2@" + amd.Digest.String(), version: "4.17.20", name: "docker.io/library/shop", tags: []string{"1.2"}},
		{spec: host + "/library/shop:latest", version: "4.17.20", name: host + "/library/shop", tags: []string{"latest"}},
		{spec: "shop:none", err: "404"},
		{spec: "shop:1.2", platform: "windows/amd64", err: "no image for windows/amd64"},
		{spec: "Shop:1.2", err: "invalid"},
		{spec: "shop:", err: "invalid"},
		{spec: "shop@sha256:12", err: "invalid"},
		{spec: "", err: "invalid"},
	} {
		t.Run(tt.spec+" "+tt.platform, func(t *testing.T) {
			opts := opts
			opts.Platform = tt.platform
			tg, inv, err := inventory(t, tt.spec, opts)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				if bad := errors.Is(err, target.ErrInvalid); bad != (tt.err == "invalid") {
					t.Errorf("error %v: ErrInvalid is %v", err, bad)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			check(t, inv, tt.version)
			if tg.Name != tt.name || !slices.Equal(tg.Tags, tt.tags) || tg.Digest == "" {
				t.Errorf("name %q, tags %q, digest %q", tg.Name, tg.Tags, tg.Digest)
			}
		})
	}
}

// FuzzArchive opens files as both kinds of archives; nothing may panic or be
// opened beyond the file.
func FuzzArchive(f *testing.F) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	manifest := `[{"Config":"c","RepoTags":["a:1"],"Layers":["l","l"]}]`
	for _, e := range []struct{ name, body string }{{"manifest.json", manifest}, {"c", "{}"}, {"l", "x"}, {"oci-layout", `{"imageLayoutVersion":"1.0.0"}`}, {"index.json", `{"schemaVersion":2,"manifests":[]}`}} {
		_ = w.WriteHeader(&tar.Header{Name: e.name, Size: int64(len(e.body)), Mode: 0o644})
		_, _ = io.WriteString(w, e.body)
	}
	_ = w.WriteHeader(&tar.Header{Name: "m", Linkname: "../../m", Typeflag: tar.TypeSymlink})
	_ = w.Close()
	f.Add(b.Bytes())
	f.Add([]byte{0x1f, 0x8b, 8})
	f.Add([]byte{0x28, 0xb5, 0x2f, 0xfd})
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(dir, "a.tar")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, scheme := range []string{"docker-archive:", "oci-archive:"} {
			tg, err := target.Open(t.Context(), scheme+file, target.Options{TempDir: dir})
			if err != nil {
				continue
			}
			for _, d := range tg.Image.Layers {
				r, err := tg.Image.Open(t.Context(), d)
				if err != nil {
					continue
				}
				n, _ := io.Copy(io.Discard, r)
				if n > int64(len(content)) && !bytes.HasPrefix(content, []byte{0x1f, 0x8b}) && !bytes.HasPrefix(content, []byte{0x28, 0xb5}) {
					t.Errorf("%d bytes of a file of %d", n, len(content))
				}
				_ = r.Close()
			}
			if err := tg.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
