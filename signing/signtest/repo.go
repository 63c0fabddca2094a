package signtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	godigest "github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/signing"
)

// Repo is a repository in memory with the referrers API. It is a signing.Source.
type Repo struct {
	// Fail, if set, is asked before each answer: "referrers", "manifest" or
	// "blob", and the digest or tag. Its error is the answer.
	Fail func(op, reference string) error

	mu        sync.Mutex
	manifests map[string]ocispec.Descriptor // by tag and digest
	blobs     map[godigest.Digest][]byte
	referrers map[godigest.Digest][]ocispec.Descriptor
	asked     int
}

var _ signing.Source = (*Repo)(nil)

// NewRepo returns an empty repository.
func NewRepo() *Repo {
	return &Repo{
		manifests: map[string]ocispec.Descriptor{}, blobs: map[godigest.Digest][]byte{},
		referrers: map[godigest.Digest][]ocispec.Descriptor{},
	}
}

// Asked is the number of requests so far.
func (r *Repo) Asked() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked
}

func (r *Repo) answer(op, reference string) error {
	r.mu.Lock()
	r.asked++
	r.mu.Unlock()
	if r.Fail != nil {
		return r.Fail(op, reference)
	}
	return nil
}

// Referrers implements signing.Source.
func (r *Repo) Referrers(ctx context.Context, d godigest.Digest) ([]ocispec.Descriptor, error) {
	if err := r.answer("referrers", d.String()); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.referrers[d], ctx.Err()
}

// Manifest implements signing.Source.
func (r *Repo) Manifest(ctx context.Context, reference string) (signing.Manifest, error) {
	if err := r.answer("manifest", reference); err != nil {
		return signing.Manifest{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.manifests[reference]
	if !ok {
		return signing.Manifest{}, fmt.Errorf("manifest %s: %w", reference, signing.ErrNotFound)
	}
	return signing.Manifest{MediaType: d.MediaType, Digest: d.Digest, Raw: r.blobs[d.Digest]}, ctx.Err()
}

// Blob implements signing.Source.
func (r *Repo) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if err := r.answer("blob", desc.Digest.String()); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b, ok := r.blobs[desc.Digest]
	if !ok {
		return nil, fmt.Errorf("blob %s: %w", desc.Digest, signing.ErrNotFound)
	}
	return io.NopCloser(bytes.NewReader(b)), ctx.Err()
}

// PutBlob stores a blob.
func (r *Repo) PutBlob(mediaType string, data []byte) ocispec.Descriptor {
	r.mu.Lock()
	defer r.mu.Unlock()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: godigest.FromBytes(data), Size: int64(len(data))}
	r.blobs[d.Digest] = data
	return d
}

// DeleteBlob removes a blob or the bytes of a manifest.
func (r *Repo) DeleteBlob(d godigest.Digest) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.blobs, d)
	delete(r.manifests, d.String())
}

// PutManifest stores a manifest, by digest and by tags, and lists it as a
// referrer of its subject if it has one.
func (r *Repo) PutManifest(t testing.TB, manifest any, tags ...string) ocispec.Descriptor {
	t.Helper()
	raw, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	var m struct {
		MediaType    string
		ArtifactType string
		Config       ocispec.Descriptor
		Subject      *ocispec.Descriptor
	}
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	d := r.PutBlob(m.MediaType, raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, ref := range append(tags, d.Digest.String()) {
		r.manifests[ref] = d
	}
	if m.Subject != nil {
		listed := d
		if listed.ArtifactType = m.ArtifactType; listed.ArtifactType == "" {
			listed.ArtifactType = m.Config.MediaType
		}
		r.referrers[m.Subject.Digest] = append(r.referrers[m.Subject.Digest], listed)
	}
	return d
}

// List adds a descriptor to the list of referrers, whatever it is.
func (r *Repo) List(about godigest.Digest, d ocispec.Descriptor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.referrers[about] = append(r.referrers[about], d)
}

// Image stores a small image, unlike every other.
func (r *Repo) Image(t testing.TB) ocispec.Descriptor {
	t.Helper()
	config := r.PutBlob(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","author":"`+rand.Text()+`","rootfs":{"type":"layers","diff_ids":[]}}`))
	return r.PutManifest(t, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: config, Layers: []ocispec.Descriptor{},
	})
}

// Index stores an index and returns it as a parent of its children.
func (r *Repo) Index(t testing.TB, children ...ocispec.Descriptor) signing.Parent {
	t.Helper()
	d := r.PutManifest(t, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: children,
	})
	return signing.Parent{Desc: d, Raw: r.blobs[d.Digest]}
}

// Layer is a layer of an artifact.
type Layer struct {
	MediaType   string
	Data        []byte
	Annotations map[string]string
}

// Tag stores layers under one of cosign's tags of the image: sig, att, sbom.
func (r *Repo) Tag(t testing.TB, about godigest.Digest, suffix string, layers ...Layer) ocispec.Descriptor {
	t.Helper()
	tag := strings.Replace(about.String(), ":", "-", 1) + "." + suffix
	return r.PutManifest(t, r.artifact(ocispec.MediaTypeImageConfig, layers), tag)
}

// Attach stores layers as a referrer of the image.
func (r *Repo) Attach(t testing.TB, about ocispec.Descriptor, artifactType, configType string, layers ...Layer) ocispec.Descriptor {
	t.Helper()
	m := r.artifact(configType, layers)
	m.ArtifactType, m.Subject = artifactType, &ocispec.Descriptor{MediaType: about.MediaType, Digest: about.Digest, Size: about.Size}
	return r.PutManifest(t, m)
}

func (r *Repo) artifact(configType string, layers []Layer) ocispec.Manifest {
	m := ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest,
		Config: r.PutBlob(configType, []byte("{}")), Layers: []ocispec.Descriptor{},
	}
	for _, l := range layers {
		d := r.PutBlob(l.MediaType, l.Data)
		d.Annotations = l.Annotations
		m.Layers = append(m.Layers, d)
	}
	return m
}
