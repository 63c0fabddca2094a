package target

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/gate"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/upstream"
	"github.com/sluiceproxy/sluice/signing"
)

// openReference opens NAME[:TAG][@DIGEST] at the upstream that it names.
func openReference(ctx context.Context, spec string, want platform, opts Options) (*Target, error) {
	name, tag, dgst, err := splitReference(spec)
	if err != nil {
		return nil, err
	}
	table, client, err := registries(name, opts)
	if err != nil {
		return nil, err
	}
	ref := tag
	if dgst != "" {
		ref = dgst
	}
	rt, err := table.Parse(&url.URL{Path: "/v2/" + name + "/manifests/" + ref})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	up, err := client.Upstream(rt.Upstream)
	if err != nil {
		return nil, err
	}
	t := &Target{Name: rt.Name, Upstream: rt.Upstream, Repository: rt.Repository, Source: gate.NewSource(up, rt.Repository, nil)}
	if tag != "" {
		t.Tags = []string{tag}
	}
	fetch := func(reference string) (analyzer.Manifest, error) {
		m, err := up.Manifest(ctx, rt.Repository, reference)
		if err != nil {
			return analyzer.Manifest{}, err
		}
		parsed, err := analyzer.ParseManifest(m.MediaType, m.Bytes)
		if parsed.Index {
			t.Indexes = append(t.Indexes, signing.Parent{Desc: parsed.Descriptor, Raw: m.Bytes})
		}
		return parsed, err
	}
	m, err := fetch(ref)
	if err != nil {
		return nil, err
	}
	m, err = t.descend(m, want, func(d ocispec.Descriptor) (analyzer.Manifest, error) { return fetch(d.Digest.String()) })
	if err != nil {
		return nil, err
	}
	t.Image = m.Image(func(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
		body, _, err := up.Blob(ctx, rt.Repository, d.Digest, 0, d.Size)
		return body, err
	})
	return t, nil
}

// splitReference takes a reference apart. The tag is latest where there is
// neither tag nor digest.
func splitReference(s string) (name, tag, dgst string, err error) {
	name, dgst, hasDigest := strings.Cut(s, "@")
	if hasDigest {
		if _, err := godigest.Parse(dgst); err != nil {
			return "", "", "", fmt.Errorf("%w: digest %q: %w", ErrInvalid, dgst, err)
		}
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
		if tag == "" {
			return "", "", "", fmt.Errorf("%w: the tag is empty", ErrInvalid)
		}
	}
	if tag == "" && !hasDigest {
		tag = "latest"
	}
	return name, tag, dgst, nil
}

// registries returns the table and the client of the configured upstreams and,
// if name begins with a host that is none of them, of that host: a user who
// types a registry's name may ask it, other than the proxy's clients.
func registries(name string, opts Options) (*route.Table, *upstream.Client, error) {
	var (
		routes  []route.Upstream
		configs []upstream.Config
		known   []string
	)
	for _, u := range opts.Upstreams {
		routes = append(routes, route.Upstream{Name: u.Name, Aliases: u.Aliases, Library: u.Library})
		configs = append(configs, u.Config)
		known = append(append(known, u.Name), u.Aliases...)
	}
	if host, _, more := strings.Cut(name, "/"); more && (strings.ContainsAny(host, ".:") || host == "localhost") && !slices.Contains(known, host) {
		routes = append(routes, route.Upstream{Name: host})
		configs = append(configs, upstream.Config{Name: host, URL: scheme(host) + "://" + host, AllowPrivate: true}) // who typed the name means it
	}
	table, err := route.NewTable(routes, opts.Default, "")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	client, err := upstream.New(upstream.Options{Upstreams: configs, Keychain: opts.Keychain})
	return table, client, err
}

// scheme is http for registries on this machine, as in Docker, else https.
func scheme(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip, err := netip.ParseAddr(host)
	if host == "localhost" || err == nil && ip.IsLoopback() {
		return "http"
	}
	return "https"
}
