package integration

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// The images that most tests use are a few apk packages on an Alpine whose end
// nobody knows, and smallFeed has the advisories that make one of them bad.
const (
	alpineRelease = "ID=alpine\nVERSION_ID=3.99.0\nPRETTY_NAME=\"Alpine Linux v3.99\"\n"

	critical = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H" // 9.8
	high     = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H" // 7.5
)

// apk is an installed package.
type apk struct{ name, version string }

var (
	clean      = []apk{{"musl", "1.2.4-r2"}, {"busybox", "1.36.1-r7"}}
	noisy      = []apk{{"musl", "1.2.4-r2"}, {"libnoisy", "1.0.0-r0"}}  // high, no fix: annotated
	vulnerable = []apk{{"musl", "1.2.4-r2"}, {"libvictim", "1.0.0-r0"}} // critical, fixed: denied
)

// Advisories of smallFeed, and the CVE that each is about.
const (
	victimAdvisory, victimCVE = "ALPINE-CVE-2024-90001", "CVE-2024-90001"
	noisyAdvisory, noisyCVE   = "ALPINE-CVE-2024-90002", "CVE-2024-90002"
	muslAdvisory              = "ALPINE-CVE-2019-90003" // fixed before the version that is installed
)

// smallFeed writes a directory in the layout of the public OSV export.
func smallFeed(t *testing.T) string {
	t.Helper()
	modified := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339) // a feed that is not stale
	record := func(id, cve, name, vector string, events ...map[string]string) any {
		return map[string]any{
			"schema_version": "1.7.0", "id": id, "upstream": []string{cve},
			"modified": modified, "published": "2024-01-01T00:00:00Z",
			"summary":  "made for a test of " + name,
			"severity": []any{map[string]string{"type": "CVSS_V3", "score": vector}},
			"affected": []any{map[string]any{
				"package": map[string]string{"ecosystem": "Alpine:v3.99", "name": name},
				"ranges":  []any{map[string]any{"type": "ECOSYSTEM", "events": events}},
			}},
		}
	}
	from := map[string]string{"introduced": "0"}
	records := map[string]any{
		victimAdvisory: record(victimAdvisory, victimCVE, "libvictim", critical, from, map[string]string{"fixed": "1.0.1-r0"}),
		noisyAdvisory:  record(noisyAdvisory, noisyCVE, "libnoisy", high, from),
		muslAdvisory:   record(muslAdvisory, "CVE-2019-90003", "musl", critical, from, map[string]string{"fixed": "1.1.0-r0"}),
	}
	dir := t.TempDir()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for id, r := range records {
		w := must(z.Create(id + ".json"))(t)
		if err := json.NewEncoder(w).Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "Alpine", "all.zip"), b.Bytes())
	write(t, filepath.Join(dir, "ecosystems.txt"), []byte("Alpine\n"))
	return dir
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// files is a layer's content by path. A path that ends in a slash is a directory.
type files []struct{ name, body string }

// alpine is the layer of an Alpine with these packages.
func alpine(pkgs []apk) files {
	var db strings.Builder
	for _, p := range pkgs {
		fmt.Fprintf(&db, "P:%s\nV:%s\nA:x86_64\nT:made for a test\no:%s\nL:MIT\n\n", p.name, p.version, p.name)
	}
	return files{{"etc/os-release", alpineRelease}, {"lib/apk/db/installed", db.String()}}
}

// layer packs f.
func layer(t *testing.T, f files, opts ...tarball.LayerOption) v1.Layer {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range f {
		h := &tar.Header{Name: e.name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(e.body))}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return layerOf(t, b.Bytes(), opts...)
}

// layerOf makes a layer of a tar archive, compressed or not.
func layerOf(t *testing.T, archive []byte, opts ...tarball.LayerOption) v1.Layer {
	t.Helper()
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive)), nil }
	opts = append([]tarball.LayerOption{tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.BestSpeed)}, opts...)
	return must(tarball.LayerFromOpener(open, opts...))(t)
}

// image makes an OCI image of layers for linux/arch that does not run as root.
func image(t *testing.T, arch string, layers ...v1.Layer) v1.Image {
	t.Helper()
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img := must(mutate.AppendLayers(base, layers...))(t)
	config := must(img.ConfigFile())(t).DeepCopy()
	config.OS, config.Architecture, config.Config.User = "linux", arch, "65532"
	config.Created = v1.Time{Time: time.Date(2024, 6, 1, 0, 0, 0, 0, time.UTC)}
	return must(mutate.ConfigFile(img, config))(t)
}

// docker is image in Docker's media types.
func docker(t *testing.T, pkgs []apk) v1.Image {
	t.Helper()
	img := must(mutate.AppendLayers(empty.Image, layer(t, alpine(pkgs), tarball.WithMediaType(types.DockerLayer))))(t)
	config := must(img.ConfigFile())(t).DeepCopy()
	config.OS, config.Architecture, config.Config.User = "linux", "amd64", "65532"
	return must(mutate.ConfigFile(img, config))(t)
}

// alpineImage is image on one layer with these packages.
func alpineImage(t *testing.T, pkgs []apk) v1.Image {
	t.Helper()
	return image(t, "amd64", layer(t, alpine(pkgs)))
}

// leakedImage holds a private key in its second layer, and its third deletes it.
func leakedImage(t *testing.T) v1.Image {
	t.Helper()
	return image(t, "amd64",
		layer(t, alpine(clean)),
		layer(t, files{{"root/.ssh/id_ed25519", privateKey(t)}}),
		layer(t, files{{"root/.ssh/.wh.id_ed25519", ""}}),
	)
}

// privateKey is a new one, in PEM.
func privateKey(t *testing.T) string {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))(t)}))
}

// index joins a linux/amd64 and a linux/arm64 image.
func index(amd64, arm64 v1.Image) v1.ImageIndex {
	add := func(i v1.Image, arch string) mutate.IndexAddendum {
		return mutate.IndexAddendum{Add: i, Descriptor: v1.Descriptor{
			Platform: &v1.Platform{OS: "linux", Architecture: arch},
		}}
	}
	return mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		add(amd64, "amd64"), add(arm64, "arm64"))
}
