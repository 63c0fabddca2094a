package analyzer_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
)

// build makes an image of tar streams, gzipped, with a true config.
func build(t *testing.T, tarballs ...[]byte) analyzer.Image {
	t.Helper()
	blobs := map[godigest.Digest][]byte{}
	add := func(mediaType string, b []byte) ocispec.Descriptor {
		d := godigest.FromBytes(b)
		blobs[d] = b
		return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(b))}
	}
	var img analyzer.Image
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	for _, b := range tarballs {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, godigest.FromBytes(b))
		var z bytes.Buffer
		zw, err := gzip.NewWriterLevel(&z, gzip.BestSpeed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := zw.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := zw.Close(); err != nil {
			t.Fatal(err)
		}
		img.Layers = append(img.Layers, add(ocispec.MediaTypeImageLayerGzip, z.Bytes()))
	}
	b, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	img.Config = add(ocispec.MediaTypeImageConfig, b)
	img.Manifest = ocispec.Descriptor{Digest: godigest.FromString(t.Name())}
	img.Open = func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(blobs[d.Digest])), nil
	}
	return img
}

func tarball(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for i := 0; i < len(files); i += 2 {
		if err := tw.WriteHeader(&tar.Header{Name: files[i], Size: int64(len(files[i+1])), Mode: 0o644, Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(tw, files[i+1]); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func inventory(t *testing.T, img analyzer.Image) *analyzer.Inventory {
	t.Helper()
	s, err := layer.New(layer.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := analyzer.New(analyzer.Options{Scanner: s, Log: zap.NewNop()}).Inventory(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	return inv
}

// TestImage analyses an image with an upgrade and a key in a deleted layer.
func TestImage(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	const osRelease = "ID=debian\nVERSION_ID=\"12\"\n"
	record := func(name, version string) string {
		return "Package: " + name + "\nStatus: install ok installed\nArchitecture: amd64\nVersion: " + version + "\n\n"
	}
	layers := [][]byte{
		tarball(t, "etc/os-release", osRelease, "var/lib/dpkg/status", record("libc6", "2.36-9")+record("bash", "5.2-1")),
		tarball(t, "root/key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))),
		tarball(t, "root/.wh.key.pem", "", "var/lib/dpkg/status", record("libc6", "2.36-9+deb12u9")+record("bash", "5.2-1")),
	}
	inv := inventory(t, build(t, layers...))
	var got []string
	for _, p := range inv.Packages {
		for i, l := range layers {
			if p.Layer == godigest.FromBytes(l) {
				got = append(got, p.Name+" "+p.Version+" "+p.Ecosystem+" of layer "+string(rune('0'+i)))
			}
		}
	}
	if want := "bash 5.2-1 Debian:12 of layer 0, libc6 2.36-9+deb12u9 Debian:12 of layer 2"; strings.Join(got, ", ") != want {
		t.Errorf("packages %q, want %q", got, want)
	}
	if len(inv.Secrets) != 1 || !inv.Secrets[0].Deleted || inv.Secrets[0].Layer != godigest.FromBytes(layers[1]) || inv.Secrets[0].Kind != "private-key" {
		t.Errorf("secrets %+v", inv.Secrets)
	}
	if inv.DiffIDBroken != "" || len(inv.Incomplete) > 0 || inv.OS.ID != "debian" {
		t.Errorf("chain %q, incomplete %+v, OS %+v", inv.DiffIDBroken, inv.Incomplete, inv.OS)
	}
}

// TestRealImage checks the ecosystem of real distributions.
func TestRealImage(t *testing.T) {
	dir := os.Getenv("SLUICE_TEST_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "shared", "data")
	}
	for file, want := range map[string]string{
		"alpine-minirootfs-3.18.9-x86_64.tar.gz": "Alpine:v3.18", "alpine-minirootfs-3.6.5-x86_64.tar.gz": "Alpine:v3.6",
	} {
		f, err := os.Open(filepath.Join(dir, "rootfs", file))
		if err != nil {
			t.Skipf("no real data: %v", err)
		}
		defer f.Close()
		zr, err := gzip.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(zr)
		if err != nil {
			t.Fatal(err)
		}
		inv := inventory(t, build(t, b))
		for _, p := range inv.Packages {
			if p.Ecosystem != want || !strings.HasPrefix(p.PURL, "pkg:apk/alpine/"+p.Name+"@") {
				t.Errorf("%s: %+v", file, p)
			}
		}
		if len(inv.Packages) == 0 || len(inv.Incomplete) > 0 || inv.DiffIDBroken != "" {
			t.Errorf("%s: %d packages, incomplete %+v, chain %q", file, len(inv.Packages), inv.Incomplete, inv.DiffIDBroken)
		}
	}
}
