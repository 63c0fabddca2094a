package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"
	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer/advisory"
	"github.com/sluiceproxy/sluice/configs"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

const ociScheme = "oci://"

// artifactRef names an artifact in a registry.
type artifactRef struct {
	host, repository string
	tag              string          // "" = by digest
	digest           godigest.Digest // "" = by tag
}

// parseArtifactRef reads <registry>/<repository>[:<tag>][@<digest>]. The tag is
// latest where there is neither.
func parseArtifactRef(s string) (artifactRef, error) {
	bad := func(why string) (artifactRef, error) {
		return artifactRef{}, usageError(fmt.Errorf("%s%s: %s; want oci://registry/repository:tag", ociScheme, s, why))
	}
	name, digest, pinned := strings.Cut(s, "@")
	host, repository, ok := strings.Cut(name, "/")
	if !ok || host == "" || repository == "" {
		return bad("no registry or no repository")
	}
	r := artifactRef{host: host, repository: repository}
	if i := strings.LastIndexByte(repository, ':'); i >= 0 {
		r.repository, r.tag = repository[:i], repository[i+1:]
		if r.tag == "" {
			return bad("the tag is empty")
		}
	}
	if pinned {
		d, err := godigest.Parse(digest)
		if err != nil {
			return bad(err.Error())
		}
		r.digest = d
	} else if r.tag == "" {
		r.tag = "latest"
	}
	return r, nil
}

// registryOf returns the registry of a reference: a configured upstream of that
// name, with its address and credentials, else the host itself.
func registryOf(cfg *configs.Config, host string) (*upstream.Upstream, error) {
	opts, err := serverOptions(cfg)
	if err != nil {
		return nil, usageError(err)
	}
	// Whoever names a registry here means it, wherever it stands.
	config := upstream.Config{Name: host, URL: registryScheme(host) + "://" + host, AllowPrivate: true}
	for _, u := range opts.Upstreams {
		if u.Name == host || slices.Contains(u.Aliases, host) {
			config = u.Config
		}
	}
	options := upstream.Options{Upstreams: []upstream.Config{config}}
	if cfg.DockerConfig == "none" {
		options.Keychain = authn.NewMultiKeychain()
	}
	client, err := upstream.New(options)
	if err != nil {
		return nil, err
	}
	return client.Upstream(config.Name)
}

// registryScheme is http for registries on this machine, as in Docker, else https.
func registryScheme(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if ip, err := netip.ParseAddr(host); host == "localhost" || err == nil && ip.IsLoopback() {
		return "http"
	}
	return "https"
}

// openArtifact reads the manifest of an artifact; its files are read when they
// are asked for.
func openArtifact(ctx context.Context, cfg *configs.Config, reference string) (*advisory.Artifact, error) {
	ref, err := parseArtifactRef(reference)
	if err != nil {
		return nil, err
	}
	registry, err := registryOf(cfg, ref.host)
	if err != nil {
		return nil, err
	}
	name := ref.tag
	if ref.digest != "" {
		name = ref.digest.String()
	}
	m, err := registry.Manifest(ctx, ref.repository, name)
	if err != nil {
		return nil, err
	}
	return &advisory.Artifact{
		Manifest: m.Bytes,
		Blob: func(ctx context.Context, desc ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
			body, _, err := registry.Blob(ctx, ref.repository, desc.Digest, offset, desc.Size)
			return body, err
		},
	}, nil
}

// pushArtifact sends what was exported to a registry.
func pushArtifact(ctx context.Context, cfg *configs.Config, reference string, e *advisory.Export, sent func(i, of int)) error {
	ref, err := parseArtifactRef(reference)
	if err != nil {
		return err
	}
	if ref.digest != "" {
		return usageError(errors.New("--to: a digest cannot be chosen; name a tag"))
	}
	registry, err := registryOf(cfg, ref.host)
	if err != nil {
		return err
	}
	blobs := make([]upstream.PushBlob, len(e.Blobs))
	for i := range e.Blobs {
		b := &e.Blobs[i]
		blobs[i] = upstream.PushBlob{Descriptor: b.Descriptor, Open: func() (io.ReadCloser, error) {
			sent(i+1, len(blobs))
			return b.Open()
		}}
	}
	return registry.Push(ctx, ref.repository, ref.tag, e.ManifestBytes(), e.Manifest.MediaType, blobs)
}

// redactURL hides a URL's password and query.
func redactURL(s string) string {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return s
	}
	if u.RawQuery != "" {
		u.RawQuery = "…"
	}
	return u.Redacted()
}
