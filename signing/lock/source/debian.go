package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing/lock"
)

// DebianURL is where Debian publishes its images: an OCI layout for each branch
// of an architecture and each folder of a suite.
const DebianURL = "https://raw.githubusercontent.com/debuerreotype/docker-debian-artifacts"

// branches are Debian's names of platforms (docker-library's "bashbrew").
var branches = map[string]string{
	"linux/amd64": "amd64", "linux/386": "i386", "linux/arm/v5": "arm32v5", "linux/arm/v7": "arm32v7", "linux/arm64": "arm64v8", "linux/arm64/v8": "arm64v8",
	"linux/mips64le": "mips64le", "linux/ppc64le": "ppc64le", "linux/riscv64": "riscv64", "linux/s390x": "s390x",
}

// Debian publishes the manifests that the OCI indexes of docker-debian-artifacts
// at base list, for each of the platforms. The tag names the suite, as in
// bookworm or bookworm-slim. The registry's tag must name one of them, alone or
// in an index: else one of both is old, and that is an error.
func Debian(ctx context.Context, w Web, base string, r Request) (lock.Image, error) {
	suite, variant, _ := strings.Cut(r.Tag, "-")
	if suite == "" || strings.ContainsAny(suite, "/.0123456789") || suite == "latest" {
		return lock.Image{}, fmt.Errorf("%s:%s: Debian publishes by suite: take a tag like bookworm or bookworm-slim", r.Name, r.Tag)
	}
	folder := suite
	if variant != "" {
		folder += "/" + variant
	}
	im := lock.Image{
		Name: r.Name, Tag: r.Tag, Platforms: map[string][]godigest.Digest{},
		Source: &lock.Origin{Type: lock.DebianArtifacts, Fetched: r.Now.UTC().Truncate(time.Second)},
	}
	for _, p := range r.Platform {
		branch, ok := branches[p]
		if !ok {
			return lock.Image{}, fmt.Errorf("%s:%s: Debian publishes nothing for %s", r.Name, r.Tag, p)
		}
		address := strings.TrimSuffix(base, "/") + "/dist-" + branch + "/" + folder + "/oci/index.json"
		b, err := w.Get(ctx, address)
		if err != nil {
			return lock.Image{}, err
		}
		digests, err := published(b)
		if err != nil {
			return lock.Image{}, fmt.Errorf("%s: %w", address, err)
		}
		im.Platforms[p] = digests
		if len(r.Platform) == 1 {
			im.Source.URL, im.Source.SHA256 = address, godigest.FromBytes(b)
		} else {
			im.Source.URL = base
		}
	}
	return im, r.agrees(ctx, &im)
}

// published are the images of an OCI layout's index.json.
func published(b []byte) ([]godigest.Digest, error) {
	var index ocispec.Index
	if err := json.Unmarshal(b, &index); err != nil {
		return nil, err
	}
	if index.SchemaVersion != 2 || len(index.Manifests) == 0 {
		return nil, errors.New("it is no index of an OCI layout, or an empty one")
	}
	var out []godigest.Digest
	for _, d := range index.Manifests {
		if err := d.Digest.Validate(); err != nil || d.Digest.Algorithm() != godigest.SHA256 {
			return nil, fmt.Errorf("descriptor %q is no sha256", d.Digest)
		}
		if !strings.HasSuffix(d.MediaType, ".manifest.v1+json") {
			return nil, fmt.Errorf("descriptor %s is a %q, not an image manifest", d.Digest, d.MediaType)
		}
		out = append(out, d.Digest)
	}
	return out, nil
}

// agrees is nil if the registry has for each platform what is published.
func (r *Request) agrees(ctx context.Context, im *lock.Image) error {
	m, index, err := r.top(ctx)
	if err != nil {
		return err
	}
	has := map[godigest.Digest]bool{m.Digest: true}
	if index != nil {
		for _, d := range index.Manifests {
			has[d.Digest] = true
		}
	}
	for p, digests := range im.Platforms {
		found := false
		for _, d := range digests {
			found = found || has[d]
		}
		if !found {
			return fmt.Errorf("%s:%s: published for %s is %s, and the registry has %s without it: one of both is older; try again later, or look into it",
				r.Name, r.Tag, p, digests[0], m.Digest)
		}
	}
	return nil
}
