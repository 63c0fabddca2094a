package target

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
)

// maxManifest bounds manifests and indexes, in bytes.
const maxManifest = 4 << 20

// opener opens a file by its slash-separated path within a directory or archive.
type opener func(name string) (io.ReadCloser, error)

// openLayout opens DIR[:TAG|@DIGEST] (OCI image-spec, image-layout.md).
func openLayout(_ context.Context, spec string, want platform, _ Options) (*Target, error) {
	path, ref := splitPath(spec)
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	t, err := layout(func(name string) (io.ReadCloser, error) { return root.Open(name) }, ref, want)
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	t.close = root.Close
	return t, nil
}

// openArchive opens FILE[:TAG|@DIGEST], a tar file of a layout.
func openArchive(ctx context.Context, spec string, want platform, opts Options) (*Target, error) {
	path, ref := splitPath(spec)
	a, err := openTar(ctx, path, opts.TempDir)
	if err != nil {
		return nil, err
	}
	t, err := layout(a.open, ref, want)
	if err != nil {
		_ = a.Close()
		return nil, err
	}
	t.close = a.Close
	return t, nil
}

// splitPath takes a tag or digest off a path. What exists under the whole
// text is the path, colons and all.
func splitPath(spec string) (path, ref string) {
	if _, err := os.Lstat(spec); err == nil {
		return spec, ""
	}
	if path, dgst, ok := strings.Cut(spec, "@sha256:"); ok {
		return path, "sha256:" + dgst
	}
	if i := strings.LastIndexByte(spec, ':'); i > strings.LastIndexByte(spec, '/') {
		return spec[:i], spec[i+1:]
	}
	return spec, ""
}

// layout opens the image that ref, a tag, a digest or "", names in a layout.
func layout(open opener, ref string, want platform) (*Target, error) {
	read := func(name string) ([]byte, error) {
		f, err := open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }()
		b, err := readAll(f, maxManifest)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return b, nil
	}
	var marker ocispec.ImageLayout
	b, err := read(ocispec.ImageLayoutFile)
	if err == nil {
		err = json.Unmarshal(b, &marker)
	}
	if err != nil || marker.Version != ocispec.ImageLayoutVersion {
		return nil, fmt.Errorf("not an OCI image layout of version %s: %s is missing or says otherwise", ocispec.ImageLayoutVersion, ocispec.ImageLayoutFile)
	}
	b, err = read(ocispec.ImageIndexFile)
	if err != nil {
		return nil, err
	}
	index, err := analyzer.ParseManifest("", b)
	if err != nil || !index.Index {
		return nil, fmt.Errorf("%s: not an image index: %w", ocispec.ImageIndexFile, err)
	}
	fetch := func(d ocispec.Descriptor) (analyzer.Manifest, error) {
		name, err := blobPath(d.Digest)
		if err != nil {
			return analyzer.Manifest{}, err
		}
		b, err := read(name)
		if err != nil {
			return analyzer.Manifest{}, err
		}
		if got := godigest.FromBytes(b); got != d.Digest {
			return analyzer.Manifest{}, fmt.Errorf("%s: its bytes have the digest %s", name, got)
		}
		return analyzer.ParseManifest(d.MediaType, b)
	}
	t := &Target{}
	entry, err := pick(index.Children, ref, want)
	if err != nil {
		return nil, err
	}
	t.label(entry)
	m, err := fetch(entry)
	if err != nil {
		return nil, err
	}
	if m, err = t.descend(m, want, fetch); err != nil {
		return nil, err
	}
	t.Image = m.Image(func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		name, err := blobPath(d.Digest)
		if err != nil {
			return nil, err
		}
		return open(name)
	})
	return t, nil
}

// containerdName is where containerd and BuildKit put an image's whole name.
const containerdName = "io.containerd.image.name"

// pick chooses an entry of a layout's index by tag, by digest, or as the only
// image for the platform.
func pick(entries []ocispec.Descriptor, ref string, want platform) (ocispec.Descriptor, error) {
	if ref == "" {
		return choose(entries, want)
	}
	var have []string
	for _, d := range entries {
		tag, name := d.Annotations[ocispec.AnnotationRefName], d.Annotations[containerdName]
		if d.Digest.String() == ref || tag == ref || name == ref || strings.HasSuffix(name, ":"+ref) {
			return d, nil
		}
		have = append(have, strings.TrimSpace(tag+" "+d.Digest.String()))
	}
	return ocispec.Descriptor{}, fmt.Errorf("no image is called %q; there is %s", ref, strings.Join(have, ", "))
}

// label takes the names that an entry of a layout's index has.
func (t *Target) label(d ocispec.Descriptor) {
	tag := d.Annotations[ocispec.AnnotationRefName]
	switch {
	case d.Annotations[containerdName] != "":
		t.named(d.Annotations[containerdName])
	case strings.Contains(tag, "/"):
		t.named(tag) // some tools write the whole name
	case tag != "":
		t.Tags = []string{tag}
	}
}

func blobPath(d godigest.Digest) (string, error) {
	if err := d.Validate(); err != nil {
		return "", fmt.Errorf("digest %q: %w", d, err)
	}
	return "blobs/" + d.Algorithm().String() + "/" + d.Encoded(), nil
}
