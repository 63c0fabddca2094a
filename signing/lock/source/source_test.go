package source_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing/lock"
	"github.com/sluiceproxy/sluice/signing/lock/source"
	"github.com/sluiceproxy/sluice/signing/signtest"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// registry is a repository with an image of one layer for amd64 and arm64.
type registry struct {
	*signtest.Repo
	rootfs map[string][]byte // the layer's archive, uncompressed, by architecture
	stored map[string][]byte // as stored
	child  map[string]ocispec.Descriptor
	index  ocispec.Descriptor
}

func newRegistry(t testing.TB, tag string, layers int) *registry {
	t.Helper()
	r := &registry{Repo: signtest.NewRepo(), rootfs: map[string][]byte{}, stored: map[string][]byte{}, child: map[string]ocispec.Descriptor{}}
	index := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, arch := range []string{"amd64", "arm64"} {
		r.rootfs[arch] = []byte("a root file system for " + arch)
		var zipped bytes.Buffer
		w := gzip.NewWriter(&zipped)
		if _, err := w.Write(r.rootfs[arch]); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r.stored[arch] = zipped.Bytes()
		layer := r.PutBlob(ocispec.MediaTypeImageLayerGzip, r.stored[arch])
		config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: arch}, RootFS: ocispec.RootFS{Type: "layers"}}
		m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
		for range layers {
			m.Layers = append(m.Layers, layer)
			config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, godigest.FromBytes(r.rootfs[arch]))
		}
		raw, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		m.Config = r.PutBlob(ocispec.MediaTypeImageConfig, raw)
		r.child[arch] = r.PutManifest(t, m)
		listed := r.child[arch]
		listed.Platform = &config.Platform
		index.Manifests = append(index.Manifests, listed)
	}
	unknown := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: godigest.FromString("attestation"), Size: 3, Platform: &ocispec.Platform{OS: "unknown", Architecture: "unknown"}}
	index.Manifests = append(index.Manifests, unknown)
	r.index = r.PutManifest(t, index, tag)
	return r
}

func (r *registry) request(tag string) source.Request {
	return source.Request{Name: "docker.io/library/debian", Tag: tag, Registry: r, Platform: []string{"linux/amd64", "linux/arm64"}, Now: now}
}

// web serves pages.
func web(t testing.TB, pages map[string][]byte) (source.Web, string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := pages[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		if to, ok := bytes.CutPrefix(b, []byte("redirect ")); ok {
			http.Redirect(w, r, string(to), http.StatusFound)
			return
		}
		_, _ = w.Write(b)
	}))
	t.Cleanup(s.Close)
	return source.Web{Client: s.Client()}, s.URL
}

