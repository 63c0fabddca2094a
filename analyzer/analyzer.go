package analyzer

import (
	"context"
	"errors"
	"io"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// LayerScanner reads one layer's stream.
type LayerScanner interface {
	// Scan reads blob, the layer as stored (tar, gzip or zstd), to its end. The
	// error is of the stream (a cut, a broken compression); what could be read
	// but not understood is in Layer.Incomplete.
	Scan(ctx context.Context, blob io.Reader) (*Layer, error)
	// Revision changes whenever the same bytes could give another Layer.
	Revision() string
}

// Proven is what a blob's reader may be as well: somebody in this process has
// computed the digest of the same bytes, such as the download that they come
// from, and a LayerScanner need not do so again.
type Proven interface {
	// Proof is called after the reader's end. It waits until the digest of the
	// bytes that were read, and their number, are certain; the error says that
	// they are not those of the blob. What a descriptor or a peer claims is no proof.
	Proof() (godigest.Digest, int64, error)
}

// LayerCache keeps Layers between images and runs. It is keyed by the digest
// of the stored bytes, which the caller has verified, and the revision.
type LayerCache interface {
	Layer(ctx context.Context, blob godigest.Digest, revision string) (*Layer, bool, error)
	PutLayer(ctx context.Context, revision string, l *Layer) error
}

// ErrElsewhere is for Image.Open: the blob is not to be had where the image is,
// only at the external addresses of its descriptor. The image is then analysed
// without it, and incomplete.
var ErrElsewhere = errors.New("the content is at external addresses only")

// Image is what the Analyzer needs of one single-platform image.
type Image struct {
	Manifest ocispec.Descriptor
	Config   ocispec.Descriptor
	Layers   []ocispec.Descriptor
	URLs     []string // external addresses in its descriptors
	// ArtifactType is the manifest's artifactType, "" where it has none.
	ArtifactType string
	Annotations  map[string]string // the manifest's
	// Open returns the stored bytes of the config or of a layer. The bytes need
	// not be verified yet: the Analyzer compares every digest itself.
	Open func(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error)
}
