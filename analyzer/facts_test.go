package analyzer_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/analyzer/layer"
	"github.com/sluiceproxy/sluice/analyzer/secret"
)

// TestImageFacts follows secrets, hardening and base from a whole image to its
// inventory: what layers, config and annotations say.
func TestImageFacts(t *testing.T) {
	tarballs := [][]byte{
		tarball(t, "etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n", "bin/sh", "x", "usr/bin/apt", "x", "root/.bash_history", "ls\n"),
		tarball(t, "root/.wh..bash_history", "", "etc/shadow", "root:*:1::::::\n"),
	}
	img := build(t, tarballs...)
	config := []byte(`{"os":"linux","architecture":"amd64","config":{"User":"app","Env":["PATH=/bin","DB_PASSWORD=hunter2again"],"ExposedPorts":{"22/tcp":{}}},
		"history":[{"created_by":"ADD https://x.example/y /y # buildkit"}],"rootfs":{"type":"layers","diff_ids":["` +
		godigest.FromBytes(tarballs[0]).String() + `","` + godigest.FromBytes(tarballs[1]).String() + `"]}}`)
	img.Config.Digest, img.Config.Size = godigest.FromBytes(config), int64(len(config))
	img.Annotations = map[string]string{ocispec.AnnotationBaseImageName: "docker.io/library/debian:12"}
	blobs := img.Open
	img.Open = func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		if d.Digest == img.Config.Digest {
			return io.NopCloser(bytes.NewReader(config)), nil
		}
		return blobs(ctx, d)
	}
	s, err := layer.New(layer.Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	inv, err := analyzer.New(analyzer.Options{Scanner: s, ConfigSecrets: secret.Config, Log: zap.NewNop()}).Inventory(t.Context(), img)
	if err != nil {
		t.Fatal(err)
	}
	wantSecrets := []analyzer.Secret{
		{Kind: "history-file", Rule: "shell-history", Path: "root/.bash_history", Line: 1, Excerpt: "…", Layer: godigest.FromBytes(tarballs[0]), Deleted: true},
		{Kind: "password", Rule: "image-env", Path: "config:env/DB_PASSWORD", Line: 1, Excerpt: "hun…"},
	}
	if d := cmp.Diff(wantSecrets, inv.Secrets); d != "" {
		t.Errorf("secrets (-want +got):\n%s", d)
	}
	wantFacts := analyzer.Hardening{
		Shells: []string{"bin/sh"}, PackageManagers: []string{"usr/bin/apt"}, SSH: []string{"port 22"}, Ports: []string{"22/tcp"}, AddedURLs: []string{"https://x.example/y"},
	}
	if d := cmp.Diff(wantFacts, inv.Hardening); d != "" {
		t.Errorf("hardening (-want +got):\n%s", d)
	}
	if d := cmp.Diff(analyzer.Base{Kind: analyzer.BaseDistribution, Name: "docker.io/library/debian:12"}, inv.Base); d != "" {
		t.Errorf("base (-want +got):\n%s", d)
	}
	if ids := inv.ChainIDs(); len(ids) != 2 || !slices.Contains(ids, godigest.FromBytes(tarballs[0])) {
		t.Errorf("chainIDs %v", ids)
	}
}
