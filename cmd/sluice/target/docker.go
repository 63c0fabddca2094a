package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
)

// dockerImage is an entry of manifest.json (Docker image specification v1.2,
// "Combined Image JSON + Filesystem Changeset Format").
type dockerImage struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// maxConfig is what the analyzer reads of a config.
const maxConfig = 8 << 20

// openDocker opens the one image of a file that `docker save` or `podman save`
// wrote. It has no manifest; the layers are hashed here, so that the analyzer
// has descriptors to compare with.
func openDocker(ctx context.Context, spec string, _ platform, opts Options) (*Target, error) {
	a, err := openTar(ctx, spec, opts.TempDir)
	if err != nil {
		return nil, err
	}
	t, err := docker(ctx, a)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	t.close = a.Close
	return t, nil
}

func docker(ctx context.Context, a *archive) (*Target, error) {
	b, err := a.read("manifest.json", maxManifest)
	if err != nil {
		return nil, fmt.Errorf("not a docker-archive: %w", err)
	}
	var images []dockerImage
	if err := json.Unmarshal(b, &images); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(images) != 1 {
		var tags []string
		for _, i := range images {
			tags = append(tags, strings.Join(i.RepoTags, " "))
		}
		return nil, fmt.Errorf("manifest.json: %d images (%s); save one at a time", len(images), strings.Join(tags, ", "))
	}
	image := images[0]
	config, err := a.read(image.Config, maxConfig)
	if err != nil {
		return nil, err
	}
	names := map[godigest.Digest]string{godigest.FromBytes(config): image.Config}
	manifest := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: analyzer.MediaTypeDockerManifest,
		Config: ocispec.Descriptor{MediaType: analyzer.MediaTypeDockerConfig, Digest: godigest.FromBytes(config), Size: int64(len(config))},
	}
	for _, name := range image.Layers {
		d, size, err := a.hash(ctx, name)
		if err != nil {
			return nil, err
		}
		names[d] = name
		manifest.Layers = append(manifest.Layers, ocispec.Descriptor{MediaType: "application/vnd.docker.image.rootfs.diff.tar", Digest: d, Size: size})
	}
	if b, err = json.Marshal(manifest); err != nil {
		return nil, err
	}
	m, err := analyzer.ParseManifest("", b)
	if err != nil {
		return nil, err
	}
	t := &Target{MediaType: m.Descriptor.MediaType}
	for _, tag := range image.RepoTags {
		if t.Name == "" { // one image has one name here
			t.named(tag)
		}
	}
	t.Image = m.Image(func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) { return a.open(names[d.Digest]) })
	return t, nil
}

func (a *archive) read(name string, limit int64) ([]byte, error) {
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	b, err := readAll(r, limit)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

func (a *archive) hash(ctx context.Context, name string) (godigest.Digest, int64, error) {
	r, err := a.open(name)
	if err != nil {
		return "", 0, err
	}
	h := godigest.SHA256.Digester()
	n, err := io.Copy(h.Hash(), &interruptedReader{ctx, r})
	if err != nil {
		return "", 0, fmt.Errorf("%s: %w", name, err)
	}
	return h.Digest(), n, nil
}
