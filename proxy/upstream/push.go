package upstream

import (
	"context"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// PushBlob is a blob to push: what it is, and its bytes.
type PushBlob struct {
	ocispec.Descriptor
	Open func() (io.ReadCloser, error)
}

// Push sends the blobs that repo does not hold yet, then the manifest under tag.
// An error leaves the tag as it was.
func (u *Upstream) Push(ctx context.Context, repo, tag string, manifest []byte, mediaType string, blobs []PushBlob) error {
	op := "push " + repo + ":" + tag
	ref, err := name.NewTag(u.base.Host+"/"+repo+":"+tag, u.nameOptions()...)
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	opts := []remote.Option{remote.WithTransport(u.rt), remote.WithContext(ctx)}
	if u.auth != nil {
		opts = append(opts, remote.WithAuth(u.auth))
	} else {
		opts = append(opts, remote.WithAuthFromKeychain(u.keys))
	}
	for _, b := range blobs {
		if err := remote.WriteLayer(ref.Repository, pushLayer{b}, opts...); err != nil {
			return u.wrap(ctx, op, err)
		}
	}
	if err := remote.Put(ref, pushManifest{manifest, types.MediaType(mediaType)}, opts...); err != nil {
		return u.wrap(ctx, op, err)
	}
	return nil
}

func (u *Upstream) nameOptions() []name.Option {
	if u.base.Scheme == "http" {
		return []name.Option{name.Insecure}
	}
	return nil
}

// pushLayer is a blob as go-containerregistry wants it. Nothing is asked of its
// uncompressed form.
type pushLayer struct{ PushBlob }

func (l pushLayer) Digest() (v1.Hash, error)             { return v1.NewHash(l.Descriptor.Digest.String()) }
func (l pushLayer) DiffID() (v1.Hash, error)             { return l.Digest() }
func (l pushLayer) Compressed() (io.ReadCloser, error)   { return l.Open() }
func (l pushLayer) Uncompressed() (io.ReadCloser, error) { return l.Open() }
func (l pushLayer) Size() (int64, error)                 { return l.Descriptor.Size, nil }
func (l pushLayer) MediaType() (types.MediaType, error) {
	return types.MediaType(l.Descriptor.MediaType), nil
}

// pushManifest is a manifest's bytes as they are.
type pushManifest struct {
	bytes     []byte
	mediaType types.MediaType
}

func (m pushManifest) RawManifest() ([]byte, error)        { return m.bytes, nil }
func (m pushManifest) MediaType() (types.MediaType, error) { return m.mediaType, nil }
