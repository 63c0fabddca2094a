package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	"go.uber.org/zap"

	"github.com/sluiceproxy/sluice/analyzer"
	"github.com/sluiceproxy/sluice/proxy/policy"
	"github.com/sluiceproxy/sluice/proxy/records"
	"github.com/sluiceproxy/sluice/proxy/route"
	"github.com/sluiceproxy/sluice/proxy/store"
	"github.com/sluiceproxy/sluice/proxy/upstream"
)

// entry is a manifest known in a repository, with its last verdict. bytes and
// manifest never change; the rest is guarded by mu.
type entry struct {
	key      key
	manifest analyzer.Manifest
	bytes    []byte
	unread   string // why the manifest could not be parsed; then manifest is zero

	mu      sync.Mutex
	image   records.Image
	verdict policy.Verdict
	inputs  inputs
}

// inputs are the revisions of all that a verdict rests on besides the image.
type inputs struct {
	policy, advisories string
	blocks             uint64
}

// entry returns the manifest d of rt's repository: from memory, from the store
// if this repository has served it before, else from the upstream.
func (g *Gate) entry(ctx context.Context, rt route.Route, d godigest.Digest) (*entry, error) {
	k := key{rt.Name, d}
	if e, ok := g.entries.get(k); ok {
		return e, nil
	}
	return wait(ctx, g.manifests.DoChan(k.String(), func() (any, error) {
		ctx, cancel := context.WithTimeout(g.ctx, manifestTimeout)
		defer cancel()
		e, err := g.load(ctx, rt, k)
		if err != nil {
			return nil, err
		}
		g.entries.put(k, e, int64(len(e.bytes))+entryOverhead)
		return e, nil
	}), func(v any) *entry { return v.(*entry) }) //nolint:errcheck,forcetypeassert // what the function above returns
}

// manifestTimeout bounds the shared fetch of one manifest.
const manifestTimeout = time.Minute

func (g *Gate) load(ctx context.Context, rt route.Route, k key) (*entry, error) {
	img, known, err := g.opts.Records.Image(ctx, k.name, k.digest)
	if err != nil {
		return nil, err
	}
	if known {
		b, err := g.opts.Store.Get(ctx, k.digest)
		if err == nil {
			return newEntry(k, img.MediaType, b), nil
		}
		if !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
	}
	up, err := g.opts.Upstreams.Upstream(rt.Upstream)
	if err != nil {
		return nil, err
	}
	m, err := up.Manifest(ctx, rt.Repository, k.digest.String())
	if err != nil {
		return nil, err
	}
	return g.keep(ctx, k, m)
}

// keep stores a manifest that the upstream sent and records what it names.
func (g *Gate) keep(ctx context.Context, k key, m upstream.Manifest) (*entry, error) {
	if err := g.opts.Store.Put(ctx, k.digest, m.Bytes); err != nil {
		return nil, err
	}
	e := newEntry(k, m.MediaType, m.Bytes)
	if e.unread == "" {
		if err := g.opts.Records.PutMembers(ctx, k.name, k.digest, e.manifest.Members()); err != nil {
			return nil, err
		}
	}
	// The image row comes last: it says that the two above are there.
	if _, err := g.opts.Records.SeenImage(ctx, k.name, "", k.digest, m.MediaType, g.now()); err != nil {
		return nil, err
	}
	return e, nil
}

func newEntry(k key, mediaType string, b []byte) *entry {
	m, err := analyzer.ParseManifest(mediaType, b)
	if err != nil {
		return &entry{key: k, bytes: b, unread: err.Error()}
	}
	return &entry{key: k, manifest: m, bytes: b}
}

// resolve returns the digest that rt's tag names now. A crowd asks once.
func (g *Gate) resolve(ctx context.Context, rt route.Route) (godigest.Digest, error) {
	ref := rt.Reference()
	if d, ok := g.tags.get(ref, g.now(), g.opts.TagTTL); ok {
		return d, nil
	}
	return wait(ctx, g.manifests.DoChan("tag "+ref, func() (any, error) {
		ctx, cancel := context.WithTimeout(g.ctx, manifestTimeout)
		defer cancel()
		up, err := g.opts.Upstreams.Upstream(rt.Upstream)
		if err != nil {
			return nil, err
		}
		desc, err := up.Resolve(ctx, rt.Repository, rt.Tag)
		if d, ok := g.stale(ctx, rt, err); ok {
			return d, nil
		}
		if err != nil {
			return nil, err
		}
		if g.tags.put(ref, desc.Digest, g.now()) {
			g.forgetTags(key{rt.Name, desc.Digest})
		}
		return desc.Digest, nil
	}), func(v any) godigest.Digest { return v.(godigest.Digest) }) //nolint:errcheck,forcetypeassert // what the function above returns
}

// stale returns what the tag named when it was last asked for, if the upstream
// failed just now and that is not too long ago. An answer such as 404 or 401 is
// no failure.
func (g *Gate) stale(ctx context.Context, rt route.Route, err error) (godigest.Digest, bool) {
	if err == nil || g.opts.StaleIfError == 0 || permanent(err) {
		return "", false
	}
	d, at, ok, rerr := g.opts.Records.Tag(ctx, rt.Name, rt.Tag)
	if rerr != nil || !ok || g.now().Sub(at) > g.opts.TagTTL+g.opts.StaleIfError {
		return "", false
	}
	g.opts.Log.Warn("upstream failed, tag served from memory", zap.String("reference", rt.Reference()), zap.Time("seen", at), zap.Error(err))
	return d, true
}

// tagCache remembers what tags named a short while ago.
type tagCache struct {
	mu sync.Mutex
	m  map[string]tagged
}

type tagged struct {
	digest godigest.Digest
	at     time.Time
}

// maxTags bounds the cache; past it all entries are dropped and asked again.
const maxTags = 65536

func (c *tagCache) get(ref string, now time.Time, ttl time.Duration) (godigest.Digest, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.m[ref]
	return t.digest, ok && now.Sub(t.at) < ttl
}

// put remembers the digest and reports whether it is news.
func (c *tagCache) put(ref string, d godigest.Digest, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= maxTags {
		clear(c.m)
	}
	moved := c.m[ref].digest != d
	c.m[ref] = tagged{d, now}
	return moved
}

// forgetTags makes the next verdict on k look up its tags again, since one of
// them moved.
func (g *Gate) forgetTags(k key) {
	if e, ok := g.entries.get(k); ok {
		e.mu.Lock()
		e.image.Tags = nil
		e.mu.Unlock()
	}
}

// describe makes the part of the evidence that is not content. It notes the
// tag under which the image was asked for. The caller holds e.mu.
func (g *Gate) describe(ctx context.Context, rt route.Route, e *entry) (policy.Image, error) {
	img, err := g.opts.Records.SeenImage(ctx, e.key.name, rt.Tag, e.key.digest, e.manifest.Descriptor.MediaType, g.now())
	if err != nil {
		return policy.Image{}, fmt.Errorf("image %s: %w", e.key, err)
	}
	e.image = img
	return policy.Image{
		Name: e.key.name, Upstream: rt.Upstream, Repository: rt.Repository, Digest: e.key.digest,
		Tags: img.Tags, MediaType: e.manifest.Descriptor.MediaType, Index: e.manifest.Index, URLs: e.manifest.URLs,
		FirstSeen: img.FirstSeen, AllowedSince: img.AllowedSince,
	}, nil
}

// namedBy reports whether the entry's verdict was taken with the tag in mind.
func (e *entry) namedBy(tag string) bool { return tag == "" || slices.Contains(e.image.Tags, tag) }