func wantError(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestFirstUse(t *testing.T) {
	r := newRegistry(t, "bookworm", 1)
	got, err := source.FirstUse(t.Context(), r.request("bookworm"))
	if err != nil {
		t.Fatal(err)
	}
	want := lock.Image{
		Name: "docker.io/library/debian", Tag: "bookworm", Digests: []godigest.Digest{r.index.Digest},
		Platforms: map[string][]godigest.Digest{"linux/amd64": {r.child["amd64"].Digest}, "linux/arm64": {r.child["arm64"].Digest}},
		Source:    &lock.Origin{Type: lock.FirstUse, Fetched: now},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if _, err := source.FirstUse(t.Context(), r.request("missing")); err == nil {
		t.Error("a missing tag has an entry")
	}
}

// debian is what docker-debian-artifacts has for an architecture: an OCI layout's
// index.json, as https://github.com/debuerreotype/docker-debian-artifacts writes it.
func debian(d ocispec.Descriptor) []byte {
	return fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[
	{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":%d,"platform":{"architecture":"amd64","os":"linux"},
	"annotations":{"org.opencontainers.image.ref.name":"bookworm","io.containerd.image.name":"debian:bookworm"}}]}`, d.Digest, d.Size)
}

func TestDebian(t *testing.T) {
	r := newRegistry(t, "bookworm-slim", 1)
	client, url := web(t, map[string][]byte{
		"/dist-amd64/bookworm/slim/oci/index.json":   debian(r.child["amd64"]),
		"/dist-arm64v8/bookworm/slim/oci/index.json": debian(r.child["arm64"]),
	})
	got, err := source.Debian(t.Context(), client, url+"/", r.request("bookworm-slim"))
	if err != nil {
		t.Fatal(err)
	}
	want := lock.Image{
		Name: "docker.io/library/debian", Tag: "bookworm-slim",
		Platforms: map[string][]godigest.Digest{"linux/amd64": {r.child["amd64"].Digest}, "linux/arm64": {r.child["arm64"].Digest}},
		Source:    &lock.Origin{Type: lock.DebianArtifacts, URL: url + "/", Fetched: now},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestThreatRegistryDisagrees: a registry that has another image than Debian
// publishes gets no entry.
func TestThreatRegistryDisagrees(t *testing.T) {
	r := newRegistry(t, "bookworm", 1)
	other := r.child["amd64"]
	other.Digest = godigest.FromString("published")
	page := "/dist-amd64/bookworm/oci/index.json"
	for _, tt := range []struct {
		name string
		page []byte
		tag  string
		want string
	}{
		{"other digest", debian(other), "bookworm", "one of both is older"},
		{"no index", []byte(`{}`), "bookworm", "no index of an OCI layout"},
		{"not JSON", []byte(`<html>`), "bookworm", "invalid character"},
		{"no page", nil, "bookworm", "404"},
		{"to plain http elsewhere", []byte("redirect http://192.0.2.1/x"), "bookworm", "only https"},
		{"no suite", debian(other), "12", "take a tag like bookworm"},
		{"path in a tag", debian(other), "..", "take a tag like bookworm"},
		{"short digest", bytes.Replace(debian(other), []byte(other.Digest), []byte("sha256:abcd"), 1), "bookworm", "no sha256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pages := map[string][]byte{}
			if tt.page != nil {
				pages[page] = tt.page
			}
			client, url := web(t, pages)
			req := r.request(tt.tag)
			req.Platform = []string{"linux/amd64"}
			_, err := source.Debian(t.Context(), client, url, req)
			wantError(t, err, tt.want)
		})
	}
	_, err := source.Debian(t.Context(), source.Web{Client: http.DefaultClient}, "http://192.0.2.1", r.request("bookworm"))
	wantError(t, err, "only https")
}

func TestSums(t *testing.T) {
	r := newRegistry(t, "3.22", 1)
	stored, plain := map[string]string{}, map[string]string{}
	for arch, b := range r.stored {
		stored[arch] = godigest.SHA512.FromBytes(b).Encoded()
		plain[arch] = godigest.SHA512.FromBytes(r.rootfs[arch]).Encoded()
	}
	for _, tt := range []struct {
		name  string
		page  string
		sums  func(arch string) string
		title map[string]string // architecture as the publisher calls it
	}{
		{"sha512 as stored (Alpine)", "/checksums.sha512", func(a string) string { return stored[a] }, map[string]string{"amd64": "x86_64", "arm64": "aarch64"}},
		{"sha512 uncompressed", "/checksums.sha512", func(a string) string { return plain[a] }, map[string]string{"amd64": "x86_64", "arm64": "aarch64"}},
		{"sha256 as stored (Ubuntu)", "/SHA256SUMS", func(a string) string { return godigest.FromBytes(r.stored[a]).Encoded() }, map[string]string{"amd64": "amd64", "arm64": "arm64"}},
		{"sha256 uncompressed", "/SHA256SUMS", func(a string) string { return godigest.FromBytes(r.rootfs[a]).Encoded() }, map[string]string{"amd64": "amd64", "arm64": "arm64"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var page strings.Builder
			for arch, title := range tt.title {
				fmt.Fprintf(&page, "%s *root-3.22.1-%s.tar.gz\n", tt.sums(arch), title)
				fmt.Fprintf(&page, "%s  ./other-%s.iso\n", strings.Repeat("ab", 32), title)
			}
			client, url := web(t, map[string][]byte{tt.page: []byte(page.String())})
			got, err := source.Sums(t.Context(), client, source.SumsFile{URL: url + tt.page, Archive: "root-*-{arch}.tar.gz"}, r.request("3.22"))
			if err != nil {
				t.Fatal(err)
			}
			want := lock.Image{
				Name: "docker.io/library/debian", Tag: "3.22",
				Platforms: map[string][]godigest.Digest{"linux/amd64": {r.child["amd64"].Digest}, "linux/arm64": {r.child["arm64"].Digest}},
				Source:    &lock.Origin{Type: lock.Checksums, URL: url + tt.page, Fetched: now, SHA256: godigest.FromString(page.String())},
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
		})
	}
}

// entity is an OpenPGP key pair as of 2026.
func entity(t testing.TB) (*openpgp.Entity, []byte) {
	t.Helper()
	e, err := openpgp.NewEntity("CD Image", "", "cd@example.org", &packet.Config{
		Time: func() time.Time { return now.Add(-time.Hour) }, DefaultHash: crypto.SHA256, Algorithm: packet.PubKeyAlgoEdDSA,
	})
	if err != nil {
		t.Fatal(err)
	}
	var public bytes.Buffer
	if err := e.Serialize(&public); err != nil {
		t.Fatal(err)
	}
	return e, public.Bytes()
}

func pgpSign(t testing.TB, e *openpgp.Entity, text []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := openpgp.DetachSign(&out, e, bytes.NewReader(text), &packet.Config{Time: func() time.Time { return now.Add(-time.Minute) }}); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestSumsSigned(t *testing.T) {
	r := newRegistry(t, "noble", 1)
	key, ring := entity(t)
	var page strings.Builder
	for arch, b := range r.stored {
		fmt.Fprintf(&page, "%s *ubuntu-noble-oci-%s-root.tar.gz\n", godigest.FromBytes(b).Encoded(), arch)
	}
	text := []byte(page.String())
	client, url := web(t, map[string][]byte{"/SHA256SUMS": text, "/SHA256SUMS.gpg": pgpSign(t, key, text)})
	got, err := source.Sums(t.Context(), client, source.SumsFile{URL: url + "/SHA256SUMS", Keyring: ring, Archive: "ubuntu-noble-oci-{arch}-root.tar.gz"}, r.request("noble"))
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.ToUpper(hex.EncodeToString(key.PrimaryKey.Fingerprint)); got.Source.Type != lock.SHA256Sums || got.Source.Key != want || len(got.Platforms) != 2 {
		t.Errorf("%+v, want key %s", got, want)
	}
}

// TestThreatForgedSums: sums count only as their publisher signed them, and only
// for the archive that they are of.
func TestThreatForgedSums(t *testing.T) {
	r := newRegistry(t, "noble", 1)
	two := newRegistry(t, "noble", 2)
	key, ring := entity(t)
	other, _ := entity(t)
	sum := godigest.FromBytes(r.stored["amd64"]).Encoded()
	good := sum + " *root-amd64.tar.gz\n"
	const archive = "root-{arch}.tar.gz"
	for _, tt := range []struct {
		name, text string
		signature  []byte
		archive    string
		registry   *registry
		want       string
	}{
		{"altered after signing", strings.Repeat("00", 32) + " *root-amd64.tar.gz\n", pgpSign(t, key, []byte(good)), archive, r, "signature"},
		{"another's signature", good, pgpSign(t, other, []byte(good)), archive, r, "signature"},
		{"no signature", good, nil, archive, r, "404"},
		{"not a signature", good, []byte("x"), archive, r, "signature"},
		{"another archive's sum", strings.Repeat("00", 32) + " *root-amd64.tar.gz\n", pgpSign(t, key, []byte(strings.Repeat("00", 32)+" *root-amd64.tar.gz\n")), archive, r, "and published is"},
		{"no archive for it", good, pgpSign(t, key, []byte(good)), "rootfs-{arch}.tar.xz", r, "no archive fits"},
		{"two archives", good + strings.Replace(good, "root-", "root-2", 1), pgpSign(t, key, []byte(good+strings.Replace(good, "root-", "root-2", 1))), "root-*amd64.tar.gz", r, "2 archives fit"},
		{"md5 (Oracle)", "d41d8cd98f00b204e9800998ecf8427e *root-amd64.tar.gz\n", pgpSign(t, key, []byte("d41d8cd98f00b204e9800998ecf8427e *root-amd64.tar.gz\n")), archive, r, "not a sha256 or sha512"},
		{"layers on top", good, pgpSign(t, key, []byte(good)), archive, two, "2 layers"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pages := map[string][]byte{"/SHA256SUMS": []byte(tt.text)}
			if tt.signature != nil {
				pages["/SHA256SUMS.gpg"] = tt.signature
			}
			client, url := web(t, pages)
			req := tt.registry.request("noble")
			req.Platform = []string{"linux/amd64"}
			_, err := source.Sums(t.Context(), client, source.SumsFile{URL: url + "/SHA256SUMS", Keyring: ring, Archive: tt.archive}, req)
			wantError(t, err, tt.want)
		})
	}
	later := now.Add(100 * 365 * 24 * time.Hour)
	if _, err := source.VerifyOpenPGP(ring, []byte(good), pgpSign(t, key, []byte(good)), later.Add(-200*365*24*time.Hour)); err == nil {
		t.Error("a signature from the future counts")
	}
}

func TestStops(t *testing.T) {
	r := newRegistry(t, "bookworm", 1)
	client, url := web(t, map[string][]byte{"/SHA256SUMS": []byte("x")})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.Sums(ctx, client, source.SumsFile{URL: url + "/SHA256SUMS"}, r.request("bookworm")); err == nil {
		t.Error("no error after the end")
	}
}

func FuzzVerifyOpenPGP(f *testing.F) {
	key, ring := entity(f)
	f.Add(ring, []byte("text"), pgpSign(f, key, []byte("text")))
	f.Add([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n-----END PGP PUBLIC KEY BLOCK-----"), []byte("text"), []byte("-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----"))
	f.Fuzz(func(t *testing.T, _, text, signature []byte) {
		if _, err := source.VerifyOpenPGP(ring, text, signature, now); err == nil && string(text) != "text" {
			t.Errorf("%q is signed", text)
		}
	})
}
