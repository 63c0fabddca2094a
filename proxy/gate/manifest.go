package gate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	godigest "github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
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
	warning string    // of the verdict that has the two below
	warned  string    // its id
	at      time.Time // its time
}

// inputs are the revisions of all that a verdict rests on besides the image.
type inputs struct {
	policy, advisories, vex string
	decisions               uint64
}

// entry returns the manifest d of rt's repository: from memory, from the store
// if this repository has served it before, else from the upstream.
func (g *Gate) entry(ctx context.Context, rt route.Route, d godigest.Digest) (*entry, error) {
	k := key{rt.Name, d}
	if rt.Local { // another replica, or a moment ago this one, may have deleted it
		if _, ok, err := g.opts.Records.LocalManifest(ctx, k.name, k.digest); err != nil {
			return nil, err
		} else if !ok {
			return nil, fmt.Errorf("%s: %w", k, ErrManifestUnknown)
		}
	}
	if e, ok := g.entries.get(k); ok {
		return e, nil
	}
	return wait(ctx, g.manifests.DoChan(k.String(), func() (any, error) { //nolint:contextcheck // many wait for it: it lives on the gate's context
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
	if rt.Local {
		return g.loadLocal(ctx, k)
	}
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
		members := e.manifest.Members()
		if err := g.opts.Records.PutMembers(ctx, k.name, k.digest, members); err != nil {
			return nil, err
		}
		g.members.forget(k.name, members)
		if e.manifest.Index && len(g.Policy().Trusts(k.name, k.digest)) > 0 { // its signatures are its children's
			for _, c := range e.manifest.Children {
				g.forgetTrust(key{k.name, c.Digest})
			}
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
func (g *Gate) resolve(ctx context.Context, rt route.Route) (tagged, error) {
	if rt.Local {
		return g.resolveLocal(ctx, rt)
	}
	ref := rt.Reference()
	if t, ok := g.tags.get(ref, g.now(), g.tagTTL(rt.Tag)); ok && g.settled(t) {
		return g.outcome(t)
	}
	t, err := wait(ctx, g.manifests.DoChan("tag "+ref, func() (any, error) { //nolint:contextcheck // many wait for it: it lives on the gate's context
		ctx, cancel := context.WithTimeout(g.ctx, manifestTimeout)
		defer cancel()
		up, err := g.opts.Upstreams.Upstream(rt.Upstream)
		if err != nil {
			return nil, err
		}
		known, err := g.lastTagged(ctx, rt)
		if err != nil {
			return nil, err
		}
		desc, err := g.askTag(ctx, up, rt, known.digest)
		if err != nil {
			if t, ok := g.stale(ctx, rt, err); ok {
				return t, nil
			}
			if missing(err) {
				g.tags.put(ref, tagged{missing: err, at: g.now()})
			}
			return nil, err
		}
		t, err := g.follow(ctx, rt, known, desc)
		if err != nil {
			return nil, err
		}
		k := key{rt.Name, t.digest}
		if t.digest == desc.Digest && (t.digest != known.digest || t.at.Sub(t.saved) >= confirmGrain) {
			t.saved = t.at
			g.pulls.confirm(tagKey{k, rt.Tag}, t.at)
		}
		if g.tags.put(ref, t) {
			g.forgetTags(k)
		}
		return t, nil
	}), func(v any) tagged { return v.(tagged) }) //nolint:errcheck,forcetypeassert // what the function above returns
	if err != nil {
		return tagged{}, err
	}
	return g.outcome(t)
}

// tagTTL is how long a tag's digest is believed. What was just signed should be
// found, by its tag as by the referrers API (cosign's tag-based discovery; OCI
// distribution 1.1, "Referrers Tag Schema").
func (g *Gate) tagTTL(tag string) time.Duration {
	if d := signedBy(tag); d != "" {
		switch tag[len(d):] { // a tag has a dash where a digest has a colon
		case "", ".sig", ".att", ".sbom":
			return min(g.opts.TagTTL, referrersTTL)
		}
	}
	return g.opts.TagTTL
}

// lastTagged returns what the tag named when it was last asked for, however long
// ago; nothing where it never was.
func (g *Gate) lastTagged(ctx context.Context, rt route.Route) (tagged, error) {
	if t, _ := g.tags.get(rt.Reference(), g.now(), forever); t.digest != "" {
		return t, nil
	}
	d, at, _, err := g.opts.Records.Tag(ctx, rt.Name, rt.Tag)
	return tagged{digest: d, at: at, saved: at}, err
}

// askTag asks the upstream what the tag names: a tag that is known by HEAD,
// which costs no quota, and a new one for its manifest, which saves a round
// trip since that is wanted next.
func (g *Gate) askTag(ctx context.Context, up *upstream.Upstream, rt route.Route, known godigest.Digest) (ocispec.Descriptor, error) {
	if known != "" {
		return up.Resolve(ctx, rt.Repository, rt.Tag, known)
	}
	m, err := up.Manifest(ctx, rt.Repository, rt.Tag)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	desc := ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Bytes))}
	k := key{rt.Name, m.Digest}
	if _, ok := g.entries.get(k); ok {
		return desc, nil
	}
	e, err := g.keep(ctx, k, m)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	g.entries.put(k, e, int64(len(e.bytes))+entryOverhead)
	return desc, nil
}

// stale returns what the tag named when it was last asked for, if the upstream
// failed just now and that is not too long ago. An answer such as 404 or 401 is
// no failure.
func (g *Gate) stale(ctx context.Context, rt route.Route, err error) (tagged, bool) {
	if g.opts.StaleIfError == 0 || permanent(err) {
		return tagged{}, false
	}
	t, ok := g.tags.get(rt.Reference(), g.now(), g.opts.TagTTL+g.opts.StaleIfError)
	if t.missing != nil { // the upstream's last word, whatever the records say
		return tagged{}, false
	}
	if !ok { // not asked since the start: what the records say
		var rerr error
		if t.digest, t.at, ok, rerr = g.opts.Records.Tag(ctx, rt.Name, rt.Tag); rerr != nil || !ok || g.now().Sub(t.at) > g.opts.TagTTL+g.opts.StaleIfError {
			return tagged{}, false
		}
	}
	g.opts.Log.Warn("upstream failed, tag served from memory", zap.String("reference", rt.Reference()), zap.Time("seen", t.at), zap.Error(err))
	t.stale = true
	return t, true
}

// missing reports whether the upstream says that there is no such thing.
func missing(err error) bool {
	var status *upstream.StatusError
	return errors.As(err, &status) && status.Status == http.StatusNotFound
}

// tagCache remembers what tags named a short while ago, and which there were not.
type tagCache struct {
	mu sync.Mutex
	m  map[string]tagged
}

// tagged is what a tag named at a time.
type tagged struct {
	digest  godigest.Digest
	missing error // that the upstream has no such tag; then digest is ""
	at      time.Time
	saved   time.Time // of the last at that the records were told
	stale   bool      // the upstream failed since

	// Where the upstream names another digest than is served, see follow.
	warning string          // header's value: digest is the one before
	refused *policy.Verdict // digest is not served for the tag
	rules   string          // what the two rest on; "" = nothing that changes
}

// confirmGrain is how often the records are told that a tag still names its
// digest. A restart forgets what was confirmed since.
const confirmGrain = 10 * time.Minute

const (
	maxTags     = 65536       // kept; past it all are dropped and asked again
	negativeTTL = time.Minute // longest that a missing tag is not asked for again
	forever     = time.Duration(math.MaxInt64)
)

// get returns what is younger than ttl, and than negativeTTL if it is a miss.
func (c *tagCache) get(ref string, now time.Time, ttl time.Duration) (tagged, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t, ok := c.m[ref]
	if t.missing != nil {
		ttl = min(ttl, negativeTTL)
	}
	return t, ok && now.Sub(t.at) < ttl
}

// put remembers t and reports whether the digest is news.
func (c *tagCache) put(ref string, t tagged) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.m) >= maxTags {
		clear(c.m)
	}
	moved := c.m[ref].digest != t.digest
	c.m[ref] = t
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
	var (
		img  records.Image
		tags []string
		err  error
	)
	if rt.Local {
		img, tags, err = g.describeLocal(ctx, rt, e)
	} else {
		img, err = g.opts.Records.SeenImage(ctx, e.key.name, rt.Tag, e.key.digest, e.manifest.Descriptor.MediaType, g.now())
		tags = img.Tags
	}
	if err != nil {
		return policy.Image{}, fmt.Errorf("image %s: %w", e.key, err)
	}
	e.image = img
	parents, err := g.members.of(ctx, g.opts.Records, e.key)
	if err != nil {
		return policy.Image{}, fmt.Errorf("image %s: %w", e.key, err)
	}
	return policy.Image{
		Name: e.key.name, Upstream: rt.Upstream, Repository: rt.Repository, Digest: e.key.digest,
		Parents: parents, Tags: tags, MediaType: e.manifest.Descriptor.MediaType, Index: e.manifest.Index, URLs: e.manifest.URLs,
		FirstSeen: img.FirstSeen, AllowedSince: img.AllowedSince,
	}, nil
}

// namedBy reports whether the entry's verdict was taken with the tag in mind.
func (e *entry) namedBy(tag string) bool { return tag == "" || slices.Contains(e.image.Tags, tag) }
