package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/proxy/local"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upstream"
	"github.com/sluiceproxy/sluice/signing"
)

// NewSource reads signatures from a repository of an upstream. What is asked for
// by digest is kept in content and found there again; nil keeps nothing.
func NewSource(up *upstream.Upstream, repository string, content *store.Store) signing.Source {
	return &upstreamSource{up, repository, content}
}

// upstreamSource is a repository of an upstream.
type upstreamSource struct {
	up         *upstream.Upstream
	repository string
	content    *store.Store
}

// Referrers implements signing.Source.
func (s *upstreamSource) Referrers(ctx context.Context, d godigest.Digest) ([]ocispec.Descriptor, error) {
	list, err := s.up.Referrers(ctx, s.repository, d, "")
	return list, absent(err)
}

// Manifest implements signing.Source.
func (s *upstreamSource) Manifest(ctx context.Context, reference string) (signing.Manifest, error) {
	d, err := godigest.Parse(reference)
	byDigest := err == nil
	if byDigest {
		if b, ok, err := s.kept(ctx, d); ok || err != nil {
			return signing.Manifest{Digest: d, Raw: b}, err
		}
	}
	m, err := s.up.Manifest(ctx, s.repository, reference)
	if err != nil {
		return signing.Manifest{}, absent(err)
	}
	if byDigest {
		if err := s.keep(ctx, d, m.Bytes); err != nil {
			return signing.Manifest{}, err
		}
	}
	return signing.Manifest{MediaType: m.MediaType, Digest: m.Digest, Raw: m.Bytes}, nil
}

// Blob implements signing.Source. Whoever asks has looked at the size.
func (s *upstreamSource) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	b, ok, err := s.kept(ctx, desc.Digest)
	if err != nil || ok {
		return io.NopCloser(bytes.NewReader(b)), err
	}
	body, _, err := s.up.Blob(ctx, s.repository, desc.Digest, 0, desc.Size)
	if err != nil {
		return nil, absent(err)
	}
	defer func() { _ = body.Close() }()
	if b, err = io.ReadAll(io.LimitReader(body, desc.Size+1)); err != nil {
		return nil, err
	}
	if desc.Digest.Algorithm().FromBytes(b) != desc.Digest {
		return nil, fmt.Errorf("blob %s: the upstream sent other bytes", desc.Digest)
	}
	return io.NopCloser(bytes.NewReader(b)), s.keep(ctx, desc.Digest, b)
}

// kept returns the bytes of d if they are in the store.
func (s *upstreamSource) kept(ctx context.Context, d godigest.Digest) ([]byte, bool, error) {
	if s.content == nil {
		return nil, false, nil
	}
	b, err := s.content.Get(ctx, d)
	if errors.Is(err, store.ErrNotFound) {
		return nil, false, nil
	}
	return b, err == nil, err
}

func (s *upstreamSource) keep(ctx context.Context, d godigest.Digest, b []byte) error {
	if s.content == nil || d.Algorithm().FromBytes(b) != d {
		return nil // Collect tells about the digest
	}
	return s.content.Put(ctx, d, b)
}

// absent makes a clear "not there" of an upstream what package signing knows as
// one. Every other error stays one.
func absent(err error) error {
	if missing(err) {
		return fmt.Errorf("%w: %w", signing.ErrNotFound, err)
	}
	return err
}

// localSource is a repository of the gated registry.
type localSource struct {
	local *local.Registry
	name  string
}

// Referrers implements signing.Source.
func (s localSource) Referrers(ctx context.Context, d godigest.Digest) ([]ocispec.Descriptor, error) {
	list, err := s.local.Records().LocalReferrers(ctx, s.name, d)
	return descriptors(list), err
}

// Manifest implements signing.Source.
func (s localSource) Manifest(ctx context.Context, reference string) (signing.Manifest, error) {
	d, err := godigest.Parse(reference)
	if err != nil {
		var ok bool
		if d, _, ok, err = s.local.Records().Tag(ctx, s.name, reference); err != nil || !ok {
			return signing.Manifest{}, errors.Join(err, fmt.Errorf("%s:%s: %w", s.name, reference, signing.ErrNotFound))
		}
	}
	m, b, err := s.local.Manifest(ctx, s.name, d)
	if errors.Is(err, records.ErrNotFound) || errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: %w", signing.ErrNotFound, err)
	}
	return signing.Manifest{MediaType: m.MediaType, Digest: d, Raw: b}, err
}

// Blob implements signing.Source.
func (s localSource) Blob(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if _, err := s.local.Stat(ctx, s.name, desc.Digest); err != nil {
		if errors.Is(err, local.ErrBlobUnknown) {
			err = fmt.Errorf("%w: %w", signing.ErrNotFound, err)
		}
		return nil, err
	}
	return s.local.Open(desc.Digest)
}
