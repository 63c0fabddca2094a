package target

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/google/go-containerregistry/pkg/authn"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy"
	"github.com/sluiceproxy/sluice/signing"
)

// Options say how targets are opened.
type Options struct {
	Platform string // os/arch[/variant]; "" = linux on this machine's architecture

	Upstreams []proxy.Upstream // of image references; other registries are asked by their name
	Default   string           // upstream of references that name none
	Keychain  authn.Keychain   // nil = Docker's config.json

	Scanner analyzer.LayerScanner // reads directories
	TempDir string                // for archives that have to be unpacked; "" = os.TempDir()
}

// Target is an opened image.
type Target struct {
	Name       string          // canonical name; "" if it has none
	Upstream   string          // of a reference: docker.io
	Repository string          // of a reference: library/nginx
	Tags       []string        // those by which it is known
	Digest     godigest.Digest // of its manifest as stored; "" for a directory and for a docker-archive, which have none
	MediaType  string
	Parents    []godigest.Digest // the indexes on the way to it
	Image      analyzer.Image
	// Layers are read already, by digest; the analyzer need not open them.
	Layers map[godigest.Digest]*analyzer.Layer
	// Source is where the image's signatures are, nil for one that is in no
	// registry; Indexes are the Parents with their bytes.
	Source  signing.Source
	Indexes []signing.Parent
	// Inventory is set where there is nothing to analyse: a document says what
	// the image holds. Image then has an identity only.
	Inventory *analyzer.Inventory

	close func() error
}

// Close releases files.
func (t *Target) Close() error {
	if t.close == nil {
		return nil
	}
	return t.close()
}

// ErrInvalid is wrapped by errors about the way a target is written.
var ErrInvalid = errors.New("invalid target")

// Open opens what spec names. Close the Target after use.
func Open(ctx context.Context, spec string, opts Options) (*Target, error) {
	want, err := parsePlatform(opts.Platform)
	if err != nil {
		return nil, err
	}
	scheme, rest, ok := strings.Cut(spec, ":")
	if ok {
		open := map[string]func(context.Context, string, platform, Options) (*Target, error){
			"oci-layout": openLayout, "oci-archive": openArchive, "docker-archive": openDocker, "dir": openDir, "sbom": openSBOM,
		}[scheme]
		switch {
		case open != nil && rest == "":
			return nil, fmt.Errorf("%w %q: a path is wanted after the colon", ErrInvalid, spec)
		case open != nil:
			t, err := open(ctx, rest, want, opts)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", spec, err)
			}
			return t, nil
		}
	}
	t, err := openReference(ctx, spec, want, opts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spec, err)
	}
	return t, nil
}

// platform is what is wanted of a multi-platform image.
type platform struct {
	ocispec.Platform
	explicit bool // the user asked for it
}

func parsePlatform(s string) (platform, error) {
	if s == "" {
		return platform{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}, nil
	}
	parts := strings.Split(s, "/")
	if len(parts) < 2 || len(parts) > 3 || slices.Contains(parts, "") {
		return platform{}, fmt.Errorf("%w: platform %q is not os/arch[/variant]", ErrInvalid, s)
	}
	p := platform{Platform: ocispec.Platform{OS: parts[0], Architecture: parts[1]}, explicit: true}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return p, nil
}

func platformString(p *ocispec.Platform) string {
	if p == nil {
		return "of no platform"
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}

// choose returns the one child of an index that is the image for want.
func choose(children []ocispec.Descriptor, want platform) (ocispec.Descriptor, error) {
	var images, fit []ocispec.Descriptor
	for _, c := range children {
		if attestation(c) {
			continue
		}
		images = append(images, c)
		if p := c.Platform; p != nil && p.OS == want.OS && p.Architecture == want.Architecture && (want.Variant == "" || p.Variant == want.Variant) {
			fit = append(fit, c)
		}
	}
	switch {
	case len(fit) > 0:
		return fit[0], nil // as clients do: the first that fits (OCI image-spec, image-index.md)
	case len(images) == 1 && (!want.explicit || images[0].Platform == nil):
		return images[0], nil
	}
	var have []string
	for _, c := range images {
		have = append(have, platformString(c.Platform))
	}
	return ocispec.Descriptor{}, fmt.Errorf("no image for %s; there is %s (choose with --platform)", platformString(&want.Platform), strings.Join(have, ", "))
}

// attestation reports whether a child of an index is not an image but
// BuildKit's statement about one (BuildKit, "Attestation storage").
func attestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// maxIndexes bounds indexes within indexes.
const maxIndexes = 4

// descend follows indexes from m, whose children fetch gets, to one image.
func (t *Target) descend(m analyzer.Manifest, want platform, fetch func(ocispec.Descriptor) (analyzer.Manifest, error)) (analyzer.Manifest, error) {
	for range maxIndexes {
		if !m.Index {
			t.Digest, t.MediaType = m.Descriptor.Digest, m.Descriptor.MediaType
			return m, nil
		}
		t.Parents = append(t.Parents, m.Descriptor.Digest)
		child, err := choose(m.Children, want)
		if err != nil {
			return m, err
		}
		if m, err = fetch(child); err != nil {
			return m, err
		}
	}
	return m, fmt.Errorf("more than %d indexes within each other", maxIndexes)
}

// named gives the target a name as a tool wrote it beside the image:
// docker.io/library/nginx:1.27 or nginx:1.27. A text that is none changes nothing.
func (t *Target) named(s string) {
	ref, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return
	}
	t.Name = ref.Name()
	t.Upstream, t.Repository = reference.Domain(ref), reference.Path(ref)
	if tagged, ok := ref.(reference.Tagged); ok {
		t.Tags = append(t.Tags, tagged.Tag())
	}
}

// readAll reads a small file.
func readAll(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("larger than %d bytes", limit)
	}
	return b, err
}
